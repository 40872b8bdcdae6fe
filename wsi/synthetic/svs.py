"""Writing a pyramidal SVS from blocks, in memory that does not grow with the slide.

Each block is encoded into tiles at once; of level 0 no more than the encoded tiles of one row of blocks is held. Lower
levels are reduced as the rows come, their tiles put by in a temporary file.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal

import cv2
import imagecodecs
import numpy as np
import tifffile

from wsi.synthetic.noise import Pixels

BLOCK_PX = 2048
TILE_PX = 256
_FACTOR = 4
_THUMBNAIL_PX = 1024

Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]
_FACTORS: dict[str, tuple[int, int]] = {"4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2)}


@dataclass(frozen=True, slots=True)
class Jpeg:
    """How tiles are compressed."""

    quality: int
    subsampling: Subsampling

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise ValueError(f"JPEG quality {self.quality}: expected 1-100")
        if self.subsampling not in _FACTORS:
            raise ValueError(f"subsampling {self.subsampling!r}: expected one of {', '.join(_FACTORS)}")

    def tile(self, rgb: Pixels) -> bytes:
        """One tile (256, 256, 3) as a JPEG stream in YCbCr."""
        sampling = self.subsampling.replace(":", "")
        rgb = np.ascontiguousarray(rgb)
        coded = imagecodecs.jpeg8_encode(
            rgb, level=self.quality, colorspace="RGB", outcolorspace="YCBCR", subsampling=sampling
        )
        return bytes(coded)


class _Level:
    """A lower level that grows by rows: full rows of tiles are encoded and put by, a reduced copy is passed on."""

    def __init__(self, size_px: tuple[int, int], jpeg: Jpeg, spool: IO[bytes], below: "_Level | None") -> None:
        self.size_px, self._jpeg, self._spool, self._below = size_px, jpeg, spool, below
        self._rows = np.empty((0, 0, 3), np.uint8)
        self._places: list[tuple[int, int]] = []
        self._done_px = 0
        self.small: list[Pixels] = []

    def push(self, rows: Pixels) -> None:
        """Add rows (h, w, 3); h and w are multiples of 4 except at the slide's end."""
        if self._below is not None:
            self._below.push(reduced(rows))
        else:
            rows_in = rows[:, : self.size_px[0]]
            self.small.append(rows_in if max(self.size_px) <= _THUMBNAIL_PX else reduced(rows_in))
        self._rows = np.concatenate([self._rows, rows]) if self._rows.size else rows
        while len(self._rows) >= TILE_PX:
            self._encode(self._rows[:TILE_PX])
            self._rows = self._rows[TILE_PX:]

    def finish(self) -> None:
        if self._done_px < self.size_px[1]:
            self._encode(self._rows)
        self._rows = self._rows[:0]

    def _encode(self, rows: Pixels) -> None:
        width, height = self.size_px
        if self._done_px >= height:
            return
        rows = rows[: height - self._done_px, :width]
        rows = np.pad(rows, ((0, TILE_PX - len(rows)), (0, -width % TILE_PX), (0, 0)), mode="edge")
        for left in range(0, width, TILE_PX):
            data = self._jpeg.tile(rows[:, left : left + TILE_PX])
            self._places.append((self._spool.tell(), len(data)))
            self._spool.write(data)
        self._done_px += TILE_PX

    def tiles(self) -> Iterator[bytes]:
        for place, length in self._places:
            self._spool.seek(place)
            yield self._spool.read(length)


def reduced(rows: Pixels) -> Pixels:
    """Area average by 4."""
    height, width = (max(1, s // _FACTOR) for s in rows.shape[:2])
    return cv2.resize(rows, (width, height), interpolation=cv2.INTER_AREA)


def write_svs(
    path: Path,
    name: str,
    size_px0: tuple[int, int],
    mpp: float,
    jpeg: Jpeg,
    draw: Callable[[int, int, int, int], Pixels],
) -> None:
    """Write levels 1, 4 and 16 and a thumbnail.

    Parameters
    ----------
    draw : callable
        `draw(x_px0, y_px0, w_px, h_px)` gives the block's colours (h, w, 3) uint8; called row by row, left to right,
        with sizes that are multiples of 256 and may reach past the slide.
    """
    sizes = [size_px0]
    for _ in range(2):
        sizes.append((max(1, sizes[-1][0] // _FACTOR), max(1, sizes[-1][1] // _FACTOR)))
    describe = _describe(name, size_px0, mpp, jpeg)
    with tempfile.TemporaryFile() as one, tempfile.TemporaryFile() as two:
        coarse = _Level(sizes[2], jpeg, two, None)
        middle = _Level(sizes[1], jpeg, one, coarse)
        with tifffile.TiffWriter(path, bigtiff=size_px0[0] * size_px0[1] > 2**31) as tiff:
            # subsampling makes tifffile tag the pages as YCbCr, which is what the tiles hold
            write = partial(
                tiff.write,
                photometric="rgb",
                compression="jpeg",
                subsampling=_FACTORS[jpeg.subsampling],
                resolutionunit="CENTIMETER",
                resolution=(1e4 / mpp, 1e4 / mpp),
                metadata=None,
                dtype=np.uint8,
            )
            tiled = partial(write, tile=(TILE_PX, TILE_PX))
            tiles = _level0_tiles(size_px0, jpeg, draw, middle)
            tiled(tiles, shape=_shape(size_px0), description=describe(size_px0))
            middle.finish()
            coarse.finish()
            small = _thumbnail(coarse.small)
            text = describe((small.shape[1], small.shape[0]))
            write(small, description=text, rowsperstrip=16, compressionargs={"level": jpeg.quality})
            for level in (middle, coarse):
                text = describe(level.size_px)
                tiled(level.tiles(), shape=_shape(level.size_px), description=text, subfiletype=0)


def _shape(size_px: tuple[int, int]) -> tuple[int, int, int]:
    return (size_px[1], size_px[0], 3)


def _describe(name: str, size_px0: tuple[int, int], mpp: float, jpeg: Jpeg) -> Callable[[tuple[int, int]], str]:
    power = 40 if mpp < 0.36 else 20

    def describe(size: tuple[int, int]) -> str:
        return (
            f"Aperio Image Library v12.0.15\r\n{size_px0[0]}x{size_px0[1]} [0,0 {size[0]}x{size[1]}] "
            f"(256x256) JPEG/RGB Q={jpeg.quality}|AppMag = {power}|MPP = {mpp:.4f}|Filename = {name}"
        )

    return describe


def _thumbnail(parts: list[Pixels]) -> Pixels:
    thumbnail = np.concatenate(parts)
    while max(thumbnail.shape[:2]) > _THUMBNAIL_PX:
        thumbnail = reduced(thumbnail)
    return np.ascontiguousarray(thumbnail)


def _level0_tiles(
    size_px0: tuple[int, int], jpeg: Jpeg, draw: Callable[[int, int, int, int], Pixels], middle: _Level
) -> Iterator[bytes]:
    width, height = (-(-s // TILE_PX) * TILE_PX for s in size_px0)
    for top in range(0, height, BLOCK_PX):
        h = min(BLOCK_PX, height - top)
        rows: list[list[bytes]] = [[] for _ in range(h // TILE_PX)]
        small = []
        for left in range(0, width, BLOCK_PX):
            block = draw(left, top, min(BLOCK_PX, width - left), h)
            small.append(reduced(block))
            for i, row in enumerate(rows):
                band = block[i * TILE_PX : (i + 1) * TILE_PX]
                row += [jpeg.tile(band[:, j : j + TILE_PX]) for j in range(0, block.shape[1], TILE_PX)]
        middle.push(np.concatenate(small, axis=1))
        for row in rows:
            yield from row
