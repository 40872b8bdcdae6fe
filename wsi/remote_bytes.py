"""Bytes of a slide on a server, through fsspec: a few ranges at once, read ahead, tried again, never the whole file."""

import asyncio
import io
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any

from fsspec.core import url_to_fs

from wsi.byte_source import ByteRange, run_end, runs_of
from wsi.errors import MissingPackageError, TileReadError, UnreachableSlideError, UnreadableSlideError, WsiError
from wsi.slide_url import SlideUrl

HTTP = ("http", "https")

MAX_READ_BYTES = 2 << 20
MAX_GAP_BYTES = 64 << 10
"""Neighbouring ranges are one request up to this size, across gaps up to this. Longer stretches are several requests,
which run side by side; larger gaps halve the requests once more, and transfer a third in vain on a slide of little
tissue."""

REQUESTS = 8
"""Requests of one slide under way at once."""

MEMORY_BYTES = 32 << 20
"""Fetched and not yet decoded bytes kept by a slide: some 300 tiles at 40x."""

BLOCK_BYTES = 128 << 10
"""In such blocks the structure of a file is read."""

TIMEOUT_S = 120.0
"""A backstop for one request; HTTP and S3 give up far earlier on a server that is silent."""

BACKOFF_S = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses between tries. After the last the slide is given up: all further reads fail at once.

Only the longest is used for protocols other than HTTP, whose packages try several times themselves.
"""

MAY_PASS = frozenset((408, 425, 429))
"""HTTP statuses below 500 that ask for patience."""


@dataclass(slots=True)
class _Run:
    """One request and the ranges it is for."""

    start: int
    ranges: list[ByteRange]
    size: int
    future: "Future[bytes]"


class RemoteBytes:
    """A file at a URL, as `wsi.byte_source.ByteSource`.

    Raises
    ------
    UnreadableSlideError
        If there is no such file, or the server cannot give parts of it.
    UnreachableSlideError
        If the server gives no answer, or denies it.
    MissingPackageError
        If the package for the protocol is not installed.
    """

    far = True

    def __init__(self, url: SlideUrl):
        self._url = url
        self._fs, self._path = _filesystem(url)
        self._lock = threading.Lock()
        self._slots = asyncio.Semaphore(REQUESTS)
        self._runs: OrderedDict[int, _Run] = OrderedDict()
        self._where: dict[ByteRange, _Run] = {}
        self._held_bytes = 0
        self._lost: WsiError | None = None
        self._same: dict[str, Any] = {}
        info = self._wait(self._begin(self._persist(lambda: self._fs._info(self._path))))
        if not isinstance(info.get("size"), int) or info.get("type", "file") != "file":
            raise UnreadableSlideError(f"{url.name}: the server does not say how large it is, or it is no file")
        self._info = info
        if url.protocol in HTTP:
            self._same = {"same": info}

    @property
    def size(self) -> int:
        return int(self._info["size"])

    @property
    def version(self) -> str:
        """What the server says to tell this state of the file from another: ETag or time stamp; empty if nothing."""
        for key in ("ETag", "etag", "LastModified", "last_modified", "mtime", "created"):
            if value := self._info.get(key):
                return str(value)
        return ""

    def read_many(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        ranges = [(offset, max(0, min(count, self.size - offset))) for offset, count in ranges]
        left = [one for one in dict.fromkeys(ranges) if one[1]]
        found: dict[ByteRange, bytes] = {}
        while left:
            for one, run in self._start(left).items():
                at = one[0] - run.start
                found[one] = self._wait(run.future)[at : at + one[1]]
            left = [one for one in left if one not in found]
        self._check()
        return [found.get(one, b"") for one in ranges]

    def expect(self, ranges: Sequence[ByteRange]) -> None:
        self._start([(offset, min(count, self.size - offset)) for offset, count in ranges])

    def close(self) -> None:
        with self._lock:
            self._lost = TileReadError("the slide is closed")
            for run in self._runs.values():
                run.future.cancel()
            self._runs.clear()
            self._where.clear()
            self._held_bytes = 0

    def _start(self, ranges: Sequence[ByteRange]) -> dict[ByteRange, _Run]:
        """Requests, old and new, for as many of the ranges as memory is for, in their order, one at least."""
        found: dict[ByteRange, _Run] = {}
        new: list[ByteRange] = []
        room = MEMORY_BYTES
        with self._lock:
            self._check()
            for one in ranges:
                room -= one[1]
                if room < 0 and (found or new):
                    break
                if (run := self._where.get(one)) is not None:
                    found[one] = run
                    self._runs.move_to_end(run.start)
                elif one[1] > 0:
                    new.append(one)
            for part in runs_of(sorted(set(new)), MAX_READ_BYTES, MAX_GAP_BYTES):
                found |= dict.fromkeys(part, self._request(part))
            self._forget(keep=len({id(run) for run in found.values()}))
        return found

    def _request(self, part: list[ByteRange]) -> _Run:
        start, end = part[0][0], run_end(part)
        while start in self._runs:  # an older request that began at the same byte for other ranges
            self._drop(start)
        run = _Run(start, part, end - start, self._begin(self._fetch(start, end)))
        self._runs[start] = run
        self._where |= dict.fromkeys(part, run)
        self._held_bytes += run.size
        return run

    def _forget(self, keep: int) -> None:
        """Let the oldest go until memory suffices; the last `keep` are those just asked for."""
        while self._held_bytes > MEMORY_BYTES and len(self._runs) > keep:
            self._drop(next(iter(self._runs)))

    def _drop(self, start: int) -> None:
        run = self._runs.pop(start)
        self._held_bytes -= run.size
        for one in run.ranges:
            self._where.pop(one, None)

    def _begin(self, job: Any) -> "Future[Any]":
        """Run a coroutine on fsspec's own thread."""
        return asyncio.run_coroutine_threadsafe(job, self._fs.loop)

    def _wait(self, future: "Future[Any]") -> Any:
        try:
            return future.result()
        except CancelledError:
            self._check()
            raise

    def _check(self) -> None:
        if self._lost is not None:
            raise type(self._lost)(str(self._lost))

    async def _fetch(self, start: int, end: int) -> bytes:
        async def part() -> bytes:
            data: bytes = await self._fs._cat_file(self._path, start=start, end=end, **self._same)
            if len(data) > end - start:
                raise UnreadableSlideError("the server sent more than was asked for: it cannot give parts of files")
            if len(data) < end - start:
                raise EOFError
            return data

        async with self._slots:
            self._check()
            return await self._persist(part)

    async def _persist(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Ask until there is an answer, with longer and longer pauses."""
        pauses = BACKOFF_S if self._url.protocol in HTTP else BACKOFF_S[-1:]
        tries = 0
        while True:
            tries += 1
            try:
                return await asyncio.wait_for(ask(), TIMEOUT_S)
            except Exception as error:  # each backend raises its own kinds
                final = _final(error, self._url)
                if final is None and tries > len(pauses):
                    said = f"HTTP {error.status}" if hasattr(error, "status") else type(error).__name__
                    final = UnreachableSlideError(
                        f"{self._url.name}: no sound answer from the server in {tries} tries ({said})"
                    )
                if final is not None:
                    self._lost = self._lost or final
                    raise final from None  # what the backend says may hold the URL with its credentials
            await asyncio.sleep(pauses[tries - 1])


def _filesystem(url: SlideUrl) -> tuple[Any, str]:
    """An asynchronous fsspec filesystem and the path in it."""
    try:
        if url.protocol in HTTP:
            from wsi.ranged_http import RangedHTTPFileSystem

            return RangedHTTPFileSystem(encoded="%" in url.url), url.url
        fs, path = url_to_fs(url.url)
    except ImportError:
        raise MissingPackageError(
            f"{url.name}: the package that reads {url.protocol}:// is missing; pip install 'histograde[remote]'"
        ) from None
    except Exception as error:  # fsspec knows no such protocol, or its configuration is wrong
        reason = f"{url.protocol}:// cannot be read ({type(error).__name__}); http, https and s3 can"
        raise UnreadableSlideError(f"{url.name}: {reason}") from None
    if not fs.async_impl:
        from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

        fs = AsyncFileSystemWrapper(fs)
    return fs, path


def _final(error: Exception, url: SlideUrl) -> WsiError | None:
    """What a backend's error means, if it makes no sense to try again."""
    status = getattr(error, "status", None)
    if isinstance(error, WsiError):
        return type(error)(f"{url.name}: {error}")
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return UnreadableSlideError(f"{url.name}: no such file on the server; check the URL")
    if isinstance(error, PermissionError) or status in (401, 403):
        return UnreachableSlideError(
            f"{url.name}: access denied; check the credentials, or whether the URL has run out, and run again"
        )
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError"):
        return UnreachableSlideError(f"{url.name}: no credentials found; set them in the environment (AWS_...)")
    if isinstance(status, int) and 300 <= status < 500 and status not in MAY_PASS:
        return UnreachableSlideError(f"{url.name}: the server answered HTTP {status}")
    if isinstance(error, (TypeError, ValueError, NotImplementedError)):
        return UnreadableSlideError(f"{url.name}: cannot be asked for in parts ({type(error).__name__})")
    return None


class RemoteFile(io.RawIOBase):
    """The same bytes as a file, for parsers. It is not closed with them."""

    def __init__(self, source: RemoteBytes, name: str):
        self._source, self.name, self._at = source, name, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = max(0, offset + (0, self._at, self._source.size)[whence])
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        wanted = memoryview(buffer).cast("B")
        count = max(0, min(len(wanted), self._source.size - self._at))
        first, last = self._at // BLOCK_BYTES, -(-(self._at + count) // BLOCK_BYTES)
        blocks = self._source.read_many([(number * BLOCK_BYTES, BLOCK_BYTES) for number in range(first, last)])
        skip = self._at - first * BLOCK_BYTES
        wanted[:count] = b"".join(blocks)[skip : skip + count]
        self._at += count
        return count
