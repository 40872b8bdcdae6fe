"""tiffslide: tiled TIFFs that OpenSlide declines (OME-TIFF, other codecs), through tifffile and zarr."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tiffslide

from wsi.errors import TileReadError, UnreadableSlideError
from wsi.readers.openslide import AssociatedImages, properties_info


class TiffSlideReader:
    """A slide through tiffslide. Pixels outside the level are white, as everywhere in this project."""

    def __init__(self, path: Path):
        if path.is_dir():
            raise UnreadableSlideError("a folder is not a TIFF")
        try:
            self._slide = tiffslide.TiffSlide(str(path))
            self._slide.read_region((0, 0), 0, (1, 1))
        except Exception as error:  # any exception of its parsers and codecs means that this reader declines
            raise UnreadableSlideError(
                f"{type(error).__name__}: {error}" if str(error) else "not a tiled TIFF"
            ) from error
        self.info = properties_info(
            self._slide.properties, "tiffslide", list(self._slide.level_dimensions), "tiffslide"
        )

    @property
    def associated_images(self) -> Mapping[str, np.ndarray]:
        return AssociatedImages(self._slide.associated_images)

    def read_region(self, location_px0: tuple[int, int], level: int, size_px: tuple[int, int]) -> np.ndarray:
        try:
            part = self._slide.read_region(location_px0, level, size_px, as_array=True)
        except Exception as error:  # the codecs raise whatever they like; for the caller it is one thing
            raise TileReadError(f"level {level} at {location_px0}: {type(error).__name__}: {error}") from error
        return np.ascontiguousarray(part[..., :3])

    def close(self) -> None:
        self._slide.close()
