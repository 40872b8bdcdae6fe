"""Worker processes that end while they start are started again."""

import asyncio
from types import SimpleNamespace
from typing import Any

from distributed.core import Status

from workflows.local_workers import _start_missing


class Nanny:
    def __init__(self, process: Any, status: Status = Status.running) -> None:
        self.process, self.status, self.started = process, status, 0

    async def instantiate(self) -> None:
        self.started += 1
        self.process = SimpleNamespace(status=Status.running)


def test_one_that_is_missing_twice_in_a_row_is_started() -> None:
    sound = Nanny(SimpleNamespace(status=Status.running))
    lost = Nanny(None, Status.starting)  # as Dask leaves it when its worker ends while it starts
    stopped = Nanny(SimpleNamespace(status=Status.stopped))
    closing = Nanny(None, Status.closing)
    nannies = [sound, lost, stopped, closing]
    missing = asyncio.run(_start_missing(nannies, set()))
    assert [nanny.started for nanny in nannies] == [0, 0, 0, 0]
    stopped.process = SimpleNamespace(status=Status.starting)  # by Dask itself, meanwhile
    missing = asyncio.run(_start_missing(nannies, missing))
    assert [nanny.started for nanny in nannies] == [0, 1, 0, 0]
    assert missing == set()
