"""A short way to the tiles: the same checks and the same answers as their routes, without FastAPI's part in between.

A reader who pans asks for a hundred tiles a second, and to find the route and read its parameters takes FastAPI longer
than all else that is done for a tile that lies in memory. Addresses of tiles are looked at before any route is; who
asks is checked as everywhere, and what is not exactly the address of a tile goes the usual way, to be refused there.
"""

import re
from collections.abc import Awaitable, Callable

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from workflows.review import pixel_api
from workflows.review.desk import current_reader
from workflows.review.errors import DeskError

CASE = r"/api/cases/(?P<case_id>[1-9][0-9]{0,17})"
PLACE = r"(?P<level>[0-9]{1,9})/(?P<column>[0-9]{1,9})_(?P<row>[0-9]{1,9})"
SAFE = frozenset({"GET", "HEAD"})

Endpoint = Callable[..., Awaitable[Response]]

_ROUTES = {route.endpoint: route for route in pixel_api.router.routes if isinstance(route, APIRoute)}
_SHORT: tuple[tuple[re.Pattern[str], Endpoint], ...] = (
    (re.compile(rf"{CASE}/tiles/{PLACE}\.jpg"), pixel_api.tile),
    (re.compile(rf"{CASE}/maps/(?P<name>[a-z][a-z0-9-]{{0,39}})/{PLACE}\.png"), pixel_api.map_tile),
)


class QuickTiles:
    """The desk's app with tiles answered before it; the innermost layer, behind all that guards the desk."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in SAFE:
            for pattern, endpoint in _SHORT:
                if (found := pattern.fullmatch(scope["path"])) is not None:
                    scope["route"] = _ROUTES[endpoint]  # for the log
                    await (await _answer(Request(scope, receive), endpoint, found))(scope, receive, send)
                    return
        await self.app(scope, receive, send)


async def _answer(request: Request, endpoint: Endpoint, found: re.Match[str]) -> Response:
    try:
        reader = await current_reader(request)
        said = {name: text if name == "name" else int(text) for name, text in found.groupdict().items()}
        return await endpoint(request, reader=reader, **said)
    except DeskError as error:
        return await request.app.exception_handlers[DeskError](request, error)


__all__ = ["QuickTiles"]
