"""Worker processes on this machine, as many as were asked for, whatever ends them.

Dask replaces a worker process that ends, but not one that ends while it is starting: its nanny then waits for ever. A
task that ends its worker at once is handed to the next one in just that moment.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LOOK_EVERY_S = 1.0

log = logging.getLogger(__name__)


@contextmanager
def kept_alive(cluster: Any) -> Iterator[None]:
    """Start worker processes of a `LocalCluster` again that ended and were not replaced.

    One that is found missing twice in a row is started: in between Dask may be doing so itself.
    """
    over = threading.Event()

    def keep() -> None:
        missing: set[int] = set()
        while not over.wait(LOOK_EVERY_S):
            try:
                missing = cluster.sync(_start_missing, list(cluster.workers.values()), missing)
            except Exception:
                log.exception("workers could not be looked after")

    keeper = threading.Thread(target=keep, daemon=True, name="worker keeper")
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()


async def _start_missing(nannies: list[Any], missing_before: set[int]) -> set[int]:
    """Start those that were missing before and still are; those that are missing now."""
    missing = {id(nanny) for nanny in nannies if _is_missing(nanny)}
    for nanny in nannies:
        if id(nanny) in missing & missing_before:
            await nanny.instantiate()
            missing.discard(id(nanny))
    return missing


def _is_missing(nanny: Any) -> bool:
    """Whether a nanny that should have a process has none."""
    from distributed.core import Status

    if nanny.status not in (Status.running, Status.starting):
        return False
    return nanny.process is None or nanny.process.status in (Status.stopped, Status.failed)
