"""fsspec's HTTP, strict about ranges: a part of a file is a part, of the same file, or it is an error.

fsspec takes whatever comes back. A server that ignores the Range header would be downloaded whole for every tile.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from fsspec.implementations.http import HTTPFileSystem

from wsi.errors import UnreachableSlideError, UnreadableSlideError

CONNECT_S = 10.0
STALL_S = 30.0
"""Longest silence of a server, before and within an answer; how long an answer takes depends on its size."""


class HTTPStatusError(OSError):
    """A server answered with an error; without the URL, which may hold credentials."""

    def __init__(self, status: int):
        super().__init__(f"HTTP {status}")
        self.status = status


class RangedHTTPFileSystem(HTTPFileSystem):
    """What `RemoteBytes` needs of it: `_info` and `_cat_file`, both by ranges (RFC 9110, section 14)."""

    async def _info(self, url: str, **kwargs: Any) -> dict[str, Any]:
        """Size, ETag and Last-Modified, asked for with the first byte: presigned URLs allow no HEAD."""
        async with self._part(url, 0, 1) as (_, _, info):
            return {"name": url, "type": "file", **info}

    async def _cat_file(
        self,
        url: str,
        start: int | None = None,
        end: int | None = None,
        same: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> bytes:
        """Bytes [start, end) of the file of which `same` is the `_info`."""
        if start is None or end is None:
            raise ValueError("only parts of a file are read")
        async with self._part(url, start, end) as (response, first, info):
            if same is not None and _differ(info, same):
                raise UnreachableSlideError("the file on the server changed while it was read; run the command again")
            if first != start:
                raise UnreadableSlideError(f"the server sent bytes from {first}, asked for was {start}")
            return await response.read()

    @asynccontextmanager
    async def _part(self, url: str, start: int, end: int) -> AsyncIterator[tuple[Any, int, dict[str, Any]]]:
        """An answer with a part of the file, not yet read; where the part begins; what is known of the whole."""
        session = await self.set_session()
        options = dict(self.kwargs)
        headers = {**options.pop("headers", {}), "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        options["timeout"] = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=STALL_S)
        async with session.get(self.encode_url(url), headers=headers, **options) as response:
            if response.status == 200:
                raise UnreadableSlideError(
                    "the server ignores range requests, so the slide could only be downloaded whole; do that, or use "
                    "a server that supports ranges"
                )
            if response.status == 416:
                raise UnreadableSlideError("the file on the server is empty, or shorter than it was")
            if response.status != 206:
                raise HTTPStatusError(response.status)
            said = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", "").strip())
            if said is None:
                raise UnreadableSlideError("the server does not say how large the file is (Content-Range)")
            whole = {
                "size": int(said[3]),
                "ETag": response.headers.get("ETag", ""),
                "LastModified": response.headers.get("Last-Modified", ""),
            }
            yield response, int(said[1]), whole


def _differ(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two answers are of different files. Of several servers behind one name each may have its own ETags, or
    its own dates, so one of the two that agrees is enough."""
    known = [key for key in ("ETag", "LastModified") if one[key] and other[key]]
    return one["size"] != other["size"] or (bool(known) and not any(one[key] == other[key] for key in known))
