"""The fast path: TIFF slides with JPEG or JPEG 2000 tiles, decoded at reduced scale where that suffices.

tifffile parses the structure, bytes are read by position, libjpeg-turbo (simplejpeg) or OpenJPEG (imagecodecs)
decode without the GIL. A JPEG tile can be decoded at 1/2, 1/4 or 1/8 in the DCT domain, a low-pass at little cost.
What this reader does not know it declines, and the next one takes the slide.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import tifffile

from wsi.byte_source import ByteSource, LocalBytes
from wsi.errors import TileReadError, UnreadableSlideError
from wsi.readers.ome_limits import check_ome
from wsi.readers.segment_limits import check_segments
from wsi.readers.tiff_levels import StoredLevel, describe, read_layout, stored_levels
from wsi.readers.tiff_limits import MAX_PICTURE_PX, TIFFFILE_OPTIONS, check_structure, check_tiff
from wsi.readers.tile_codecs import (
    CodecError,
    complete_jpeg,
    decode_base64_jpeg,
    decode_tile,
    reductions_of,
    white_jpeg,
)
from wsi.slide import SlideInfo
from wsi.slide_url import SlideLocation, SlideUrl

CACHE_BYTES = 64 << 20
"""Decoded tiles kept by a slide: two rows of stored tiles of a slide 100,000 px wide at 1/2."""

KEPT_ROWS = 2
"""Rows of stored tiles kept above those that are still needed, for threads that lag behind."""

TILES_AT_ONCE = 128
"""Stored tiles whose compressed bytes are in memory at once."""


class JpegTiffReader:
    """TIFF slides whose levels are plain grids of JPEG or JPEG 2000 tiles: Aperio, Philips, Ventana, OME, generic.

    One handle serves many threads: bytes are read by position, and decoded tiles go through one bounded cache.
    """

    reads_remote = True

    def __init__(self, path: SlideLocation):
        if isinstance(path, Path) and path.is_dir():
            raise UnreadableSlideError("a folder is not a TIFF")
        try:
            self._tiff, self._source = _open(path)
        except UnreadableSlideError:
            raise
        except Exception as error:  # tifffile raises many kinds on damaged files; for us each means that it is none
            raise UnreadableSlideError(f"not a TIFF ({type(error).__name__}: {error})") from error
        try:
            try:
                layout = read_layout(self._tiff)
                self.levels = stored_levels(layout, self._tiff.filehandle.size)
                self.info: SlideInfo = describe(layout)
                self._pictures = _Associated(layout.pictures)
                self._reductions = tuple(reductions_of(level) for level in self.levels)
            finally:  # tifffile takes a lost server for a damaged file, or goes on without what it could not read
                self._source.read_many([])
        except UnreadableSlideError:
            self._close_files()
            raise
        except Exception as error:  # as above: a structure that cannot be followed
            self._close_files()
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

    def stored_tile_px(self, level: int) -> tuple[int, int]:
        """Size (w, h) of the stored tiles of a level, whatever their codec."""
        return self.levels[level].tile_px

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
        self.expect(level, reduce, windows)
        self._drop(level, reduce, done_above // side_h - KEPT_ROWS)
        for row, columns in _in_parts(rows):
            under, y0 = rows[row], row * side_h
            passing = y0 + side_h <= done_above
            to_edge = done_left >= stored.size_px[0] // reduce
            passed = [passing and (to_edge or (column + 1) * side_w <= done_left) for column in columns]
            places = [
                _in_place(windows, out, under[column], (column * side_w, y0, side_w, side_h), (whole_w, whole_h))
                if going
                else None
                for column, going in zip(columns, passed, strict=True)
            ]
            found = self._tiles(level, reduce, row, columns, passed, places)
            for column, tile in zip(columns, found, strict=True):
                if tile is None:
                    continue
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

    @property
    def far(self) -> bool:
        """Whether the slide lies on a server, so that `expect` is worth while."""
        return self._source.far

    def expect(self, level: int, reduce: int, windows: Iterable[tuple[int, int, int, int]]) -> None:
        """Have the bytes under some windows (x, y, w, h) fetched beforehand, as `read_reduced` will want them."""
        if not self._source.far:
            return
        stored = self.levels[level]
        side_w, side_h = stored.tile_px[0] // reduce, stored.tile_px[1] // reduce
        rows = len(stored.offsets) // stored.columns
        numbers: dict[int, None] = {}
        for x, y, w, h in windows:
            for row in range(max(y // side_h, 0), min(-(-(y + h) // side_h), rows)):
                columns = range(max(x // side_w, 0), min(-(-(x + w) // side_w), stored.columns))
                numbers |= dict.fromkeys(row * stored.columns + column for column in columns)
        with self._lock:
            wanted = [number for number in numbers if (level, reduce, number) not in self._cache]
        self._source.expect([stored.place(number) for number in wanted])

    def _tiles(
        self,
        level: int,
        reduce: int,
        row: int,
        columns: list[int],
        passed: list[bool],
        places: list[np.ndarray | None],
    ) -> Iterator[np.ndarray | str | None]:
        """Decoded tiles of one row of the stored grid, or why not; those that are `passed` hold until the next one.

        None for one that was decoded where it belongs, one of `places` (flat, contiguous).
        """
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
        for number, going, place in zip(numbers, passed, places, strict=True):
            if number in kept:
                yield kept[number]
                continue
            if lost:
                yield lost
                continue
            try:
                memory = place if place is not None else self._scratch(stored, reduce) if going else None
                tile = decode_tile(stored, data.pop(number), reduce, memory)
            except CodecError as error:
                yield f"level {level}: {stored.name(number)}: {error}"
                continue
            if not going:
                self._keep((level, reduce, number), tile)
            yield None if place is not None and stored.codec == "jpeg" else tile

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
        try:
            return self._source.read_many([stored.place(number) for number in numbers])
        except TileReadError as error:
            raise TileReadError(f"{stored.name(numbers[0])}: {error}") from error

    def close(self) -> None:
        with self._lock:
            self._cache.clear()
            self._cached_bytes = 0
        self._close_files()

    def _close_files(self) -> None:
        self._tiff.close()
        self._source.close()


def _open(path: SlideLocation) -> tuple[tifffile.TiffFile, ByteSource]:
    """The parsed structure, and where the tiles' bytes come from."""
    if not isinstance(path, SlideUrl):
        if claims := check_tiff(path):
            check_ome(claims)
        tiff = tifffile.TiffFile(path, **TIFFFILE_OPTIONS)
        return tiff, LocalBytes(tiff.filehandle)
    from wsi.remote_bytes import RemoteBytes, RemoteFile

    source = RemoteBytes(path)
    try:
        try:
            if claims := check_structure(cast(IO[bytes], RemoteFile(source, path.name))):
                check_ome(claims)
            return tifffile.TiffFile(cast(IO[bytes], RemoteFile(source, path.name)), **TIFFFILE_OPTIONS), source
        finally:  # as above
            source.read_many([])
    except BaseException:
        source.close()
        raise


def _in_place(
    windows: Sequence[tuple[int, int, int, int]],
    out: Sequence[np.ndarray],
    under: list[int],
    tile: tuple[int, int, int, int],
    whole_px: tuple[int, int],
) -> np.ndarray | None:
    """The memory of the one window that is exactly a stored tile (x, y, w, h), flat, so that it is decoded there."""
    if len(under) != 1 or tuple(windows[under[0]]) != tile:
        return None
    x, y, w, h = tile
    memory = out[under[0]]
    inside = x + w <= whole_px[0] and y + h <= whole_px[1]
    return memory.reshape(-1) if inside and memory.flags.c_contiguous else None


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
