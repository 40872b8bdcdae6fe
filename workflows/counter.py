"""How far a walk over many things is: a bar on a terminal, a line now and then otherwise. On standard error."""

import sys
import time
from types import TracebackType
from typing import Any

PLAIN_EVERY_S = 10.0


class Counter:
    """Counts things as they are done, as a context manager.

    Parameters
    ----------
    title : str
        What is being done.
    total : int
    noun : str
        What is counted, in the plural.
    """

    def __init__(self, title: str, total: int, noun: str = "stores") -> None:
        self._title, self._total, self._noun = title, total, noun
        self._done, self._notes = 0, 0
        self._last = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> "Counter":
        if sys.stderr.isatty():
            self._bar = rich_bar()
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=self._total, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def add(self, *, noted: bool = False) -> None:
        """One more is done; `noted` if there is something to be said of it at the end."""
        self._done += 1
        self._notes += noted
        note = f"{self._done:,}/{self._total:,} {self._noun}" + (f", {self._notes} to report" if self._notes else "")
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, note=note)
        elif time.monotonic() - self._last > PLAIN_EVERY_S:
            self._last = time.monotonic()
            print(f"  {self._title}: {note}", file=sys.stderr, flush=True)


def rich_bar() -> Any:
    """A bar with share, time spent, time left and a note."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=28),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        refresh_per_second=4,
    )
