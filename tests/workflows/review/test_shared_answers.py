"""Bytes are made once for all who wait, and not for those who have left."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from workflows.review.shared_answers import NobodyWaits, SharedAnswers


class Asker:
    """A request whose browser leaves when told."""

    def __init__(self) -> None:
        self.leaves = asyncio.Event()

    async def receive(self) -> dict[str, str]:
        await self.leaves.wait()
        return {"type": "http.disconnect"}


def test_many_at_once_are_served_by_one_making() -> None:
    made: list[int] = []
    gate = threading.Event()

    def make() -> bytes:
        gate.wait(5)
        made.append(1)
        return b"tile"

    async def ask() -> list[bytes]:
        answers = SharedAnswers(10_000, 2)
        asked = [asyncio.ensure_future(answers.get(Asker(), "key", make)) for _ in range(50)]
        await asyncio.sleep(0.01)
        gate.set()
        found = await asyncio.gather(*asked)
        assert await answers.get(Asker(), "key", make) == b"tile"
        assert not answers._work
        answers.close()
        return found

    assert asyncio.run(ask()) == [b"tile"] * 50
    assert made == [1]


def test_what_nobody_waits_for_any_more_is_not_begun() -> None:
    made: list[str] = []
    gate = threading.Event()

    def slow() -> bytes:
        gate.wait(5)
        return b"slow"

    def work(name: str) -> Callable[[], bytes]:
        return lambda: made.append(name) or name.encode()  # type: ignore[func-returns-value]

    async def ask() -> None:
        answers = SharedAnswers(10_000, 1)
        first = asyncio.ensure_future(answers.get(Asker(), "slow", slow))
        leaver, stayer = Asker(), Asker()
        left = asyncio.ensure_future(answers.get(leaver, "left", work("left")))
        both = [asyncio.ensure_future(answers.get(asker, "kept", work("kept"))) for asker in (leaver, stayer)]
        await asyncio.sleep(0.01)
        leaver.leaves.set()
        with pytest.raises(NobodyWaits):
            await left
        gate.set()
        assert await first == b"slow"
        with pytest.raises(NobodyWaits):
            await both[0]
        assert await both[1] == b"kept"
        answers.close()

    asyncio.run(ask())
    assert made == ["kept"]


def test_what_goes_wrong_is_told_to_all_and_not_kept() -> None:
    count: list[int] = []

    def fail() -> bytes:
        count.append(1)
        raise ValueError("damaged")

    async def ask() -> None:
        answers = SharedAnswers(10_000, 1)
        found = await asyncio.gather(*(answers.get(Asker(), "key", fail) for _ in range(3)), return_exceptions=True)
        assert [str(error) for error in found] == ["damaged"] * 3
        with pytest.raises(ValueError, match="damaged"):
            await answers.get(Asker(), "key", fail)
        answers.close()

    asyncio.run(ask())
    assert len(count) == 2
