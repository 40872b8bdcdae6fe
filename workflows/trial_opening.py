"""Whether slides open, tried in a process of its own: a file that ends, hangs or swells its reader ends nothing else.

A reader opens what is there. Of a TIFF whose structure comes before its pixels a part opens as well as the whole, so
its stored tiles are asked for their ends too (`wsi.readers.tiff_extent`).
"""

import logging
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from workflows.sources import SlideSource
from wsi.readers.tiff_extent import missing_bytes

OPEN_LIMIT_S = 60.0
"""Longest that a slide may take to open; the first one waits for the process to start as well."""


class TrialOpening:
    """Takes questions and gives answers later; never waits.

    Parameters
    ----------
    reader : str or None
        Only this reader, as in `wsi.slide.open_slide`.
    limit_s : float
        After so long a slide does not open, and what hangs over it is ended.
    clock : callable
        Seconds that never run backwards.
    """

    def __init__(
        self,
        reader: str | None = None,
        *,
        limit_s: float = OPEN_LIMIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader, self._limit_s, self._clock = reader, limit_s, clock
        self._asked: deque[tuple[int, SlideSource]] = deque()
        self._since_s = 0.0
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    @property
    def pending(self) -> int:
        """Questions without an answer."""
        return len(self._asked)

    def ask(self, number: int, source: SlideSource) -> None:
        """Ask whether a slide opens; the answer comes under the number."""
        if not self._asked:
            self._since_s = self._clock()
        self._asked.append((number, source))
        self._send(number, source)

    def answers(self) -> list[tuple[int, bool]]:
        """What is known by now: numbers, and whether the slide opened."""
        if not self._asked:
            return []
        alive = self._process is not None and self._process.is_alive()
        found = self._received()
        if found:
            self._since_s = self._clock()
        elif not alive or self._clock() - self._since_s > self._limit_s:
            found = [(self._asked.popleft()[0], False)]
            self._start_over()
        return found

    def close(self) -> None:
        """End the process; what was asked is forgotten."""
        self._asked.clear()
        self._end()

    def _received(self) -> list[tuple[int, bool]]:
        found: list[tuple[int, bool]] = []
        try:
            while self._asked and self._pipe is not None and self._pipe.poll():
                found.append(self._pipe.recv())
                self._asked.popleft()
        except (EOFError, OSError):  # it has ended, which the next call acts upon
            pass
        return found

    def _start_over(self) -> None:
        """Another process for all but the slide over which the last one ended."""
        self._end()
        self._since_s = self._clock()
        for number, source in self._asked:
            self._send(number, source)

    def _send(self, number: int, source: SlideSource) -> None:
        try:
            if self._pipe is None:
                self._pipe = self._start()
            self._pipe.send((number, source))
        except OSError:  # it has ended, or none can be started; the next `answers` acts upon it
            return

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._reader), daemon=True)
        try:
            self._process.start()
        except OSError:
            self._process = None
            pipe.close()
            raise
        finally:
            theirs.close()
        return pipe

    def _end(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
        self._pipe = self._process = None


def _serve(pipe: Connection, reader: str | None) -> None:
    """Answer until the other side is gone. Ctrl-C is for the other side to hear."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        while True:
            number, source = pipe.recv()
            pipe.send((number, opens(source, reader)))
    except (EOFError, OSError):
        return


def opens(source: SlideSource, reader: str | None = None) -> bool:
    """Whether a reader opens a slide, and it does not end before its stored tiles do."""
    try:
        source.open(reader=reader, content_hash="not asked for").close()
        return not isinstance(source.path, Path) or source.path.is_dir() or not missing_bytes(source.path)
    except Exception:  # whatever it is, the work on the slide will name it
        return False
