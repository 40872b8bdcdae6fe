"""`histograde verify`: what is damaged, missing, or only unfinished."""

import json
import shutil
from pathlib import Path

import pytest

from tests.hostile.makers import flip
from workflows.cli import main
from workflows.heatmaps import render_run
from workflows.verify import check, verify


@pytest.fixture
def root(small_store: Path, tmp_path: Path) -> Path:
    shutil.copytree(small_store, tmp_path / small_store.name)
    return tmp_path


def code_of(*arguments: object) -> object:
    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    return end.value.code


def test_a_sound_store(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("verify", root) == code_of("verify", root / "small.zarr") == 0
    assert "1 stores, 1 complete sets of features: all chunks agree" in capsys.readouterr().out


def test_damage_is_named_and_ends_in_code_1(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(root / "small.zarr" / "features" / "toy" / "values" / "c" / "2" / "0", 50)
    (root / "small.zarr" / "features" / "toy" / "values" / "c" / "3" / "0").unlink()
    flip(root / "small.zarr" / "coords" / "c" / "0" / "0", 5)
    assert code_of("verify", root) == 1
    said = capsys.readouterr().out
    assert "small.zarr: features/toy/values/c/2/0 differs from its checksum" in said
    assert "small.zarr: features/toy/values/c/3/0 is missing" in said
    assert "small.zarr: coords/c/0/0 differs from its checksum" in said
    assert said.splitlines()[-1].endswith("1 damaged")


def test_a_store_that_cannot_be_opened_does_not_hide_the_others(root: Path) -> None:
    shutil.copytree(root / "small.zarr", root / "a.zarr")
    (root / "a.zarr" / "zarr.json").write_text("{")
    (root / "b.zarr").mkdir()
    report, damaged = verify(root)
    assert damaged == 2
    assert [line.split(":")[0] for line in report] == ["a.zarr", "b.zarr", "3 stores, 1 complete sets of features"]


def test_unfinished_work_is_no_damage(root: Path) -> None:
    toy = root / "small.zarr" / "features" / "toy"
    toy.rename(toy.with_name(".toy.partial"))
    (root / ".other.zarr.partial").mkdir()
    (root / ".third.zarr.old").mkdir()
    report, damaged = verify(root)
    assert damaged == 0
    assert report[:-1] == [
        "small.zarr: has no complete features",
        "small.zarr: .toy.partial is unfinished",
        ".other.zarr.partial is unfinished",
        ".third.zarr.old is unfinished",
    ]


def test_json_for_programs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("verify", root, "--json", "--workers", 2) == 0
    sound = {"stores": 1, "features": 1, "slides": 0, "damaged": 0, "findings": []}
    assert json.loads(capsys.readouterr().out) == sound
    flip(root / "small.zarr" / "coords" / "c" / "0" / "0", 5)
    (root / ".other.zarr.partial").mkdir()
    assert code_of("verify", root, "--json") == 1
    assert json.loads(capsys.readouterr().out) == sound | {
        "damaged": 1,
        "findings": [
            {"store": "small.zarr", "kind": "damaged", "where": "coords/c/0/0", "what": "differs from its checksum"},
            {"store": ".other.zarr.partial", "kind": "unfinished", "where": "", "what": "is unfinished"},
        ],
    }


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_number_of_workers_says_the_same(root: Path, workers: int) -> None:
    for name in "abcde":
        shutil.copytree(root / "small.zarr", root / f"{name}.zarr")
        (root / f"{name}.zarr" / "features" / "toy" / "values" / "c" / "1" / "0").unlink()
    found = check(root, workers)
    assert (found.stores, found.features, found.damaged) == (6, 6, 5)
    assert [one.store for one in found.findings] == [f"{name}.zarr" for name in "abcde"]


def test_a_run_is_checked_with_its_slides_and_its_stores(
    root: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "run.json").write_text('{"outputs": {}}')
    render_run(run)
    assert code_of("verify", run) == 0
    assert capsys.readouterr().out == "2 graded slides, 0 stores, 0 complete sets of features: nothing is damaged\n"
    root.joinpath("small.zarr").rename(run / "small.zarr")
    (run / "features").mkdir()
    (run / "small.zarr").rename(run / "features" / "small.zarr")
    flip(run / "features" / "small.zarr" / "features" / "toy" / "values" / "c" / "2" / "0", 50)
    (run / "slides" / "mild" / "scores.npz").unlink()
    assert code_of("verify", run) == 1
    said = capsys.readouterr().out.splitlines()
    assert "mild/scores.npz is missing" in said[0]
    assert "small.zarr: features/toy/values/c/2/0 differs" in said[1]
    assert said[2] == "2 graded slides, 1 stores, 1 complete sets of features: 2 damaged"


def test_nothing_to_verify_is_wrong_usage(tmp_path: Path) -> None:
    assert code_of("verify", tmp_path) == 2
    assert code_of("verify", tmp_path / "absent.zarr") == 2
