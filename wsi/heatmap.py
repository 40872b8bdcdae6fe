"""Scores of tiles as a picture of the slide: `Heatmap`, and `SlideMaps`, all that is shown of one slide.

A raster's pixel (row, col) covers the level-0 rectangle from `origin + (col, row) * pitch` to
`origin + (col + 1, row + 1) * pitch`. The slide's own raster has its origin at (0, 0) of level 0 and covers the whole
of level 0, whatever the scanned bounds are, so that it lies on the slide in any viewer that knows both pixel sizes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from shapely import MultiPolygon

from wsi.errors import UsageError
from wsi.scales import Scale
from wsi.slide import SlideInfo
from wsi.tiles import TileGrid

TILE_PARTS = 8
"""Pixels of the raster along a tile: fine enough that overlapping tiles and fractional sides are drawn true."""

MAX_RASTER_PX = 8192
"""Longest side of a raster; a slide that would need more has fewer pixels along a tile, but at least one."""

ROUNDING_PX0 = 0.5
BAND_ROWS = 256
SPREAD_AT_ONCE = 1 << 20
"""Pairs of a tile and a pixel under it that are held at once (about 40 MiB)."""


@dataclass(frozen=True, slots=True)
class Heatmap:
    """One score for each of some tiles of a slide.

    Attributes
    ----------
    coords : ndarray (n, 2) int32
        Top-left (x, y) of each tile, level-0 px.
    side_px0 : (w, h)
        Size of a tile in level-0 pixels, fractional.
    scores : ndarray (n,) float
        Finite.
    size_px0 : (w, h)
        Size of level 0.
    mpp : (x, y)
        um per level-0 pixel.
    """

    coords: np.ndarray
    side_px0: tuple[float, float]
    scores: np.ndarray
    size_px0: tuple[int, int]
    mpp: tuple[float, float]

    def __post_init__(self) -> None:
        if self.coords.shape != (len(self.scores), 2) or self.scores.ndim != 1:
            raise UsageError(f"expected one score a tile, found {self.scores.shape} for tiles {self.coords.shape}")
        if not np.isfinite(self.scores).all():
            raise UsageError("a score is not finite; tiles without a score are left out of a heatmap")

    @classmethod
    def on_grid(cls, grid: TileGrid, rows: np.ndarray, scores: np.ndarray, info: SlideInfo) -> "Heatmap":
        """Scores (n,) of the tiles at `rows` (n,) of a slide's grid."""
        return cls(grid.coords[rows], grid.side_px0, np.asarray(scores), info.size_px0, info.require_mpp())

    @property
    def levels(self) -> int:
        """Levels of the pyramid, each half the one before; the last has about one pixel a tile."""
        longest_um = max(size * mpp for size, mpp in zip(self.size_px0, self.mpp, strict=True))
        parts = TILE_PARTS
        while parts > 1 and longest_um * parts / self._tile_um > MAX_RASTER_PX:
            parts //= 2
        return parts.bit_length()

    @property
    def raster_mpp(self) -> float:
        """um per pixel of the slide's raster, the same along both axes."""
        return self._tile_um / 2 ** (self.levels - 1)

    @property
    def pitch_px0(self) -> tuple[float, float]:
        """Level-0 pixels (x, y) per pixel of the slide's raster; not equal where the slide's pixels are not square."""
        return self.raster_mpp / self.mpp[0], self.raster_mpp / self.mpp[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the slide's raster: all of level 0, rounded up so that every level halves without a remainder."""
        whole = 2 ** (self.levels - 1)
        w, h = (
            math.ceil(size / pitch / whole - 1e-9) * whole
            for size, pitch in zip(self.size_px0, self.pitch_px0, strict=True)
        )
        return h, w

    @property
    def _tile_um(self) -> float:
        return min(side * mpp for side, mpp in zip(self.side_px0, self.mpp, strict=True))

    def locate(self, point_px0: tuple[float, float]) -> tuple[int, int]:
        """(row, col) of the raster's pixel that covers a level-0 point (x, y)."""
        return math.floor(point_px0[1] / self.pitch_px0[1]), math.floor(point_px0[0] / self.pitch_px0[0])

    def raster(self, level: int = 0) -> np.ndarray:
        """The whole slide at one level of the pyramid, (H, W) float32, NaN where no tile is."""
        return np.concatenate(list(self.bands(level)))

    def bands(self, level: int = 0, rows: int = BAND_ROWS) -> Iterator[np.ndarray]:
        """The raster from top to bottom in bands of `rows`, (h, W) float32: for slides larger than memory."""
        pitch = (self.pitch_px0[0] * 2**level, self.pitch_px0[1] * 2**level)
        height, width = self.shape[0] >> level, self.shape[1] >> level
        for top in range(0, height, rows):
            yield self.window((0.0, top * pitch[1]), pitch, (width, min(rows, height - top)))

    def window(
        self, origin_px0: tuple[float, float], pitch_px0: tuple[float, float], size_px: tuple[int, int]
    ) -> np.ndarray:
        """Scores on any raster, straight from the tiles.

        A pixel has a value if a tile covers its centre, give or take the half pixel of level 0 to which the tiles'
        corners are rounded, so that no seam opens between neighbours; where pixels are larger than tiles, if one
        touches it. The value is the mean of the tiles that overlap the pixel, each weighted by the area that it
        covers; under overlapping tiles this is their plain mean.

        Parameters
        ----------
        origin_px0 : (x, y)
            Level-0 place of the top-left corner.
        pitch_px0 : (x, y)
            Level-0 pixels per pixel.
        size_px : (w, h)
            Size of the result.

        Returns
        -------
        ndarray (h, w) float32
            NaN where no tile is.
        """
        w, h = size_px
        parts = []
        for top in range(0, h, BAND_ROWS):
            origin = (origin_px0[0], origin_px0[1] + top * pitch_px0[1])
            parts.append(self._band(origin, pitch_px0, (w, min(BAND_ROWS, h - top))))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _band(
        self, origin_px0: tuple[float, float], pitch_px0: tuple[float, float], size_px: tuple[int, int]
    ) -> np.ndarray:
        w, h = size_px
        start = (self.coords - np.array(origin_px0)) / pitch_px0
        side, rounding = np.array(self.side_px0) / pitch_px0, ROUNDING_PX0 / np.array(pitch_px0)
        here = np.flatnonzero(((start < size_px) & (start + side > 0)).all(axis=1))
        total, weight, shown = np.zeros(h * w), np.zeros(h * w), np.zeros(h * w, bool)
        at_once = max(1, int(SPREAD_AT_ONCE / np.prod(np.ceil(side) + 1)))
        for first in range(0, len(here), at_once):
            some = here[first : first + at_once]
            cols, width, inside_x = _overlaps(start[some, 0], side[0], w, rounding[0])
            rows, height, inside_y = _overlaps(start[some, 1], side[1], h, rounding[1])
            index = (rows[:, :, None] * w + cols[:, None, :]).ravel()
            area = height[:, :, None] * width[:, None, :]
            np.add.at(total, index, (area * self.scores[some, None, None]).ravel())
            np.add.at(weight, index, area.ravel())
            shown[index[(inside_y[:, :, None] & inside_x[:, None, :]).ravel()]] = True
        shown = weight > 0 if (side < 1).any() else shown & (weight > 0)
        band = np.full(h * w, np.nan, np.float32)
        band[shown] = total[shown] / weight[shown]
        return band.reshape(h, w)


def _overlaps(start: np.ndarray, side: float, limit: int, rounding: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For intervals [start, start + side) along one axis: the pixels under each (n, K), the lengths that are covered,
    and whether the pixel's centre is, give or take `rounding`."""
    first = np.floor(start)
    index = first[:, None] + np.arange(math.ceil(side) + 1)
    end = start[:, None] + side
    length = np.clip(np.minimum(index + 1, end) - np.maximum(index, start[:, None]), 0, None)
    valid = (index >= 0) & (index < limit)
    centred = valid & (index + 0.5 >= start[:, None] - rounding) & (index + 0.5 < end + rounding)
    return np.clip(index, 0, limit - 1).astype(np.int64), np.where(valid, length, 0.0), centred


@dataclass(frozen=True, slots=True)
class Channel:
    """One map of a slide: a name for files, scores (n,) of its tiles, and the scale on which they are shown."""

    name: str
    scores: np.ndarray
    scale: Scale


@dataclass(frozen=True, slots=True)
class SlideMaps:
    """All that is shown of one slide: what an export writes.

    Attributes
    ----------
    info : SlideInfo
    grid : TileGrid
        All tiles of the slide.
    rows : ndarray (n,) int64
        Those that have scores.
    attention : Channel
        Attention times n, so that the mean tile is 1.
    evidence : tuple of Channel
        One for each class, in the model's order.
    class_labels : tuple of str
        The classes as a person reads them.
    predicted : int
        Which class the slide was given.
    tissue : MultiPolygon
        Outline of the tissue, level-0 px.
    thumbnail : ndarray (H, W, 3) uint8
        The scanned bounds, reduced.
    leading : int
        Which of `channels` is to be shown first.
    """

    info: SlideInfo
    grid: TileGrid
    rows: np.ndarray
    attention: Channel
    evidence: tuple[Channel, ...]
    class_labels: tuple[str, ...]
    predicted: int
    tissue: MultiPolygon
    thumbnail: np.ndarray
    leading: int = 0

    @property
    def first(self) -> Channel:
        """The map that is to be shown first."""
        return self.channels[self.leading]

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Attention, then the evidence for each class."""
        return (self.attention, *self.evidence)

    def heatmap(self, channel: Channel) -> Heatmap:
        """A channel on the slide's grid."""
        return Heatmap.on_grid(self.grid, self.rows, channel.scores, self.info)

    @property
    def thumbnail_pitch_px0(self) -> tuple[float, float]:
        """Level-0 pixels (x, y) per pixel of the thumbnail."""
        _, _, w, h = self.info.bounds_px0
        return w / self.thumbnail.shape[1], h / self.thumbnail.shape[0]

    def on_thumbnail(self, channel: Channel) -> np.ndarray:
        """A channel on the thumbnail's own pixels, (H, W) float32, NaN where no tile is."""
        x, y, _, _ = self.info.bounds_px0
        height, width = self.thumbnail.shape[:2]
        return self.heatmap(channel).window((x, y), self.thumbnail_pitch_px0, (width, height))


__all__ = ["Channel", "Heatmap", "SlideMaps"]
