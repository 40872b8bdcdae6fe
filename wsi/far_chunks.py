"""Rows out of plain Zarr chunks in a bucket, by position in their objects.

A chunk is fetched whole and compared with its checksum when a process first reads it. After that, rows are fetched by
their ranges, on the condition that the object is still in the state that was compared.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wsi import object_store
from wsi.byte_source import run_end, runs_of
from wsi.chunk_reader import CRC_BYTES, DIFFERS, REMEMBERED_CHUNKS, Damaged, Part, PlainLayout, Recent, agrees, parts_of
from wsi.store_url import StoreUrl

MAX_GAP_BYTES = 64 << 10
"""Rows as near as that are fetched by one request."""

WORTH_RANGES = 0.5
"""Where more than this share of a chunk is asked for, all of it is fetched by one request."""


class FarChunks:
    """The rows of one array of plain chunks in a bucket; arguments and errors as those of `PlainChunks`."""

    def __init__(
        self, array: StoreUrl, layout: PlainLayout, records: Sequence[Mapping[str, Any] | None], damaged: Damaged
    ):
        self.layout = layout
        self._folder = array / "c"
        self._records = records
        self._damaged = damaged

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Rows by number, in any order and as often as asked for, (n, D)."""
        values = np.empty((len(rows), self.layout.dim), self.layout.dtype)
        parts = list(parts_of(rows, self.layout.chunk_rows))
        object_store.each(lambda part: self._fill(part, values), parts)
        return values

    def _fill(self, part: Part, values: np.ndarray) -> None:
        url = self._folder / str(part.chunk) / "0"
        record = self._records[part.chunk]
        key = (str(url), "" if record is None else f"{record.get('crc32c')} {record.get('sha256')}")
        try:
            etag = _CHECKED.get(key)
            if etag is not None and self._fill_by_ranges(url, part, etag, values):
                return
            data, stamp = object_store.read_stamped(url)
        except FileNotFoundError as error:
            raise self._damaged(url, "is missing") from error
        chunk = np.frombuffer(data, np.uint8)
        if len(chunk) != self.layout.chunk_bytes + CRC_BYTES or not agrees(
            [chunk[:-CRC_BYTES]], chunk[-CRC_BYTES:], record
        ):
            raise self._damaged(url, DIFFERS)
        _CHECKED.keep(key, stamp.etag)
        part.copy(chunk[:-CRC_BYTES].view(self.layout.dtype).reshape(-1, self.layout.dim), values)

    def _fill_by_ranges(self, url: StoreUrl, part: Part, etag: str, values: np.ndarray) -> bool:
        """Fetch no more than the rows asked for; False where that does not pay, or the object is another by now."""
        size = self.layout.row_bytes
        runs = list(runs_of([(int(row) * size, size) for row in np.unique(part.rows)], 1 << 40, MAX_GAP_BYTES))
        ranges = [(run[0][0], run_end(run)) for run in runs]
        if sum(stop - start for start, stop in ranges) > WORTH_RANGES * self.layout.chunk_bytes:
            return False
        fetched = object_store.read_ranges(url, ranges, etag)
        if fetched is None:
            return False
        found = np.empty((len(part.rows), self.layout.dim), self.layout.dtype)
        for (start, stop), data in zip(ranges, fetched, strict=True):
            first, last = start // size, stop // size
            here = (part.rows >= first) & (part.rows < last)
            found[here] = np.frombuffer(data, self.layout.dtype).reshape(-1, self.layout.dim)[part.rows[here] - first]
        values[part.places] = found
        return True


_CHECKED: Recent[str] = Recent(REMEMBERED_CHUNKS)
