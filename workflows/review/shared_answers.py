"""Bytes that many ask for at once are made once, by a few threads, and not at all for those who have left.

Used from one event loop. A reader who pans on closes the connections of tiles that are not to be seen any more; what
nobody waits for is taken out of the queue, so that the tiles in view come first.
"""

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from starlette.requests import Request

from workflows.review.byte_cache import ByteCache


class NobodyWaits(Exception):
    """The one who asked has gone."""


@dataclass(slots=True)
class _Work:
    made: "asyncio.Future[bytes]"
    waiting: int = 0


class SharedAnswers:
    """A byte cache in front of some threads.

    Parameters
    ----------
    most_bytes : int
        Of the cache.
    threads : int
        How many answers are made at once.
    """

    def __init__(self, most_bytes: int, threads: int):
        self.cache = ByteCache(most_bytes)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="pixels")
        self._work: dict[Hashable, _Work] = {}

    async def get(self, request: Request, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """The bytes of a key: kept, or made in a thread; whoever else asks for them meanwhile gets the same.

        Raises
        ------
        NobodyWaits
            If the request's connection is closed first. What was not begun then is not made.
        """
        if (kept := self.cache.get(key)) is not None:
            return kept
        work = self._work.get(key)
        if work is None:
            work = self._work[key] = _Work(asyncio.wrap_future(self._pool.submit(self._make, key, make)))
        work.waiting += 1
        left = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait((work.made, left), return_when=asyncio.FIRST_COMPLETED)
            if not work.made.done():
                raise NobodyWaits
            return work.made.result()
        finally:
            left.cancel()
            work.waiting -= 1
            if work.waiting == 0:
                del self._work[key]
                work.made.cancel()  # and with it the work, if no thread has begun it

    def _make(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        data = make()
        self.cache.put(key, data)
        return data

    def close(self) -> None:
        """Make nothing more."""
        self._pool.shutdown(wait=True, cancel_futures=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


__all__ = ["NobodyWaits", "SharedAnswers"]
