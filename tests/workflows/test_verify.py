"""`histograde verify`: what is damaged, missing, or only unfinished."""

import shutil
from pathlib import Path

import pytest

from tests.hostile.makers import flip
from workflows.cli import main
from workflows.verify import verify


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


def test_nothing_to_verify_is_wrong_usage(tmp_path: Path) -> None:
    assert code_of("verify", tmp_path) == 2
    assert code_of("verify", tmp_path / "absent.zarr") == 2
