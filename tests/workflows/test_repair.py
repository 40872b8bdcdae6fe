"""`histograde repair`: an archive with all kinds of trouble, in one go."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.makers import flip
from workflows.cli import main
from workflows.repair import repair
from wsi.cohort_index import read_cohort
from wsi.index_file import INDEX, write_index
from wsi.store_check import check_store


@pytest.fixture
def root(small_store: Path, tmp_path: Path) -> Path:
    """A sound store."""
    shutil.copytree(small_store, tmp_path / "stores" / small_store.name)
    return tmp_path / "stores"


def code_of(*arguments: object) -> object:
    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    return end.value.code


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_sound_archive(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(root)
    assert (
        code_of("repair", root) == code_of("repair", root / "small.zarr") == code_of("repair", root, "--dry-run") == 0
    )
    assert "1 stores: 0 put right, 0 with something left to do" in capsys.readouterr().out
    assert contents(root) == before


def test_each_store_has_a_line_and_the_code_says_what_is_left(
    root: Path, capsys: pytest.CaptureFixture[str], small_svs: Path, extracted: Callable[..., Path]
) -> None:
    expected = contents(root)
    store = root / "small.zarr"
    chunk = store / "features" / "toy" / "values" / "c" / "1" / "0"
    flip(chunk, 20)
    (store / "coords" / "c" / "0" / "0").unlink()
    (root / ".gone.zarr.partial").mkdir()
    (root / "mine.txt").write_text("mine")
    broken = contents(root)
    assert code_of("repair", root, "--dry-run") == 3
    assert "dry run, nothing was written: 2 stores" in capsys.readouterr().out
    assert contents(root) == broken
    assert code_of("repair", root) == 3
    assert capsys.readouterr().out.splitlines() == [
        "gone.zarr: removed an unfinished grid",
        "small.zarr: made coords/c/0/0 again; took 1 damaged chunk out of toy; left: 1 chunk of toy for extract",
        "2 stores: 2 put right, 1 with something left to do",
    ]
    extracted(small_svs, root)
    assert code_of("repair", root) == 0
    after = contents(root)
    expected.pop("small.zarr/.source.json")
    after.pop("small.zarr/.source.json")
    assert after == expected | {"mine.txt": b"mine"}
    assert not check_store(store).findings


def test_json_says_the_same(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "small.zarr" / ".manifest.json.12.tmp").touch()
    assert code_of("repair", root, "--json", "--workers", 2) == 0
    assert json.loads(capsys.readouterr().out) == {
        "looked_at": 1,
        "stores": [{"name": "small.zarr", "done": ["removed 1 temporary file"], "left": [], "kept": []}],
        "beside": [],
        "dry_run": False,
    }


def test_old_temporary_files_beside_the_stores_go(root: Path) -> None:
    for name in (".run.json.12.tmp", "..index-stamps.json.12.tmp", ".index.parquet.9.tmp", ".mine.12.tmp", "run.json"):
        (root / name).touch()
        os.utime(root / name, (1.6e9, 1.6e9))
    (root / ".index.parquet.10.tmp").touch()
    assert code_of("repair", root, "--dry-run") == 3
    before = sorted(contents(root))
    found = [f"{name}: removed" for name in ("..index-stamps.json.12.tmp", ".index.parquet.9.tmp", ".run.json.12.tmp")]
    assert repair(root, dry_run=True).beside == found
    assert sorted(contents(root)) == before
    assert repair(root).beside == found
    left = {name for name in contents(root) if "/" not in name}
    assert left == {".mine.12.tmp", "run.json", ".index.parquet.10.tmp"}


def test_files_of_others_alone_are_nothing_to_do(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "small.zarr" / "Thumbs.db").touch()
    assert code_of("repair", root) == code_of("repair", root, "--dry-run") == 0
    assert "small.zarr: kept: Thumbs.db" in capsys.readouterr().out


def test_an_index_is_brought_up_to_date_where_there_is_one(root: Path) -> None:
    repair(root)
    assert not (root / INDEX).exists()
    found = read_cohort(root)
    write_index(root, found.rows, found.stamps)
    before = (root / INDEX).read_bytes()
    (root / INDEX).write_bytes(b"damaged")
    assert repair(root, dry_run=True).beside == []
    assert (root / INDEX).read_bytes() == b"damaged"
    assert repair(root).beside == ["index.parquet brought up to date"]
    assert (root / INDEX).read_bytes() == before
    assert repair(root).beside == []


def test_a_run_has_its_stores_inside(root: Path) -> None:
    run = root.parent / "run"
    shutil.copytree(root, run / "features")
    (run / "features" / "small.zarr" / "coords" / "zarr.json").unlink()
    assert [one.done for one in repair(run).stores] == [["made coords/zarr.json again"]]


def test_nothing_to_repair_is_wrong_usage(tmp_path: Path) -> None:
    assert code_of("repair", tmp_path) == 2
    assert code_of("repair", tmp_path / "absent") == 2
    assert code_of("repair", tmp_path / "absent" / "a.zarr") == 2
    (tmp_path / "b.zarr").mkdir()
    assert code_of("repair", tmp_path / "a.zarr") == 2
