"""Answers that were made once and are kept for the next who asks, by the bytes that they take."""

import threading
from collections import OrderedDict
from collections.abc import Hashable

ENTRY_BYTES = 400
"""What an entry costs beside its bytes: the key, the object, its places in tables."""


class ByteCache:
    """The most recently used answers, up to a number of bytes. Any thread may use it.

    Parameters
    ----------
    most_bytes : int
        An answer of more than an eighth of it is not kept.
    """

    def __init__(self, most_bytes: int):
        self._most = most_bytes
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> bytes | None:
        """The answer, if it is kept."""
        with self._lock:
            if (data := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
            return data

    def put(self, key: Hashable, data: bytes) -> None:
        """Keep an answer, and let go of those that were not asked for longest."""
        if len(data) > self._most // 8:
            return
        with self._lock:
            if (before := self._kept.pop(key, None)) is not None:
                self._bytes -= len(before) + ENTRY_BYTES
            self._kept[key] = data
            self._bytes += len(data) + ENTRY_BYTES
            while self._bytes > self._most:
                self._bytes -= len(self._kept.popitem(last=False)[1]) + ENTRY_BYTES

    @property
    def size_bytes(self) -> int:
        """What is kept."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._kept)


__all__ = ["ByteCache"]
