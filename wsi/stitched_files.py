"""Files mapped one behind the other: many chunks as one array, without a copy of their bytes.

The pages are those of the page cache until somebody writes to one, who then gets a copy of his own. So the array can be
changed and no file does; but what another process writes into a mapped file may show in it.

Only what can be had at little risk is mapped: Linux 5.14 and later, whole pages, file systems of this machine. Where a
server goes away, a map would end the process with a signal instead of an error.
"""

import ctypes
import errno
import mmap
import os
import sys
import weakref
from functools import cache
from threading import Lock

import numpy as np

MOST_MAPS = 1 << 14
"""Of this process at a time; the kernel allows 65,530, and all of memory allocation needs some."""

_MAP_FIXED = 0x10
_MADV_POPULATE_READ = 22
_LOCAL = {
    0xEF53: "ext",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x2FC12FC1: "zfs",
    0xF2F52010: "f2fs",
    0x01021994: "tmpfs",
    0x794C7630: "overlay",
}
"""File systems by the number that `statfs` gives."""


class StitchedFiles:
    """A stretch of memory for the beginnings of some files, all of one size.

    Make one with `reserve`, `put` each file into its place, `load` what is to be looked at, take `values` once.
    """

    def __init__(self, address: int, count: int, size: int):
        self._address = address
        self._count = count
        self._size = size
        self._release = weakref.finalize(self, _unmap, address, count, count * size)
        self._release.atexit = False

    @classmethod
    def reserve(cls, count: int, size: int) -> "StitchedFiles | None":
        """Room for `count` files of `size` bytes; None where they cannot be mapped and are to be read instead."""
        if not (_is_possible() and count > 0 and size > 0 and size % mmap.PAGESIZE == 0 and _LIVE.take(count)):
            return None
        address = _libc().mmap(None, count * size, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        if address == _FAILED:
            _LIVE.give_back(count)
            return None
        return cls(address, count, size)

    def put(self, place: int, descriptor: int) -> bool:
        """Map a file, which may be closed then; False if it lies on a file system that is not of this machine."""
        if not _is_local(descriptor):
            return False
        flags = mmap.MAP_PRIVATE | _MAP_FIXED
        address = self._address + place * self._size
        return bool(_libc().mmap(address, self._size, mmap.PROT_READ, flags, descriptor, 0) == address)

    def load(self, place: int, count: int = 1) -> None:
        """Have the bytes of some files in memory.

        Raises
        ------
        OSError
            If one of them cannot be read, or has fewer bytes.
        """
        address, length = self._address + place * self._size, count * self._size
        while _libc().madvise(address, length, _MADV_POPULATE_READ):
            number = ctypes.get_errno()
            if number == errno.EFAULT:
                raise OSError(errno.EIO, "the bytes cannot be had from the disk")
            if number not in (errno.EINTR, errno.EAGAIN):
                raise OSError(number, os.strerror(number))

    def piece(self, place: int) -> np.ndarray:
        """The bytes of one file, (size,) uint8, to be read only."""
        return self._bytes()[place * self._size : (place + 1) * self._size]

    def values(self) -> np.ndarray:
        """The bytes of all files, (count * size,) uint8; they may be written to, which changes no file."""
        if _libc().mprotect(self._address, self._count * self._size, mmap.PROT_READ | mmap.PROT_WRITE):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return self._bytes()

    @property
    def __array_interface__(self) -> dict[str, object]:
        """What NumPy needs; the array keeps this object, which keeps the memory."""
        return {"shape": (self._count * self._size,), "typestr": "|u1", "data": (self._address, False), "version": 3}

    def _bytes(self) -> np.ndarray:
        return np.asarray(self)


class _Live:
    """How many maps there are."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = Lock()

    def take(self, count: int) -> bool:
        with self._lock:
            if self.count + count > MOST_MAPS:
                return False
            self.count += count
            return True

    def give_back(self, count: int) -> None:
        with self._lock:
            self.count -= count


_LIVE = _Live()
_FAILED = ctypes.c_void_p(-1).value


def _unmap(address: int, count: int, length: int) -> None:
    _libc().munmap(address, length)
    _LIVE.give_back(count)


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    libc.mmap.restype = pointer
    libc.mmap.argtypes = [pointer, size, number, number, number, ctypes.c_long]
    libc.munmap.argtypes = [pointer, size]
    libc.mprotect.argtypes = [pointer, size, number]
    libc.madvise.argtypes = [pointer, size, number]
    libc.fstatfs.argtypes = [number, pointer]
    return libc


@cache
def _is_possible() -> bool:
    """Whether the kernel fills maps on demand and says when it cannot."""
    if sys.platform != "linux" or ctypes.sizeof(ctypes.c_long) != 8:
        return False
    with mmap.mmap(-1, mmap.PAGESIZE) as page:
        try:
            page.madvise(_MADV_POPULATE_READ)
        except (OSError, ValueError):
            return False
    return True


def _is_local(descriptor: int) -> bool:
    found = (ctypes.c_long * 32)()  # `struct statfs` has 120 bytes, of which the first word is the kind
    return _libc().fstatfs(descriptor, ctypes.byref(found)) == 0 and found[0] in _LOCAL
