"""tiffslide: tiled TIFFs that OpenSlide declines (OME-TIFF, other codecs), through tifffile and zarr."""

import math
import weakref
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tiffslide

from wsi.errors import TileReadError, UnreadableSlideError
from wsi.readers.ome_limits import check_ome
from wsi.readers.openslide import AssociatedImages, properties_info
from wsi.readers.segment_limits import guard_decoding
from wsi.readers.tiff_limits import TIFFFILE_OPTIONS, check_tiff


class TiffSlideReader:
    """A slide through tiffslide, which rounds locations down and fills with black what lies outside a level."""

    def __init__(self, path: Path):
        if path.is_dir():
            raise UnreadableSlideError("a folder is not a TIFF")
        if claims := check_tiff(path):
            check_ome(claims)
        try:
            self._slide = tiffslide.TiffSlide(str(path), tifffile_options=dict(TIFFFILE_OPTIONS))
            weakref.finalize(self, self._slide.close)
            for series in self._slide.ts_tifffile.series:
                for level in series.levels:
                    guard_decoding(level.keyframe)
            pixel = self._slide.read_region((0, 0), 0, (1, 1), as_array=True)
            if pixel.dtype != np.uint8 or pixel.shape[2] < 3:
                raise ValueError(f"its pixels are {pixel.shape[2]} x {pixel.dtype}, expected 3 x uint8 (RGB)")
        except Exception as error:  # any exception of its parsers and codecs means that this reader declines
            raise UnreadableSlideError(
                f"{type(error).__name__}: {error}" if str(error) else "not a tiled TIFF"
            ) from error
        self.info = properties_info(
            self._slide.properties, "tiffslide", list(self._slide.level_dimensions), "tiffslide"
        )

    @property
    def associated_images(self) -> Mapping[str, np.ndarray]:
        images = self._slide.associated_images
        return AssociatedImages(images, lambda name: images.series_map[name].size // 3)

    def read_region(self, location_px0: tuple[int, int], level: int, size_px: tuple[int, int]) -> np.ndarray:
        (left, top), (width, height) = self.info.level_place(level, location_px0), size_px
        level_w, level_h = self.info.level_sizes_px[level]
        region = np.full((height, width, 3), 255, np.uint8)
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + width, level_w), min(top + height, level_h)
        if x0 < x1 and y0 < y1:
            region[y0 - top : y1 - top, x0 - left : x1 - left] = self._read(level, (x0, y0), (x1 - x0, y1 - y0))
        return region

    def _read(self, level: int, place_px: tuple[int, int], size_px: tuple[int, int]) -> np.ndarray:
        factor = self._slide.level_downsamples[level]
        location_px0 = math.ceil(place_px[0] * factor - 1e-6), math.ceil(place_px[1] * factor - 1e-6)
        try:
            return self._slide.read_region(location_px0, level, size_px, as_array=True)[..., :3]
        except Exception as error:  # the codecs raise whatever they like; for the caller it is one thing
            raise TileReadError(f"level {level}: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        self._slide.close()
