"""Slides that `grade --watch` adds, and grades of another model, become cases while the desk is open."""

import logging
import os
import time
from pathlib import Path
from threading import Lock, Thread

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from workflows.gradings import PREDICTIONS
from workflows.review.case_import import import_run
from wsi.errors import WsiError

LOOK_EVERY_S = 2.0
logger = logging.getLogger("workflows.review")


class Arrivals:
    """Looks at the run's table when somebody looks at the worklist, and takes it over beside the requests.

    Parameters
    ----------
    engine : Engine
    run : Path
    look_every_s : float
        How long one look is good for.
    """

    def __init__(self, engine: Engine, run: Path, look_every_s: float = LOOK_EVERY_S):
        self._engine, self._run, self._every_s = engine, run, look_every_s
        self._seen: tuple[int, int, int] | None = None
        self._looked_s = -look_every_s
        self._lock = Lock()
        self._thread: Thread | None = None

    def look(self) -> None:
        """Begin to take the table over if it is another one; returns at once."""
        with self._lock:
            busy = self._thread is not None and self._thread.is_alive()
            if busy or time.monotonic() - self._looked_s < self._every_s:
                return
            self._looked_s = time.monotonic()
            stamp = self._stamp()
            if stamp not in (self._seen, None):
                self._seen = stamp
                self._thread = Thread(target=self._take_over, name="arrivals")
                self._thread.start()

    def close(self) -> None:
        """Wait for what has begun."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._run / PREDICTIONS)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _take_over(self) -> None:
        try:
            done = import_run(self._engine, self._run)
        except (WsiError, SQLAlchemyError) as error:
            logger.warning("the run's new table was not taken over: %s", type(error).__name__)
            self._seen = None  # the next look tries again
        else:
            logger.info("cases of the run: %d new, %d changed, %d gone", done.new, done.changed, done.gone)
