"""What lies in a folder of stores: one row for each slide and encoder, without opening thousands of stores each time.

The rows are read from the stores. Where `index.parquet` has those of a store whose manifests have not changed since,
they are taken from there; so a look at an archive costs a few stamps a store instead of its files. A cohort in a bucket
is opened without even those: what the index says of a store is compared with it when it is asked for.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from wsi.errors import CorruptStoreError, UnreachableStoreError, UsageError, WsiError
from wsi.index_file import IndexRow, read_index, read_slide_ids
from wsi.store import FeatureStore, open_stores
from wsi.store_stamps import Stamp, is_lasting, parts_of, stamp_of, store_names
from wsi.store_url import StorePath, StoreUrl, store_location
from wsi.threads import in_order

Result = TypeVar("Result")

THREADS, FAR_THREADS = 4, 16
"""Stamps are waited for, not computed: on a share several at once are quicker, and more so in a bucket."""

BATCH, FAR_BATCH = 64, 2
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


def read_cohort(root: str | StorePath, *, rebuild: bool = False) -> CohortIndex:
    """Look at every store of a folder, and read those that the index does not know as they are.

    Parameters
    ----------
    rebuild : bool
        Read them all.

    Raises
    ------
    UsageError
        If the folder holds no store.
    UnreachableStoreError
        If the server of a bucket does not answer.
    """
    root = store_location(root)
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
        lasting = is_lasting(root / name, stamp) and not any(row.problem for row in rows)
        return name, rows, stamp if lasting else None, True

    rows: list[IndexRow] = []
    stamps: dict[str, Stamp] = {}
    opened = 0
    for name, found, stamp, was_read in _each(root, look, names):
        rows += found
        opened += was_read
        if stamp is not None:
            stamps[name] = stamp
    return CohortIndex(tuple(rows), stamps, len(names), opened)


def _each(root: StorePath, look: Callable[[str], Result], names: list[str]) -> Iterator[Result]:
    """A look at every store, several at once."""
    size, threads = (FAR_BATCH, FAR_THREADS) if isinstance(root, StoreUrl) else (BATCH, THREADS)
    batches = [names[start : start + size] for start in range(0, len(names), size)]
    for batch in in_order(lambda some: [look(name) for name in some], batches, threads):
        yield from batch


def describe(path: StorePath) -> list[IndexRow]:
    """A store's rows, read from it. One that cannot be read has a row that says why.

    Raises
    ------
    UnreachableStoreError
        If the server of a bucket does not answer: that says nothing of the store.
    """
    bare = IndexRow(_printable(path.name), _printable(path.name.removesuffix(".zarr")))
    try:
        store = FeatureStore(path)
        slide = _slide_row(bare, store)
        parts = parts_of(path)
    except UnreachableStoreError:
        raise
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
    except UnreachableStoreError:
        raise
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

    def __init__(self, root: StorePath, names: Mapping[str, str]):
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

    Where there is an index, stores that it knows as they are are opened only when they are asked for. In a bucket that
    is not asked before: a list of names and the index are all that is fetched, however many stores there are, and a
    store that is not of the slide that the index says is refused when it is opened. Without an index, or without
    pyarrow, every store is opened.

    Raises
    ------
    UsageError
        If the folder holds none, or two of one slide.
    CorruptStoreError
        If a store that the index does not know is damaged.
    """
    folder = store_location(root)
    known = read_slide_ids(folder) if folder.suffix != ".zarr" else {}
    if not known:
        return open_stores(folder)

    def slide_of(name: str) -> tuple[str, str]:
        stamp, slide_id = known.get(name, (None, ""))
        if stamp is not None and (isinstance(folder, StoreUrl) or stamp_of(folder / name) == stamp):
            return name, slide_id
        return name, FeatureStore(folder / name).slide.slide_id

    names: dict[str, str] = {}
    for name, slide_id in _each(folder, slide_of, store_names(folder)):
        if names.setdefault(slide_id, name) != name:
            raise UsageError(f"{root}: {names[slide_id]} and {name} are both of {slide_id}")
    if not names:
        return open_stores(folder)  # which says that there are none
    return CohortStores(folder, names)
