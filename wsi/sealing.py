"""Files that become a published folder: written, made durable, listed in a manifest."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, overload

import numpy as np

from wsi.errors import StoreBusyError
from wsi.files import fsync_path, record_of, to_json, write_json
from wsi.store import FORMAT_NAME
from wsi.store_arrays import small_array_files
from wsi.store_url import StorePath, StoreUrl

Records = dict[str, dict[str, Any]]
"""Size and SHA-256 of files by their way from a folder, as its manifest has them."""


@overload
def partial_of(target: Path) -> Path: ...
@overload
def partial_of(target: StoreUrl) -> StoreUrl: ...
@overload
def partial_of(target: StorePath) -> StorePath: ...
def partial_of(target: StorePath) -> StorePath:
    """The hidden folder in which something grows; in a bucket the mark that it does."""
    return target.with_name(f".{target.name}.partial")


def write_files(folder: StorePath, files: Mapping[str, bytes]) -> Records:
    """Write files into a folder; gives their records. On a disk they are not durable before `_seal`."""
    if isinstance(folder, StoreUrl):
        from wsi.object_store import each

        each(lambda name: (folder / name).write_bytes(files[name]), list(files))
    else:
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    return {name: record_of(data) for name, data in files.items()}


def write_array(
    group: StorePath, name: str, values: np.ndarray, attributes: Mapping[str, Any] | None = None
) -> Records:
    """Write a small array in one compressed chunk; gives the records of its files by their way from the group."""
    return write_files(group, small_array_files(name, values, attributes))


def seal(folder: StorePath, records: Records) -> None:
    """Make all files durable that the records name, and write the manifest of them.

    In a bucket that publishes them; a manifest of somebody else that is there by then is not replaced.
    """
    if isinstance(folder, Path):
        for name in records:
            fsync_path(folder / name)
        write_json(folder / "manifest.json", {"files": records})
        return
    from wsi.object_store import write_if

    manifest, data = folder / "manifest.json", to_json({"files": records})
    if write_if(manifest, data, None) is None and manifest.read_bytes() != data:
        raise StoreBusyError(f"{folder.name}: another run has published it just now; run again to see what is left")


def is_store(folder: StorePath) -> bool:
    """Whether a folder was written as a store, however damaged it is by now."""
    if attributes_of(folder) is not None:
        return True
    try:
        return '"coords/zarr.json"' in (folder / "manifest.json").read_text(errors="replace")
    except OSError:
        return False


def attributes_of(folder: StorePath) -> dict[str, Any] | None:
    """What a group says of itself, unchecked; None where that cannot be read."""
    try:
        kept = json.loads((folder / "zarr.json").read_bytes())["attributes"]["histograde"]
        return dict(kept) if kept["format"] == FORMAT_NAME else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
