"""What a feature store promises, on a disk, in a bucket of a server, and in a bucket held in memory."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mil.encoders.toy import CARD
from tests.s3_server import BUCKET, s3_server
from tests.store_places import (
    BAD,
    CHUNK,
    GOOD,
    GRID,
    INFO,
    RECIPE,
    TISSUE,
    VALUES,
    Crash,
    contents,
    damage_of,
    dying,
    flip,
    hidden,
    in_memory,
    leases_of_the_dead_end_at_once,
    run,
    write,
)
from wsi import far_chunks, lease, object_store
from wsi.errors import CorruptStoreError, RecipeMismatchError, StoreBusyError, UsageError
from wsi.files import files_below, remove_tree
from wsi.store import FeatureStore, open_stores, store_paths, unfinished
from wsi.store_url import StorePath, StoreUrl
from wsi.store_writer import begin_features, feature_folders, publish_grid, reopen_damaged, slide_lock

pytest.importorskip("obstore")
pytest.importorskip("moto.server")


@pytest.fixture(params=["disk", "memory", pytest.param("server", marks=pytest.mark.services)])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StorePath]:
    """A place for stores that is not there yet."""
    monkeypatch.setattr(lease, "LEASE_S", 2.0)
    far_chunks._checked.clear()
    if request.param == "disk":
        yield tmp_path / "a b"
    elif request.param == "memory":
        in_memory(monkeypatch)
        yield StoreUrl("s3://stores/a b")
    else:
        with s3_server(monkeypatch):
            yield StoreUrl(f"s3://{BUCKET}/a b", run="test")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of an undisturbed run on a disk."""
    root = tmp_path_factory.mktemp("whole")
    run(root)
    return contents(root / "s 1.zarr")


def test_the_same_bytes_and_nothing_beside_them(root: StorePath, expected: dict[str, bytes]) -> None:
    assert run(root) == 5
    assert contents(root / "s 1.zarr") == expected
    assert hidden(root) == []
    assert run(root) == 0
    assert contents(root / "s 1.zarr") == expected


def test_everything_is_read_back(root: StorePath) -> None:
    run(root)
    assert store_paths(root) == [root / "s 1.zarr"]
    assert list(open_stores(root)) == list(open_stores(root / "s 1.zarr")) == ["s 1"]
    store = FeatureStore(str(root / "s 1.zarr"))
    assert store.slide == INFO
    assert store.encoders == ["toy"]
    assert store.bad_tiles("toy") == list(BAD)
    assert store.verify() == []
    np.testing.assert_array_equal(store.coords, GRID.coords)
    np.testing.assert_array_equal(store.tissue.mask, TISSUE.mask)
    for _ in range(2):  # the second time rows are read by position
        np.testing.assert_array_equal(store.features("toy"), VALUES[GOOD])
        rows = np.array([33, 2, 2, 3, 60, 47, 69, 16, 17])
        np.testing.assert_array_equal(store.features("toy", rows), VALUES[rows])
        assert np.isnan(store.features("toy", np.array([5, 40]))).all()
    assert store.features("toy", np.array([], np.int64)).shape == (0, CARD.dim)


def test_unfinished_work_is_not_seen(root: StorePath) -> None:
    run(root, only=[0, 2])
    store = FeatureStore(root / "s 1.zarr")
    assert store.encoders == []
    assert unfinished(store.path / "features") == [".toy.partial"]
    with pytest.raises(CorruptStoreError, match="no complete features by 'toy'"):
        store.features("toy")
    assert store.verify() == []
    with pytest.raises(UsageError, match="no feature store"):
        open_stores(root / "nowhere")


def test_work_goes_on_where_it_stopped(root: StorePath, expected: dict[str, bytes]) -> None:
    run(root, only=[0, 2, 3])
    writer = begin_features(FeatureStore(root / "s 1.zarr"), CARD.to_dict(), chunk_tiles=8)
    flip(writer.stage / "values/c/2/0", 100)
    flip(writer.journal / "000003.json", 50)
    assert run(root) == 4, "chunks 1 and 4 are missing, 2 and the record of 3 are damaged"
    assert contents(root / "s 1.zarr") == expected


def test_every_damaged_file_is_found_and_repaired_to_the_same_bytes(
    root: StorePath, expected: dict[str, bytes]
) -> None:
    run(root)
    target = root / "s 1.zarr"
    for name in expected:
        if name == "features/zarr.json":
            continue
        for kind in ("flip", "delete"):
            if kind == "flip":
                flip(target / name, len(expected[name]) // 2)
            else:
                (target / name).unlink()
            assert damage_of(target), (name, kind)
            with suppress(CorruptStoreError):
                store = FeatureStore(target)
                np.testing.assert_array_equal(store.features("toy"), VALUES[GOOD])
                np.testing.assert_array_equal(store.coords, GRID.coords)
            done = run(root)
            assert contents(target) == expected, (name, kind)
            if name.startswith("features/toy/values/c/"):
                assert done == 1, "a damaged chunk costs that chunk"
            elif not name.startswith("features"):
                assert done == 0, "a damaged grid costs no features"


def test_a_second_run_reads_only_what_has_changed(root: StorePath, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(root, Path):
        pytest.skip("a disk is read as a whole")
    run(root)
    asked: list[str] = []
    read = object_store.read
    monkeypatch.setattr(object_store, "read", lambda url: asked.append(url.key) or read(url))
    assert run(root) == 0
    assert not [key for key in asked if "/values/c/" in key]
    chunk = root / "s 1.zarr/features/toy/values/c/3/0"
    flip(chunk, 9)
    asked.clear()
    assert run(root) == 1
    assert {key for key in asked if "/values/c/" in key} == {chunk.key}


def test_another_slide_or_encoder_is_refused_and_removes_nothing(root: StorePath, expected: dict[str, bytes]) -> None:
    run(root)
    other = replace(INFO, content_hash="cd" * 32)
    with slide_lock(root, "s 1"), pytest.raises(RecipeMismatchError, match="belong to another slide or recipe"):
        publish_grid(root, other, TISSUE, GRID, RECIPE)
    with pytest.raises(RecipeMismatchError, match="made with dim = "):
        reopen_damaged(FeatureStore(root / "s 1.zarr"), {**CARD.to_dict(), "dim": 7})
    assert contents(root / "s 1.zarr") == expected


def test_a_grid_without_features_gives_way(root: StorePath) -> None:
    with slide_lock(root, "s 1"):
        publish_grid(root, replace(INFO, content_hash="cd" * 32), TISSUE, GRID, RECIPE)
        publish_grid(root, INFO, TISSUE, GRID, RECIPE)
    assert FeatureStore(root / "s 1.zarr").slide == INFO
    assert FeatureStore(root / "s 1.zarr").verify() == []


def test_what_was_begun_can_be_discarded(root: StorePath) -> None:
    run(root, only=[0, 1])
    with slide_lock(root, "s 1"):
        store = FeatureStore(root / "s 1.zarr")
        begin_features(store, CARD.to_dict()).discard()
        assert feature_folders(store.path) == []
        publish_grid(root, replace(INFO, content_hash="cd" * 32), TISSUE, GRID, RECIPE)


def test_what_others_put_there_is_left_and_reported(root: StorePath) -> None:
    run(root)
    (root / "s 1.zarr/features/toy/Thumbs.db").write_bytes(b"x")
    assert [one.where for one in FeatureStore(root / "s 1.zarr").verify()] == ["features/toy/Thumbs.db"]
    assert run(root) == 0
    assert (root / "s 1.zarr/features/toy/Thumbs.db").is_file()
    remove_tree(root)
    if isinstance(root, Path):
        (root / "s 1.zarr").mkdir(parents=True)
    (root / "s 1.zarr/notes.txt").write_bytes(b"x")
    with slide_lock(root, "s 1"), pytest.raises(RecipeMismatchError, match="not a feature store"):
        publish_grid(root, INFO, TISSUE, GRID, RECIPE)


def test_one_at_a_time(root: StorePath) -> None:
    with slide_lock(root, "s 1"):
        with pytest.raises(StoreBusyError, match="s 1: another run"), slide_lock(root, "s 1"):
            pass
        with slide_lock(root, "another"):
            pass
    with slide_lock(root, "s 1"):
        pass
    assert not files_below(root)


def test_a_run_that_lost_its_lease_changes_nothing_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tasks still run on workers, which hold no lease themselves."""
    in_memory(monkeypatch)
    lost, other = (StoreUrl("s3://stores/a b", run=name) for name in ("lost", "other"))
    monkeypatch.setattr(lease._Lease, "_beat", lambda self: None)  # cut off, or stopped for a while
    with slide_lock(lost, "s 1"):
        store = publish_grid(lost, INFO, TISSUE, GRID, RECIPE)
        writer = begin_features(store, CARD.to_dict(), chunk_tiles=CHUNK)
        write(writer, [0])
        monkeypatch.setattr(lease, "LEASE_S", -1.0)
        with slide_lock(other, "s 1"):
            before = dict.fromkeys(files_below(other), b"hidden") | contents(other)
            for change in (
                lambda: write(writer, [1]),
                lambda: begin_features(store, {**CARD.to_dict(), "name": "another"}),
                lambda: publish_grid(lost, INFO, TISSUE, GRID, RECIPE),
                lambda: reopen_damaged(store, CARD.to_dict()),
                writer.discard,
                writer.publish,
            ):
                with pytest.raises(StoreBusyError, match="another run has taken this store over"):
                    change()
            assert dict.fromkeys(files_below(other), b"hidden") | contents(other) == before
            write(begin_features(FeatureStore(other / "s 1.zarr"), CARD.to_dict(), chunk_tiles=CHUNK))
            with pytest.raises(StoreBusyError):
                writer.publish()
    assert run(other) == 0


@pytest.mark.parametrize("damaged", ["", "features/toy/values/c/2/0", "features/toy/bad/c/0", "coords/c/0/0"])
def test_a_crash_at_any_change_of_a_bucket_loses_and_shows_nothing_wrong(
    monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes], damaged: str
) -> None:
    """Die before the n-th change, for every n; look as a reader does; run again."""
    leases_of_the_dead_end_at_once(monkeypatch)
    root = StoreUrl("s3://stores/a b")
    target = root / "s 1.zarr"
    for changes in range(1000):
        in_memory(monkeypatch)
        if damaged:
            run(root)
            flip(target / damaged, 20)
        died = False
        with monkeypatch.context() as patch:
            dying(patch, changes)
            try:
                run(root)
            except Crash:
                died = True
        if died and not damaged:
            for store in map(FeatureStore, store_paths(root)):  # all or nothing
                np.testing.assert_array_equal(store.coords, GRID.coords)
                if "toy" in store.encoders:
                    np.testing.assert_array_equal(store.features("toy"), VALUES[GOOD])
                assert store.verify() == []
        elif died:
            with suppress(CorruptStoreError):  # or the damage, by its name
                for store in map(FeatureStore, store_paths(root)):
                    np.testing.assert_array_equal(store.coords, GRID.coords)
                    if "toy" in store.encoders:
                        np.testing.assert_array_equal(store.features("toy"), VALUES[GOOD])
        done = run(root)
        assert contents(target) == expected, changes
        assert hidden(root) == [], changes
        if damaged.startswith("coords"):
            assert done == 0
        if damaged.startswith("features/toy/values"):
            assert done <= 1
        if not died:
            assert changes > 8
            return
    raise AssertionError("it never ended")
