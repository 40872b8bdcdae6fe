"""No request may send more than a route could need, whatever length it claims: bytes are counted as they come."""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 2**20
"""A region of 10,000 corners is a third of it."""

TOO_LARGE = f"a request has at most {MAX_BODY:,} bytes"


class BodyLimit:
    """The desk's app with bodies that end."""

    def __init__(self, app: ASGIApp, most: int = MAX_BODY):
        self.app = app
        self.most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        claimed = Headers(scope=scope).get("content-length", "0")
        if not claimed.isdecimal() or int(claimed) > self.most:
            await JSONResponse({"error": TOO_LARGE}, 413, {"connection": "close"})(scope, receive, send)
            return
        came = 0

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > self.most:
                raise HTTPException(413, TOO_LARGE, {"connection": "close"})
            return message

        await self.app(scope, counted, send)
