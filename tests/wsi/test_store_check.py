"""What is said of a store: everything that is wrong, and nothing is raised."""

import shutil
from pathlib import Path

import pytest

from tests.hostile.makers import flip
from wsi import store_check as module
from wsi.errors import UsageError
from wsi.store_check import (
    FAR_STORES,
    Finding,
    check_store,
    store_paths,
    stores_at_once,
    stores_folder,
    unfinished_beside,
)
from wsi.store_url import StoreUrl
from wsi.threads import usable_cores


@pytest.fixture
def store(small_store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_store, tmp_path / "a.zarr"))


def test_a_sound_store(store: Path) -> None:
    found = check_store(store)
    assert (found.findings, found.complete, found.damaged) == ((), 1, False)


def test_damage_and_unfinished_work_are_told_apart(store: Path) -> None:
    flip(store / "features" / "toy" / "values" / "c" / "2" / "0", 50)
    (store / "features" / ".other.partial").mkdir()
    found = check_store(store)
    assert found.findings == (
        Finding("a.zarr", "damaged", "features/toy/values/c/2/0", "differs from its checksum"),
        Finding("a.zarr", "unfinished", ".other.partial", "is unfinished"),
    )
    assert found.damaged
    assert found.findings[0].line() == "a.zarr: features/toy/values/c/2/0 differs from its checksum"


def test_a_store_without_features_is_no_damage(store: Path) -> None:
    shutil.rmtree(store / "features")
    found = check_store(store)
    assert [(one.kind, one.line()) for one in found.findings] == [("empty", "a.zarr: has no complete features")]
    assert not found.damaged


def test_what_cannot_be_read_is_said(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (store / "zarr.json").write_text("{")
    assert "a.zarr: not a histograde store" in check_store(store).findings[0].line()
    for error, said in ((PermissionError(13, "Permission denied"), "Permission denied"), (KeyError("x"), "KeyError")):

        def fail(path: Path, error: Exception = error) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(module, "FeatureStore", fail)
            found = check_store(store)
        assert found.damaged
        assert said in found.findings[0].line()


def test_the_stores_of_a_folder(store: Path, tmp_path: Path) -> None:
    for name in (".b.zarr.partial", ".a.zarr.old", ".c.zarr", "notes"):
        (tmp_path / name).mkdir()
    assert store_paths(tmp_path) == store_paths(store) == [store]
    assert [one.line() for one in unfinished_beside(tmp_path)] == [
        ".b.zarr.partial: is unfinished",
        ".a.zarr.old: is unfinished",
    ]
    for nothing in (tmp_path / "notes", tmp_path / "absent", tmp_path / "absent.zarr"):
        with pytest.raises(UsageError):
            store_paths(nothing)


def test_more_stores_of_a_bucket_than_cores_are_looked_at_at_once(tmp_path: Path) -> None:
    far = StoreUrl("s3://stores/x")
    assert (stores_at_once(far, 2), stores_at_once(tmp_path, 2)) == (2, 2)
    assert stores_at_once(far, 0) == max(FAR_STORES, usable_cores())
    assert stores_at_once(tmp_path, 0) == 0, "one a core, as `in_order` has it"


def test_the_stores_of_a_run_lie_inside_it(tmp_path: Path) -> None:
    assert stores_folder(tmp_path) == tmp_path
    (tmp_path / "features/a.zarr").mkdir(parents=True)
    assert stores_folder(tmp_path) == tmp_path / "features"
    assert stores_folder(StoreUrl("s3://stores/x")) == StoreUrl("s3://stores/x")
