"""Scripts, styles and pictures of the desk: read once, found by name in a table, so that no address becomes a path."""

import mimetypes
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, Request, Response

from workflows.review.errors import DeskError

STATIC = Path(__file__).parent / "static"

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file as it is sent."""

    content: bytes
    media_type: str
    etag: str


@lru_cache(maxsize=1)
def static_files() -> dict[str, StaticFile]:
    """Every file below `static`, by its way from there."""
    return {path.relative_to(STATIC).as_posix(): _read(path) for path in sorted(STATIC.rglob("*")) if path.is_file()}


@lru_cache(maxsize=1)
def static_version() -> str:
    """One digest over all of them: the `v` under which a browser may keep one for good."""
    digest = sha256()
    for name, file in static_files().items():
        digest.update(f"{name} {file.etag}\n".encode())
    return digest.hexdigest()[:16]


@router.get("/static/{name:path}")
async def static(name: str, request: Request) -> Response:
    """A file of the page; kept by the browser for good where the address says which version it is."""
    file = static_files().get(name)
    if file is None:
        raise DeskError(404, "there is no such file")
    kept = "public, max-age=31536000, immutable" if request.query_params.get("v") == static_version() else "no-cache"
    headers = {"ETag": file.etag, "Cache-Control": kept}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


def _read(path: Path) -> StaticFile:
    content = path.read_bytes()
    media_type = "text/javascript" if path.suffix == ".js" else mimetypes.guess_type(path.name)[0] or "text/plain"
    return StaticFile(content, media_type, f'"{sha256(content).hexdigest()[:32]}"')
