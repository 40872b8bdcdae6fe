"""How far the work is: a rich display on a terminal, plain lines otherwise."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any

from workflows.counter import PLAIN_EVERY_S, rich_bar
from workflows.failures import Failure
from workflows.listeners import ChunkDone, Listener, Listeners, Plan, SlideResult

if TYPE_CHECKING:
    from distributed import Client


class Progress(Listener):
    """Slides done, tiles/s, time left, bad tiles and quarantined slides, as a context manager.

    Parameters
    ----------
    title : str
    dashboard : str or None
        Address of Dask's dashboard, shown once.
    """

    def __init__(self, title: str, dashboard: str | None = None) -> None:
        self._title, self._dashboard = title, dashboard
        self._terminal = sys.stderr.isatty()
        self._slides = self._done = self._quarantined = self._tiles = self._bad = 0
        self._share: dict[str, tuple[int, int]] = {}
        self._start = self._last = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> "Progress":
        if self._terminal:
            self._bar = rich_bar()
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=None, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, slides: int) -> None:
        self._slides = slides
        self._start = self._last = time.monotonic()
        if slides and not self._terminal:
            print(f"{self._title}: {slides} slides", file=sys.stderr, flush=True)
        if self._dashboard is not None:
            self._say(f"  Dask's dashboard: {self._dashboard}")
        self._show()

    def found(self, slides: int) -> None:
        self._slides = slides
        if self._bar is not None:
            self._show()

    def note(self, message: str) -> None:
        self._say(f"  {message}")

    def planned(self, plan: Plan) -> None:
        self._share[plan.slide_id] = (0, max(len(plan.chunks), 1))
        self._show()

    def chunk(self, done: ChunkDone) -> None:
        self._tiles += done.tiles
        self._bad += done.bad
        finished, total = self._share.get(done.slide_id, (0, 1))
        self._share[done.slide_id] = (finished + 1, total)
        self._show()

    def slide(self, result: SlideResult) -> None:
        self._done += 1
        self._share.pop(result.source.slide_id, None)
        if result.failure is not None:
            self._quarantined += 1
            if not result.remembered:
                self._say(quarantine_line(result.failure))
        self._show(last=self._done == self._slides)

    def retried(self, failure: Failure, after_s: float | None) -> None:
        when = "by itself at the end" if after_s is None else f"in {clock(after_s)}"
        self._say(f"  {failure.slide_id} [{failure.error_class}]: tried again {when}")

    def paused(self, reason: str, message: str) -> None:
        self._say(f"  {message}")

    def resumed(self, reason: str) -> None:
        self._say("  goes on")

    def _show(self, *, last: bool = False) -> None:
        seconds = max(time.monotonic() - self._start, 1e-3)
        part = self._done + sum(finished / (total + 1) for finished, total in self._share.values())
        note = f"{self._tiles / seconds:,.0f} tiles/s, {self._bad} bad tiles, {self._quarantined} quarantined"
        if self._bar is not None:
            label = f"{self._done}/{self._slides} slides, {note}"
            self._bar.update(self._task, total=self._slides, completed=part, note=label)
        elif last or time.monotonic() - self._last > PLAIN_EVERY_S:
            self._last = time.monotonic()
            left = f", {clock(seconds * (self._slides - part) / part)} left" if part > 0 and not last else ""
            print(f"  {self._done}/{self._slides} slides, {note}{left}", file=sys.stderr, flush=True)

    def _say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)


@contextmanager
def listening(command: str, client: "Client", log: Listener, shown: Listener | None = None) -> Iterator[Listener]:
    """A listener for the log of a run and for whoever looks on: `Progress`, unless another one is given."""
    if shown is not None:
        yield Listeners(shown, log)
        return
    with Progress(command, dashboard_address(client)) as progress:
        yield Listeners(progress, log)


def dashboard_address(client: "Client") -> str | None:
    """Where Dask's dashboard is, or None: it needs bokeh, which is not always installed."""
    try:
        import_module("distributed.dashboard.scheduler")
        return str(client.dashboard_link)
    except (ImportError, KeyError):
        return None


def quarantine_line(failure: Failure) -> str:
    """One line for a quarantined slide; the summary at the end has the message and the remedy."""
    return f"  quarantined {failure.slide_id} [{failure.error_class}]"


def clock(seconds: float) -> str:
    """A duration for people: `45 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
