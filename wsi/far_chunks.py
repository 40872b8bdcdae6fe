"""Rows out of plain Zarr chunks in a bucket, by position in their objects.

A chunk is fetched whole and compared with its checksum when a process first reads it. After that, rows are fetched by
their ranges, on the condition that the object is still in the state that was compared.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import islice
from typing import Any

import numpy as np
from fastcrc import crc32

from wsi import object_store
from wsi.byte_source import run_end, runs_of
from wsi.chunk_reader import CRC_BYTES, DIFFERS, REMEMBERED_CHUNKS, PlainLayout
from wsi.store_arrays import last_crc32c
from wsi.store_url import StoreUrl

MAX_GAP_BYTES = 64 << 10
"""Rows as near as that are fetched by one request."""

WORTH_RANGES = 0.5
"""Where more than this share of a chunk is asked for, all of it is fetched by one request."""


class FarChunks:
    """The rows of one array of plain chunks in a bucket; arguments and errors as those of `PlainChunks`."""

    def __init__(self, array: StoreUrl, layout: PlainLayout, records: Sequence[Mapping[str, Any] | None], damaged: Any):
        self.layout = layout
        self._folder = array / "c"
        self._records = records
        self._damaged = damaged

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Rows by number, in any order and as often as asked for, (n, D)."""
        values = np.empty((len(rows), self.layout.dim), self.layout.dtype)
        chunks, inside = np.divmod(rows, self.layout.chunk_rows)
        order = np.argsort(chunks, kind="stable")
        numbers, starts = np.unique(chunks[order], return_index=True)

        def fill(part: tuple[int, np.ndarray]) -> None:
            chunk, places = part
            values[places] = self._rows(chunk, inside[places])

        object_store.each(fill, list(zip(numbers.tolist(), np.split(order, starts[1:]), strict=False)))
        return values

    def map(self, rows: np.ndarray) -> np.ndarray:
        """The same as `read`: nothing of a bucket can be mapped."""
        return self.read(rows)

    def _rows(self, chunk: int, rows: np.ndarray) -> np.ndarray:
        """Rows of one chunk, (n, D)."""
        url, record = self._folder / str(chunk) / "0", self._records[chunk]
        if record is None:
            raise self._damaged(url, DIFFERS)
        key = (str(url), record.get("sha256"), record.get("crc32c"))
        try:
            etag = _checked.get(key)
            found = None if etag is None else self._by_ranges(url, rows, etag)
            if found is not None:
                return found
            data, stamp = object_store.read_stamped(url)
        except FileNotFoundError as error:
            raise self._damaged(url, "is missing") from error
        if len(data) != self.layout.chunk_bytes + CRC_BYTES or not _agrees(data, record):
            raise self._damaged(url, DIFFERS)
        _checked[key] = stamp.etag
        for old in list(islice(_checked, max(0, len(_checked) - REMEMBERED_CHUNKS))):
            _checked.pop(old, None)
        return self._table(data[:-CRC_BYTES])[rows]

    def _by_ranges(self, url: StoreUrl, rows: np.ndarray, etag: str) -> np.ndarray | None:
        """No more than the rows asked for; None where that does not pay, or the object is another by now."""
        size = self.layout.row_bytes
        runs = runs_of([(row * size, size) for row in np.unique(rows).tolist()], self.layout.chunk_bytes, MAX_GAP_BYTES)
        ranges = [(run[0][0], run_end(run)) for run in runs]
        if sum(stop - start for start, stop in ranges) > WORTH_RANGES * self.layout.chunk_bytes:
            return None
        fetched = object_store.read_ranges(url, ranges, etag)
        if fetched is None:
            return None
        found = np.empty((len(rows), self.layout.dim), self.layout.dtype)
        for (start, stop), data in zip(ranges, fetched, strict=True):
            here = (rows >= start // size) & (rows < stop // size)
            found[here] = self._table(data)[rows[here] - start // size]
        return found

    def _table(self, data: bytes) -> np.ndarray:
        return np.frombuffer(data, self.layout.dtype).reshape(-1, self.layout.dim)


def _agrees(chunk: bytes, record: Mapping[str, Any]) -> bool:
    """Whether a chunk is the one that the manifest lists."""
    if "crc32c" in record:
        return crc32.iscsi(chunk[:-CRC_BYTES]) == last_crc32c(chunk) == record["crc32c"]
    return sha256(chunk).hexdigest() == record.get("sha256")


_checked: dict[tuple[Any, ...], str] = {}
"""ETags of the chunks that this process has compared, by place and what they were compared with."""
