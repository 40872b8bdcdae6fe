"""The desk's pages: shells of HTML that their scripts fill, and the small pictures of the worklist.

A shell holds nothing of a case, so anybody may load it; what it shows it asks for under the reader's own session.
"""

import io
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi import Path as Part
from fastapi.responses import HTMLResponse
from PIL import Image

from workflows.results import slide_folder
from workflows.review.cases import slide_of
from workflows.review.desk import Asking, desk_of
from workflows.review.errors import DeskError, problems
from workflows.review.static_files import static_version

PREVIEW_PX = 240
"""Longest side of a picture in the worklist: a hundred of them are one thumbnail's bytes."""

FRESH = {"Cache-Control": "no-cache"}

Case = Annotated[int, Part(ge=1, le=2**31 - 1)]

router = APIRouter()


@lru_cache(maxsize=8)
def shell(name: str) -> str:
    """A page, with the version of the static files it names: a browser never mixes two versions of the desk."""
    text = (Path(__file__).parent / "pages" / f"{name}.html").read_text(encoding="utf-8")
    return text.replace("{version}", static_version())


@router.get("/", include_in_schema=False)
async def worklist() -> HTMLResponse:
    """The worklist."""
    return HTMLResponse(shell("worklist"), headers=FRESH)


@router.get("/case/{case_id}", include_in_schema=False)
async def case(case_id: Case) -> HTMLResponse:
    """One case: slide, map, decision."""
    return HTMLResponse(shell("case"), headers=FRESH)


@router.get("/case/{case_id}/print", include_in_schema=False)
async def print_view(case_id: Case) -> HTMLResponse:
    """One case on one sheet."""
    return HTMLResponse(shell("print"), headers=FRESH)


@router.get("/api/cases/{case_id}/preview.jpg", response_class=Response, responses=problems(401, 404), tags=["pixels"])
def preview(request: Request, case_id: Case, reader: Asking) -> Response:
    """The slide's thumbnail at the size of a line in the worklist; there also while the slide's file is away."""
    desk = desk_of(request)
    found = slide_of(desk.engine, case_id, desk.run)
    path = slide_folder(desk.run, found.slide_id) / "thumbnail.jpg"
    try:
        changed_ns = path.stat().st_mtime_ns
        etag = f'"preview-{case_id}-{changed_ns}"'
        headers = {"ETag": etag, "Cache-Control": "private, max-age=86400"}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(small_picture(path, changed_ns), media_type="image/jpeg", headers=headers)
    except OSError as error:
        raise DeskError(
            404, f"thumbnail.jpg of case {case_id} is not in the run's folder ({error.strerror})"
        ) from error


@lru_cache(maxsize=1000)
def small_picture(path: Path, changed_ns: int) -> bytes:
    """A JPEG at `PREVIEW_PX`, decoded at a reduced scale; kept until the file changes."""
    buffer = io.BytesIO()
    with Image.open(path, formats=["JPEG"]) as picture:
        picture.draft("RGB", (PREVIEW_PX, PREVIEW_PX))
        picture.thumbnail((PREVIEW_PX, PREVIEW_PX))
        picture.convert("RGB").save(buffer, "JPEG", quality=82)
    return buffer.getvalue()
