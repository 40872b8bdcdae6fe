"""Where tiles lie, and their pixels: `TileSpec`, `TileGrid`, `tile_grid()` and `TileReader`."""

import math
import sys
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np

from wsi.errors import TileReadError, UsageError
from wsi.kernels import KERNELS, Kernel, reach
from wsi.resample import LevelView, LevelWindow, best_reduction, read_window, resize_rect
from wsi.slide import FarSlide, ReducingSlide, Slide, SlideInfo
from wsi.tissue import TissueMask

MAX_STRIP_PX = 1 << 23
"""Level pixels decoded by one `read_region` of the tile reader (24 MiB of RGB)."""

WINDOWS_AT_ONCE = 16
"""Tiles whose pixels wait between decoding and resampling."""

BATCHES_AHEAD = 4
"""So much of what is to be read is announced to a slide on a server; it takes what its memory is for."""

KEPT_BATCHES = 4
"""Batches whose memory a reader uses again."""

MAX_GRID = 1 << 24
"""Most places that a grid may have, tissue or not: a stride of 1 px on a whole slide is a slip, not a wish."""


@dataclass(frozen=True, slots=True)
class TileSpec:
    """The whole recipe from a slide to tiles.

    Attributes
    ----------
    tile_px : int
        Side of a tile in pixels of the tile.
    mpp : float
        Its scale in um/px.
    stride_px : int
        Distance of neighbouring tiles, pixels of the tile; `tile_px` means side by side.
    min_tissue : float
        Smallest share of a tile that must be tissue, 0 to 1.
    kernel : str
        How pixels are resampled, one of `wsi.kernels.KERNELS`.
    """

    tile_px: int = 224
    mpp: float = 0.5
    stride_px: int = 224
    min_tissue: float = 0.5
    kernel: Kernel = "area"

    def __post_init__(self) -> None:
        if not 16 <= self.tile_px <= 8192:
            raise UsageError(f"a tile has 16 to 8192 pixels a side, found {self.tile_px}; check --tile-px")
        if not 0.05 <= self.mpp <= 20:
            raise UsageError(f"tiles are cut at 0.05 to 20 um/px, found {self.mpp:g}; check --mpp")
        if not 1 <= self.stride_px <= 16 * self.tile_px:
            raise UsageError(f"the stride is at least 1 pixel, found {self.stride_px}; check --stride-px")
        if not 0 < self.min_tissue <= 1:
            raise UsageError(f"the least tissue is a share above 0, up to 1; found {self.min_tissue:g}")
        if self.kernel not in KERNELS:
            raise UsageError(f"no kernel is called {self.kernel!r}; there are: {', '.join(KERNELS)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TileGrid:
    """The tiles of one slide in reading order (row by row).

    Attributes
    ----------
    spec : TileSpec
    coords : ndarray (N, 2) int32
        Top-left (x, y) of each tile, level-0 px.
    tissue_fraction : ndarray (N,) float32
        Share of each tile that is tissue.
    side_px0 : (w, h)
        Size of a tile in level-0 pixels; fractional.
    """

    spec: TileSpec
    coords: np.ndarray
    tissue_fraction: np.ndarray
    side_px0: tuple[float, float]

    def __len__(self) -> int:
        return len(self.coords)


class Places(Protocol):
    """Where the tiles of a slide lie, whoever laid them; see `TileGrid`."""

    @property
    def coords(self) -> np.ndarray: ...

    @property
    def tissue_fraction(self) -> np.ndarray:
        """NaN where it is unknown."""
        ...

    @property
    def side_px0(self) -> tuple[float, float]:
        """(0, 0) where it is unknown."""
        ...


@dataclass(frozen=True, slots=True)
class BadTile:
    """A tile without pixels: its row in the grid, and why."""

    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class TileBatch:
    """Pixels of some tiles.

    Attributes
    ----------
    rows : ndarray (n,) int64
        Rows of the grid that could be read.
    pixels : ndarray (n, tile_px, tile_px, 3) uint8
    bad : tuple of BadTile
        The others; they have no pixels.
    """

    rows: np.ndarray
    pixels: np.ndarray
    bad: tuple[BadTile, ...]


def tile_grid(info: SlideInfo, tissue: TissueMask, spec: TileSpec) -> TileGrid:
    """Lay a grid over the scanned bounds and keep the tiles with enough tissue.

    A tile is exactly `tile_px * mpp` um wide whatever the slide's own scale; only whole tiles are laid, because
    a tile that hangs over the edge would be padded with pixels that nobody scanned.

    Raises
    ------
    UsageError
        If there would be more than `MAX_GRID` places.
    MissingMppError, ImplausibleMppError
        If the slide has no believable pixel size.
    """
    factors = [spec.mpp / mpp for mpp in info.require_mpp()]
    side_px0 = (spec.tile_px * factors[0], spec.tile_px * factors[1])
    axes = []
    for axis in range(2):
        start, extent = info.bounds_px0[axis], info.bounds_px0[axis + 2]
        room = extent - side_px0[axis] + 1e-6
        count = max(0, int(np.floor(room / (spec.stride_px * factors[axis]))) + 1)
        if count > MAX_GRID:
            raise _too_many(count, spec)
        axes.append(start + np.minimum(np.rint(np.arange(count) * spec.stride_px * factors[axis]), np.floor(room)))
    if len(axes[0]) * len(axes[1]) > MAX_GRID:
        raise _too_many(len(axes[0]) * len(axes[1]), spec)
    x, y = np.meshgrid(axes[0], axes[1])
    coords = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int32)
    fraction = tissue.fraction(coords, side_px0)
    keep = fraction >= spec.min_tissue
    return TileGrid(spec, coords[keep], fraction[keep], side_px0)


def _too_many(places: int, spec: TileSpec) -> UsageError:
    return UsageError(
        f"{places:,} tiles of {spec.tile_px} px at {spec.mpp:g} um/px, {spec.stride_px} px apart, fit on the slide, "
        f"at most {MAX_GRID:,} are laid; use a larger --stride-px or --mpp"
    )


class TileReader:
    """Turns rows of a `TileGrid` into pixels, reading each stretch of a tile row once.

    Neighbouring tiles of a row are read together, so that the stored tiles under them are decoded once, at the largest
    reduction that leaves the resolution of the tiles; only the rest is resampled. Slides that decode their stored
    tiles themselves (`ReducingSlide`) put them where they belong without a picture of the whole stretch; of others the
    stretch is one region, cut afterwards, and where that cannot be decoded its tiles are read singly, so that only
    those that are damaged are bad. Either way the pixels are the same: a kernel that reaches past a tile sees its
    neighbours, as if the level were resampled whole. One reader serves several threads.
    """

    def __init__(self, slide: Slide, grid: TileGrid):
        self._slide = slide
        self._grid = grid
        self._memory = _Memory()
        side = grid.spec.tile_px
        self._level, self._reduce = slide.info.best_level(min(grid.side_px0) / side), 1
        if grid.spec.kernel == "area":  # a reduction averages as that kernel does, and would blur what others weigh
            self._reduce = best_reduction(slide, self._level, grid.coords, grid.side_px0, (side, side))
        self._view = LevelView(slide.info, self._level, self._reduce)
        # at a fractional downsample OpenSlide blends neighbouring pixels, each start another way
        whole_steps = float(slide.info.downsamples[self._level]).is_integer()
        self._joins = whole_steps or isinstance(slide, ReducingSlide)
        self._tops = np.unique(grid.coords[:, 1]).tolist()
        _, dy = self._view.scale
        starts = [top / dy for top in (*self._tops, slide.info.size_px0[1])]
        around = [reach(start, grid.side_px0[1] / dy, grid.spec.tile_px, grid.spec.kernel) for start in starts]
        self._below = [math.floor(start - more + 1e-6) for start, more in zip(starts, around, strict=True)]

    def batches(self, rows: np.ndarray, batch_size: int, *, threads: int = 0) -> Iterator[TileBatch]:
        """The tiles at `rows` (ascending), at most `batch_size` at a time and in their order.

        Parameters
        ----------
        threads : int
            So many threads read ahead, at most one batch more than there are threads; 0 reads when asked.
        """
        parts = self._parts(rows, batch_size)
        if not threads:
            yield from map(self.read, parts)
            return
        with ThreadPoolExecutor(threads, thread_name_prefix="tiles") as pool:
            ahead = deque(pool.submit(self.read, part) for part in islice(parts, threads + 1))
            try:
                while ahead:
                    batch = ahead.popleft().result()
                    ahead.extend(pool.submit(self.read, part) for part in islice(parts, 1))
                    yield batch
            finally:
                for one in ahead:
                    one.cancel()

    def _parts(self, rows: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
        for start in range(0, len(rows), batch_size):
            self._announce(rows[start : start + BATCHES_AHEAD * batch_size])
            yield rows[start : start + batch_size]

    def _announce(self, rows: np.ndarray) -> None:
        """Tell a slide on a server what will be read, so that it is fetched while other tiles are decoded."""
        if isinstance(self._slide, FarSlide) and self._slide.far:
            windows = self._windows(rows.tolist())
            self._slide.expect(
                self._level, self._reduce, [(one.left, one.top, one.width, one.height) for one in windows]
            )

    def read(self, rows: np.ndarray) -> TileBatch:
        """Pixels of the tiles at `rows` (ascending), and which of them are bad."""
        side = self._grid.spec.tile_px
        pixels = self._memory.take(len(rows) * side * side * 3).reshape(len(rows), side, side, 3)
        bad: dict[int, str] = {}
        start = 0
        for strip in self._strips(rows):
            out = pixels[start : start + len(strip)]
            lost = (
                self._read_windows(self._slide, strip, out)
                if isinstance(self._slide, ReducingSlide)
                else self._read_strip(strip, out)
            )
            bad |= {start + place: reason for place, reason in lost.items()}
            start += len(strip)
        if not bad:
            return TileBatch(np.asarray(rows, np.int64), pixels, ())
        good = np.setdiff1d(np.arange(len(rows)), list(bad))
        records = tuple(BadTile(int(rows[place]), reason) for place, reason in bad.items())
        return TileBatch(np.asarray(rows, np.int64)[good], pixels[good], records)

    def _strips(self, rows: np.ndarray) -> Iterator[list[int]]:
        """Cut ascending rows of the grid into stretches of neighbours in one tile row."""
        side = self._grid.side_px0
        dx, dy = self._view.scale
        most_px0 = max(side[0], MAX_STRIP_PX / (side[1] / dy) * dx)
        strip: list[int] = []
        first_x = last_x = last_y = 0
        for row, (x, y) in zip(rows.tolist(), self._grid.coords[rows].tolist(), strict=True):
            near = self._joins and y == last_y and last_x <= x <= last_x + 2 * side[0]
            if strip and (not near or x + side[0] - first_x > most_px0):
                yield strip
                strip = []
            if not strip:
                first_x = x
            strip.append(row)
            last_x, last_y = x, y
        if strip:
            yield strip

    def _windows(self, strip: list[int]) -> list[LevelWindow]:
        side, kernel, size_px0 = self._grid.spec.tile_px, self._grid.spec.kernel, self._grid.side_px0
        window, size_px = self._view.window, (side, side)
        return [window((x, y, *size_px0), kernel, size_px) for x, y in self._grid.coords[strip].tolist()]

    def _read_windows(self, slide: ReducingSlide, strip: list[int], out: np.ndarray) -> dict[int, str]:
        """Read a stretch window by window; what could not be read, by place in the stretch."""
        side = self._grid.spec.tile_px
        windows = self._windows(strip)
        next_row = self._below[bisect_right(self._tops, int(self._grid.coords[strip[0], 1]))]
        places = [(one.left, one.top, one.width, one.height) for one in windows]
        if all(max(map(abs, (x, y, w - side, h - side))) < 1e-6 for x, y, w, h in (one.rect for one in windows)):
            reasons = slide.read_windows(self._level, self._reduce, places, list(out), done_above=next_row)
            return {place: reason for place, reason in enumerate(reasons) if reason is not None}
        bad: dict[int, str] = {}
        most = max(width * height for _, _, width, height in places) * 3
        scratch = np.empty((min(len(strip), WINDOWS_AT_ONCE), most), np.uint8)
        for start in range(0, len(strip), WINDOWS_AT_ONCE):
            part = places[start : start + WINDOWS_AT_ONCE]
            images = [
                memory[: width * height * 3].reshape(height, width, 3)
                for memory, (_, _, width, height) in zip(scratch, part, strict=False)
            ]
            reasons = slide.read_windows(self._level, self._reduce, part, images, done_above=next_row)
            for place, (image, reason) in enumerate(zip(images, reasons, strict=True), start):
                if reason is None:
                    resize_rect(image, windows[place].rect, (side, side), out[place], self._grid.spec.kernel)
                else:
                    bad[place] = reason
        return bad

    def _read_strip(self, strip: list[int], out: np.ndarray) -> dict[int, str]:
        """Read a stretch as one region; what could not be read, by place in the stretch."""
        side = self._grid.spec.tile_px
        windows = self._windows(strip)
        # not always the first: one that is a mere copy reaches less far than the next
        left, top, height = min(one.left for one in windows), windows[0].top, windows[0].height
        width = max(one.left + one.width for one in windows) - left
        try:
            image = read_window(self._slide, self._level, left, top, width, height, self._reduce)
        except TileReadError as error:
            if len(strip) == 1:
                return {0: str(error)}
            singly = (self._read_strip([row], out[place : place + 1]) for place, row in enumerate(strip))
            return {place: lost[0] for place, lost in enumerate(singly) if lost}
        for place, one in enumerate(windows):
            part = image[:, one.left - left : one.left - left + one.width]
            resize_rect(part, one.rect, (side, side), out[place], self._grid.spec.kernel)
        return {}


class _Memory:
    """Memory for batches that is used again once nobody holds the batch: fresh pages cost a tenth of the reading."""

    def __init__(self) -> None:
        self._kept: list[np.ndarray] = []
        self._lock = threading.Lock()

    def take(self, count: int) -> np.ndarray:
        """(count,) uint8 with any content; every view of it keeps it from being handed out again."""
        with self._lock:
            for place in range(len(self._kept)):
                # the list and the call hold one reference each, every batch that is alive another
                if self._kept[place].nbytes >= count and sys.getrefcount(self._kept[place]) <= 2:
                    return self._kept[place][:count]
            fresh = np.empty(count, np.uint8)
            if len(self._kept) < KEPT_BATCHES:
                self._kept.append(fresh)
        return fresh[:count]


def tile_polygons(grid: TileGrid) -> np.ndarray:
    """Outlines of the tiles, (N, 4, 2) float64 level-0 px, clockwise from the top-left."""
    w, h = grid.side_px0
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]])
    return grid.coords[:, None, :].astype(np.float64) + corners


__all__ = ["BadTile", "TileBatch", "TileGrid", "TileReader", "TileSpec", "tile_grid", "tile_polygons"]
