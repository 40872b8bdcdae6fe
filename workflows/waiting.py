"""Work that cannot go on now: until a time has come, or until a gate opens again (a disk has room, a share is back)."""

import errno
import heapq
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from wsi.errors import UnreachableStoreError
from wsi.store_url import StoreUrl

Work = TypeVar("Work")

LOOK_EVERY_S = 1.0
PROBE = ".histograde-room-"
PROBE_BYTES = 1 << 20


class Gate(Protocol):
    """Why work waits.

    Attributes
    ----------
    key : str
        Work with the same key waits at one gate.
    scope : str
        What all gates are about that share it: where patience has ended for one, it has for all.
    reason : str
        A class of failure, which names no slide and no folder.
    message : str
        For people: what is the matter, and what to do.
    """

    @property
    def key(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def message(self) -> str: ...

    def opens(self) -> bool:
        """Whether work may go on; asked every `LOOK_EVERY_S`."""
        ...


class DiskGate:
    """Opens when folders have so much room.

    Parameters
    ----------
    folders : sequence of Path
    needed : callable
        Gives the bytes that must be free.
    """

    scope = reason = "disk_full"

    def __init__(self, folders: tuple[Path, ...], needed: Callable[[], int]) -> None:
        self._folders, self._needed = folders, needed
        self.key = f"disk {needed()}"

    @property
    def message(self) -> str:
        full = next((one for one in self._folders if free_bytes(one) < self._needed()), self._folders[0])
        if not full.is_dir():
            return f"paused: {full} is away; bring it back and it goes on by itself"
        return (
            f"paused: {amount(free_bytes(full))} free in {full}, {amount(self._needed())} needed; "
            "make room and it goes on by itself"
        )

    def opens(self) -> bool:
        return self.has_room() and all(map(_takes_bytes, self._folders))

    def has_room(self, owed: int = 0) -> bool:
        """Whether there is room by the file system's figures, beside `owed` bytes that others are going to write."""
        return all(free_bytes(one) >= self._needed() + owed for one in self._folders)


class ArchiveGate:
    """Opens when a folder of slides is back: it is there, on the file system where it was, with something in it."""

    reason = "vanished"

    def __init__(self, folder: Path, device: int) -> None:
        self._folder, self._device = folder, device
        self.key = self.scope = f"archive {folder}"
        self.message = f"paused: {folder} is away, or what is mounted there; bring it back and it goes on by itself"

    def opens(self) -> bool:
        return not is_away(self._folder, self._device)


class StoreGate:
    """Opens when the server answers that holds the stores.

    Parameters
    ----------
    store : StoreUrl
    said : str
        What was the matter.
    """

    scope = reason = "unreachable"

    def __init__(self, store: StoreUrl, said: str) -> None:
        self._store = store
        self.key = f"store {store}"
        self.message = f"paused: {said}; it goes on by itself once the stores can be reached"

    def opens(self) -> bool:
        try:
            self._store.is_dir()
        except UnreachableStoreError:
            return False
        return True


def is_away(folder: Path, device: int) -> bool:
    """Whether a folder is gone as a whole: not there, empty, or on another file system than the one with this number.

    `device` is 0 where that is not known.
    """
    try:
        if device and folder.stat().st_dev != device:
            return True
        with os.scandir(folder) as parts:
            return next(parts, None) is None
    except OSError:
        return True


def device_of(folder: Path) -> int:
    """The number of the file system that a folder is on; 0 if it is not there."""
    try:
        return folder.stat().st_dev
    except OSError:
        return 0


def free_bytes(folder: Path) -> int:
    """What may still be written below a folder; nothing where it is away."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def amount(size: int) -> str:
    """Bytes for people: `12 MB`, `3.4 GB`."""
    return f"{size / 1e6:,.0f} MB" if size < 10**9 else f"{size / 1e9:,.1f} GB"


def _takes_bytes(folder: Path) -> bool:
    """Whether bytes can be had: a quota is not in the figures of a file system. What is tried has no name by then."""
    try:
        with tempfile.TemporaryFile(prefix=PROBE, dir=folder) as probe:
            os.posix_fallocate(probe.fileno(), 0, PROBE_BYTES)
    except OSError as error:
        return error.errno not in (errno.ENOSPC, errno.EDQUOT)
    return True


class WaitingRoom(Generic[Work]):
    """Where work waits.

    Parameters
    ----------
    patience_s : float
        How long work waits at a gate before it is let through to fail, and no other waits there any more.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._timed: list[tuple[float, int, Work]] = []
        self._gates: dict[str, tuple[Gate, float, list[Work]]] = {}
        self._number = count()
        self._looked_s = time.monotonic()
        self._given_up: set[str] = set()

    def __len__(self) -> int:
        return len(self._timed) + sum(len(work) for _, _, work in self._gates.values())

    @property
    def closed(self) -> list[Gate]:
        """Gates that work waits at, or that were closed without any."""
        return [gate for gate, _, _ in self._gates.values()]

    def later(self, work: Work, seconds: float) -> None:
        """Let work wait for a time."""
        heapq.heappush(self._timed, (time.monotonic() + seconds, next(self._number), work))

    def close(self, gate: Gate, *work: Work) -> bool:
        """Let work wait at a gate; whether this is the first to wait there."""
        first = gate.key not in self._gates
        kept = self._gates.setdefault(gate.key, (gate, time.monotonic(), []))
        kept[2].extend(work)
        return first

    def has_given_up(self, gate: Gate) -> bool:
        """Whether patience has ended with what the gate is about."""
        return gate.scope in self._given_up

    def due(self) -> Iterator[Work]:
        """Work whose time has come, whose gate has opened, or with whose gate patience has ended."""
        now_s = time.monotonic()
        while self._timed and self._timed[0][0] <= now_s:
            yield heapq.heappop(self._timed)[2]
        if now_s - self._looked_s < LOOK_EVERY_S:
            return
        for key, (gate, since_s, _) in list(self._gates.items()):
            given_up = now_s - since_s > self._patience_s
            if given_up:
                self._given_up.add(gate.scope)
            if given_up or gate.opens():
                yield from self._gates.pop(key)[2]
        self._looked_s = time.monotonic()

    def wait_s(self) -> float | None:
        """Seconds until there may be something due; None if nothing waits."""
        soonest = [self._timed[0][0] - time.monotonic()] if self._timed else []
        if self._gates:
            soonest.append(self._looked_s + LOOK_EVERY_S - time.monotonic())
        return max(0.0, min(soonest)) if soonest else None
