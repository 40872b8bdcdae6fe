"""Pyramidal OME-TIFF: attention and the evidence for each class as float32 channels, NaN where no tile is.

The raster has its origin at (0, 0) of the slide's level 0 and covers all of it, so that slide and heatmap lie on each
other by their pixel sizes alone. Tiled and deflated; the lower levels are SubIFDs, each computed from the scores
themselves. Bands of one row of tiles are in memory, whatever the size of the slide.
"""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import tifffile

from wsi.exports import Export, staged
from wsi.heatmap import SlideMaps

FILE_NAME = "heatmap.ome.tif"
TILE_PX = 256
CLASSIC_BYTES = 1 << 31
"""Pixels of level 0 beyond which the file is a BigTIFF; decided before compression, so that it is always the same."""


def write_ome_tiff(folder: Path, maps: SlideMaps) -> None:
    """Write `heatmap.ome.tif`, axes CYX."""
    first = maps.heatmap(maps.attention)
    height, width = first.shape
    options: dict[str, Any] = {
        "dtype": np.float32,
        "tile": (TILE_PX, TILE_PX),
        "photometric": "minisblack",
        "compression": "zlib",
        "compressionargs": {"level": 6},
        "maxworkers": 1,
        "software": "histograde",
        "resolutionunit": "CENTIMETER",
    }
    big = height * width * 4 * len(maps.channels) > CLASSIC_BYTES
    with staged(folder / FILE_NAME) as temporary, tifffile.TiffWriter(temporary, ome=True, bigtiff=big) as tiff:
        for level in range(first.levels):
            channels = len(maps.channels)
            per_cm = 1e4 / (first.raster_mpp * 2**level)
            extra: dict[str, Any] = {"subfiletype": 1}
            if level == 0:
                extra = {"subifds": first.levels - 1, "metadata": _metadata(maps, first.raster_mpp)}
            tiff.write(
                _tiles(maps, level),
                shape=(channels, height >> level, width >> level),
                resolution=(per_cm, per_cm),
                **options,
                **extra,
            )


def _metadata(maps: SlideMaps, mpp: float) -> dict[str, Any]:
    return {
        "axes": "CYX",
        "Name": f"{maps.info.slide_id} heatmap",
        "Creator": "histograde",
        "UUID": str(uuid5(NAMESPACE_URL, f"histograde:{_digest(maps)}")),
        "PhysicalSizeX": mpp,
        "PhysicalSizeXUnit": "\u00b5m",
        "PhysicalSizeY": mpp,
        "PhysicalSizeYUnit": "\u00b5m",
        "Channel": {"Name": [f"{channel.scale.title} ({channel.scale.unit})" for channel in maps.channels]},
    }


def _digest(maps: SlideMaps) -> str:
    """Of everything that the pixels depend on."""
    digest = sha256(maps.info.content_hash.encode())
    digest.update(np.ascontiguousarray(maps.grid.coords[maps.rows]).tobytes())
    for channel in maps.channels:
        digest.update(channel.scale.title.encode() + np.ascontiguousarray(channel.scores).tobytes())
    return digest.hexdigest()


def _tiles(maps: SlideMaps, level: int) -> Iterator[np.ndarray]:
    """The tiles of one level in the order of the file: by channel, row, column."""
    for channel in maps.channels:
        for band in maps.heatmap(channel).bands(level, rows=TILE_PX):
            height, width = band.shape
            padded = np.full((TILE_PX, -(-width // TILE_PX) * TILE_PX), np.nan, np.float32)
            padded[:height, :width] = band
            for left in range(0, padded.shape[1], TILE_PX):
                yield np.ascontiguousarray(padded[:, left : left + TILE_PX])


EXPORT = Export((FILE_NAME,), write_ome_tiff)

__all__ = ["EXPORT", "write_ome_tiff"]
