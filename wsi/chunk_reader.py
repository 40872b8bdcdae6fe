"""Rows out of plain Zarr chunks, by position in their files, near the speed of a memory map.

A chunk with the codecs `bytes` and `crc32c` is its rows end to end and four bytes of checksum. Runs of rows are read
straight into the caller's array, or mapped without a copy; scattered rows are gathered from a map of the file. A chunk
is compared with its checksum when a process first reads it, and again when its file has changed since.
"""

import errno
import json
import mmap
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np
from fastcrc import crc32

from wsi.shared_work import share
from wsi.stitched_files import StitchedFiles

CRC_BYTES = 4
SETTLED_NS = 2_000_000_000
"""A file that changed more recently may change again under the same time stamp: it is checked but not remembered."""
REMEMBERED_CHUNKS = 1 << 16
MAPPED_CHUNKS = 128
"""Maps kept open; each holds a file descriptor, and what was read of it counts as memory of the process."""

_PLAIN_CODECS = [("bytes", {"endian": "little"}), ("crc32c", {})]

Damaged = Callable[[Path, str], Exception]
Stamp = tuple[int | str, ...]
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class PlainLayout:
    """Where the rows of a two-dimensional array lie.

    Attributes
    ----------
    rows, dim : int
        N and D of the array.
    chunk_rows : int
        Rows in a chunk file, the last one padded.
    dtype : dtype
        Little endian.
    """

    rows: int
    dim: int
    chunk_rows: int
    dtype: np.dtype

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dim * self.dtype.itemsize

    @property
    def chunk_bytes(self) -> int:
        """Bytes of the rows of a chunk, without the checksum."""
        return self.chunk_rows * self.row_bytes


def plain_layout(array_json: bytes) -> PlainLayout | None:
    """The layout that an array's `zarr.json` describes; None unless it is one whose rows can be read by position."""
    meta = json.loads(array_json)
    chunk_shape = meta["chunk_grid"]["configuration"]["chunk_shape"]
    plain = (
        [(one["name"], one.get("configuration") or {}) for one in meta["codecs"]] == _PLAIN_CODECS
        and meta["chunk_grid"]["name"] == "regular"
        and meta["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "/"}}
        and meta["data_type"] in ("float16", "float32")
        and len(meta["shape"]) == 2
        and chunk_shape[1:] == meta["shape"][1:]
        and not meta.get("storage_transformers")
    )
    if not plain:
        return None
    rows, dim = meta["shape"]
    return PlainLayout(rows, dim, chunk_shape[0], np.dtype(meta["data_type"]).newbyteorder("<"))


class PlainChunks:
    """The rows of one array of plain chunks.

    Parameters
    ----------
    array : Path
        The array's folder; chunk k is the file `c/k/0` in it.
    layout : PlainLayout
    records : sequence of mapping or None
        What the manifest says of each chunk: `sha256`, and `crc32c` where it knows that. None is a chunk that it does
        not list, which counts as damaged.
    damaged : callable
        Makes the error to raise of a file and what is wrong with it.
    """

    def __init__(self, array: Path, layout: PlainLayout, records: Sequence[Mapping[str, Any] | None], damaged: Damaged):
        self.layout = layout
        self._file_bytes = layout.chunk_bytes + CRC_BYTES
        self._folder = str(array / "c")
        self._records = records
        self._damaged = damaged

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Rows by number, in any order and as often as asked for.

        Parameters
        ----------
        rows : ndarray (n,) int64
            0 to N - 1.

        Returns
        -------
        ndarray (n, D)

        Raises
        ------
        Exception
            What `damaged` makes, if a chunk is missing, cannot be read or differs from its checksum.
        """
        values = np.empty((len(rows), self.layout.dim), self.layout.dtype)
        parts = [part for part in _parts(rows, self.layout.chunk_rows) if not self._gather(part, values)]

        def filler() -> Callable[[_Part], None]:
            scratch = np.empty(self._file_bytes, np.uint8)
            return lambda part: self._fill(part, values, scratch)

        share(parts, filler, self.layout.chunk_bytes)
        return values

    def map(self, rows: np.ndarray) -> np.ndarray:
        """The same as `read`, without a copy where rows follow each other and the files can be mapped.

        The array may be written to, and no file changes by that. But it shows what others write into the files while it
        is kept, and the process ends if they are cut short: it is for a look now, not for keeping.
        """
        if len(rows) < self.layout.chunk_rows or not _is_run(rows):
            return self.read(rows)
        first, start = divmod(int(rows[0]), self.layout.chunk_rows)
        count = -(-(start + len(rows)) // self.layout.chunk_rows)
        stitched = StitchedFiles.reserve(count, self.layout.chunk_bytes)
        if stitched is None:
            return self.read(rows)
        unchecked = []
        for place in range(count):
            with self._opened(first + place) as (descriptor, _, stamp):
                if not stitched.put(place, descriptor):
                    return self.read(rows)
                if _CHECKED.get(stamp):
                    stitched.load(place)
                else:
                    unchecked.append(place)
                    _fetch(descriptor)
        share(unchecked, lambda: lambda place: self._check(stitched, place, first + place), self.layout.chunk_bytes)
        whole = stitched.values().view(self.layout.dtype).reshape(-1, self.layout.dim)
        return whole[start : start + len(rows)]

    def _check(self, stitched: StitchedFiles, place: int, chunk: int) -> None:
        """Map a chunk and compare it with its checksum."""
        with self._opened(chunk) as (descriptor, status, stamp):
            if not stitched.put(place, descriptor):
                raise OSError(errno.EIO, "it cannot be mapped any more")
            stitched.load(place)
            stored = np.empty(CRC_BYTES, np.uint8)
            _read(descriptor, [stored], self.layout.chunk_bytes)
            self._compare(chunk, [stitched.piece(place)], stored)
            _remember(status, stamp)

    def _gather(self, part: "_Part", values: np.ndarray) -> bool:
        """Copy scattered rows of a checked chunk out of its map; False if they have to be read."""
        if part.is_run:
            return False
        path = self._path(part.chunk)
        try:
            stamp = _stamp(os.stat(path), self._records[part.chunk])
            mapped = _MAPS.get(stamp)
            if mapped is None and _CHECKED.get(stamp):
                mapped = _map(path, stamp, self._records[part.chunk], self.layout)
        except OSError as error:
            raise self._unread(path, error) from error
        if mapped is None:
            return False
        _MAPS.keep(stamp, mapped)
        part.copy(mapped, values)
        return True

    def _fill(self, part: "_Part", values: np.ndarray, scratch: np.ndarray) -> None:
        """Read rows of a chunk; the whole chunk, past its other rows, if it has to be checked."""
        with self._opened(part.chunk) as (descriptor, status, stamp):
            start, stop = part.first * self.layout.row_bytes, part.stop * self.layout.row_bytes
            if part.is_run and _CHECKED.get(stamp):
                _read(descriptor, [_bytes(values[part.places])], start)
                return
            rest = scratch[stop:-CRC_BYTES]
            pieces = [scratch[:start], _bytes(values[part.places]), rest] if part.is_run else [scratch[:-CRC_BYTES]]
            _read(descriptor, [*pieces, scratch[-CRC_BYTES:]])
            self._compare(part.chunk, pieces, scratch[-CRC_BYTES:])
            _remember(status, stamp)
        if not part.is_run:
            part.copy(scratch[:-CRC_BYTES].view(self.layout.dtype).reshape(-1, self.layout.dim), values)

    @contextmanager
    def _opened(self, chunk: int) -> Iterator[tuple[int, os.stat_result, Stamp]]:
        """A chunk's file while it is read: descriptor, status, stamp. What the system refuses is damage."""
        path = self._path(chunk)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                status = os.fstat(descriptor)
                if status.st_size != self._file_bytes:
                    raise self._damaged(Path(path), DIFFERS)
                yield descriptor, status, _stamp(status, self._records[chunk])
            finally:
                os.close(descriptor)
        except (OSError, EOFError) as error:
            raise self._unread(path, error) from error

    def _compare(self, chunk: int, pieces: Sequence[np.ndarray], stored: np.ndarray) -> None:
        if not _agrees(pieces, stored, self._records[chunk]):
            raise self._damaged(Path(self._path(chunk)), DIFFERS)

    def _path(self, chunk: int) -> str:
        return f"{self._folder}/{chunk}/0"

    def _unread(self, path: str, error: Exception) -> Exception:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        return self._damaged(Path(path), "is missing" if missing else f"cannot be read ({error})")


DIFFERS = "differs from its checksum"


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows asked of one chunk.

    Attributes
    ----------
    chunk : int
    rows : ndarray (n,) int64
        Rows of the chunk, ascending.
    places : slice or ndarray (n,) int64
        Where they go.
    is_run : bool
        They follow each other, here and there.
    """

    chunk: int
    rows: np.ndarray
    places: slice | np.ndarray
    is_run: bool

    @property
    def first(self) -> int:
        return int(self.rows[0])

    @property
    def stop(self) -> int:
        return int(self.rows[-1]) + 1

    def copy(self, chunk: np.ndarray, values: np.ndarray) -> None:
        """Copy the rows out of the whole chunk."""
        if isinstance(self.places, slice):
            np.take(chunk, self.rows, axis=0, out=values[self.places], mode="clip")
        else:
            values[self.places] = chunk[self.rows]


def _parts(rows: np.ndarray, chunk_rows: int) -> Iterator[_Part]:
    ascending = bool((rows[1:] > rows[:-1]).all())
    order = None if ascending else np.argsort(rows, kind="stable")
    chunks, rows = np.divmod(rows if order is None else rows[order], chunk_rows)
    cuts = (np.flatnonzero(chunks[1:] != chunks[:-1]) + 1).tolist()
    for start, stop in pairwise([0, *cuts, len(rows)]):
        if start < stop:
            here = rows[start:stop]
            is_run = ascending and here[-1] - here[0] == stop - start - 1
            yield _Part(int(chunks[start]), here, slice(start, stop) if order is None else order[start:stop], is_run)


def _agrees(pieces: Sequence[np.ndarray], stored: np.ndarray, record: Mapping[str, Any] | None) -> bool:
    """Whether a chunk, given in pieces, is the one that the manifest lists."""
    if record is None:
        return False
    if "crc32c" in record:
        crc = 0
        for piece in pieces:
            crc = crc32.iscsi(piece, crc)
        return crc == int.from_bytes(stored.tobytes(), "little") == record["crc32c"]
    digest = sha256()
    for piece in (*pieces, stored):
        digest.update(piece)
    return digest.hexdigest() == record.get("sha256")


def _bytes(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1).view(np.uint8)


def _read(descriptor: int, pieces: Sequence[np.ndarray], offset: int = 0) -> None:
    for piece in pieces:
        filled = 0
        while filled < len(piece):
            count = os.preadv(descriptor, [piece[filled:]], offset)
            if count == 0:
                raise EOFError("it ends early")
            filled += count
            offset += count


def _fetch(descriptor: int) -> None:
    """Let the disk begin with a file that is read soon."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)


def _remember(status: os.stat_result, stamp: Stamp) -> None:
    """Keep in mind that a file was checked, unless it may change again under the same time stamp."""
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > SETTLED_NS:
        _CHECKED.keep(stamp, True)


def _is_run(rows: np.ndarray) -> bool:
    return bool(rows[-1] - rows[0] == len(rows) - 1 and (rows[1:] > rows[:-1]).all())


def _stamp(status: os.stat_result, record: Mapping[str, Any] | None) -> Stamp:
    """A file as it is now, and what it was compared with."""
    expected = "" if record is None else f"{record.get('crc32c')} {record.get('sha256')}"
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, expected)


def _map(path: str, stamp: Stamp, record: Mapping[str, Any] | None, layout: PlainLayout) -> np.ndarray | None:
    """All rows of a checked chunk; None if the file is another by now."""
    with open(path, "rb", buffering=0) as handle:
        if _stamp(os.fstat(handle.fileno()), record) != stamp:
            return None
        mapped = mmap.mmap(handle.fileno(), layout.chunk_bytes + CRC_BYTES, access=mmap.ACCESS_READ)
    return np.frombuffer(mapped, layout.dtype, layout.chunk_rows * layout.dim).reshape(-1, layout.dim)


class _Recent(Generic[Value]):
    """What was used last, up to a number; safe among threads."""

    def __init__(self, most: int):
        self._most = most
        self._held: OrderedDict[Stamp, Value] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Stamp) -> Value | None:
        with self._lock:
            return self._held.get(key)

    def keep(self, key: Stamp, value: Value) -> None:
        with self._lock:
            self._held[key] = value
            self._held.move_to_end(key)
            if len(self._held) > self._most:
                self._held.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._held.clear()


_CHECKED: _Recent[bool] = _Recent(REMEMBERED_CHUNKS)
_MAPS: _Recent[np.ndarray] = _Recent(MAPPED_CHUNKS)
