"""The slides that lie open: a bounded number of them, the ones in use never closed under their readers.

An archive has more slides than a process may have open files, and opening one costs from a few milliseconds to a
second. Kept open are those that were asked for last.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from wsi.errors import UnreadableSlideError

CHECK_EVERY_S = 1.0
"""An open slide is compared with its file no more often: on a share that is a round trip."""

WAIT_S = 30.0
"""How long somebody waits for a place on a shelf that is full of slides in use."""


class Opened(Protocol):
    """An open slide as the shelf needs it."""

    def check(self) -> None:
        """Raise an `UnreadableSlideError` if its file is not what was opened any more."""
        ...

    def close(self) -> None: ...


Item = TypeVar("Item", bound=Opened)


class ShelfFullError(TimeoutError):
    """Every open slide was in use for long."""


class _Place(Generic[Item]):
    def __init__(self, item: Item):
        self.item = item
        self.users = 0
        self.stale = False
        self.check_at_s = time.monotonic() + CHECK_EVERY_S


class SlideShelf(Generic[Item]):
    """Open slides by name, for many threads.

    Parameters
    ----------
    open_one : callable
        Opens a slide by its name; its errors go to whoever asked.
    places : int
        The most that are open at any time.
    """

    def __init__(self, open_one: Callable[[str], Item], places: int, *, wait_s: float = WAIT_S):
        self._open_one, self._places, self._wait_s = open_one, places, wait_s
        self._open: OrderedDict[str, _Place[Item]] = OrderedDict()
        self._opening: set[str] = set()
        self._handles = 0
        self._changed = threading.Condition()

    @property
    def handles(self) -> int:
        """Slides that are open or being opened."""
        return self._handles

    @contextmanager
    def lent(self, name: str) -> Iterator[Item]:
        """A slide, open while the block lasts.

        Raises
        ------
        ShelfFullError
            If all places were in use for `wait_s`.
        UnreadableSlideError
            As the opener and `Opened.check` do: not there, replaced, not the slide that was graded.
        """
        place = self._take(name)
        try:
            self._check(name, place)
            yield place.item
        finally:
            with self._changed:
                place.users -= 1
                if place.stale and not place.users:
                    self._close(place)
                self._changed.notify_all()

    def _take(self, name: str) -> _Place[Item]:
        until_s = time.monotonic() + self._wait_s
        with self._changed:
            while (place := self._open.get(name)) is None:
                if name not in self._opening and self._make_room():
                    self._opening.add(name)
                    self._handles += 1
                    break
                if not self._changed.wait(until_s - time.monotonic()):
                    raise ShelfFullError(f"all {self._places} open slides have been in use for {self._wait_s:g} s")
            else:
                self._open.move_to_end(name)
                place.users += 1
                return place
        return self._open_new(name)

    def _make_room(self) -> bool:
        """Whether another slide may be opened, after the one unused for longest was closed where that was needed."""
        if self._handles < self._places:
            return True
        for name, place in self._open.items():
            if not place.users:
                del self._open[name]
                self._close(place)
                return True
        return False

    def _open_new(self, name: str) -> _Place[Item]:
        place: _Place[Item] | None = None
        try:
            place = _Place(self._open_one(name))
            place.users = 1
            return place
        finally:
            with self._changed:
                self._opening.discard(name)
                if place is None:
                    self._handles -= 1
                else:
                    self._open[name] = place
                self._changed.notify_all()

    def _check(self, name: str, place: _Place[Item]) -> None:
        if time.monotonic() < place.check_at_s:
            return
        try:
            place.item.check()
        except UnreadableSlideError:
            with self._changed:
                place.stale = True
                if self._open.get(name) is place:
                    del self._open[name]
            raise
        place.check_at_s = time.monotonic() + CHECK_EVERY_S

    def _close(self, place: _Place[Item]) -> None:
        place.item.close()
        self._handles -= 1

    def close(self) -> None:
        """Close every slide that nobody uses; the others when their users are done."""
        with self._changed:
            for place in self._open.values():
                place.stale = True
                if not place.users:
                    self._close(place)
            self._open.clear()
            self._changed.notify_all()


__all__ = ["Opened", "ShelfFullError", "SlideShelf"]
