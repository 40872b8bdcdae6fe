"""A slide as a viewer wants it: levels that halve, each cut into square tiles, whatever levels the file has.

The finest level is the slide's level 0, pixel for pixel. Level `k` below it has pixels of exactly `2**k` level-0 px,
and its far edge is rounded up, so that a place on one level is that place on any other. Levels count from the smallest,
which is one tile. The side of a tile is that of the tiles in the file, where these are square and of a usual size: a
tile of a level that the file has then lies on one stored tile, and may be passed on as it is (`wsi.stored_jpeg`).
"""

from dataclasses import dataclass

import numpy as np

from wsi.errors import UsageError
from wsi.resample import read_scaled
from wsi.slide import GriddedSlide, Slide

TILE_PX = 256
"""Side where the file has no tiles, or odd ones."""

LEAST_TILE_PX, MOST_TILE_PX = 128, 1024


@dataclass(frozen=True, slots=True)
class PyramidTile:
    """Which tile: its level, 0 being the smallest, and its place in that level's grid."""

    level: int
    column: int
    row: int


@dataclass(frozen=True, slots=True)
class TilePyramid:
    """How a slide is cut.

    Attributes
    ----------
    size_px0 : (w, h)
        Size of level 0 of the slide, which is that of the finest level.
    tile_px : int
        Side of a tile; those at the far edges are what is left over.
    """

    size_px0: tuple[int, int]
    tile_px: int

    @property
    def levels(self) -> int:
        """How many there are; the smallest is one tile."""
        longest, levels = max(self.size_px0), 1
        while -(-longest >> (levels - 1)) > self.tile_px:
            levels += 1
        return levels

    def factor(self, level: int) -> int:
        """Level-0 px along a pixel of a level."""
        return 1 << (self.levels - 1 - level)

    def size_px(self, level: int) -> tuple[int, int]:
        """(w, h) of a level."""
        factor = self.factor(level)
        return -(-self.size_px0[0] // factor), -(-self.size_px0[1] // factor)

    def tile_rect(self, tile: PyramidTile) -> tuple[int, int, int, int]:
        """The pixels (x, y, w, h) of its level under a tile.

        Raises
        ------
        UsageError
            If there is no such tile.
        """
        if not 0 <= tile.level < self.levels:
            raise UsageError(f"there is no level {tile.level}; this slide has levels 0 to {self.levels - 1}")
        width, height = self.size_px(tile.level)
        x, y = tile.column * self.tile_px, tile.row * self.tile_px
        if not (0 <= x < width and 0 <= y < height):
            raise UsageError(f"level {tile.level} of {width} x {height} px has no tile {tile.column}_{tile.row}")
        return x, y, min(self.tile_px, width - x), min(self.tile_px, height - y)

    def rect_px0(self, tile: PyramidTile) -> tuple[int, int, int, int]:
        """The level-0 px (x, y, w, h) under a tile; at the far edges up to one pixel of its level beyond the slide."""
        x, y, w, h = self.tile_rect(tile)
        factor = self.factor(tile.level)
        return x * factor, y * factor, w * factor, h * factor


def pyramid_of(slide: Slide) -> TilePyramid:
    """The pyramid of a slide, on the grid of the file's own tiles where that is of use."""
    width, height = slide.stored_tile_px(0) if isinstance(slide, GriddedSlide) else (0, 0)
    side = width if width == height and LEAST_TILE_PX <= width <= MOST_TILE_PX else TILE_PX
    return TilePyramid(slide.info.size_px0, side)


def read_tile(slide: Slide, pyramid: TilePyramid, tile: PyramidTile) -> np.ndarray:
    """Pixels of a tile, area-averaged from the best level of the file, (h, w, 3) uint8 RGB.

    Raises
    ------
    UsageError
        If there is no such tile.
    TileReadError
        If pixels under it cannot be decoded.
    """
    _, _, w, h = pyramid.tile_rect(tile)
    return read_scaled(slide, pyramid.rect_px0(tile), (w, h), shown=True)


__all__ = ["PyramidTile", "TilePyramid", "pyramid_of", "read_tile"]
