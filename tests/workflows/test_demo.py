"""The demo, small; and the folders that it does not touch."""

import csv
import json
from pathlib import Path

import pytest

from workflows.cli import main
from workflows.demo import NEW_SLIDES


def demo(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["demo", *map(str, arguments)])
    return int(stopped.value.code or 0)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").touch()
    assert demo("--out", tmp_path) == 2
    assert "is not empty and holds no demo" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_demo_of_other_options_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "demo.json").write_text(json.dumps({"seed": 1, "slides": 12, "encoder": "toy"}))
    assert demo("--out", tmp_path, "--slides", 12, "--encoder", "toy") == 2
    assert "other options" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["demo.json"]


@pytest.mark.slow
def test_the_whole_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    options = ("--out", out, "--slides", 12, "--encoder", "toy", "--no-control")
    assert demo(*options) == 0
    said = capsys.readouterr().out
    for part in ("QWK", "AUROC", "attention", "evidence", "damaged-copy", "report/index.html"):
        assert part in said, part
    with (out / "graded" / "predictions.csv").open(newline="") as handle:
        predictions = handle.read()
    assert len(list(csv.DictReader(predictions.splitlines()))) == NEW_SLIDES
    (row,) = csv.DictReader((out / "graded" / "quarantine.csv").read_text().splitlines())
    assert row["slide_id"] == "damaged-copy"
    assert len(list((out / "features").glob("*.zarr"))) == 12
    assert {"metrics.json", "confusion.png", "roc.png", "reliability.png"} <= {
        path.name for path in (out / "evaluation").iterdir()
    }
    assert (out / "graded" / "report" / "index.html").is_file()
    assert demo(*options) == 0
    assert (out / "graded" / "predictions.csv").read_text() == predictions
    assert json.loads((out / "graded" / "run.json").read_bytes())["counts"]["chunks_computed"] == 0
