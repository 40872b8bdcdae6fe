"""Plain pictures and arrays: PNG, JPEG, npy. One level; they never say how large a pixel is."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from wsi.errors import UnreadableSlideError
from wsi.slide import SlideInfo

EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
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
        except Exception as error:  # parsers and codecs raise whatever they like on damaged files
            raise UnreadableSlideError(f"{type(error).__name__}: {error}") from error
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
        if level != 0:
            raise ValueError(f"a picture has one level, asked for was level {level}")
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
        return _load_picture(path, PICTURES[suffix])
    pixels = np.lib.format.open_memmap(path, mode="r")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise ValueError(f"expected a (H, W, 3) uint8 array, found {pixels.shape} {pixels.dtype}")
    return pixels


def _load_picture(path: Path, kind: str) -> np.ndarray:
    """RGB pixels; what is transparent is laid on white."""
    with Image.open(path, formats=[kind]) as picture:
        if picture.mode not in EIGHT_BIT_MODES:
            raise ValueError(f"expected 8 bits a channel, found mode {picture.mode}")
        if not picture.has_transparency_data:
            return np.asarray(picture.convert("RGB"))
        coloured = picture.convert("RGBA")
        return np.asarray(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), coloured).convert("RGB"))
