"""Work that waits for a time or at a gate."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from workflows import waiting
from workflows.waiting import DiskGate, WaitingRoom, amount, free_bytes


class Gate:
    reason, message = "disk_full", "wait"

    def __init__(self, key: str) -> None:
        self.key = self.scope = key
        self.open = False

    def opens(self) -> bool:
        return self.open


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock of this module that stands still until it is set; the event loops of this process keep theirs."""
    time = [1000.0]
    monkeypatch.setattr(waiting, "time", SimpleNamespace(monotonic=lambda: time[0]))
    return time


def test_timed_work_comes_in_the_order_of_its_times(now: list[float]) -> None:
    room: WaitingRoom[str] = WaitingRoom(60)
    room.later("late", 20)
    room.later("soon", 5)
    assert (list(room.due()), len(room), room.wait_s()) == ([], 2, 5)
    now[0] += 30
    assert list(room.due()) == ["soon", "late"]
    assert (len(room), room.wait_s()) == (0, None)


def test_work_goes_through_a_gate_when_it_opens(now: list[float]) -> None:
    room: WaitingRoom[str] = WaitingRoom(60)
    one, other = Gate("one"), Gate("other")
    assert room.close(one, "a")
    assert not room.close(one, "b"), "it was closed already"
    assert room.close(other, "c")
    one.open = True
    now[0] += waiting.LOOK_EVERY_S
    assert list(room.due()) == ["a", "b"]
    assert [gate.key for gate in room.closed] == ["other"]


def test_patience_ends_for_all_that_is_about_the_same(now: list[float]) -> None:
    room: WaitingRoom[str] = WaitingRoom(60)
    gate = Gate("one")
    room.close(gate, "a")
    now[0] += 61
    assert list(room.due()) == ["a"]
    assert room.has_given_up(Gate("one"))
    assert not room.has_given_up(Gate("other"))


def test_a_disk_is_measured_and_a_quota_is_felt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = os.statvfs(tmp_path)
    assert abs(free_bytes(tmp_path) - free.f_bavail * free.f_frsize) < 10**9
    assert free_bytes(tmp_path / "absent") == 0
    assert DiskGate((tmp_path,), lambda: 1).opens()
    assert not DiskGate((tmp_path,), lambda: 1 << 60).opens()
    assert not DiskGate((tmp_path,), lambda: 1).has_room(1 << 60)

    def over_quota(*_: object) -> None:
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(os, "posix_fallocate", over_quota)
    assert DiskGate((tmp_path,), lambda: 1).has_room(), "a quota is not in the figures"
    assert not DiskGate((tmp_path,), lambda: 1).opens()
    assert list(tmp_path.iterdir()) == []


def test_a_gate_says_what_is_full_or_away(tmp_path: Path) -> None:
    assert DiskGate((tmp_path, tmp_path), lambda: 1 << 60).message.endswith("make room and it goes on by itself")
    assert f"{tmp_path / 'gone'} is away" in DiskGate((tmp_path / "gone",), lambda: 1).message


@pytest.mark.parametrize(("size", "said"), [(12_300_000, "12 MB"), (3_400_000_000, "3.4 GB")])
def test_amounts_for_people(size: int, said: str) -> None:
    assert amount(size) == said
