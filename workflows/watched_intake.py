"""A watched folder as the intake of a run: what is known of it is told, and a signal ends it softly."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from workflows.listeners import Listener, SlideResult
from workflows.source_hash import forget_hash
from workflows.sources import SlideSource
from workflows.watch import FolderWatch
from wsi.store import store_path
from wsi.store_url import StorePath

if TYPE_CHECKING:
    from distributed import Client

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SOFTLY = (
    b"\nno new slides; the run ends when those in work are done (again: it stops now, and the same command goes on)\n"
)


class WatchedIntake:
    """An `Intake` over a watch.

    Parameters
    ----------
    watch : FolderWatch
    listener : Listener
        Told how many slides there are, as that grows, and what the watch has to say.
    store : path or URL
        Folder of the stores.
    """

    def __init__(self, watch: FolderWatch, listener: Listener, store: StorePath) -> None:
        self._watch, self._listener, self._store = watch, listener, store
        self._total = 0
        self._taken: set[str] = set()
        watch.say = listener.note

    @property
    def over(self) -> bool:
        return self._watch.over

    def take(self) -> SlideSource | None:
        source = self._watch.take()
        if (total := self._watch.found + self._watch.waiting) != self._total:
            self._total = total
            self._listener.found(total)
        if source is not None:
            if source.slide_id in self._taken:  # its file is another, even where size and time are the same
                forget_hash(store_path(self._store, source.slide_id))
            self._taken.add(source.slide_id)
        return source

    def done(self, result: SlideResult) -> None:
        """Tell the watch what came of a slide."""
        self._watch.done(result.source.slide_id, quarantined=result.failure is not None)


@contextmanager
def watching(watch: FolderWatch, listener: Listener, store: StorePath) -> Iterator[WatchedIntake]:
    """The intake of a run that ends softly: at the first Ctrl-C or SIGTERM no slides are taken up any more.

    The second one raises `KeyboardInterrupt`. Signals are only heard in the main thread.
    """

    def hear(number: int, frame: FrameType | None) -> None:
        if watch.over:
            raise KeyboardInterrupt
        watch.stop()
        os.write(2, SOFTLY)

    folders = ", ".join(map(str, watch.config.folders))
    listener.note(f"watching {folders}; Ctrl-C ends it when the slides in work are done")
    in_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, hear) for number in SIGNALS} if in_main else {}
    try:
        yield WatchedIntake(watch, listener, store)
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        watch.close()


def shield_workers(client: "Client") -> None:
    """Keep Ctrl-C, which a terminal sends to all processes of a run, from ending workers of this machine."""
    from distributed import WorkerPlugin

    class DeafToInterrupts(WorkerPlugin):
        def setup(self, worker: object) -> None:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, signal.SIG_IGN)

    client.register_plugin(DeafToInterrupts(), name="deaf-to-interrupts")
