"""What the index promises of stores on a disk it promises of stores in a bucket, and few requests besides."""

import json
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mil.testing import toy_card, write_store
from tests.store_places import flip, in_memory
from wsi import cohort_index, object_store
from wsi.cohort_index import open_cohort, read_cohort
from wsi.errors import CorruptStoreError, UnreachableStoreError, UsageError
from wsi.files import files_below, remove_tree
from wsi.index_file import INDEX, STAMPS, IndexRow, write_index
from wsi.store_url import StorePath, StoreUrl

pytest.importorskip("obstore")
pytest.importorskip("pyarrow")

FAR = StoreUrl("s3://stores/a b")
LONG_AGO_NS = 1_600_000_000_000_000_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stores on a disk, one with bad tiles."""
    root = tmp_path_factory.mktemp("stores")
    values = np.random.default_rng(0).random((40, 6), dtype=np.float32)
    for name, bad in (("a", ()), ("b", (3, 7)), ("c", ())):
        write_store(root, name, values, toy_card(dim=6), bad=bad)
    for part in [root, *root.rglob("*")]:
        os.utime(part, ns=(LONG_AGO_NS, LONG_AGO_NS))
    return root


@pytest.fixture
def root(made: Path, monkeypatch: pytest.MonkeyPatch) -> StoreUrl:
    """The same stores in a bucket."""
    in_memory(monkeypatch)
    for name in files_below(made):
        (FAR / name).write_bytes((made / name).read_bytes())
    return FAR


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> "Counter[str]":
    """Requests by kind. A listing counts once for each thousand of names, as a server gives them."""
    import obstore

    counted: Counter[str] = Counter()
    guard = threading.Lock()

    def watch(name: str, cost: Callable[[Any], int]) -> None:
        ask = getattr(obstore, name)

        def watched(*given: Any, **named: Any) -> Any:
            answer = ask(*given, **named)
            with guard:
                counted[name] += cost(answer)
            return answer

        monkeypatch.setattr(obstore, name, watched)

    for name in ("get", "head", "put", "delete"):
        watch(name, lambda _: 1)
    watch("list_with_delimiter", lambda found: 1 + (len(found["common_prefixes"]) + len(found["objects"])) // 1000)
    watch("list", lambda _: 1)
    return counted


def refresh(root: StorePath) -> int:
    """Bring the index up to date; how many stores had to be read."""
    found = read_cohort(root)
    write_index(root, found.rows, found.stamps)
    return found.opened


def test_the_index_of_a_bucket_is_that_of_a_disk(root: StoreUrl, made: Path, tmp_path: Path) -> None:
    assert refresh(root) == 3
    near = read_cohort(made)
    write_index(tmp_path, near.rows, near.stamps)
    assert (root / INDEX).read_bytes() == (tmp_path / INDEX).read_bytes()
    assert refresh(root) == 0
    assert list(open_cohort(root)) == ["a", "b", "c"]
    np.testing.assert_array_equal(open_cohort(root)["b"].coords, open_cohort(made)["b"].coords)


def publish_anew(store: StoreUrl) -> None:
    for name in files_below(store / "features/made-up"):
        (store / "features/second" / name).write_bytes((store / "features/made-up" / name).read_bytes())


@pytest.mark.parametrize(
    "change",
    [
        publish_anew,
        lambda store: remove_tree(store / "features/made-up"),
        lambda store: (store / "features/.new.partial/.journal/stage.json").write_bytes(b"{}"),
        lambda store: (store / "features/made-up/manifest.json").write_bytes(b"{"),
        lambda store: (store / "features/made-up/manifest.json").unlink(),
        lambda store: (store / "manifest.json").unlink(),
        remove_tree,
        lambda store: flip(store / "manifest.json", 200),
    ],
)
def test_whatever_changes_is_seen(root: StoreUrl, change: Callable[[StoreUrl], object]) -> None:
    refresh(root)
    change(root / "b.zarr")
    found = read_cohort(root)
    assert found.rows == read_cohort(root, rebuild=True).rows
    assert found.opened <= 1, "the others have not changed"


@pytest.mark.parametrize("name", [INDEX, STAMPS])
def test_an_index_of_which_one_object_is_of_another_run_is_none(root: StoreUrl, name: str) -> None:
    """As when the process dies between the two, or two runs write at once."""
    refresh(root)
    older = (root / name).read_bytes()
    publish_anew(root / "b.zarr")
    refresh(root)
    newer = {one: (root / one).read_bytes() for one in (INDEX, STAMPS)}
    (root / name).write_bytes(older)
    assert isinstance(open_cohort(root), dict), "all stores are opened"
    assert refresh(root) == 3
    assert {one: (root / one).read_bytes() for one in (INDEX, STAMPS)} == newer


def test_a_store_that_is_of_another_slide_than_the_index_says_is_refused(root: StoreUrl) -> None:
    refresh(root)
    for name in files_below(root / "c.zarr"):
        (root / "a.zarr" / name).write_bytes((root / "c.zarr" / name).read_bytes())
    stores = open_cohort(root)
    assert stores["b"].slide.slide_id == "b"
    with pytest.raises(CorruptStoreError, match="is of c, the index says a; run `histograde index --rebuild`"):
        stores["a"]
    refresh(root)
    with pytest.raises(UsageError, match="are both of c"):
        open_cohort(root)


def test_a_server_that_is_away_has_no_row(root: StoreUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    read = object_store.read

    def away(url: StoreUrl) -> bytes:
        if "/b.zarr/features/" in url.key:
            raise UnreachableStoreError("s3://stores: no sound answer from the server")
        return read(url)

    monkeypatch.setattr(object_store, "read", away)
    with pytest.raises(UnreachableStoreError):
        read_cohort(root)


def test_a_bucket_without_stores_is_wrong_usage(root: StoreUrl) -> None:
    with pytest.raises(UsageError, match="no feature store"):
        read_cohort(root / "nowhere")


def test_2000_stores_are_opened_with_a_handful_of_requests(
    root: StoreUrl, asked: "Counter[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is asked for itself when it is used. Without the index each is asked beforehand."""
    held = {name: (root / "a.zarr" / name).read_bytes() for name in files_below(root / "a.zarr")}
    names = [f"s{number:04d}" for number in range(2000)]
    for name in names:
        (root / f"{name}.zarr/zarr.json").write_bytes(held["zarr.json"])
        (root / f"{name}.zarr/manifest.json").write_bytes(held["manifest.json"])
    remove_tree(root / "a.zarr")
    rows = [IndexRow(f"{name}.zarr", name) for name in names] + [IndexRow(f"{x}.zarr", x) for x in "bc"]
    write_index(root, rows, {row.store: {".": [1, "x"]} for row in rows})
    asked.clear()
    stores = open_cohort(root)
    assert len(stores) == 2002
    assert dict(asked) == {"get": 2, "list_with_delimiter": 3}, "names a thousand at a time, the index, its stamps"
    asked.clear()
    assert stores["b"].encoders == ["made-up"]
    assert asked.total() <= 5, "one store is asked, and no other"
    asked.clear()
    assert len(open_cohort(root / "b.zarr")) == 1
    assert asked["get"] + asked["head"] == 4, "what each store costs without an index"


def test_an_index_is_brought_up_to_date_with_three_requests_a_store(root: StoreUrl, asked: "Counter[str]") -> None:
    refresh(root)
    asked.clear()
    assert refresh(root) == 0
    index = {"get": 4, "list_with_delimiter": 1}
    assert asked == Counter(index) + Counter({"list_with_delimiter": 3, "head": 6}), "two manifests a store"


def test_stores_are_looked_at_several_at_once(root: StoreUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three looks meet, which one after the other could not."""
    meeting = threading.Barrier(3, timeout=20)
    look = cohort_index.stamp_of
    monkeypatch.setattr(cohort_index, "FAR_BATCH", 1)
    monkeypatch.setattr(cohort_index, "stamp_of", lambda store: (meeting.wait(), look(store))[1])
    assert read_cohort(root).stores == 3


def test_stamps_name_no_clock(root: StoreUrl) -> None:
    refresh(root)
    kept = json.loads((root / STAMPS).read_bytes())["stores"]["b.zarr"]
    stamp = (root / "b.zarr/manifest.json").stamp()
    assert stamp is not None
    assert kept["."] == [stamp.size, stamp.etag]
    assert set(kept) == {".", "made-up"}
