"""The only right to write a slide's store in a bucket: an object that its holder renews.

It is made where there is none, renewed, and taken over only as long as it is in the state that was seen: the server
lets one of several do it. It may be taken over once it was not renewed for `LEASE_S` by the server's own clock. The
machines' clocks say nothing: the server's is read off the date of an object that was just written. A process that
was still for so long finds that the lease is another's before it writes again (`check_lease`).
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from uuid import uuid4

from wsi import object_store
from wsi.errors import StoreBusyError, UnreachableStoreError, UsageError
from wsi.files import to_json
from wsi.store_url import StoreUrl

LEASE_S = 60.0
"""A run that died is known for dead after so long."""

RENEWALS = 4
"""Renewals in that time: a server may be away for three of them."""

LOOKS = 30
"""Looks in that time at a lease that is waited for."""

_young: dict[StoreUrl, tuple[str, float]] = {}
"""Leases of others that were seen: in which state, and until when by this process' own clock it need not ask again
for the server's time."""


@contextmanager
def lease(place: StoreUrl, what: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold a lease; it is renewed in the background.

    Parameters
    ----------
    place : StoreUrl
        Of the lease's object. Its `run` is who holds it.
    what : str
        For messages.
    wait_s : float
        So long another's is waited for.

    Raises
    ------
    StoreBusyError
        If another holds it.
    UsageError
        If the server takes no account of conditions, without which there is no lock.
    """
    held = _Lease(place, what)
    held.acquire(wait_s)
    _check_conditions(place)
    held.start()
    try:
        yield
    finally:
        held.release()


def check_lease(place: StoreUrl, what: str) -> None:
    """Refuse to go on writing for a run that has lost its lease. A place without a run's name is not checked.

    Raises
    ------
    StoreBusyError
    """
    if not place.run:
        return
    try:
        holder = _run_of(object_store.read(place))
    except FileNotFoundError:
        holder = ""
    if holder != place.run:
        raise StoreBusyError(
            f"{what}: another run has taken this store over, since this one was not heard of for {LEASE_S:g} s; "
            "it goes on there"
        )


class _Lease:
    def __init__(self, place: StoreUrl, what: str) -> None:
        self._place, self._what = place, what
        self._run = place.run or uuid4().hex
        self._id = uuid4().hex
        self._renewed = 0
        self._etag: str | None = None
        self._is_away = False
        self._over = threading.Event()
        self._pulse = threading.Thread(target=self._beat, name="lease", daemon=True)

    def acquire(self, wait_s: float = 0.0) -> None:
        until_s = time.monotonic() + wait_s
        while not self._put(None):
            try:
                _, stamp = object_store.read_stamped(self._place)
            except FileNotFoundError:
                continue
            if not self._has_run_out(stamp):
                if time.monotonic() < until_s:
                    time.sleep(LEASE_S / LOOKS)
                    continue
                raise StoreBusyError(
                    f"{self._what}: another run is writing this store; wait for it to end "
                    f"(one that died is known for dead after {LEASE_S:g} s)"
                )
            if self._put(stamp.etag):
                return

    def _has_run_out(self, stamp: object_store.ObjectStamp) -> bool:
        etag, until_s = _young.get(self._place, ("", 0.0))
        if etag == stamp.etag and time.monotonic() < until_s:
            return False
        left_s = LEASE_S - (_server_time(self._place) - stamp.modified).total_seconds()
        _young[self._place] = stamp.etag, time.monotonic() + left_s
        return left_s < 0

    def start(self) -> None:
        self._pulse.start()

    def release(self) -> None:
        """Let go. The object is removed only when it was just renewed, so that nobody can have taken it over since.

        With it goes what the server's clock was read off, which one that waited and was killed may have left.
        """
        self._over.set()
        self._pulse.join()
        if self._etag is None or self._is_away:  # it is another's, or runs out by itself
            return
        with suppress(UnreachableStoreError):
            if self._put(self._etag):
                object_store.remove([self._place, clock_of(self._place)])

    def _beat(self) -> None:
        while not self._over.wait(LEASE_S / RENEWALS):
            try:
                if not self._put(self._etag):
                    self._etag = None
                    return
                self._is_away = False
            except UnreachableStoreError:
                self._is_away = True

    def _put(self, etag: str | None) -> bool:
        """Make, take over or renew the object; whether that was done, also where the first answer was lost."""
        self._renewed += 1
        data = to_json({"run": self._run, "lease": self._id, "renewed": self._renewed})
        new = object_store.write_if(self._place, data, etag)
        if new is None:
            with suppress(FileNotFoundError):
                found, stamp = object_store.read_stamped(self._place)
                new = stamp.etag if found == data else None
        if new is not None:
            self._etag = new
        return new is not None


def clock_of(place: StoreUrl) -> StoreUrl:
    """The object off which the server's clock is read. It may be removed at any time."""
    return place.with_name(f"{place.name}.now")


def _run_of(data: bytes) -> str:
    try:
        return str(json.loads(data)["run"])
    except (ValueError, KeyError, TypeError):
        return "unknown"


def _server_time(place: StoreUrl) -> datetime:
    """The server's clock: the date of an object written for that."""
    mark = clock_of(place)
    while True:
        mark.write_bytes(b"")
        if (stamp := mark.stamp()) is not None:  # else another run that waits has just removed it
            mark.unlink()
            return stamp.modified


_checked_buckets: set[str] = set()


def _check_conditions(held: StoreUrl) -> None:
    """See once whether a server refuses what it should: to make what is there, to replace what is in another state."""
    if held.bucket in _checked_buckets:
        return
    for etag in (None, '"another"'):
        if object_store.write_if(held, b"", etag) is not None:
            held.unlink()
            raise UsageError(
                f"s3://{held.bucket}: this server ignores the conditions If-None-Match and If-Match, so that two runs "
                "could write one store at once; use a newer server, or a folder"
            )
    _checked_buckets.add(held.bucket)
