"""The door of the desk: a form, and nothing about what lies behind it."""

from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from workflows.review.static_files import static_version

router = APIRouter(include_in_schema=False)


@router.get("/login")
async def login_page() -> HTMLResponse:
    """The form to sign in with."""
    return HTMLResponse(_page())


@lru_cache(maxsize=1)
def _page() -> str:
    text = (Path(__file__).parent / "pages" / "login.html").read_text(encoding="utf-8")
    return text.replace("{version}", static_version())
