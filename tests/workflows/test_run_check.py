"""The folder of a run: what is missing, damaged, or says other than the tables."""

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from workflows.gradings import load_predictions
from workflows.heatmaps import render_run
from workflows.run_check import check_slides, check_tables, graded_slides, is_run, stores_of_run
from workflows.worklist import rank_slides, save_worklist

TABLES = ("predictions.csv", "worklist.csv", "quarantine.csv")


@pytest.fixture
def finished(run: Path) -> Path:
    """A run as `grade` leaves it."""
    save_worklist(run, rank_slides(load_predictions(run)))
    render_run(run)
    outputs = {name: sha256((run / name).read_bytes()).hexdigest() for name in TABLES}
    (run / "run.json").write_text(json.dumps({"command": "grade", "outputs": outputs}))
    return run


def found_in(run: Path) -> list[str]:
    slides, wrong = graded_slides(run)
    each = [one for found in check_slides(run, slides, 1) for one in found]
    return [f"{one.kind} {one.line()}" for one in [*check_tables(run), *wrong, *each]]


def test_a_whole_run(finished: Path) -> None:
    assert is_run(finished)
    assert found_in(finished) == []
    assert list(graded_slides(finished)[0]) == ["mild", "severe"]


def test_folders_that_are_no_run(tmp_path: Path, small_store: Path) -> None:
    assert not is_run(tmp_path)
    assert not is_run(small_store.parent)


def test_stores_inside_of_a_run(finished: Path, small_store: Path) -> None:
    assert stores_of_run(finished) is None
    shutil.copytree(small_store, finished / "features" / "small.zarr")
    assert stores_of_run(finished) == finished / "features"


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_was_changed_or_lost(finished: Path, name: str) -> None:
    (finished / name).write_bytes((finished / name).read_bytes() + b"\n")
    assert f"damaged run: {name} differs from its hash in run.json" in found_in(finished)[0]
    (finished / name).unlink()
    assert f"damaged run: {name} is missing" in found_in(finished)[0]


def test_a_run_that_has_not_ended_is_no_damage(finished: Path) -> None:
    for name in ("run.json", *TABLES):
        (finished / name).unlink()
    (finished / "slides" / "begun").mkdir()
    said = found_in(finished)
    assert [line.split(";")[0] for line in said] == [
        "unfinished run: run.json is not there yet",
        "unfinished slides/begun: has no slide.json yet",
    ]


@pytest.mark.parametrize("record", ["", "{", "[]", '{"outputs": 7}'])
def test_a_record_that_cannot_be_read(finished: Path, record: str) -> None:
    (finished / "run.json").write_text(record)
    assert "damaged run: run.json cannot be read" in found_in(finished)[0]


def test_a_record_does_not_lead_out_of_the_run(finished: Path) -> None:
    (finished / "run.json").write_text(json.dumps({"outputs": {"../secret": "00"}}))
    assert "damaged run: run.json lists '../secret'" in found_in(finished)[0]


@pytest.mark.parametrize("name", ["slide.json", "scores.npz", "thumbnail.jpg", "tile_01.png"])
def test_a_file_of_a_slide_that_is_lost_or_torn(finished: Path, name: str) -> None:
    file = finished / "slides" / "mild" / name
    file.write_bytes(file.read_bytes()[:20])
    (line,) = found_in(finished)
    assert line.startswith("damaged slides/mild: ")
    assert name in line
    file.unlink()
    (line,) = found_in(finished)
    assert f"mild/{name} is missing" in line


def test_a_slide_that_says_other_than_the_table(finished: Path, make_slide: Callable) -> None:
    from workflows.results import save_slide

    save_slide(finished, make_slide("mild", predicted=5))
    assert "slides/mild: slide.json says other than predictions.csv" in found_in(finished)[0]


def test_a_heatmap_that_is_lost(finished: Path) -> None:
    (finished / "heatmaps" / "severe" / "attention.png").unlink()
    assert found_in(finished) == [
        "damaged heatmaps/severe: attention.png is missing; `histograde render` draws it again"
    ]


def test_a_name_that_leads_elsewhere_ends_its_own_check_only(finished: Path) -> None:
    text = (finished / "predictions.csv").read_text().replace("\nmild,", "\n../mild,")
    (finished / "predictions.csv").write_text(text)
    said = found_in(finished)
    assert any("cannot be a file name" in line for line in said)
    assert not any("severe" in line for line in said)


def test_tables_and_models_that_cannot_be_read(finished: Path) -> None:
    (finished / "model.json").write_text("{")
    (finished / "predictions.csv").write_text("slide_id\nmild\n")
    said = " ".join(found_in(finished))
    assert "model.json cannot be read" in said
    assert "predictions.csv cannot be read" in said
