"""Weights from the Hugging Face hub: the one module that goes there, and only when it is asked to."""

import os
import shutil
from pathlib import Path
from typing import Any

from mil.encoders.published import PUBLISHED, UNAVAILABLE, Published
from mil.encoders.weights_folder import SUFFIXES, weights_folder
from wsi.errors import MissingPackageError, UsageError

USUAL_FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")
"""What repositories call their weights, best first."""


def fetch(name: str) -> Path:
    """Bring the weights of a published encoder into the weights folder.

    A token is taken from `HF_TOKEN` or from what the hub's own login has stored; it is needed where the authors ask who
    one is. What has been brought in part is gone on with.

    Raises
    ------
    UsageError
        If there is no such encoder, the authors have not let this token in, or the hub cannot be reached.
    MissingPackageError
        If huggingface_hub is not installed.
    """
    if name in UNAVAILABLE:
        raise UsageError(UNAVAILABLE[name])
    if name not in PUBLISHED:
        raise UsageError(f"no encoder is called {name!r} on the hub; there are: {', '.join(PUBLISHED)}")
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise UsageError("HF_HUB_OFFLINE is set, so nothing goes to the hub; unset it to fetch weights")
    told = PUBLISHED[name]
    return _kept(name, _download(told))


def _download(told: Published) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise MissingPackageError(f"fetching needs huggingface_hub ({error}); pip install 'histograde[mil]'") from error
    address = f"huggingface.co/{told.hub_id}"
    try:
        return Path(huggingface_hub.hf_hub_download(told.hub_id, told.file or _usual_file(huggingface_hub, told)))
    except errors.GatedRepoError as error:
        raise UsageError(
            f"{told.name}: its authors ask who uses it; agree to their terms at {address}, make a token that may read "
            "it, and fetch again with HF_TOKEN set to it"
        ) from error
    except (errors.RepositoryNotFoundError, errors.EntryNotFoundError) as error:
        hint = "set HF_TOKEN if it is not open to all" if not _has_token() else "it may have moved"
        raise UsageError(f"{told.name}: the hub shows no weights at {address}; {hint}") from error
    except UsageError:
        raise
    except Exception as error:  # of the hub's client and of the HTTP library below it, which changes
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(f"{told.name}: {address} cannot be reached ({reason}); try again, or use --weights") from error


def _usual_file(hub: Any, told: Published) -> str:
    there = set(hub.HfApi().list_repo_files(told.hub_id))
    for name in USUAL_FILES:
        if name in there:
            return name
    raise UsageError(f"{told.name}: {told.hub_id} has none of {', '.join(USUAL_FILES)}; take the file by hand")


def _kept(name: str, found: Path) -> Path:
    """Move what was brought to its place, where nothing but whole files ever is."""
    folder = weights_folder()
    folder.mkdir(parents=True, exist_ok=True)
    suffix = found.suffix if found.suffix in SUFFIXES else ".bin"
    place, part = folder / f"{name}{suffix}", folder / f".{name}{suffix}.part"
    shutil.copyfile(found.resolve(), part)
    part.replace(place)
    return place


def _has_token() -> bool:
    return bool(os.environ.get("HF_TOKEN"))
