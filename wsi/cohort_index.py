"""What lies in a folder of stores: one row for each slide and encoder, without opening thousands of stores each time.

The rows are read from the stores. Where `index.parquet` has those of a store whose manifests have not changed since,
they are taken from there; so a look at an archive costs a few file stamps a store instead of its files.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from wsi.chunk_reader import SETTLED_NS
from wsi.errors import CorruptStoreError, UsageError, WsiError
from wsi.index_file import IndexRow, Stamp, read_index, read_slide_ids
from wsi.store import FeatureStore, open_stores
from wsi.store_url import StorePath, store_location
from wsi.threads import in_order

Result = TypeVar("Result")

THREADS = 4
"""Stamps are waited for, not computed: on a share several at once are quicker."""

BATCH = 64
"""Stores that a thread takes at a time."""


@dataclass(frozen=True, slots=True)
class CohortIndex:
    """The stores of a folder.

    Attributes
    ----------
    rows : tuple of IndexRow
        By store, then by encoder; every store has at least one.
    stamps : mapping
        Of the stores whose rows may be taken from the index next time.
    stores, opened : int
        How many stores there are, and how many of them had to be read.
    """

    rows: tuple[IndexRow, ...]
    stamps: Mapping[str, Stamp]
    stores: int
    opened: int


def read_cohort(root: str | Path, *, rebuild: bool = False) -> CohortIndex:
    """Look at every store of a folder, and read those that the index does not know as they are.

    Parameters
    ----------
    rebuild : bool
        Read them all.

    Raises
    ------
    UsageError
        If the folder holds no store.
    """
    root = Path(root)
    known = {} if rebuild else read_index(root)
    names = store_names(root)
    if not names:
        raise UsageError(f"{root}: no feature store (*.zarr) in this folder; make some with `histograde extract`")

    def look(name: str) -> tuple[str, list[IndexRow], Stamp | None, bool]:
        stamp = stamp_of(root / name)
        kept = known.get(name)
        if stamp is not None and kept is not None and kept[0] == stamp:
            return name, kept[1], stamp, False
        rows = describe(root / name)
        lasting = _lasting(root / name, stamp) and not any(row.problem for row in rows)
        return name, rows, stamp if lasting else None, True

    rows: list[IndexRow] = []
    stamps: dict[str, Stamp] = {}
    opened = 0
    for name, found, stamp, was_read in _each(look, names):
        rows += found
        opened += was_read
        if stamp is not None:
            stamps[name] = stamp
    return CohortIndex(tuple(rows), stamps, len(names), opened)


def _each(look: Callable[[str], Result], names: list[str]) -> Iterator[Result]:
    """A look at every store, several at once."""
    batches = [names[start : start + BATCH] for start in range(0, len(names), BATCH)]
    for batch in in_order(lambda some: [look(name) for name in some], batches, THREADS):
        yield from batch


def store_names(root: Path) -> list[str]:
    """Names of the stores in a folder, sorted."""
    try:
        return sorted(name for name in os.listdir(root) if name.endswith(".zarr") and not name.startswith("."))
    except OSError:
        return []


def stamp_of(store: Path) -> Stamp | None:
    """Size and time of change of a store's manifests, and which stages there are; None if a manifest is missing."""
    folder = str(store)
    try:
        found = {".": _of_manifest(folder)}
        for name in _parts(folder):
            found[name] = [] if name.startswith(".") else _of_manifest(f"{folder}/features/{name}")
    except OSError:
        return None
    return found


def _of_manifest(folder: str) -> list[int]:
    status = os.stat(f"{folder}/manifest.json")
    return [status.st_size, status.st_mtime_ns]


def _parts(store: str) -> list[str]:
    """Folders of features, finished ones and stages, sorted."""
    try:
        with os.scandir(f"{store}/features") as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
    except FileNotFoundError:
        return []
    return sorted(name for name in names if not name.startswith(".") or name.endswith(".partial"))


def _lasting(store: Path, stamp: Stamp | None) -> bool:
    """Whether a stamp still holds after the store was read, and is old enough that a change would change it."""
    if stamp is None or stamp_of(store) != stamp:
        return False
    return time.time_ns() - max(found[1] for found in stamp.values() if found) > SETTLED_NS


def describe(path: Path) -> list[IndexRow]:
    """A store's rows, read from it. One that cannot be read has a row that says why."""
    bare = IndexRow(_printable(path.name), _printable(path.name.removesuffix(".zarr")))
    try:
        store = FeatureStore(path)
        slide = _slide_row(bare, store)
        parts = _parts(str(path))
    except Exception as error:  # whatever it is, it is a fact about this store only
        return [replace(bare, problem=_said(error))]
    done = [name for name in parts if not name.startswith(".")]
    begun = [name[1:].removesuffix(".partial") for name in parts if name.startswith(".")]
    rows = [_features_row(slide, store, name) for name in done]
    rows += [replace(slide, encoder=name) for name in begun if name not in done]
    return sorted(rows, key=lambda row: row.encoder or "") or [slide]


def _slide_row(bare: IndexRow, store: FeatureStore) -> IndexRow:
    slide, tiles = store.meta["slide"], store.recipe["tiles"]
    mpp_x, mpp_y = slide.get("mpp") or (None, None)
    recipe = {name: tiles.get(name) for name in ("tile_px", "mpp", "stride_px", "min_tissue", "kernel")}
    said = {name: slide.get(name) for name in ("content_hash", "reader", "vendor")}
    return replace(
        bare, slide_id=slide["slide_id"], mpp_x=mpp_x, mpp_y=mpp_y, tiles=store.meta["tiles"], **said, **recipe
    )


def _features_row(slide: IndexRow, store: FeatureStore, encoder: str) -> IndexRow:
    try:
        meta = store.encoder_meta(encoder)
        files = json.loads((store.path / "features" / encoder / "manifest.json").read_bytes())["files"]
        return replace(
            slide,
            encoder=encoder,
            complete=True,
            bad_tiles=len(store.bad_tiles(encoder)),
            dim=meta.get("dim"),
            dtype=meta.get("dtype"),
            weights_sha256=meta["card"].get("weights_sha256"),
            grid_sha256=meta.get("grid_sha256"),
            feature_bytes=sum(record["bytes"] for name, record in files.items() if name.startswith("values/c/")),
        )
    except Exception as error:  # whatever it is, it is a fact about these features only
        return replace(slide, encoder=_printable(encoder), problem=_said(error))


def _said(error: Exception) -> str:
    """An error in one line that is the same on every machine."""
    if isinstance(error, WsiError):
        return " ".join(str(error).split())
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror})"
    return f"is described in another way than FORMAT.md says ({type(error).__name__})"


def _printable(name: str) -> str:
    return os.fsencode(name).decode(errors="backslashreplace")


class CohortStores(Mapping[str, FeatureStore]):
    """Stores by slide_id, sorted; each is opened when it is asked for, and kept.

    Parameters
    ----------
    names : mapping of str to str
        The store's name by slide_id.

    Raises
    ------
    CorruptStoreError
        When a store is asked for that is damaged.
    """

    def __init__(self, root: Path, names: Mapping[str, str]):
        self._root = root
        self._names = dict(sorted(names.items()))
        self._open: dict[str, FeatureStore] = {}

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, slide_id: Any) -> bool:
        return slide_id in self._names

    def __getitem__(self, slide_id: str) -> FeatureStore:
        if slide_id not in self._open:
            store = FeatureStore(self._root / self._names[slide_id])
            if store.slide.slide_id != slide_id:
                raise CorruptStoreError(
                    f"{store.path.name}: is of {store.slide.slide_id}, the index says {slide_id}; "
                    "run `histograde index --rebuild`"
                )
            self._open[slide_id] = store
        return self._open[slide_id]


def open_cohort(root: str | StorePath) -> Mapping[str, FeatureStore]:
    """All published stores below a folder by slide_id, sorted, as `wsi.store.open_stores` has them.

    Where there is an index, stores that it knows as they are are opened only when they are asked for. In a bucket there
    is none. Without one, or without pyarrow, every store is opened.

    Raises
    ------
    UsageError
        If the folder holds none, or two of one slide.
    CorruptStoreError
        If a store that the index does not know is damaged.
    """
    folder = store_location(root)
    if not isinstance(folder, Path):
        return open_stores(folder)
    known = read_slide_ids(folder) if folder.suffix != ".zarr" else {}
    if not known:
        return open_stores(root)

    def slide_of(name: str) -> tuple[str, str]:
        stamp, slide_id = known.get(name, (None, ""))
        if stamp is not None and stamp_of(folder / name) == stamp:
            return name, slide_id
        return name, FeatureStore(folder / name).slide.slide_id

    names: dict[str, str] = {}
    for name, slide_id in _each(slide_of, store_names(folder)):
        if names.setdefault(slide_id, name) != name:
            raise UsageError(f"{root}: {names[slide_id]} and {name} are both of {slide_id}")
    if not names:
        return open_stores(root)  # which says that there are none
    return CohortStores(folder, names)
