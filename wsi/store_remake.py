"""Small files of a store made again without the slide, and accepted only where their SHA-256 proves them.

What a checksum in a manifest says of a file that was made again is as good as the file. Nothing here is put into a
store because it looks right: coords follow from the tissue mask and the recipe, the description of an array from its
shape, the list of bad tiles from the rows that are NaN, and each must be the very bytes that the manifest lists.
"""

import json
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from wsi.chunk_reader import CRC_BYTES
from wsi.files import file_record, write_atomic, write_json
from wsi.store import FeatureStore
from wsi.store_arrays import plain_array_files, small_array_files
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


def manifest_records(folder: Path) -> Records | None:
    """What a manifest lists; None if it is missing or damaged."""
    try:
        files = json.loads((folder / "manifest.json").read_bytes())["files"]
        return {str(name): {**one, "sha256": str(one["sha256"])} for name, one in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def salvaged_records(folder: Path) -> Records:
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


def agrees(path: Path, record: Mapping[str, Any] | None) -> bool:
    """Whether a file is the one of a record."""
    try:
        return record is not None and file_record(path)["sha256"] == record["sha256"]
    except OSError:
        return False


def salvage_manifest(folder: Path, names: tuple[str, ...], chunks: list[str]) -> bool:
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
    for name in chunks:
        sound = agrees(folder / name, known.get(name))
        proved[name] = known[name] if sound else {"bytes": 0, "sha256": "not proved"}
    write_json(folder / "manifest.json", {"files": proved})
    return True


def proved(made: Mapping[str, bytes], records: Records) -> dict[str, bytes]:
    """Of files that were made again those whose bytes are the listed ones."""
    return {
        name: data for name, data in made.items() if sha256(data).hexdigest() == records.get(name, {}).get("sha256")
    }


def put(folder: Path, name: str, data: bytes) -> None:
    """Write a file that was made again into its place."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / name, data)


def remade_grid(path: Path) -> dict[str, bytes]:
    """Coords and tissue fractions of a store, laid again over its tissue mask; nothing where that cannot be.

    They are right only if their digests say so.
    """
    try:
        store = FeatureStore(path)
        grid = tile_grid(store.slide, store.tissue, TileSpec(**store.recipe["tiles"]))
        return small_array_files("coords", grid.coords) | small_array_files("tissue_fraction", grid.tissue_fraction)
    except Exception:  # whatever stands in the way, the slide is needed then
        return {}


def remade_features(folder: Path, records: Records) -> dict[str, bytes]:
    """The small files of features that follow from their description and their chunks, as far as those are sound."""
    try:
        meta = json.loads((folder / "zarr.json").read_bytes())["attributes"]["histograde"]
        chunks = [name for name in records if name.startswith("values/c/")]
        tiles = _rows(folder, records)
        made = plain_array_files("values", (tiles, meta["dim"]), meta["dtype"], meta["chunk_tiles"])
        if all(agrees(folder / name, records[name]) for name in chunks):
            lost = np.concatenate(list(_lost_rows(folder, len(chunks), meta)))[:tiles]
            reasons = _reasons(folder, records) if lost.any() else []
            if reasons is not None and len(reasons) == int(lost.any()):
                made |= small_array_files("bad", lost.astype(np.uint32), {"reasons": reasons})
        return made
    except Exception:  # whatever stands in the way, the features are computed again then
        return {}


def _rows(folder: Path, records: Records) -> int:
    """N: of the values' own description, or of the grid that the features belong to."""
    if agrees(folder / "values/zarr.json", records.get("values/zarr.json")):
        return int(json.loads((folder / "values/zarr.json").read_bytes())["shape"][0])
    return int(FeatureStore(folder.parent.parent).meta["tiles"])


def _lost_rows(folder: Path, chunks: int, meta: Mapping[str, Any]) -> Iterator[np.ndarray]:
    """Chunk by chunk, which rows are NaN, (chunk_tiles,) bool."""
    for name in chunk_names(chunks * meta["chunk_tiles"], meta["chunk_tiles"]):
        data = (folder / name).read_bytes()[:-CRC_BYTES]
        values = np.frombuffer(data, np.dtype(meta["dtype"]).newbyteorder("<")).reshape(-1, meta["dim"])
        yield np.isnan(values[:, 0])


def _reasons(folder: Path, records: Records) -> list[str] | None:
    if not agrees(folder / "bad/zarr.json", records.get("bad/zarr.json")):
        return None
    return list(json.loads((folder / "bad/zarr.json").read_bytes())["attributes"]["reasons"])
