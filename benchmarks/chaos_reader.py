"""A reader of slides that hurt who reads them: it ends its own process, hangs, or runs out of memory.

It is found as any reader of an outside package is, through the entry-point group `histograde.readers`;
`install_reader` makes the package. A file is one line with what it does and when, and a picture behind it.
"""

import ctypes
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from wsi.errors import UnreadableSlideError
from wsi.slide import SlideInfo

MAGIC = b"HISTOGRADE-CHAOS "
PACKAGE = "histograde_chaos"
TILE_PX = 224
MPP = 0.5
FOR_EVER_S = 3600


def kill() -> None:
    """End this process as the kernel does when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def sleep() -> None:
    """Never come back; other threads go on."""
    while True:
        time.sleep(FOR_EVER_S)


def freeze() -> None:
    """Never come back, and hold the interpreter's lock, as a codec stuck in C may: no other thread goes on."""
    while True:
        ctypes.PyDLL(None).sleep(FOR_EVER_S)


def run_out_of_memory() -> None:
    """What an allocation that is refused looks like."""
    raise MemoryError


DEEDS = {"kill": kill, "sleep": sleep, "freeze": freeze, "memory": run_out_of_memory}
MOMENTS = ("open", "tile")


def write_chaos_slide(path: Path, deed: str, moment: str, pixels: np.ndarray) -> None:
    """A file that does one of `DEEDS` when it is opened, or when the first tile is read."""
    if deed not in DEEDS or moment not in MOMENTS:
        raise ValueError(f"{deed}@{moment}: there are {', '.join(DEEDS)} at {', '.join(MOMENTS)}")
    _, picture = cv2.imencode(".png", pixels[..., ::-1])
    path.write_bytes(MAGIC + f"{deed}@{moment}\n".encode() + picture.tobytes())


def install_reader(folder: Path) -> None:
    """Make a package with the entry point of the reader; it counts where the folder is on the path of Python."""
    package = folder / f"{PACKAGE}-1.dist-info"
    package.mkdir(parents=True, exist_ok=True)
    (package / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[histograde.readers]\nchaos = benchmarks.chaos_reader:ChaosReader\n")


class ChaosReader:
    """One level, all pixels in memory."""

    def __init__(self, path: Path):
        data = path.read_bytes()
        if not data.startswith(MAGIC):
            raise UnreadableSlideError("not a slide of the chaos run")
        head, _, picture = data.partition(b"\n")
        deed, _, self._moment = head[len(MAGIC) :].decode().partition("@")
        self._deed = DEEDS[deed]
        if self._moment == "open":
            self._deed()
        self._pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        height, width = self._pixels.shape[:2]
        self.info = SlideInfo(
            slide_id="",
            reader="chaos",
            vendor="chaos",
            level_sizes_px=((width, height),),
            downsamples=(1.0,),
            mpp=(MPP, MPP),
            mpp_source="chaos",
            objective_power=None,
            bounds_px0=(0, 0, width, height),
            content_hash="",
        )

    @property
    def associated_images(self) -> Mapping[str, np.ndarray]:
        return {}

    def read_region(self, location_px0: tuple[int, int], level: int, size_px: tuple[int, int]) -> np.ndarray:
        (x, y), (w, h) = location_px0, size_px
        if self._moment == "tile" and h == TILE_PX:
            self._deed()
        height, width = self._pixels.shape[:2]
        region = np.full((h, w, 3), 255, np.uint8)
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
        if left < right and top < bottom:
            region[top - y : bottom - y, left - x : right - x] = self._pixels[top:bottom, left:right]
        return region

    def close(self) -> None:
        pass
