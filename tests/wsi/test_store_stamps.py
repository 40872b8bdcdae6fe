"""Stamps of stores: what is asked of the disk, and when they may be believed."""

import os
from pathlib import Path

import pytest

from wsi.store_stamps import is_lasting, parts_of, stamp_of, store_names

LONG_AGO_NS = 1_600_000_000_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Manifests of 3 and of 5 bytes, long ago, and a stage."""
    store = tmp_path / "s.zarr"
    (store / "features/.b.partial").mkdir(parents=True)
    (store / "features/.notes").mkdir()
    (store / "features/a").mkdir()
    for folder, size in ((store, 3), (store / "features/a", 5)):
        (folder / "manifest.json").write_bytes(b"x" * size)
        os.utime(folder / "manifest.json", ns=(LONG_AGO_NS, LONG_AGO_NS))
    return store


def test_manifests_and_stages_are_in_a_stamp(store: Path) -> None:
    assert store_names(store.parent) == ["s.zarr"]
    assert parts_of(store) == [".b.partial", "a"]
    assert stamp_of(store) == {".": [3, LONG_AGO_NS], "a": [5, LONG_AGO_NS], ".b.partial": []}
    (store / "features/a/manifest.json").unlink()
    assert stamp_of(store) is None


def test_a_stamp_lasts_if_it_is_old_and_still_holds(store: Path) -> None:
    stamp = stamp_of(store)
    assert is_lasting(store, stamp)
    assert not is_lasting(store, None)
    (store / "features/a/manifest.json").write_bytes(b"younger")
    assert not is_lasting(store, stamp)
    assert not is_lasting(store, stamp_of(store)), "a second change might come within the clock's step"
