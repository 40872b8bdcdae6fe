"""A browser's worth of requests over raw sockets, many readers at once, in one thread of a process of its own.

Each reader has six connections, as browsers do, asks for the tiles of a view over them, and goes on to the next view
when all are there: at once (to see how many tiles a second a server gives), or at a stated pace (to see how long a tile
takes when readers look at what they see).
"""

import asyncio
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

CONNECTIONS = 6


@dataclass
class Taken:
    """What a stretch of work took.

    Attributes
    ----------
    seconds : list of float
        Of each tile, from when the browser may ask for it (a connection is free) to its last byte.
    """

    seconds: list[float] = field(default_factory=list)
    views: int = 0
    bytes: int = 0
    failures: dict[int, int] = field(default_factory=dict)
    wall_s: float = 0.0
    client_cpu_s: float = 0.0


class Browser:
    """One reader's connections to one server."""

    def __init__(self, port: int, headers: str, taken: Taken):
        self._port, self._headers, self._taken = port, headers, taken
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter] | None] = [None] * CONNECTIONS
        self._room = asyncio.Semaphore(CONNECTIONS)

    async def view(self, paths: list[str]) -> None:
        await asyncio.gather(*map(self._get, paths))
        self._taken.views += 1

    async def _get(self, path: str) -> None:
        async with self._room:
            began = time.perf_counter()
            asked = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n{self._headers}\r\n".encode()
            link = self._free.pop()
            head = await _asked(link, asked) if link is not None else b""
            if link is None or not head:  # a server may close a connection that was idle
                link = await asyncio.open_connection("127.0.0.1", self._port)
                head = await _asked(link, asked)
            reader, writer = link
            lines = head.lower().split(b"\r\n")
            length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
            await reader.readexactly(length)
            self._taken.seconds.append(time.perf_counter() - began)
            self._taken.bytes += length
            if (status := int(head[9:12])) != 200:
                self._taken.failures[status] = self._taken.failures.get(status, 0) + 1
            if head.startswith(b"HTTP/1.0") or b"connection: close" in lines:
                writer.close()
                link = None
            self._free.append(link)

    def close(self) -> None:
        for link in self._free:
            if link is not None:
                link[1].close()


async def _asked(link: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes) -> bytes:
    """Send a request; the head of its answer, empty if the connection was closed."""
    try:
        link[1].write(request)
        return await link[0].readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def browse(port: int, headers: str, walks: list[Iterator[list[str]]], most_s: float, every_s: float = 0.0) -> Taken:
    """Let readers look at the views of their walks, for a time or until the walks end; `every_s` is their pace."""
    taken = Taken()
    asyncio.run(_browse(port, headers, walks, most_s, every_s, taken))
    return taken


async def _browse(
    port: int, headers: str, walks: list[Iterator[list[str]]], most_s: float, every_s: float, taken: Taken
) -> None:
    began, cpu = time.perf_counter(), _cpu_s()

    async def reader(number: int, views: Iterator[list[str]]) -> None:
        browser = Browser(port, headers, taken)
        due = began + every_s * number / len(walks)
        for paths in views:
            if time.perf_counter() - began > most_s:
                break
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            due += every_s
            await browser.view(paths)
        browser.close()

    await asyncio.gather(*(reader(number, views) for number, views in enumerate(walks)))
    taken.wall_s, taken.client_cpu_s = time.perf_counter() - began, _cpu_s() - cpu


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
