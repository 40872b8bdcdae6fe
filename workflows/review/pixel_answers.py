"""Answers that browsers keep: strong ETags, 304 for what they have, and a year where the address names a version."""

from starlette.requests import Request
from starlette.responses import Response

YEAR = "private, max-age=31536000, immutable"
ASK_AGAIN = "private, no-cache"


def lasting(request: Request, version: str) -> str:
    """`Cache-Control` of an answer: an address that carries its version never has another answer."""
    return YEAR if request.query_params.get("v") == version else ASK_AGAIN


def unchanged(request: Request, etag: str, cache: str) -> Response | None:
    """304, if the browser has what it asks for (RFC 9110, 13.1.2)."""
    wanted = request.headers.get("if-none-match")
    if wanted is None:
        return None
    known = {one.strip().removeprefix("W/") for one in wanted.split(",")}
    if etag not in known and "*" not in known:
        return None
    return Response(status_code=304, headers={"ETag": etag, "Cache-Control": cache})


def answer(data: bytes, kind: str, etag: str, cache: str) -> Response:
    """200 with the bytes."""
    return Response(data, media_type=kind, headers={"ETag": etag, "Cache-Control": cache})


__all__ = ["answer", "lasting", "unchanged"]
