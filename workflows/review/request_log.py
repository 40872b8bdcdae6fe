"""A line for each request: when, who by number, which route, status, milliseconds. No slide and no patient.

The route is its pattern, `/api/cases/{case_id}/trail`, and a failure is its class and place in the code: messages and
values may name a slide or a patient.
"""

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path
from time import perf_counter

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workflows.review.errors import place_of

logger = logging.getLogger("workflows.review.requests")

SLOW_S = 1.0
"""Tiles are logged only if they fail or take as long as this: they are a hundred times as many as all else."""


class RequestLog:
    """The desk's app, with what it was asked written down; nothing that goes wrong in it reaches a browser as it is."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = perf_counter()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            logger.error("%s %s failed: %s", scope["method"], route_of(scope), place_of(error))
            if status == 0:
                message = {"error": "something went wrong inside the desk; its log says where"}
                await JSONResponse(message, 500)(scope, receive, watched)
        self._write(scope, status, perf_counter() - began)

    def _write(self, scope: Scope, status: int, seconds: float) -> None:
        route = route_of(scope)
        if status >= 400 or seconds >= SLOW_S or not route.endswith((".jpg", ".png")):
            who = scope.get("state", {}).get("user_id", "-")
            logger.info("%s %s %d %.1f ms user %s", scope["method"], route, status, seconds * 1000, who)


def route_of(scope: Scope) -> str:
    """The pattern of a request's route; `(none)` where nothing of the desk is called so."""
    return getattr(scope.get("route"), "path", None) or "(none)"


def log_to(path: Path) -> None:
    """Write the desk's log into a file that never grows past a few MB."""
    handler = RotatingFileHandler(path, maxBytes=4_000_000, backupCount=3, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger("workflows.review")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    root.propagate = False
