"""The desk's pages: three shells of HTML that their scripts fill. They hold nothing of a case, so anybody may load them."""

from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

HERE = Path(__file__).parent
STATIC, PAGES = HERE / "static", HERE / "pages"

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


def shell(name: str) -> str:
    """A page with the version of each static file it names, so that a browser never mixes two versions of the desk."""
    text = (PAGES / f"{name}.html").read_text(encoding="utf-8")
    return text.replace("{version}", static_version())


def static_version() -> str:
    """One digest over the desk's own scripts and styles."""
    digest = sha256()
    for path in sorted(STATIC.glob("*.*")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


@router.get("/")
def worklist() -> HTMLResponse:
    """The worklist."""
    return HTMLResponse(shell("worklist"))


@router.get("/case/{case_id}")
def case(case_id: int) -> HTMLResponse:
    """One case: slide, heatmap, decision."""
    return HTMLResponse(shell("case"))


@router.get("/case/{case_id}/print")
def print_view(case_id: int) -> HTMLResponse:
    """One case on one sheet."""
    return HTMLResponse(shell("print"))
