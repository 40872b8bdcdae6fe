"""A slide on its way through a run, and what is to be done for it: what the loop of `workflows.pipeline` keeps."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workflows.listeners import Plan, SlideResult
from workflows.source_hash import source_stamp
from workflows.sources import SlideSource
from wsi.errors import SlideChangedError, WsiError
from wsi.store_writer import FeatureWriter

if TYPE_CHECKING:
    from distributed import Future


@dataclass(slots=True)
class SlideWay:
    """A slide between its admission and its end; where it begins anew, jobs of an earlier round count no more."""

    source: SlideSource
    result: SlideResult
    device: int
    lock: ExitStack = field(default_factory=ExitStack)
    plan: Plan | None = None
    left: int = 0
    under_way: int = 0
    owed_bytes: int = 0
    round: int = 0
    told_busy: bool = False
    closed: bool = False
    aside: bool = False
    alone: bool = False

    @property
    def slide_id(self) -> str:
        return self.source.slide_id


@dataclass(slots=True, eq=False)
class Job:
    """Something to do for a slide; without a function this process does it itself."""

    way: SlideWay
    stage: str
    function: Callable[..., Any] | None
    arguments: tuple[Any, ...] = ()
    priority: int = 0
    failed: int = 0
    deaths: int = 0
    future: "Future | None" = None
    worker: str = ""
    began_s: float | None = None
    round: int = field(init=False)

    def __post_init__(self) -> None:
        self.round = self.way.round

    @property
    def counts(self) -> bool:
        """Whether anybody still waits for it."""
        return not (self.way.closed or self.way.aside) and self.round == self.way.round


def chunk_bytes(writer: FeatureWriter) -> int:
    """What one chunk of features takes on a disk, with its record; nothing where the stores are in a bucket."""
    if not isinstance(writer.store, Path):
        return 0
    return writer.chunk_tiles * writer.dim * np.dtype(writer.dtype).itemsize + 8192


def check_unchanged(source: SlideSource, plan: Plan) -> None:
    """Refuse to publish what was read from a file that is another by now; one that is away has been read whole.

    Raises
    ------
    SlideChangedError
    """
    if not isinstance(source.path, Path):
        return
    try:
        stamp = source_stamp(source)
    except WsiError:
        return
    if stamp != plan.stamp:
        raise SlideChangedError(f"{source.slide_id}: its file has changed since the work on it began")
