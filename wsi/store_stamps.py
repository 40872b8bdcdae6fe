"""What tells one state of a store from another without opening it: its manifests, and which stages there are."""

import os
import time
from pathlib import Path

from wsi.chunk_reader import SETTLED_NS
from wsi.files import for_each
from wsi.store import finished_and_begun
from wsi.store_url import StorePath, StoreUrl

Stamp = dict[str, list[int | str]]
"""By folder of a store ("." is the store itself): size and time of change of its manifest, in a bucket size and ETag;
none of a stage."""


def store_names(root: StorePath) -> list[str]:
    """Names of the stores in a folder, sorted."""
    if isinstance(root, StoreUrl):
        return [name for name in finished_and_begun(root)[0] if name.endswith(".zarr")]
    try:
        return sorted(name for name in os.listdir(root) if name.endswith(".zarr") and not name.startswith("."))
    except OSError:
        return []


def stamp_of(store: StorePath) -> Stamp | None:
    """Size and time or ETag of a store's manifests, and which stages there are; None if a manifest is missing."""
    if isinstance(store, StoreUrl):
        return _far_stamp(store)
    folder = str(store)
    try:
        found = {".": _of_manifest(folder)}
        for name in parts_of(store):
            found[name] = [] if name.startswith(".") else _of_manifest(f"{folder}/features/{name}")
    except OSError:
        return None
    return found


def is_lasting(store: StorePath, stamp: Stamp | None) -> bool:
    """Whether a stamp still holds after the store was read, and a change from now on would change it.

    An ETag is another for other bytes; a time of change has to be old enough.
    """
    if stamp is None or stamp_of(store) != stamp:
        return False
    times = [found[1] for found in stamp.values() if found] if isinstance(store, Path) else []
    return all(isinstance(one, int) and time.time_ns() - one > SETTLED_NS for one in times)


def parts_of(store: StorePath) -> list[str]:
    """Folders of features, finished ones and stages, sorted."""
    if isinstance(store, StoreUrl):
        finished, begun = finished_and_begun(store / "features")
        return sorted([*finished, *(f".{name}.partial" for name in begun)])
    try:
        with os.scandir(f"{store}/features") as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
    except FileNotFoundError:
        return []
    return sorted(name for name in names if not name.startswith(".") or name.endswith(".partial"))


def _of_manifest(folder: str) -> list[int | str]:
    status = os.stat(f"{folder}/manifest.json")
    return [status.st_size, status.st_mtime_ns]


def _far_stamp(store: StoreUrl) -> Stamp | None:
    parts = parts_of(store)
    places = {".": store} | {name: store / "features" / name for name in parts if not name.startswith(".")}
    stamps = for_each(store, lambda place: (place / "manifest.json").stamp(), list(places.values()))
    found: Stamp = {name: [] for name in parts}
    for name, stamp in zip(places, stamps, strict=True):
        if stamp is None:
            return None
        found[name] = [stamp.size, stamp.etag]
    return found
