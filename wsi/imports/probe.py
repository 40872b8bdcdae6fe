"""Files looked through by a process of their own first: damaged HDF5 can hang or end the one that reads it.

The HDF5 library follows what a file says in C, where nothing interrupts it: a flipped byte can send it round
in circles.
"""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any

from wsi.errors import UnreadableFeaturesError
from wsi.imports import IMPORTS, Hints
from wsi.imports.h5_file import open_h5

LOOK_S = 60.0
"""So long may the look take; it reads places and attributes, no features, which is done in milliseconds."""


def look_through(path: Path, patches: Path | None, tool: str, hints: Hints) -> None:
    """Read what an import does before it comes to the features: structure, attributes, places."""
    with ExitStack() as opened:
        file = opened.enter_context(open_h5(path))
        IMPORTS[tool](file, opened.enter_context(open_h5(patches)) if patches else None, hints)


class Probe:
    """Looks through files in another process, which is replaced when it hangs or dies.

    Parameters
    ----------
    look : callable
        Called there with what `check` is given; a function that can be imported.
    limit_s : float
        Longest time for one file.
    """

    def __init__(self, look: Callable[..., None] = look_through, limit_s: float = LOOK_S):
        self._look, self._limit_s = look, limit_s
        self._child: BaseProcess | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> "Probe":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def check(self, path: Path, *rest: Any) -> None:
        """Raise `UnreadableFeaturesError` if a look at the file hangs or dies; what else is wrong is not told."""
        pipe = self._pipe or self._start()
        try:
            pipe.send((path, *rest))
            if pipe.poll(self._limit_s):
                pipe.recv()
                return
            what = f"cannot be read within {self._limit_s:g} s"
        except (EOFError, OSError):
            what = "ends the process that reads it"
        self._stop()
        raise UnreadableFeaturesError(f"{path.name}: is damaged, for it {what}; copy the file again")

    def _start(self) -> Connection:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._child = context.Process(target=_serve, args=(theirs, self._look), daemon=True)
        self._child.start()
        theirs.close()
        return self._pipe

    def _stop(self) -> None:
        if self._child is not None and self._pipe is not None:
            self._pipe.close()
            self._child.kill()
            self._child.join()
            self._child.close()
        self._child = self._pipe = None


def _serve(pipe: Connection, look: Callable[..., None]) -> None:
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        with suppress(Exception):  # whatever it is, the one who asked meets it again and tells it
            look(*task)
        pipe.send(None)
