"""Stored tiles as they lie in the file, with all that is needed to cut tiles out of them elsewhere.

`CompressedReader` is the counterpart of `TileReader` for a decoder on a card: it reads and checks bytes and works out
geometry, and decodes nothing. The weights are those of `wsi.resample`. Levels are used whole: what the CPU path gains
by decoding at 1/2 a card does not need, and nvJPEG cannot do it through torchvision.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from wsi.errors import TileReadError
from wsi.jpeg_stream import Colour, JpegHead, StreamDoubt, check_scan, read_head
from wsi.kernels import axis_weights
from wsi.resample import LevelView, LevelWindow
from wsi.slide import CompressedSlide, Slide
from wsi.tiles import TileGrid

MAX_STRIP_PX = 1 << 23
"""Level pixels in a strip (24 MiB of RGB), unless one tile needs more."""


@dataclass(frozen=True, slots=True)
class TileStrip:
    """A rectangle of stored tiles, and what to cut out of it.

    Attributes
    ----------
    slots : ndarray (R, C) int64
        Which stream of the batch lies in row r and column c; -1 where none is needed.
    row_index, row_weight : ndarray (tile_px, K) int64, float32
        Rows of the strip that make up each row of its tiles, and with what weight.
    col_index, col_weight : ndarray (n, tile_px, K) int64, float32
        The same for the columns of each of its n tiles.
    """

    slots: np.ndarray
    row_index: np.ndarray
    row_weight: np.ndarray
    col_index: np.ndarray
    col_weight: np.ndarray


@dataclass(frozen=True, slots=True)
class CompressedBatch:
    """Some tiles of a grid before decoding.

    Attributes
    ----------
    rows : ndarray (n,) int64
        Rows of the grid that the strips give, strip by strip.
    streams : tuple of ndarray (bytes,) uint8
        Complete JPEG streams of the stored tiles, each once; all are sound as far as can be seen from outside.
    stored_px : (w, h)
        Size of each of them.
    strips : tuple of TileStrip
    doubts : dict of int to str
        The other rows, ascending, and why: they need a stored tile that is missing, damaged or unusual, or pixels
        beyond the stored ones. `TileReader` says what becomes of them.
    """

    rows: np.ndarray
    streams: tuple[np.ndarray, ...]
    stored_px: tuple[int, int]
    strips: tuple[TileStrip, ...]
    doubts: dict[int, str]


Place = tuple[int, int]
"""(row, column) of a stored tile."""


class CompressedReader:
    """Turns rows of a `TileGrid` into `CompressedBatch`es. May be used from several threads."""

    def __init__(self, slide: Slide, stored: CompressedSlide, grid: TileGrid, colours: Collection[Colour]):
        self._slide, self._stored, self._grid, self._colours = slide, stored, grid, colours
        self._level = _level(slide, grid)
        stored_px = stored.jpeg_tile_px(self._level)
        if stored_px is None:
            raise ValueError(f"level {self._level} is not stored as JPEG; read it with TileReader")
        self._stored_px: tuple[int, int] = stored_px
        w, h = slide.info.level_sizes_px[self._level]
        self._shape = -(-h // stored_px[1]), -(-w // stored_px[0])
        self._head: tuple[bytes, JpegHead] = (b"\0", JpegHead(0, 0, "ycbcr", 0))

    def batches(self, rows: np.ndarray, batch_size: int) -> Iterator[CompressedBatch]:
        """The tiles at `rows` (ascending), at most `batch_size` at a time."""
        for start in range(0, len(rows), batch_size):
            yield self.read(rows[start : start + batch_size])

    def read(self, rows: np.ndarray) -> CompressedBatch:
        """Streams and geometry of the tiles at `rows` (ascending)."""
        view, side_px0 = LevelView(self._slide.info, self._level), self._grid.side_px0
        windows = {
            row: view.window((x, y, *side_px0))
            for row, (x, y) in zip(rows.tolist(), self._grid.coords[rows].tolist(), strict=True)
        }
        needs = {row: self._places(window) for row, window in windows.items()}
        inside = [place for places in needs.values() for place in places if self._is_stored(place)]
        found = self._read_streams(sorted(set(inside)))
        doubts: dict[int, str] = {}
        for row, places in needs.items():
            said = [found.get(place, "lies beyond the stored tiles") for place in places]
            reason = next((one for one in said if isinstance(one, str)), None)
            if reason is not None:
                doubts[row] = reason
        good = [row for row in needs if row not in doubts]
        used = sorted({place for row in good for place in needs[row]})
        slots = {place: number for number, place in enumerate(used)}
        strips = tuple(
            self._strip([windows[row] for row in strip], {place: slots[place] for row in strip for place in needs[row]})
            for strip in self._cut_strips(good, windows)
        )
        streams = tuple(one for place in used if isinstance(one := found[place], np.ndarray))
        return CompressedBatch(np.array(good, np.int64), streams, self._stored_px, strips, doubts)

    def _places(self, window: LevelWindow) -> list[Place]:
        w, h = self._stored_px
        rows = range(window.top // h, -(-(window.top + window.height) // h))
        columns = range(window.left // w, -(-(window.left + window.width) // w))
        return [(row, column) for row in rows for column in columns]

    def _is_stored(self, place: Place) -> bool:
        return 0 <= place[0] < self._shape[0] and 0 <= place[1] < self._shape[1]

    def _read_streams(self, places: list[Place]) -> dict[Place, np.ndarray | str]:
        """Each stored tile's stream, or why it is left to the CPU path."""
        try:
            streams = self._stored.read_jpegs(self._level, places)
        except TileReadError as error:
            return dict.fromkeys(places, str(error))
        found: dict[Place, np.ndarray | str] = {}
        for place, stream in zip(places, streams, strict=True):
            try:
                self._check(stream)
                found[place] = stream
            except StreamDoubt as doubt:
                found[place] = f"stored tile (column {place[1]}, row {place[0]}): {doubt}"
        return found

    def _check(self, stream: np.ndarray) -> None:
        if not len(stream):
            raise StreamDoubt("is missing (no bytes)")
        known, head = self._head
        if stream[: len(known)].tobytes() != known:  # tiles of a level nearly always share their header
            head = read_head(stream)
            self._head = stream[: head.length].tobytes(), head
        if (head.width_px, head.height_px) != self._stored_px:
            w, h = self._stored_px
            raise StreamDoubt(f"is {head.width_px} x {head.height_px} px, expected {w} x {h}")
        if head.colour not in self._colours:
            raise StreamDoubt(f"is stored as {head.colour}, which the decoder does not get right")
        check_scan(stream, head.length)

    def _cut_strips(self, rows: list[int], windows: dict[int, LevelWindow]) -> Iterator[list[int]]:
        """Stretches of neighbours in one tile row."""
        strip: list[int] = []
        for row in rows:
            window = windows[row]
            if strip:
                first, last = windows[strip[0]], windows[strip[-1]]
                same_row = (window.top, window.height, window.rect[1]) == (first.top, first.height, first.rect[1])
                near = last.left <= window.left <= last.left + 2 * last.width
                if not (same_row and near and (window.left + window.width - first.left) * window.height < MAX_STRIP_PX):
                    yield strip
                    strip = []
            strip.append(row)
        if strip:
            yield strip

    def _strip(self, windows: list[LevelWindow], slots: dict[Place, int]) -> TileStrip:
        w, h = self._stored_px
        top, left = min(row for row, _ in slots), min(column for _, column in slots)
        shape = max(row for row, _ in slots) - top + 1, max(column for _, column in slots) - left + 1
        table = np.full(shape, -1, np.int64)
        for (row, column), slot in slots.items():
            table[row - top, column - left] = slot
        size = self._grid.spec.tile_px
        first = windows[0]
        row_index, row_weight = _weights(first.rect[1], first.rect[3], size, first.height)
        columns = [_weights(one.rect[0], one.rect[2], size, one.width) for one in windows]
        taps = max(index.shape[1] for index, _ in columns)
        col_index = np.zeros((len(windows), size, taps), np.int64)
        col_weight = np.zeros((len(windows), size, taps), np.float32)
        for number, (one, (index, weight)) in enumerate(zip(windows, columns, strict=True)):
            col_index[number, :, : index.shape[1]] = index
            col_index[number] += one.left - left * w
            col_weight[number, :, : weight.shape[1]] = weight
        return TileStrip(table, row_index + (first.top - top * h), row_weight, col_index, col_weight)


@lru_cache(maxsize=512)
def _weights(start: float, length: float, size: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """`axis_weights` in single precision; a grid on a level of whole scale has few different fractions."""
    index, weight = axis_weights(start, length, size, limit)
    return index, weight.astype(np.float32)


def _level(slide: Slide, grid: TileGrid) -> int:
    return slide.info.best_level(min(side / grid.spec.tile_px for side in grid.side_px0))


def compressed_reader(slide: Slide, grid: TileGrid, colours: Collection[Colour]) -> CompressedReader | None:
    """A reader of compressed tiles, or None where the slide, its level or the kernel do not lend themselves to it.

    Parameters
    ----------
    colours : collection of Colour
        What the decoder gets right.
    """
    if grid.spec.kernel != "area" or not isinstance(slide, CompressedSlide):
        return None
    if slide.jpeg_tile_px(_level(slide, grid)) is None:
        return None
    return CompressedReader(slide, slide, grid, colours)


__all__ = ["CompressedBatch", "CompressedReader", "TileStrip", "compressed_reader"]
