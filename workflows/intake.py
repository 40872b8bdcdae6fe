"""Where a run's slides come from: a list that is known, or something that slides are still added to."""

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

from workflows.sources import SlideSource


@runtime_checkable
class Intake(Protocol):
    """Gives slides one at a time, and may have none for a while."""

    @property
    def over(self) -> bool:
        """Whether there will be no more."""
        ...

    def take(self) -> SlideSource | None:
        """The next slide, or None if there is none now. Does not wait."""
        ...


class ListIntake:
    """The slides of a list or an iterator, in their order."""

    def __init__(self, sources: Iterable[SlideSource]) -> None:
        self._sources: Iterator[SlideSource] = iter(sources)
        self.over = False

    def take(self) -> SlideSource | None:
        source = next(self._sources, None)
        self.over = source is None
        return source


def as_intake(sources: Iterable[SlideSource] | Intake) -> Intake:
    """Whatever a caller has, as an intake."""
    return sources if isinstance(sources, Intake) else ListIntake(sources)
