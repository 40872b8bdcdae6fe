"""Files that are written anew while a run goes on, in a thread beside it."""

import threading
import time
from collections.abc import Callable
from types import TracebackType

REST = 10.0


class Rewriter:
    """Calls a function after something has changed, but not all the time; a context manager that lasts as long as both.

    The end of the context waits for a call that is under way, unless an error ends it. It makes no last one: what is
    to stand in the end is written by whoever comes after.

    Parameters
    ----------
    write : callable
        Writes files that are whole or not there. Called again after an error.
    say : callable
        Told of an error, once each.
    every_s : float
        Shortest time from one call to the next.
    rest : float
        How many times as long as a call took nothing is written after it.
    """

    def __init__(
        self,
        write: Callable[[], object],
        say: Callable[[str], None],
        *,
        every_s: float,
        rest: float = REST,
    ) -> None:
        self._write, self._say = write, say
        self._every_s, self._rest = every_s, rest
        self._changed, self._over = threading.Event(), threading.Event()
        self._said: set[str] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Rewriter":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._changed.set()
        if kind is None:
            self._thread.join()

    def changed(self) -> None:
        """What is written is out of date."""
        self._changed.set()

    def _run(self) -> None:
        rest_s = 0.0
        while True:
            self._changed.wait()
            if self._over.wait(rest_s):
                return
            self._changed.clear()
            began_s = time.monotonic()
            try:
                self._write()
            except Exception as error:  # whatever it is, the run goes on, and its end writes once more
                self._tell(f"{type(error).__name__}: {error}")
                self._changed.set()
            took_s = time.monotonic() - began_s
            rest_s = max(self._every_s - took_s, self._rest * took_s)

    def _tell(self, error: str) -> None:
        if error not in self._said:
            self._said.add(error)
            self._say(f"tables or report cannot be written ({error}); tried again")
