"""The routes of pixels: tiles of slides and of maps, and what the page must know to lay them on each other.

Addresses name a case by its number and a tile by numbers; no text of a request becomes a path. What cannot be shown is
an error with its reason, never a grey picture.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import FileResponse
from fastapi.routing import APIRoute

from workflows.review.desk import Asking, desk_of
from workflows.review.errors import DeskError, problems
from workflows.review.map_facts import maps_facts, slide_facts
from workflows.review.pixel_answers import answer, lasting, unchanged
from workflows.review.pixels import Cut, Pixels, Shown
from workflows.review.shared_answers import NobodyWaits
from workflows.review.shelf import ShelfFullError
from wsi.errors import SlideChangedError, TileReadError, UsageError, VanishedSlideError, WsiError
from wsi.tile_pyramid import PyramidTile

router = APIRouter(prefix="/api/cases/{case_id}", tags=["pixels"])

JPEG, PNG = "image/jpeg", "image/png"
Case = Annotated[int, Path(ge=1, lt=1 << 62)]
Number = Annotated[int, Path(ge=0, lt=1 << 32)]
Name = Annotated[str, Path(max_length=40)]

GONE = 204
"""The answer that nobody hears: no failure, or the log would have a line for each tile that a reader panned past."""

Result = TypeVar("Result")


def pixels_of(request: Request) -> Pixels:
    """The desk's pixels, made when they are first asked for."""
    desk = desk_of(request)
    if desk.shelf is None:
        desk.shelf = Pixels(desk.run, desk.settings.slides)
    pixels: Pixels = desk.shelf
    return pixels


async def slide_id_of(request: Request, case_id: int) -> str:
    """The slide of a case; 404 where there is no such case."""
    from workflows.review.cases import slide_of

    known = pixels_of(request).slide_ids
    if (slide_id := known.get(case_id)) is None:
        desk = desk_of(request)
        found = await asyncio.to_thread(slide_of, desk.engine, case_id, desk.run)
        slide_id = known[case_id] = found.slide_id
    return slide_id


async def shown_of(request: Request, case_id: int) -> Shown:
    """A case's slide as the page sees it."""
    pixels, slide_id = pixels_of(request), await slide_id_of(request, case_id)
    known = pixels.known(slide_id)
    return known if known is not None else await _in_thread(pixels.shown, slide_id)


async def cut_of(request: Request, case_id: int) -> Cut:
    """How a case's slide is cut."""
    pixels, slide_id = pixels_of(request), await slide_id_of(request, case_id)
    known = pixels.known_cut(slide_id)
    return known if known is not None else await _in_thread(pixels.cut, slide_id)


async def _in_thread(work: Callable[..., Result], *arguments: Any) -> Result:
    try:
        return await asyncio.to_thread(work, *arguments)
    except (WsiError, ShelfFullError) as error:
        raise _as_answer(error) from error


def _as_answer(error: Exception) -> DeskError:
    """What went wrong as a status: 404 not there, 409 another slide by now, 422 cannot be decoded, 503 no room."""
    kinds = {UsageError: 404, VanishedSlideError: 404, SlideChangedError: 409, TileReadError: 422, ShelfFullError: 503}
    status = next((status for kind, status in kinds.items() if isinstance(error, kind)), 422)
    return DeskError(status, str(error))


async def _picture(request: Request, kind: str, version: str, name: str, make: Callable[[], bytes]) -> Response:
    """A picture out of the cache, or made; `name` tells it from all others of its version."""
    etag, cache = f'"{version}-{name}"', lasting(request, version)
    if (same := unchanged(request, etag, cache)) is not None:
        return same
    try:
        data = await pixels_of(request).answers.get(request, etag, make)
    except NobodyWaits:
        return Response(status_code=GONE)
    except KeyError:
        raise DeskError(404, "this slide has no such picture") from None
    except (WsiError, ShelfFullError) as error:
        raise _as_answer(error) from error
    return answer(data, kind, etag, cache)


@router.get("/slide", responses=problems(401, 404))
async def slide(request: Request, case_id: Case, reader: Asking) -> dict[str, Any]:
    """Size, scale and pyramid of the slide; `available` is false where its file is away, and `message` says why."""
    shown = await shown_of(request, case_id)
    facts, cut = slide_facts(shown.kept.graded.info, shown.cut.pyramid), shown.cut
    return facts | {"version": cut.version, "available": not cut.message, "message": cut.message or None}


@router.get("/tiles/{level}/{column}_{row}.jpg", response_class=Response, responses=problems(401, 404, 409, 422, 503))
async def tile(request: Request, case_id: Case, level: Number, column: Number, row: Number, reader: Asking) -> Response:
    """A tile of the slide, JPEG. 422 with the reason where its pixels cannot be decoded."""
    cut, wanted = await cut_of(request, case_id), PyramidTile(level, column, row)
    make = partial(pixels_of(request).slide_tile, cut.slide_id, wanted)
    return await _picture(request, JPEG, cut.version, f"{level}-{column}-{row}", make)


@router.get("/maps", responses=problems(401, 404))
async def maps(request: Request, case_id: Case, reader: Asking) -> dict[str, Any]:
    """The maps with their legends, and what is drawn beside them: tissue, bad tiles, top tiles; level-0 px."""
    shown = await shown_of(request, case_id)
    return maps_facts(shown, f"/api/cases/{case_id}/top-tiles/{{number}}.png")


@router.get("/maps/{name}/{level}/{column}_{row}.png", response_class=Response, responses=problems(401, 404))
async def map_tile(
    request: Request, case_id: Case, name: Name, level: Number, column: Number, row: Number, reader: Asking
) -> Response:
    """A tile of a map, PNG: grey is the place in the legend, alpha is 0 where no score is."""
    shown, wanted = await shown_of(request, case_id), PyramidTile(level, column, row)
    if name not in shown.kept.maps:
        raise DeskError(404, f"no such map; there are: {', '.join(shown.kept.maps)}")
    make = partial(pixels_of(request).map_tile, shown, name, wanted)
    return await _picture(request, PNG, shown.map_version(name), f"{level}-{column}-{row}", make)


@router.get("/label.jpg", response_class=Response, responses=problems(401, 403, 404))
async def label(request: Request, case_id: Case, reader: Asking) -> Response:
    """The label of the slide. It names the patient, so it is only for readers who may see that."""
    if not reader.sees_patients:
        raise DeskError(403, "the label names the patient; your account may not see patients")
    cut = await cut_of(request, case_id)
    make = partial(pixels_of(request).label, cut.slide_id)
    return await _picture(request, JPEG, cut.version, "label", make)


@router.get("/thumbnail.jpg", response_class=FileResponse, responses=problems(401, 404))
async def thumbnail(request: Request, case_id: Case, reader: Asking) -> Response:
    """The scanned bounds of the slide as the run keeps them; there also while the slide's file is away."""
    return await _kept_file(request, case_id, "thumbnail.jpg", JPEG)


@router.get("/top-tiles/{number}.png", response_class=FileResponse, responses=problems(401, 404))
async def top_tile(request: Request, case_id: Case, number: Number, reader: Asking) -> Response:
    """One of the most-attended tiles at full resolution, by its place in the list of `/maps`."""
    shown = await shown_of(request, case_id)
    if not 1 <= number <= len(shown.kept.graded.top_tiles):
        raise DeskError(404, f"no such tile; there are {len(shown.kept.graded.top_tiles)}")
    return await _kept_file(request, case_id, f"tile_{number:02d}.png", PNG)


async def _kept_file(request: Request, case_id: int, name: str, kind: str) -> Response:
    """A file of the run's folder of a slide; `name` is the desk's own, never the request's."""
    shown = await shown_of(request, case_id)
    make = (shown.kept.folder / name).read_bytes
    try:
        return await _picture(request, kind, shown.kept.version, name, make)
    except OSError as error:
        raise DeskError(404, f"{name} is not in the run's folder any more ({error.strerror})") from error


for _route in [route for route in router.routes if isinstance(route, APIRoute)]:
    path = _route.path.removeprefix(router.prefix)
    router.add_api_route(path, _route.endpoint, methods=["HEAD"], include_in_schema=False, response_model=None)

__all__ = ["map_tile", "router", "tile"]
