"""Where weights lie that were fetched once: `HISTOGRADE_WEIGHTS`, or `histograde/weights` in the user's cache."""

import os
from pathlib import Path

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")


def weights_folder() -> Path:
    """The folder, whether it is there or not."""
    if given := os.environ.get("HISTOGRADE_WEIGHTS"):
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "histograde" / "weights"


def weights_file(name: str) -> Path | None:
    """The weights of an encoder; None where they have not been fetched."""
    places = (weights_folder() / f"{name}{suffix}" for suffix in SUFFIXES)
    return next((place for place in places if place.is_file()), None)
