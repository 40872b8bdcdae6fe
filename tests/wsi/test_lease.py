"""Leases: one holder at a time, by the server's clock, and no writing for who has lost one."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from wsi import lease as module
from wsi import object_store
from wsi.errors import StoreBusyError, UnreachableStoreError, UsageError
from wsi.lease import check_lease, lease
from wsi.store_url import StoreUrl

pytest.importorskip("obstore")

MINE, OTHERS = (StoreUrl("s3://stores/.s.lock", run=run) for run in ("mine", "others"))


@pytest.fixture(autouse=True)
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from obstore.store import MemoryStore

    held = MemoryStore()
    monkeypatch.setattr(object_store, "_bucket", lambda name: held)
    module._young.clear()
    module._checked_buckets.clear()
    return held


def shift(monkeypatch: pytest.MonkeyPatch, hours: float, only: str = "") -> None:
    """Let the server's clock be another, or only the dates of some objects."""
    stamp = object_store._stamp

    def shifted(meta: Any) -> object_store.ObjectStamp:
        found = stamp(meta)
        return replace(found, modified=found.modified + timedelta(hours=hours * meta["path"].endswith(only)))

    monkeypatch.setattr(object_store, "_stamp", shifted)


def dead(place: StoreUrl) -> None:
    """Leave the lease of a run that died."""
    held = module._Lease(place, "s")
    held.acquire()


def test_one_at_a_time_and_nothing_is_left() -> None:
    with lease(MINE, "s"):
        check_lease(MINE, "s")
        with pytest.raises(StoreBusyError, match="s: another run is writing this store"), lease(OTHERS, "s"):
            pass
        with pytest.raises(StoreBusyError, match="s: another run has taken this store over"):
            check_lease(OTHERS, "s")
    assert object_store.below(StoreUrl("s3://stores")) == {}
    with lease(OTHERS, "s"):
        check_lease(OTHERS, "s")


def test_a_lease_runs_out_by_the_servers_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    dead(OTHERS)
    with monkeypatch.context() as patch:
        shift(patch, -48)  # a server whose clock is two days behind this machine's
        with pytest.raises(StoreBusyError), lease(MINE, "s"):
            pass
    module._young.clear()
    shift(monkeypatch, -1, only=".lock")  # an hour without renewal
    with lease(MINE, "s"):
        check_lease(MINE, "s")
        with pytest.raises(StoreBusyError, match="taken this store over"):
            check_lease(OTHERS, "s")


def test_a_lease_that_is_renewed_is_not_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASE_S", 0.4)
    with lease(OTHERS, "s"):
        began_s = time.monotonic()
        while time.monotonic() - began_s < 1.0:
            with pytest.raises(StoreBusyError), lease(MINE, "s"):
                pass
            time.sleep(0.02)


def test_a_lease_is_waited_for_as_long_as_one_of_the_dead_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASE_S", 0.8)
    dead(OTHERS)
    with lease(MINE, "s", wait_s=20.0):
        check_lease(MINE, "s")
        with pytest.raises(StoreBusyError), lease(OTHERS, "s", wait_s=0.3):
            pass
    assert object_store.below(StoreUrl("s3://stores")) == {}


def test_who_lost_a_lease_does_not_remove_that_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module._Lease, "_beat", lambda self: None)  # a process that is still
    with lease(OTHERS, "s"):
        monkeypatch.setattr(module, "LEASE_S", -1.0)
        taken = module._Lease(MINE, "s")
        taken.acquire()
    check_lease(MINE, "s")


def test_of_several_that_find_a_dead_lease_one_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    dead(OTHERS)
    monkeypatch.setattr(module, "LEASE_S", -1.0)
    third, ask = MINE.of_run("third"), module._server_time

    def overtaken(place: StoreUrl) -> Any:
        found = ask(place)
        monkeypatch.setattr(module, "_server_time", ask)
        module._Lease(third, "s").acquire()
        monkeypatch.setattr(module, "LEASE_S", 60.0)
        return found

    monkeypatch.setattr(module, "_server_time", overtaken)
    with pytest.raises(StoreBusyError), lease(MINE, "s"):
        pass
    check_lease(third, "s")


def test_an_answer_that_was_lost_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request was tried again by the client, and found what the first try had done."""
    write_if = object_store.write_if

    def lost(url: StoreUrl, data: bytes, etag: str | None) -> str | None:
        made = write_if(url, data, etag)
        return None if data and b"another" not in data else made

    monkeypatch.setattr(object_store, "write_if", lost)
    with lease(MINE, "s"):
        check_lease(MINE, "s")
    assert object_store.below(StoreUrl("s3://stores")) == {}


def test_a_server_without_conditions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    put = object_store._put
    monkeypatch.setattr(object_store, "_put", lambda url, data, mode: put(url, data, "overwrite"))
    with pytest.raises(UsageError, match="s3://stores: this server ignores the conditions"), lease(MINE, "s"):
        pass
    assert object_store.below(StoreUrl("s3://stores")) == {}


def test_a_server_that_is_away_at_the_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASE_S", 0.2)
    asked = []

    def away(*_: object) -> None:
        asked.append(1)
        raise UnreachableStoreError("away")

    with lease(MINE, "s"):
        monkeypatch.setattr(object_store, "_put", away)
        while not asked:
            time.sleep(0.01)
        time.sleep(0.02)
        before = len(asked)
        monkeypatch.setattr(module, "LEASE_S", 1000.0)
    assert len(asked) <= before + 1
    monkeypatch.undo()
