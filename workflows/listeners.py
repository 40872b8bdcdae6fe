"""What a run says of itself while it goes, and who hears it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from workflows.failures import Failure
from workflows.source_hash import Stamp
from workflows.sources import SlideSource
from wsi.store_writer import FeatureWriter


@dataclass(frozen=True, slots=True)
class Plan:
    """What is left to do for a slide: nothing, where `writer` is None; `stamp` is of the files that it is for."""

    slide_id: str
    content_hash: str
    tiles: int
    writer: FeatureWriter | None
    chunks: tuple[int, ...]
    seconds: dict[str, float]
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """One chunk is in its store; `device` is where it was encoded (`encoder_place`).

    `computed` is False where it lay there already: the worker that made it ended before it could say so.
    """

    slide_id: str
    chunk: int
    tiles: int
    bad: int
    seconds: dict[str, float]
    device: str = "cpu"
    computed: bool = True


@dataclass(slots=True)
class SlideResult:
    """One slide is through: extracted, and finished if there was anything to finish.

    `remembered` says that an earlier start found the failure, and that nothing was tried now.
    """

    source: SlideSource
    content_hash: str = ""
    tiles: int = 0
    bad: int = 0
    chunks: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    failure: Failure | None = None
    value: Any = None
    remembered: bool = False

    def add(self, seconds: dict[str, float]) -> None:
        """Add up the time spent by stage."""
        for stage, spent in seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent


class Listener:
    """Hears how the work goes; this one is deaf."""

    def begin(self, slides: int) -> None:
        """So many slides are to be done."""

    def found(self, slides: int) -> None:
        """So many are by now, where a folder is watched."""

    def note(self, message: str) -> None:
        """Something that a person should know; it may name slides and folders."""

    def planned(self, plan: Plan) -> None:
        """A slide's tiles are known."""

    def chunk(self, done: ChunkDone) -> None:
        """A chunk was written."""

    def slide(self, result: SlideResult) -> None:
        """A slide is through, or in quarantine."""

    def retried(self, failure: Failure, after_s: float | None) -> None:
        """A part of a slide failed and is tried again after so long; None: by itself, when all others are through."""

    def paused(self, reason: str, message: str) -> None:
        """Work waits for something outside; `reason` names no slide and no folder, `message` may."""

    def resumed(self, reason: str) -> None:
        """What was waited for is there."""


class Listeners(Listener):
    """Tells several what it hears, in their order."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def begin(self, slides: int) -> None:
        for one in self._listeners:
            one.begin(slides)

    def found(self, slides: int) -> None:
        for one in self._listeners:
            one.found(slides)

    def note(self, message: str) -> None:
        for one in self._listeners:
            one.note(message)

    def planned(self, plan: Plan) -> None:
        for one in self._listeners:
            one.planned(plan)

    def chunk(self, done: ChunkDone) -> None:
        for one in self._listeners:
            one.chunk(done)

    def slide(self, result: SlideResult) -> None:
        for one in self._listeners:
            one.slide(result)

    def retried(self, failure: Failure, after_s: float | None) -> None:
        for one in self._listeners:
            one.retried(failure, after_s)

    def paused(self, reason: str, message: str) -> None:
        for one in self._listeners:
            one.paused(reason, message)

    def resumed(self, reason: str) -> None:
        for one in self._listeners:
            one.resumed(reason)


def total_seconds(results: Iterable[SlideResult]) -> dict[str, float]:
    """Seconds by stage over all slides."""
    total: dict[str, float] = {}
    for result in results:
        for stage, seconds in result.seconds.items():
            total[stage] = total.get(stage, 0.0) + seconds
    return total
