"""A shelf under many threads: never more open than it has places, nothing closed under its reader."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from workflows.review import shelf as shelf_module
from workflows.review.shelf import ShelfFullError, SlideShelf
from wsi.errors import SlideChangedError, UnreadableSlideError, VanishedSlideError


class Item:
    """An open slide that knows whether it was closed."""

    open_now = most_open = 0
    lock = threading.Lock()

    def __init__(self, name: str):
        self.name, self.closed, self.fault = name, 0, None
        with Item.lock:
            Item.open_now += 1
            Item.most_open = max(Item.most_open, Item.open_now)

    def check(self) -> None:
        if self.fault is not None:
            raise self.fault

    def close(self) -> None:
        self.closed += 1
        with Item.lock:
            Item.open_now -= 1


@pytest.fixture(autouse=True)
def _nothing_open() -> None:
    Item.open_now = Item.most_open = 0


def test_sixteen_threads_and_three_places() -> None:
    def open_one(name: str) -> Item:
        time.sleep(0.001)
        return Item(name)

    shelf = SlideShelf(open_one, 3)

    def read(seed: int) -> int:
        rng, seen = np.random.default_rng(seed), 0
        for number in rng.integers(0, 8, 40):
            with shelf.lent(f"s{number}") as item:
                assert item.name == f"s{number}"
                time.sleep(float(rng.random()) * 0.002)
                assert not item.closed
                seen += 1
        return seen

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(read, range(16))) == 16 * 40
    assert 1 <= Item.most_open <= 3
    assert shelf.handles == Item.open_now
    shelf.close()
    assert (shelf.handles, Item.open_now) == (0, 0)


def test_the_one_unused_for_longest_goes_first() -> None:
    shelf = SlideShelf(Item, 2)
    opened = {}
    for name in "abac":
        with shelf.lent(name) as item:
            opened[name] = item
    assert [opened[name].closed for name in "abc"] == [0, 1, 0]


def test_one_slide_is_opened_once_for_all_who_ask() -> None:
    count = []

    def open_one(name: str) -> Item:
        count.append(name)
        time.sleep(0.02)
        return Item(name)

    shelf, begin = SlideShelf(open_one, 3), threading.Barrier(8)

    def read(_: int) -> None:
        begin.wait()
        with shelf.lent("a"):
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(8)))
    assert count == ["a"]


def test_a_full_shelf_says_so_and_has_room_again_later() -> None:
    shelf = SlideShelf(Item, 1, wait_s=0.05)
    with shelf.lent("a"), pytest.raises(ShelfFullError, match="all 1 open slides have been in use"), shelf.lent("b"):
        pass
    with shelf.lent("b") as item:
        assert item.name == "b"


def test_what_cannot_be_opened_takes_no_place() -> None:
    def open_one(name: str) -> Item:
        raise UnreadableSlideError(f"{name} is none")

    shelf = SlideShelf(open_one, 1, wait_s=0.05)
    for _ in range(3):
        with pytest.raises(UnreadableSlideError, match="a is none"), shelf.lent("a"):
            pass
    assert shelf.handles == 0


@pytest.mark.parametrize("fault", [SlideChangedError("replaced"), VanishedSlideError("gone")])
def test_a_slide_whose_file_changed_is_closed_when_its_last_reader_is_done(
    monkeypatch: pytest.MonkeyPatch, fault: UnreadableSlideError
) -> None:
    monkeypatch.setattr(shelf_module, "CHECK_EVERY_S", 0.0)
    shelf = SlideShelf(Item, 2)
    with shelf.lent("a") as first:
        first.fault = fault
        with pytest.raises(type(fault)), shelf.lent("a"):
            pass
        assert not first.closed
    assert first.closed == 1
    with shelf.lent("a") as second:
        assert second is not first
    assert shelf.handles == 1


def test_a_slide_in_use_outlives_the_shelf() -> None:
    shelf = SlideShelf(Item, 2)
    with shelf.lent("a") as item:
        shelf.close()
        assert not item.closed
    assert item.closed == 1
