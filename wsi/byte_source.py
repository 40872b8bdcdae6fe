"""Bytes of a slide file by position, for many threads at once: `ByteSource`, and the one over a local file."""

import os
from collections.abc import Sequence
from typing import Protocol, TypeAlias

from wsi.errors import TileReadError

ByteRange: TypeAlias = tuple[int, int]
"""(offset, count)."""

MAX_READ_BYTES = 4 << 20
MAX_GAP_BYTES = 64 << 10
"""Neighbouring ranges are read in one go up to this size, across gaps up to this: shares have latency."""


class ByteSource(Protocol):
    """A file that is read by position.

    Attributes
    ----------
    far : bool
        Whether it answers late, so that it is worth while to say beforehand what will be read.
    """

    @property
    def far(self) -> bool: ...

    @property
    def size(self) -> int:
        """Bytes in the file."""
        ...

    def read_many(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Bytes of several ranges, each cut off at the end of the file.

        Raises
        ------
        TileReadError
            If a local file cannot be read there, or the source is closed.
        UnreachableSlideError
            If a server gives no answer, or denies it. No other read is tried after that.
        """
        ...

    def expect(self, ranges: Sequence[ByteRange]) -> None:
        """Say what will be read soon, in this order; a far source fetches it meanwhile, as far as its memory goes."""
        ...

    def close(self) -> None: ...


class HasDescriptor(Protocol):
    """An open file; once it is closed, `fileno` raises `ValueError`."""

    def fileno(self) -> int: ...


class LocalBytes:
    """A file on this machine, read with `pread`. The open file is its owner's to close."""

    far = False

    def __init__(self, file: HasDescriptor):
        self._file = file

    @property
    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def read_many(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        found: dict[ByteRange, bytes] = {}
        descriptor = self._descriptor
        for run in runs_of(ranges, MAX_READ_BYTES, MAX_GAP_BYTES):
            start, end = run[0][0], run_end(run)
            try:
                data = os.pread(descriptor, end - start, start)
            except OSError as error:
                raise TileReadError(f"cannot be read ({error.strerror})") from error
            for offset, count in run:
                found[offset, count] = data[offset - start : offset - start + count]
        return [found[one] for one in ranges]

    def expect(self, ranges: Sequence[ByteRange]) -> None:
        """Nothing: a local file is near."""

    @property
    def _descriptor(self) -> int:
        try:
            return int(self._file.fileno())
        except ValueError as error:
            raise TileReadError("the slide is closed") from error

    def close(self) -> None:
        """Nothing: the file is its owner's."""


def runs_of(ranges: Sequence[ByteRange], most_bytes: int, gap_bytes: int) -> list[list[ByteRange]]:
    """Group ranges that follow each other in the file closely enough to be read in one go."""
    runs: list[list[ByteRange]] = []
    end = 0
    for offset, count in ranges:
        if runs and 0 <= offset - end <= gap_bytes and offset + count - runs[-1][0][0] <= most_bytes:
            runs[-1].append((offset, count))
        else:
            runs.append([(offset, count)])
        end = offset + count
    return runs


def run_end(run: Sequence[ByteRange]) -> int:
    """Where a run ends in the file."""
    return max(offset + count for offset, count in run)
