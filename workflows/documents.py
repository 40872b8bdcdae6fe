"""A page that is one file: for people, beside a JSON with the same for programs. Same input, same bytes."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from workflows.drawings import number_text, p_text
from workflows.pages import TEMPLATES, environment
from wsi.files import write_atomic, write_json

STYLES = ("style.css", "document.css")


def write_document(folder: Path, name: str, view: Mapping[str, Any], plain: Mapping[str, Any]) -> Path:
    """Write NAME.html from the template of that name, and NAME.json; gives the page.

    Parameters
    ----------
    view : mapping
        What the template is given.
    plain : mapping
        What the JSON holds.
    """
    pages = environment()
    pages.filters |= {"number": number_text, "p": p_text}
    style = "\n".join((TEMPLATES / one).read_text(encoding="utf-8").strip() for one in STYLES)
    text = pages.get_template(f"{name}.html").render(style=style, version=version("histograde"), **view)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{name}.json", {"made_by": f"histograde {version('histograde')}"} | dict(plain))
    write_atomic(folder / f"{name}.html", text.encode())
    return folder / f"{name}.html"
