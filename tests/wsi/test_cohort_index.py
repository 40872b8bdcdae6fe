"""The index over stores: equal to them whatever happens to it, and reading only what changed."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from mil.testing import toy_card, write_store
from tests.hostile.makers import flip
from wsi import cohort_index as module
from wsi.cohort_index import describe, open_cohort, read_cohort
from wsi.errors import CorruptStoreError, UsageError
from wsi.index_file import INDEX, STAMPS, write_index
from wsi.store import FeatureStore
from wsi.tiles import TileSpec

TILES = 600
LONG_AGO_NS = 1_600_000_000_000_000_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stores: a plain one, one with bad tiles and a stride of its own, one with an unfinished encoder too."""
    root = tmp_path_factory.mktemp("stores")
    values = np.random.default_rng(0).random((TILES, 6), dtype=np.float32)
    write_store(root, "a", values, toy_card(dim=6))
    write_store(root, "b", values[:20], toy_card(dim=6), TileSpec(stride_px=112), bad=(3, 7))
    write_store(root, "c", values[:20], toy_card(dim=6))
    (root / "c.zarr" / "features" / ".other.partial").mkdir()
    for part in [root, *root.rglob("*")]:
        os.utime(part, ns=(LONG_AGO_NS, LONG_AGO_NS))
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy that may be changed; its time stamps are old."""
    return Path(shutil.copytree(made, tmp_path / "stores"))


def refresh(root: Path) -> int:
    """Bring the index up to date; how many stores had to be read."""
    found = read_cohort(root)
    write_index(root, found.rows, found.stamps)
    return found.opened


def fresh(root: Path) -> tuple[object, ...]:
    """The rows as the stores alone give them."""
    return read_cohort(root, rebuild=True).rows


def test_rows_say_what_the_stores_hold(root: Path) -> None:
    rows = read_cohort(root).rows
    assert [(row.store, row.encoder, row.complete) for row in rows] == [
        ("a.zarr", "made-up", True),
        ("b.zarr", "made-up", True),
        ("c.zarr", "made-up", True),
        ("c.zarr", "other", False),
    ]
    store = FeatureStore(root / "b.zarr")
    row = rows[1]
    assert (row.slide_id, row.content_hash, row.tiles, row.bad_tiles) == ("b", "b", 20, 2)
    assert (row.mpp_x, row.mpp_y, row.reader, row.vendor) == (0.25, 0.25, "none", "none")
    assert (row.tile_px, row.mpp, row.stride_px, row.min_tissue, row.kernel) == (224, 0.5, 112, 0.5, "area")
    assert (row.dim, row.dtype, row.weights_sha256) == (6, "float16", store.card("made-up")["weights_sha256"])
    assert row.grid_sha256 == store.grid_sha256
    assert row.problem is None
    assert row.feature_bytes == 20 * 6 * 2 + 4, "rows of float16 and a checksum"
    assert rows[0].feature_bytes == 2 * (512 * 6 * 2 + 4), "two whole chunks of 512 tiles"
    assert rows[3].dim is None


def test_a_store_that_has_not_changed_is_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refresh(root) == 3
    before = (root / INDEX).read_bytes()
    assert refresh(root) == 0
    with monkeypatch.context() as patch:
        patch.setattr(module, "FeatureStore", None)
        found = read_cohort(root)
    assert found.opened == 0
    assert found.rows == fresh(root)
    assert (root / INDEX).read_bytes() == before


def test_bytes_depend_on_the_stores_alone(root: Path, tmp_path: Path) -> None:
    refresh(root)
    other = tmp_path / "elsewhere"
    other.mkdir()
    for name in ("c.zarr", "a.zarr", "b.zarr"):
        shutil.copytree(root / name, other / name, copy_function=shutil.copyfile)
    refresh(other)
    assert (other / INDEX).read_bytes() == (root / INDEX).read_bytes()
    assert str(tmp_path) not in (root / STAMPS).read_text()


def publish_anew(store: Path) -> None:
    folder = store / "features" / "made-up"
    shutil.copytree(folder, store / "features" / "second")


@pytest.mark.parametrize(
    "change",
    [
        publish_anew,
        lambda store: shutil.rmtree(store / "features" / "made-up"),
        lambda store: (store / "features" / "made-up").rename(store / "features" / ".made-up.partial"),
        lambda store: (store / "features" / ".new.partial").mkdir(),
        lambda store: (store / "features" / "made-up" / "manifest.json").write_text("{"),
        lambda store: (store / "features" / "made-up" / "manifest.json").unlink(),
        lambda store: (store / "manifest.json").unlink(),
        lambda store: shutil.rmtree(store),
        lambda store: shutil.copytree(store, store.with_name("d.zarr")),
        lambda store: store.rename(store.with_name("z.zarr")),
    ],
)
def test_whatever_changes_is_seen(root: Path, change: object) -> None:
    refresh(root)
    change(root / "b.zarr")  # type: ignore[operator]
    found = read_cohort(root)
    assert found.rows == fresh(root)
    assert found.opened <= 1, "the others have not changed"


def test_a_manifest_replaced_by_one_of_its_size_is_seen_by_its_time(root: Path) -> None:
    refresh(root)
    manifest = root / "a.zarr" / "features" / "made-up" / "manifest.json"
    data = manifest.read_bytes()
    manifest.write_bytes(data.replace(b'"bytes": 6148', b'"bytes": 6149'))
    assert len(manifest.read_bytes()) == len(data)
    assert read_cohort(root).opened == 1
    assert read_cohort(root).rows[0].feature_bytes == 2 * 6149


def test_a_store_that_changed_just_now_is_not_believed_next_time(root: Path) -> None:
    (root / "a.zarr" / "manifest.json").touch()
    assert refresh(root) == 3
    assert sorted(json.loads((root / STAMPS).read_bytes())["stores"]) == ["b.zarr", "c.zarr"]
    assert read_cohort(root).opened == 1


@pytest.mark.parametrize("name", [INDEX, STAMPS])
@pytest.mark.parametrize("how", ["lost", "torn", "flipped", "other"])
def test_a_lost_stale_or_damaged_index_is_rebuilt_to_the_same_bytes(root: Path, name: str, how: str) -> None:
    refresh(root)
    before = (root / INDEX).read_bytes()
    file = root / name
    data = file.read_bytes()
    if how == "lost":
        file.unlink()
    elif how == "flipped":
        file.write_bytes(data[:90] + bytes([data[90] ^ 4]) + data[91:])
    else:
        file.write_bytes(data[:100] if how == "torn" else b"[]")
    assert refresh(root) >= 1
    assert (root / INDEX).read_bytes() == before
    assert refresh(root) == 0


def test_a_store_that_cannot_be_read_has_a_row_that_says_why(root: Path) -> None:
    (root / "a.zarr" / "zarr.json").write_text("{")
    flip(root / "b.zarr" / "features" / "made-up" / "zarr.json", 200)
    (root / "not.zarr").write_text("a file")
    rows = read_cohort(root).rows
    assert [(row.store, row.complete) for row in rows if row.problem] == [
        ("a.zarr", False),
        ("b.zarr", False),
        ("not.zarr", False),
    ]
    assert "zarr.json is damaged" in str(rows[0].problem)
    assert "features/made-up/zarr.json differs" in str(rows[1].problem)
    assert refresh(root) == 4
    assert refresh(root) == 3, "what could not be read is looked at again"


@pytest.mark.parametrize("slide", [None, 7, {"slide_id": 7}, {"slide_id": "a", "mpp": "x"}, {"slide_id": "\ud800"}])
def test_a_store_described_in_another_way_is_no_crash(root: Path, slide: object) -> None:
    file = root / "a.zarr" / "zarr.json"
    meta = json.loads(file.read_bytes())
    meta["attributes"]["histograde"]["slide"] = slide
    file.write_text(json.dumps(meta))
    manifest = json.loads((file.parent / "manifest.json").read_bytes())
    from wsi.files import file_record

    manifest["files"]["zarr.json"] = file_record(file)
    (file.parent / "manifest.json").write_text(json.dumps(manifest))
    (row,) = describe(file.parent)
    assert "another way than FORMAT.md says" in str(row.problem)
    refresh(root)


def test_stores_are_opened_when_they_are_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_cohort(root), dict), "there is no index yet"
    refresh(root)
    opened = []
    real = FeatureStore

    def watched(path: Path) -> FeatureStore:
        opened.append(path.name)
        return real(path)

    monkeypatch.setattr(module, "FeatureStore", watched)
    stores = open_cohort(root)
    assert list(stores) == ["a", "b", "c"]
    assert len(stores) == 3
    assert "b" in stores
    assert "d" not in stores
    assert opened == []
    assert stores["b"].encoders == ["made-up"]
    assert stores["b"] is stores["b"]
    assert opened == ["b.zarr"]
    with pytest.raises(KeyError):
        stores["d"]


def test_a_damaged_store_is_refused_when_it_is_asked_for(root: Path) -> None:
    refresh(root)
    flip(root / "b.zarr" / "zarr.json", 300)
    stores = open_cohort(root)
    assert stores["a"].slide.slide_id == "a"
    with pytest.raises(CorruptStoreError):
        stores["b"]


def test_an_index_that_lies_about_a_slide_is_caught(root: Path) -> None:
    found = read_cohort(root)
    from dataclasses import replace

    write_index(root, [replace(row, slide_id=f"{row.slide_id}x") for row in found.rows], found.stamps)
    with pytest.raises(CorruptStoreError, match="is of a, the index says ax; run `histograde index --rebuild`"):
        open_cohort(root)["ax"]


def test_two_stores_of_one_slide_are_refused_with_an_index_as_without(root: Path) -> None:
    shutil.copytree(root / "a.zarr", root / "copy.zarr")
    for _ in range(2):
        with pytest.raises(UsageError, match="are both of a"):
            open_cohort(root)
        refresh(root)


def test_without_pyarrow_stores_are_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refresh(root)
    expected = fresh(root)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert read_cohort(root).rows == expected
    assert isinstance(open_cohort(root), dict)


def test_no_store_is_wrong_usage(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="no feature store"):
            read_cohort(root)
        with pytest.raises(UsageError, match="no feature store"):
            open_cohort(root)
