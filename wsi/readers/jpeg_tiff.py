"""The fast path: TIFF slides with JPEG or JPEG 2000 tiles, decoded at reduced scale where that suffices.

tifffile parses the structure, bytes are read by position, libjpeg-turbo (simplejpeg) or OpenJPEG (imagecodecs)
decode without the GIL. A JPEG tile can be decoded at 1/2, 1/4 or 1/8 in the DCT domain, a low-pass at little cost.
What this reader does not know it declines, and the next one takes the slide.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from wsi.errors import TileReadError, UnreadableSlideError
from wsi.readers.ome_limits import check_ome
from wsi.readers.segment_limits import check_segments
from wsi.readers.tiff_levels import StoredLevel, describe, stored_levels
from wsi.readers.tiff_limits import MAX_PICTURE_PX, TIFFFILE_OPTIONS, check_tiff
from wsi.readers.tile_codecs import CodecError, decode_tile, reductions_of
from wsi.slide import SlideInfo

CACHE_BYTES = 64 << 20
"""Decoded tiles kept by a slide: two rows of stored tiles of a slide 100,000 px wide at 1/2."""

MAX_READ_BYTES = 4 << 20
MAX_GAP_BYTES = 64 << 10
"""Neighbouring stored tiles are read in one go up to this size, across gaps up to this: shares have latency."""


class JpegTiffReader:
    """Aperio SVS, generic tiled TIFF and OME-TIFF whose levels are plain grids of JPEG or JPEG 2000 tiles.

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
            self.levels = stored_levels(self._tiff)
            self.info: SlideInfo = describe(self._tiff, self.levels)
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

    @property
    def associated_images(self) -> Mapping[str, np.ndarray]:
        """Thumbnail, label and macro, where the file has them."""
        return _Associated(self._tiff)

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
        stored = self.levels[level]
        (x, y), (w, h) = origin, size_px
        region = np.full((h, w, 3), 255, np.uint8)
        side_w, side_h = stored.tile_px[0] // reduce, stored.tile_px[1] // reduce
        whole = -(-stored.size_px[0] // reduce), -(-stored.size_px[1] // reduce)
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, whole[0]), min(y + h, whole[1])
        if left >= right or top >= bottom:
            return region
        columns = range(left // side_w, -(-right // side_w))
        at_once = max(1, CACHE_BYTES // (3 * side_w * side_h))
        for row in range(top // side_h, -(-bottom // side_h)):
            for some in (columns[start : start + at_once] for start in range(0, len(columns), at_once)):
                for column, tile in zip(some, self._tiles(level, reduce, row, some), strict=True):
                    x0, y0 = max(left, column * side_w), max(top, row * side_h)
                    x1, y1 = min(right, (column + 1) * side_w), min(bottom, (row + 1) * side_h)
                    part = tile[y0 - row * side_h : y1 - row * side_h, x0 - column * side_w : x1 - column * side_w]
                    region[y0 - y : y1 - y, x0 - x : x1 - x] = part
        return region

    def _tiles(self, level: int, reduce: int, row: int, columns: range) -> list[np.ndarray]:
        """Decoded tiles of one row of the stored grid, out of the cache or read together and decoded."""
        stored = self.levels[level]
        numbers = [row * stored.columns + column for column in columns]
        tiles: dict[int, np.ndarray] = {}
        with self._lock:
            for number in numbers:
                if (kept := self._cache.get((level, reduce, number))) is not None:
                    self._cache.move_to_end((level, reduce, number))
                    tiles[number] = kept
        wanted = [number for number in numbers if number not in tiles]
        for number, data in zip(wanted, self._read_tiles(stored, wanted), strict=True):
            try:
                tiles[number] = decode_tile(stored, data, reduce)
            except CodecError as error:
                raise TileReadError(f"level {level}: {stored.name(number)}: {error}") from error
            self._keep((level, reduce, number), tiles[number])
        return [tiles[number] for number in numbers]

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


class _Associated(Mapping[str, np.ndarray]):
    """Pictures beside the pyramid, decoded when they are looked up."""

    def __init__(self, tiff: tifffile.TiffFile):
        names = {"thumbnail", "label", "macro"}
        self._series: dict[str, Any] = {one.name.lower(): one for one in tiff.series if one.name.lower() in names}

    def __getitem__(self, name: str) -> np.ndarray:
        one = self._series[name]
        if one.size > 4 * MAX_PICTURE_PX:
            raise TileReadError(f"associated image {name!r} claims {one.shape} values")
        try:
            check_segments(one.pages[0])
            pixels = np.asarray(one.asarray())
        except Exception as error:  # the codecs raise whatever they like
            raise TileReadError(f"associated image {name!r} cannot be decoded: {error}") from error
        pixels = pixels[..., None].repeat(3, axis=2) if pixels.ndim == 2 else pixels[..., :3]
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise TileReadError(f"associated image {name!r} is {pixels.shape} {pixels.dtype}, expected (H, W, 3) uint8")
        return np.ascontiguousarray(pixels)

    def __iter__(self) -> Any:
        return iter(self._series)

    def __len__(self) -> int:
        return len(self._series)
