"""The loop closes: decisions become labels, and a model is trained on them; `select` says which come next."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from mil.cohort import read_labels
from mil.testing import toy_bag, toy_card, write_store
from tests.workflows.review.case_desks import ANNA, BEN, grading, open_cases, save_gradings
from workflows.cli import app
from workflows.review.case_query import Query, find_cases
from workflows.review.claims import claim, release
from workflows.review.decisions import Decision, decide
from workflows.review.desk import Reader
from workflows.review.regions import Mark, add_region, remove_region
from wsi.annotations import read_regions
from wsi.errors import UsageError

SQUARE = {"type": "Polygon", "coordinates": [[[110, 60], [150, 60], [150, 90], [110, 90], [110, 60]]]}


def run_verb(*arguments: object) -> str:
    found = CliRunner().invoke(app, [str(part) for part in arguments], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., None]:
    """Decide on slides of a run by their names."""

    def decided(run: Path, reader: Reader, slide_id: str, action: str, double: bool = False, **said: object) -> None:
        engine = open_cases(run)
        with engine.connect() as connection:
            (case,) = find_cases(connection, Query(q=slide_id), ANNA).rows
        claim(engine, case["id"], reader)
        decide(engine, run, case["id"], reader, str(uuid4()), Decision(action, **said), {}, double)  # type: ignore[arg-type]
        release(engine, case["id"], reader)

    return decided


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as handle:
        return {row["slide_id"]: row for row in csv.DictReader(handle)}


def test_labels_are_the_decisions_that_stand(tmp_path: Path, read: Callable) -> None:
    names = ("right", "wrong", "blur", "unsure", "undone", "fresh", "later")
    run = save_gradings(tmp_path / "run", *(grading(name, 3) for name in names))
    read(run, ANNA, "right", "accept")
    read(run, ANNA, "wrong", "correct", grade="4", gleason=(4, 4))
    read(run, ANNA, "blur", "reject", reason="out of focus")
    read(run, ANNA, "unsure", "second_look")
    read(run, ANNA, "undone", "accept")
    read(run, ANNA, "undone", "undo")
    read(run, ANNA, "later", "accept")
    read(run, BEN, "later", "correct", grade="2")
    said = run_verb("labels", run, "--out", tmp_path / "labels.csv")
    assert "3 labels" in said
    assert "1 accepted, 2 corrected; left out: 1 rejected, 2 undecided, 1 waiting for a second look" in said
    found = table(tmp_path / "labels.csv")
    assert {name: row["label"] for name, row in found.items()} == {"later": "2", "right": "3", "wrong": "4"}
    assert found["wrong"]["gleason"] == "4+4"
    assert found["later"]["reader"] == "Dr. Ben Moss"
    assert found["right"]["patient_id"] == "patient-right"
    cohort = read_labels(tmp_path / "labels.csv")
    assert cohort.label == ("2", "3", "4")


def test_two_readers_who_differ_give_no_label(tmp_path: Path, read: Callable) -> None:
    run = save_gradings(tmp_path / "run", grading("agreed", 3), grading("differ", 3), grading("one", 3))
    for reader in (ANNA, BEN):
        read(run, reader, "agreed", "correct", double=True, grade="4")
    read(run, ANNA, "differ", "accept", double=True)
    read(run, BEN, "differ", "correct", double=True, grade="4")
    read(run, ANNA, "one", "accept", double=True)
    said = run_verb("labels", run, "--out", tmp_path / "labels.csv")
    assert "left out: 1 disagreeing, 1 undecided" in said
    found = table(tmp_path / "labels.csv")
    assert list(found) == ["agreed"]
    assert found["agreed"]["reader"] == "Dr. Anna Grey; Dr. Ben Moss"


def test_regions_are_as_evaluate_and_qupath_take_them(run: Path, tmp_path: Path, read: Callable) -> None:
    engine = open_cases(run)
    claim(engine, 1, ANNA)
    add_region(engine, run, 1, ANNA, "1", Mark(SQUARE, "polygon", "tumour", "edge"))
    read(run, ANNA, "severe", "accept")
    said = run_verb("labels", run, "--out", tmp_path / "labels.csv", "--regions", tmp_path / "drawn")
    assert "regions of 1 slides" in said
    (region,) = read_regions(tmp_path / "drawn" / "severe.geojson")
    assert (region.name, region.polygon.bounds) == ("tumour", (110, 60, 150, 90))
    (feature,) = json.loads((tmp_path / "drawn" / "severe.geojson").read_text())["features"]
    assert feature["properties"]["objectType"] == "annotation"
    (tmp_path / "drawn" / "other.geojson").write_text("{}")
    with pytest.raises(UsageError, match="of which the desk has no region"):
        run_verb("labels", run, "--out", tmp_path / "labels.csv", "--regions", tmp_path / "drawn")


def test_nothing_decided_and_a_broken_trail_give_no_labels(tmp_path: Path, read: Callable) -> None:
    run = save_gradings(tmp_path / "run", grading("first"), grading("other"))
    with pytest.raises(UsageError, match="nobody has opened the desk"):
        run_verb("labels", run, "--out", tmp_path / "labels.csv")
    engine = open_cases(run)
    with pytest.raises(UsageError, match="no decision stands that gives a label"):
        run_verb("labels", run, "--out", tmp_path / "labels.csv")
    read(run, ANNA, "first", "accept")
    with engine.begin() as connection:
        connection.execute(text("DROP TRIGGER entries_no_update"))
        connection.execute(text("""UPDATE entries SET payload = replace(payload, '"grade":"3"', '"grade":"5"')"""))
    with pytest.raises(UsageError, match="the trail is broken"):
        run_verb("labels", run, "--out", tmp_path / "labels.csv")
    assert not (tmp_path / "labels.csv").exists()


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Twelve slides with feature stores, all called grade 1 by a model that knows nothing."""
    run = tmp_path / "run"
    names = [f"s{number:02d}" for number in range(12)]
    for number, name in enumerate(names):
        features = toy_bag(14, seed=number, signal=2.0 * (number % 3)).features
        write_store(run / "features", name, features, toy_card())
    return save_gradings(run, *(grading(name, 1, sure=0.5 + number / 100) for number, name in enumerate(names)))


@pytest.mark.slow
def test_decide_export_train(cohort: Path, tmp_path: Path, read: Callable) -> None:
    for number in range(12):
        grade = number % 3
        read(cohort, ANNA, f"s{number:02d}", *(["accept"] if grade == 1 else ["correct"]), **_grade(grade))
    run_verb("labels", cohort, "--out", tmp_path / "labels.csv")
    run_verb(
        "train", "--store", cohort / "features", "--labels", tmp_path / "labels.csv", "--out", tmp_path / "model",
        "--folds", 2, "--epochs", 1, "--task", "grade",
    )  # fmt: skip
    found = table(tmp_path / "model" / "out_of_fold.csv")
    assert {name: row["label"] for name, row in found.items()} == {f"s{n:02d}": str(n % 3) for n in range(12)}


def _grade(grade: int) -> dict[str, str]:
    return {} if grade == 1 else {"grade": str(grade)}


def test_select_leaves_decided_slides_out_and_tells_why(cohort: Path, tmp_path: Path, read: Callable) -> None:
    read(cohort, ANNA, "s00", "accept")  # the most uncertain
    said = run_verb("select", cohort, "--count", 4, "--out", tmp_path / "next.csv")
    assert "4 of 11 undecided slides" in said
    assert "compared by mean tile features" in said
    rows = list(table(tmp_path / "next.csv").values())
    assert [row["place"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[0]["slide_id"] == "s01"  # the most uncertain of the others
    assert all(row["reason"].startswith("uncertainty 0.") for row in rows)
    assert not any("patient" in name for name in rows[0])
    first = (tmp_path / "next.csv").read_bytes()
    run_verb("select", cohort, "--count", 4, "--out", tmp_path / "next.csv")
    assert (tmp_path / "next.csv").read_bytes() == first
    with open_cases(cohort).connect() as connection:
        listed = find_cases(connection, Query(flag="proposed", sort="proposed"), ANNA)
    assert [row["slide_id"] for row in listed.rows] == [row["slide_id"] for row in rows]


def test_select_without_stores_goes_by_maps_and_then_by_probabilities(run: Path, tmp_path: Path) -> None:
    assert "compared by probabilities and evidence maps" in run_verb("select", run, "--count", 1)
    (run / "slides" / "mild" / "scores.npz").write_bytes(b"PK\x03\x04 damaged")
    assert "2 of 2 undecided slides" in (said := run_verb("select", run, "--count", 9))
    assert "compared by probabilities" in said
    assert "maps" not in said
    assert (run / "review" / "selection.csv").is_file()


def test_select_when_all_is_decided(tmp_path: Path, read: Callable) -> None:
    run = save_gradings(tmp_path / "run", grading("a"))
    read(run, ANNA, "a", "accept")
    with pytest.raises(UsageError, match="every slide has a decision"):
        run_verb("select", run, "--count", 1)


def test_regions_come_from_the_trail_and_not_from_what_follows_from_it(
    run: Path, tmp_path: Path, read: Callable
) -> None:
    engine = open_cases(run)
    claim(engine, 1, ANNA)
    for number, name in enumerate(("tumour", "benign")):
        add_region(engine, run, 1, ANNA, f"{number}", Mark(SQUARE, "polygon", name))
    remove_region(engine, run, 1, ANNA, 2)
    with engine.begin() as connection:
        connection.execute(text("UPDATE regions SET class_name = 'forged', removed_by = NULL"))
        connection.execute(text("UPDATE cases SET state = 'rejected'"))
    read(run, ANNA, "severe", "accept")
    run_verb("labels", run, "--out", tmp_path / "labels.csv", "--regions", tmp_path / "drawn")
    assert [one.name for one in read_regions(tmp_path / "drawn" / "severe.geojson")] == ["tumour"]
