"""A small store that is written to any place: a disk, a bucket in memory, the bucket of a server."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mil.encoders.toy import CARD
from wsi import far_chunks, lease, object_store
from wsi.errors import CorruptStoreError
from wsi.files import files_below, is_hidden
from wsi.slide import SlideInfo
from wsi.store import FeatureStore, store_path, verify_folder
from wsi.store_url import StorePath
from wsi.store_writer import begin_features, publish_grid, reopen_damaged, settle, slide_lock
from wsi.tiles import BadTile, TileSpec, tile_grid
from wsi.tissue import TissueMask

INFO = SlideInfo("s 1", "x", "x", ((700, 500),), (1.0,), (0.5, 0.5), "x", None, (0, 0, 700, 500), "ab" * 32)
SPEC = TileSpec(tile_px=64, mpp=0.5, stride_px=64)
TISSUE = TissueMask(np.ones((50, 70), bool), (10.0, 10.0), (0, 0), (0.5, 0.5))
GRID = tile_grid(INFO, TISSUE, SPEC)
RECIPE = {"tiles": SPEC.to_dict(), "tissue": {"method": "x"}}
VALUES = np.random.default_rng(1).random((len(GRID), CARD.dim)).astype(np.float16)
BAD = (BadTile(5, "level 0: torn"), BadTile(40, "level 0: burnt"))
CHUNK = 16
GOOD = np.setdiff1d(np.arange(len(GRID)), [one.row for one in BAD])


def write(writer: Any, chunks: list[int] | None = None) -> None:
    for chunk in writer.todo() if chunks is None else chunks:
        rows = writer.rows(chunk)
        bad = tuple(one for one in BAD if one.row in rows)
        good = np.setdiff1d(rows, [one.row for one in bad])
        writer.write(chunk, good, VALUES[good], bad)


def run(root: StorePath, only: list[int] | None = None, info: SlideInfo = INFO) -> int:
    """What an extraction does, with a store that is there or not; gives the number of chunks computed."""
    with slide_lock(root, info.slide_id):
        target = store_path(root, info.slide_id)
        settle(target)
        try:
            store = FeatureStore(target)
            whole = not verify_folder(target)
        except CorruptStoreError:
            whole = False
        if not whole:
            store = publish_grid(root, info, TISSUE, GRID, RECIPE)
        if "toy" in store.encoders and not reopen_damaged(store, CARD.to_dict()):
            return 0
        writer = begin_features(store, CARD.to_dict(), chunk_tiles=CHUNK)
        todo = writer.todo()
        write(writer, only)
        if only is None:
            writer.publish()
        return len(todo)


def contents(folder: StorePath) -> dict[str, bytes]:
    """What is published."""
    return {name: (folder / name).read_bytes() for name in files_below(folder) if not is_hidden(name)}


def hidden(root: StorePath) -> list[str]:
    """What a run has left beside it, but for the note of what was compared."""
    return [name for name in files_below(root) if is_hidden(name) and not name.endswith("/.toy.checked.json")]


def flip(path: StorePath, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(bytes(data))


def damage_of(store: StorePath) -> list[Any]:
    """What `verify` finds, or what opening the store says."""
    try:
        return list(FeatureStore(store).verify())
    except CorruptStoreError as error:
        return [error]


def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty bucket held in memory. Nothing is remembered of another, whose ETags begin with the same numbers."""
    from obstore.store import MemoryStore

    held = MemoryStore()
    monkeypatch.setattr(object_store, "_bucket", lambda name: held)
    lease._young.clear()
    lease._checked_buckets.clear()
    far_chunks._checked.clear()


class Crash(BaseException):
    """The process dies here."""


def dying(monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    """Let only so many changes of the bucket through."""
    put, remove = object_store._put, object_store.remove

    def count(call: Callable, *given: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise Crash
        return call(*given)

    monkeypatch.setattr(object_store, "_put", lambda *given: count(put, *given))
    monkeypatch.setattr(object_store, "remove", lambda urls: [count(remove, [url]) for url in list(urls)])


def leases_of_the_dead_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For crashes that are played within one process: no lease is waited for or renewed, and none let go in a crash."""
    monkeypatch.setattr(lease, "LEASE_S", -1.0)
    monkeypatch.setattr(lease._Lease, "start", lambda self: None)
    monkeypatch.setattr(lease._Lease, "release", lambda self: self._place.unlink())
