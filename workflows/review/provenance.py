"""What a decision was made on: the slide, the heatmap and the program, as digests that can be held against the run."""

import json
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from workflows.results import slide_folder
from wsi.errors import UsageError


def evidence_of(run: Path, slide_id: str) -> dict[str, str | None]:
    """SHA-256 of the slide and of its stored scores, and the program's version; None for what the run does not hold."""
    return {
        "slide_sha256": slide_facts(run, slide_id).get("content_hash"),
        "heatmap": _digest(run, slide_id),
        "program": program_version(),
    }


def slide_facts(run: Path, slide_id: str) -> Mapping[str, Any]:
    """What `slide.json` says of the slide itself; empty if it is not there or cannot be read."""
    try:
        said = json.loads((slide_folder(run, slide_id) / "slide.json").read_bytes())["slide"]
    except (OSError, ValueError, KeyError, TypeError, UsageError):
        return {}
    return said if isinstance(said, dict) else {}


def _digest(run: Path, slide_id: str) -> str | None:
    try:
        return sha256((slide_folder(run, slide_id) / "scores.npz").read_bytes()).hexdigest()
    except (OSError, UsageError):
        return None


def program_version() -> str:
    """Version of this program."""
    try:
        return version("histograde")
    except PackageNotFoundError:
        return "unknown"
