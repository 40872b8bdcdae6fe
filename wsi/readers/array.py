"""Plain pictures and arrays: PNG, JPEG, npy. One level; they never say how large a pixel is."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from wsi.errors import UnreadableSlideError
from wsi.slide import SlideInfo

PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


class ArrayReader:
    """A picture or a (H, W, 3) uint8 `.npy` file as a slide of one level.

    A picture is decoded into memory as a whole; an array is memory-mapped.
    """

    def __init__(self, path: Path):
        suffix = path.suffix.lower()
        if suffix not in (*PICTURES, ".npy") or path.is_dir():
            raise UnreadableSlideError("not a PNG, JPEG or npy file")
        try:
            self._pixels = _load(path, suffix)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UnreadableSlideError(str(error)) from error
        height, width = self._pixels.shape[:2]
        self.info = SlideInfo(
            slide_id="",
            reader="array",
            vendor=PICTURES.get(suffix, "npy").lower(),
            level_sizes_px=((width, height),),
            downsamples=(1.0,),
            mpp=None,
            mpp_source="none",
            objective_power=None,
            bounds_px0=(0, 0, width, height),
            content_hash="",
        )

    @property
    def associated_images(self) -> Mapping[str, np.ndarray]:
        return {}

    def read_region(self, location_px0: tuple[int, int], level: int, size_px: tuple[int, int]) -> np.ndarray:
        (x, y), (w, h) = location_px0, size_px
        height, width = self._pixels.shape[:2]
        region = np.full((h, w, 3), 255, np.uint8)
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
        if left < right and top < bottom:
            region[top - y : bottom - y, left - x : right - x] = self._pixels[top:bottom, left:right]
        return region

    def close(self) -> None:
        self._pixels = np.empty((0, 0, 3), np.uint8)


def _load(path: Path, suffix: str) -> np.ndarray:
    if suffix != ".npy":
        with Image.open(path, formats=[PICTURES[suffix]]) as picture:
            return np.asarray(picture.convert("RGB"))
    pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"expected a (H, W, 3) uint8 array, found {pixels.shape} {pixels.dtype}")
    return pixels
