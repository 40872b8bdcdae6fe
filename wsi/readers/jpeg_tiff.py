"""The fast path: TIFF slides with JPEG or JPEG 2000 tiles, decoded at reduced scale where that suffices.

tifffile parses the structure, bytes are read by position, libjpeg-turbo (simplejpeg) or OpenJPEG (imagecodecs)
decode without the GIL. A JPEG tile can be decoded at 1/2, 1/4 or 1/8 in the DCT domain, a low-pass at little cost.
What this reader does not know it declines, and the next one takes the slide.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from wsi.errors import TileReadError, UnreadableSlideError
from wsi.readers.ome_limits import check_ome
from wsi.readers.segment_limits import check_segments
from wsi.readers.tiff_levels import StoredLevel, describe, read_layout, stored_levels
from wsi.readers.tiff_limits import MAX_PICTURE_PX, TIFFFILE_OPTIONS, check_tiff
from wsi.readers.tile_codecs import (
    CodecError,
    complete_jpeg,
    decode_base64_jpeg,
    decode_tile,
    reductions_of,
    white_jpeg,
)
from wsi.slide import SlideInfo

CACHE_BYTES = 64 << 20
"""Decoded tiles kept by a slide: two rows of stored tiles of a slide 100,000 px wide at 1/2."""

KEPT_ROWS = 2
"""Rows of stored tiles kept above those that are still needed, for threads that lag behind."""

TILES_AT_ONCE = 128
"""Stored tiles whose compressed bytes are in memory at once."""

MAX_READ_BYTES = 4 << 20
MAX_GAP_BYTES = 64 << 10
"""Neighbouring stored tiles are read in one go up to this size, across gaps up to this: shares have latency."""


class JpegTiffReader:
    """TIFF slides whose levels are plain grids of JPEG or JPEG 2000 tiles: Aperio, Philips, Ventana, OME, generic.

    One handle serves many threads: bytes are read with `pread`, and decoded tiles go through one bounded cache.
    """

    def __init__(self, path: Path):
        if path.is_dir():
            raise UnreadableSlideError("a folder is not a TIFF")
        if claims := check_tiff(path):
            check_ome(claims)
        try:
            self._tiff = tifffile.TiffFile(path, **TIFFFILE_OPTIONS)
        except Exception as error:  # tifffile raises many kinds on damaged files; for us each means that it is none
            raise UnreadableSlideError(f"not a TIFF ({type(error).__name__}: {error})") from error
        try:
            layout = read_layout(self._tiff)
            self.levels = stored_levels(layout, self._tiff.filehandle.size)
            self.info: SlideInfo = describe(layout)
            self._pictures = _Associated(layout.pictures)
            self._reductions = tuple(reductions_of(level) for level in self.levels)
        except UnreadableSlideError:
            self._tiff.close()
            raise
        except Exception as error:  # as above: a structure that cannot be followed
            self._tiff.close()
            raise UnreadableSlideError(f"its structure cannot be followed ({type(error).__name__}: {error})") from error
        self._cache: OrderedDict[tuple[int, int, int], np.ndarray] = OrderedDict()
        self._cached_bytes = 0
        self._lock = threading.Lock()
        self._thread = threading.local()

    @property
    def associated_images(self) -> Mapping[str, np.ndarray]:
        """Thumbnail, label and macro, where the file has them."""
        return self._pictures

    def reductions(self, level: int) -> tuple[int, ...]:
        """Factors at which tiles of a level can be decoded, ascending from 1."""
        return self._reductions[level]

    def read_region(self, location_px0: tuple[int, int], level: int, size_px: tuple[int, int]) -> np.ndarray:
        return self.read_reduced(level, 1, self.info.level_place(level, location_px0), size_px)

    def read_reduced(self, level: int, reduce: int, origin: tuple[int, int], size_px: tuple[int, int]) -> np.ndarray:
        """A rectangle of a level, `reduce` times smaller.

        Parameters
        ----------
        reduce : int
            One of `reductions(level)`.
        origin : (x, y)
            Top-left corner in pixels of the reduced level.
        size_px : (w, h)
            Size in pixels of the reduced level.

        Returns
        -------
        ndarray (h, w, 3) uint8
            RGB; white outside the level.

        Raises
        ------
        TileReadError
            If a stored tile under the rectangle is missing or damaged; the first one is named.
        """
        region = np.empty((size_px[1], size_px[0], 3), np.uint8)
        (reason,) = self.read_windows(level, reduce, [(*origin, *size_px)], [region])
        if reason is not None:
            raise TileReadError(reason)
        return region

    def jpeg_tile_px(self, level: int) -> tuple[int, int] | None:
        """Size (w, h) of the stored tiles of a level that are JPEGs."""
        stored = self.levels[level]
        return stored.tile_px if stored.codec == "jpeg" else None

    def read_jpegs(self, level: int, places: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """Stored tiles at (row, column) undecoded, tables and colour space put in.

        Empty where the file has none; a white picture where it says that nothing was scanned.
        """
        stored = self.levels[level]
        numbers = [row * stored.columns + column for row, column in places]
        found = [complete_jpeg(stored, data) for data in self._read_tiles(stored, numbers)]
        whole = [white_jpeg(stored.tile_px) if stored.blank[number] else data for number, data in zip(numbers, found)]
        return [np.frombuffer(bytearray(data), np.uint8) for data in whole]

    def read_windows(
        self,
        level: int,
        reduce: int,
        windows: Sequence[tuple[int, int, int, int]],
        out: Sequence[np.ndarray],
        *,
        done_above: int = 0,
    ) -> list[str | None]:
        """Several rectangles of a level at once; each stored tile under them is decoded once.

        Parameters
        ----------
        windows : sequence of (x, y, w, h)
            In pixels of the level divided by `reduce`.
        out : sequence of ndarray (h, w, 3) uint8
            Where to put them; white outside the level.
        done_above : int
            Nothing above this y will be asked for again, so what ends there is not kept.

        Returns
        -------
        list of str or None
            For each window why it could not be read; its pixels mean nothing then.
        """
        stored = self.levels[level]
        side_w, side_h = stored.tile_px[0] // reduce, stored.tile_px[1] // reduce
        whole_w, whole_h = (-(-size // reduce) for size in stored.size_px)
        rows: dict[int, dict[int, list[int]]] = {}
        done_left = 0
        for number, (x, y, w, h) in enumerate(windows):
            left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, whole_w), min(y + h, whole_h)
            if right - left < w or bottom - top < h:
                out[number].fill(255)
            if left >= right or top >= bottom:
                continue
            done_left = max(done_left, right)
            for row in range(top // side_h, -(-bottom // side_h)):
                under = rows.setdefault(row, {})
                for column in range(left // side_w, -(-right // side_w)):
                    under.setdefault(column, []).append(number)
        reasons: list[str | None] = [None] * len(windows)
        self._drop(level, reduce, done_above // side_h - KEPT_ROWS)
        for row, columns in _in_parts(rows):
            under, y0 = rows[row], row * side_h
            passing = y0 + side_h <= done_above
            passed = [passing and (column + 1) * side_w <= done_left for column in columns]
            for column, tile in zip(columns, self._tiles(level, reduce, row, columns, passed), strict=True):
                x0 = column * side_w
                for number in under[column]:
                    if isinstance(tile, str):
                        reasons[number] = reasons[number] or tile
                        continue
                    x, y, w, h = windows[number]
                    left, right = max(x, x0, 0), min(x + w, x0 + side_w, whole_w)
                    top, bottom = max(y, y0, 0), min(y + h, y0 + side_h, whole_h)
                    out[number][top - y : bottom - y, left - x : right - x] = tile[
                        top - y0 : bottom - y0, left - x0 : right - x0
                    ]
        return reasons

    def _tiles(
        self, level: int, reduce: int, row: int, columns: list[int], passed: list[bool]
    ) -> Iterator[np.ndarray | str]:
        """Decoded tiles of one row of the stored grid, or why not; those that are `passed` hold until the next one."""
        stored = self.levels[level]
        numbers = [row * stored.columns + column for column in columns]
        white = np.broadcast_to(np.uint8(255), (stored.tile_px[1] // reduce, stored.tile_px[0] // reduce, 3))
        kept: dict[int, np.ndarray] = {number: white for number in numbers if stored.blank[number]}
        with self._lock:
            for number in numbers:
                if (tile := self._cache.get((level, reduce, number))) is not None:
                    self._cache.move_to_end((level, reduce, number))
                    kept[number] = tile
        wanted = [number for number in numbers if number not in kept]
        data: dict[int, bytes] = {}
        lost = ""
        try:
            data = dict(zip(wanted, self._read_tiles(stored, wanted), strict=True))
        except TileReadError as error:
            lost = str(error)
        for number, going in zip(numbers, passed, strict=True):
            if number in kept:
                yield kept[number]
                continue
            if lost:
                yield lost
                continue
            try:
                tile = decode_tile(stored, data.pop(number), reduce, self._scratch(stored, reduce) if going else None)
            except CodecError as error:
                yield f"level {level}: {stored.name(number)}: {error}"
                continue
            if not going:
                self._keep((level, reduce, number), tile)
            yield tile

    def _scratch(self, stored: StoredLevel, reduce: int) -> np.ndarray:
        """Memory of this thread for one decoded tile: fresh memory would cost a quarter of the decoding."""
        count = stored.tile_px[0] * stored.tile_px[1] * 3 // reduce**2
        kept: np.ndarray | None = getattr(self._thread, "scratch", None)
        if kept is None or kept.nbytes < count:
            kept = self._thread.scratch = np.empty(count, np.uint8)
        return kept[:count]

    def _drop(self, level: int, reduce: int, row: int) -> None:
        """Let go of the oldest tiles while they lie above a row of the stored grid: their memory serves the next."""
        with self._lock:
            while self._cache:
                key = next(iter(self._cache))
                if key[:2] != (level, reduce) or key[2] // self.levels[level].columns >= row:
                    return
                self._cached_bytes -= self._cache.pop(key).nbytes

    def _keep(self, key: tuple[int, int, int], tile: np.ndarray) -> None:
        with self._lock:
            if key not in self._cache:
                self._cache[key] = tile
                self._cached_bytes += tile.nbytes
            while self._cached_bytes > CACHE_BYTES:
                self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes

    def _read_tiles(self, stored: StoredLevel, numbers: list[int]) -> list[bytes]:
        """Compressed bytes of tiles, neighbours in the file read in one go."""
        found: dict[int, bytes] = {}
        for run in _runs(stored, numbers):
            start = int(stored.offsets[run[0]])
            end = max(int(stored.offsets[number] + stored.counts[number]) for number in run)
            try:
                data = os.pread(self._descriptor, end - start, start)
            except OSError as error:
                raise TileReadError(f"{stored.name(run[0])}: cannot be read ({error.strerror})") from error
            for number in run:
                at = int(stored.offsets[number]) - start
                found[number] = data[at : at + int(stored.counts[number])]
        return [found[number] for number in numbers]

    @property
    def _descriptor(self) -> int:
        try:
            return int(self._tiff.filehandle.fileno())
        except ValueError as error:
            raise TileReadError("the slide is closed") from error

    def close(self) -> None:
        with self._lock:
            self._cache.clear()
            self._cached_bytes = 0
        self._tiff.close()


def _runs(stored: StoredLevel, numbers: list[int]) -> list[list[int]]:
    """Group tiles whose bytes lie close together and in order."""
    runs: list[list[int]] = []
    end = 0
    for number in numbers:
        offset, count = int(stored.offsets[number]), int(stored.counts[number])
        if runs:
            first = int(stored.offsets[runs[-1][0]])
            if 0 <= offset - end <= MAX_GAP_BYTES and offset + count - first <= MAX_READ_BYTES:
                runs[-1].append(number)
                end = offset + count
                continue
        runs.append([number])
        end = offset + count
    return runs


def _in_parts(rows: Mapping[int, Mapping[int, Any]]) -> Iterator[tuple[int, list[int]]]:
    """The stored tiles of rows in order, (row, columns), at most `TILES_AT_ONCE` at a time."""
    for row in sorted(rows):
        columns = sorted(rows[row])
        for start in range(0, len(columns), TILES_AT_ONCE):
            yield row, columns[start : start + TILES_AT_ONCE]


class _Associated(Mapping[str, np.ndarray]):
    """Pictures beside the pyramid, decoded when they are looked up."""

    def __init__(self, pictures: Mapping[str, Any]):
        self._pictures = pictures

    def __getitem__(self, name: str) -> np.ndarray:
        one = self._pictures[name]
        if not isinstance(one, str) and one.size > 4 * MAX_PICTURE_PX:
            raise TileReadError(f"associated image {name!r} claims {one.shape} values")
        try:
            if isinstance(one, str):
                pixels = decode_base64_jpeg(one)
            else:
                check_segments(one)
                pixels = np.asarray(one.asarray())
        except Exception as error:  # the codecs raise whatever they like
            raise TileReadError(f"associated image {name!r} cannot be decoded: {error}") from error
        pixels = pixels[..., None].repeat(3, axis=2) if pixels.ndim == 2 else pixels[..., :3]
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise TileReadError(f"associated image {name!r} is {pixels.shape} {pixels.dtype}, expected (H, W, 3) uint8")
        return np.ascontiguousarray(pixels)

    def __iter__(self) -> Iterator[str]:
        return iter(self._pictures)

    def __len__(self) -> int:
        return len(self._pictures)
