"""Small files of a store made again without the slide, and accepted only where their SHA-256 proves them.

What a checksum in a manifest says of a file that was made again is as good as the file. Nothing here is put into a
store because it looks right: coords follow from the tissue mask and the recipe, the description of an array from its
shape, the list of bad tiles from the rows that are NaN, and each must be the very bytes that the manifest lists.
"""

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from wsi.chunk_reader import CRC_BYTES
from wsi.errors import UnreachableStoreError
from wsi.files import file_record, for_each, write_atomic, write_json
from wsi.store import FeatureStore
from wsi.store_arrays import plain_array_files, small_array_files
from wsi.store_url import StorePath
from wsi.tiles import TileSpec, tile_grid

Records = dict[str, dict[str, Any]]

GRID_FILES = tuple(
    f"{name}/{file}"
    for name, file in (
        ("coords", "c/0/0"), ("coords", "zarr.json"), ("tissue", "c/0/0"), ("tissue", "zarr.json"),
        ("tissue_fraction", "c/0"), ("tissue_fraction", "zarr.json"),
    )
) + ("zarr.json",)  # fmt: skip
"""What the manifest of a grid lists."""

SMALL_FILES = ("bad/c/0", "bad/zarr.json", "values/zarr.json", "zarr.json")
"""What the manifest of features lists beside their chunks."""

_RECORD = re.compile(
    rb'"([^"\\]+)":\s*\{\s*"bytes":\s*(\d+),\s*(?:"crc32c":\s*(\d+),\s*)?"sha256":\s*"([0-9a-f]{64})"\s*\}'
)


def chunk_names(tiles: int, chunk_tiles: int) -> list[str]:
    """The files of the chunks of values."""
    return [f"values/c/{chunk}/0" for chunk in range(-(-tiles // chunk_tiles))]


def manifest_records(folder: StorePath) -> Records | None:
    """What a manifest lists; None if it is missing or damaged."""
    try:
        files = json.loads((folder / "manifest.json").read_bytes())["files"]
        return {str(name): {**one, "sha256": str(one["sha256"])} for name, one in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def salvaged_records(folder: StorePath) -> Records:
    """The records that are still whole in a damaged manifest: a name and the SHA-256 beside it.

    A record that was hit reads as none, or as one that agrees with no file.
    """
    try:
        data = (folder / "manifest.json").read_bytes()
    except OSError:
        return {}
    found: Records = {}
    for name, size, crc32c, digest in _RECORD.findall(data):
        record: dict[str, Any] = {"bytes": int(size), "sha256": digest.decode()}
        found[name.decode(errors="replace")] = record | ({"crc32c": int(crc32c)} if crc32c else {})
    return found


def agrees(path: StorePath, record: Mapping[str, Any] | None) -> bool:
    """Whether a file is the one of a record."""
    try:
        return record is not None and file_record(path)["sha256"] == record["sha256"]
    except OSError:
        return False


def salvage_manifest(folder: StorePath, names: tuple[str, ...], chunks: list[str]) -> bool:
    """Write a damaged manifest again out of what is left of it, where that proves the files it must have.

    Chunks that it does not prove get a record with which no file agrees, so that they count as damaged.

    Parameters
    ----------
    names : tuple of str
        Files that must all be proved.
    chunks : list of str
        Files that are computed again if they are not.

    Returns
    -------
    bool
        False if a file of `names` is not proved; nothing is written then.
    """
    known = salvaged_records(folder)
    if not all(agrees(folder / name, known.get(name)) for name in names):
        return False
    proved = {name: known[name] for name in names}
    sound = for_each(folder, lambda name: agrees(folder / name, known.get(name)), chunks)
    for name, is_sound in zip(chunks, sound, strict=True):
        proved[name] = known[name] if is_sound else {"bytes": 0, "sha256": "not proved"}
    write_json(folder / "manifest.json", {"files": proved})
    return True


def proved(made: Mapping[str, bytes], records: Records) -> dict[str, bytes]:
    """Of files that were made again those whose bytes are the listed ones."""
    return {
        name: data for name, data in made.items() if sha256(data).hexdigest() == records.get(name, {}).get("sha256")
    }


def put(folder: StorePath, name: str, data: bytes) -> None:
    """Write a file that was made again into its place."""
    file = folder / name
    if isinstance(file, Path):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, data)


def remade_grid(path: StorePath) -> dict[str, bytes]:
    """Coords and tissue fractions of a store, laid again over its tissue mask; nothing where that cannot be.

    They are right only if their digests say so.

    Raises
    ------
    UnreachableStoreError
        If the server of a bucket does not answer; so does `remade_features`.
    """
    try:
        store = FeatureStore(path)
        grid = tile_grid(store.slide, store.tissue, TileSpec(**store.recipe["tiles"]))
        return small_array_files("coords", grid.coords) | small_array_files("tissue_fraction", grid.tissue_fraction)
    except UnreachableStoreError:
        raise
    except Exception:  # whatever stands in the way, the slide is needed then
        return {}


def remade_features(folder: StorePath, records: Records) -> dict[str, bytes]:
    """The small files of features that follow from their description and their chunks, as far as those are sound."""
    try:
        meta = json.loads((folder / "zarr.json").read_bytes())["attributes"]["histograde"]
        made = plain_array_files("values", (_rows(folder, records), meta["dim"]), meta["dtype"], meta["chunk_tiles"])
        if (lost := _lost_rows(folder, records, meta)) is not None:
            reasons = _reasons(folder, records) if lost.any() else []
            if reasons is not None and len(reasons) == int(lost.any()):
                made |= small_array_files("bad", lost.astype(np.uint32), {"reasons": reasons})
        return made
    except UnreachableStoreError:
        raise
    except Exception:  # whatever stands in the way, the features are computed again then
        return {}


def _rows(folder: StorePath, records: Records) -> int:
    """N: of the values' own description, or of the grid that the features belong to."""
    if agrees(folder / "values/zarr.json", records.get("values/zarr.json")):
        return int(json.loads((folder / "values/zarr.json").read_bytes())["shape"][0])
    return int(FeatureStore(folder.parent.parent).meta["tiles"])


def _lost_rows(folder: StorePath, records: Records, meta: Mapping[str, Any]) -> np.ndarray | None:
    """Which rows are NaN, (N,) bool; None where a chunk differs from its record. A few chunks at a time are held."""
    tiles = _rows(folder, records)
    names = chunk_names(tiles, meta["chunk_tiles"])

    def lost(name: str) -> np.ndarray | None:
        data, record = _bytes_of(folder / name), records.get(name, {})
        if data is None or sha256(data).hexdigest() != record.get("sha256"):
            return None
        values = np.frombuffer(data[:-CRC_BYTES], np.dtype(meta["dtype"]).newbyteorder("<")).reshape(-1, meta["dim"])
        return np.isnan(values[:, 0])  # (chunk_tiles,)

    found = for_each(folder, lost, names)
    whole = [one for one in found if one is not None]
    return np.concatenate(whole)[:tiles] if len(whole) == len(names) else None


def _bytes_of(path: StorePath) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _reasons(folder: StorePath, records: Records) -> list[str] | None:
    if not agrees(folder / "bad/zarr.json", records.get("bad/zarr.json")):
        return None
    return list(json.loads((folder / "bad/zarr.json").read_bytes())["attributes"]["reasons"])
