"""The tables of a run, read back, and against the csv module and pyarrow."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from mil.outliers import OutlierCheck
from mil.prediction import ClassSet
from workflows.gradings import (
    ModelSummary,
    Quarantined,
    class_labels,
    load_model,
    load_predictions,
    load_quarantine,
    save_model,
    save_predictions,
    save_quarantine,
)
from workflows.results import GradedSlide
from wsi.errors import MissingMppError, UsageError


def test_predictions_have_the_columns_that_were_promised(tmp_path: Path, graded: GradedSlide) -> None:
    save_predictions(tmp_path, [graded.grading])
    with (tmp_path / "predictions.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == [
        "slide_id", "patient_id", "grade", "p_0", "p_1", "p_2", "p_3", "p_4", "p_5", "calibrated", "set", "coverage",
        "holds_0", "holds_1", "holds_2", "holds_3", "holds_4", "holds_5", "flagged", "flag_reason", "outlier_p",
        "tiles", "bad_tiles", "tissue_mm2", "model_id", "seconds", "false_alarms", "training_patients",
        "odd_tiles", "odd_slide", "odd_stain", "odd_density", "odd_glass", "odd_focus", "odd_tissue",
        "input_stain_density", "input_stain_x", "input_stain_y", "input_stain_spread", "input_focus",
        "input_glass_r", "input_glass_g", "input_glass_b",
    ]  # fmt: skip
    assert rows[0]["grade"] == "3"
    assert rows[0]["calibrated"] == "yes"
    assert float(rows[0]["p_3"]) == 0.8


def test_parquet_says_the_same(tmp_path: Path, graded: GradedSlide) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    save_predictions(tmp_path, [graded.grading, replace(graded.grading, class_set=ClassSet(("2", "3"), 0.9))])
    table = parquet.read_table(tmp_path / "predictions.parquet").to_pylist()
    with (tmp_path / "predictions.csv").open(newline="") as handle:
        said = [{name: "" if value is None else str(value) for name, value in row.items()} for row in table]
        assert said == list(csv.DictReader(handle))


def test_the_set_is_a_text_for_people_and_a_column_for_each_class(tmp_path: Path, graded: GradedSlide) -> None:
    with_set = replace(graded.grading, class_set=ClassSet(("2", "3"), 0.9))
    save_predictions(tmp_path, [with_set, replace(graded.grading, slide_id="b")])
    with (tmp_path / "predictions.csv").open(newline="") as handle:
        first, second = csv.DictReader(handle)
    assert (first["set"], first["coverage"]) == ("2-3 at 90 %", "0.9")
    assert [first[f"holds_{grade}"] for grade in "012345"] == ["no", "no", "yes", "yes", "no", "no"]
    assert (second["set"], second["coverage"], second["holds_2"]) == ("none", "", "")


UNLIKE = OutlierCheck(0.02, 0.05, 60, ("other stain", "blur"), {"tiles": 0.5, "stain": 7.25})


def test_what_a_slide_was_held_against_is_kept(tmp_path: Path, graded: GradedSlide) -> None:
    few = OutlierCheck(0.25, 0.05, 3)
    like = OutlierCheck(0.5, 0.05, 60, (), {"tiles": -0.5})
    measured = replace(graded, qc={"focus": 0.25, "stain_x": -0.5, "glass_rgb": "240, 241, 242", "pen": "none"})
    slides = [
        replace(measured.grading, slide_id=name, outlier=check)
        for name, check in (("a", UNLIKE), ("b", like), ("c", few), ("d", None))
    ]
    save_predictions(tmp_path, slides)
    assert load_predictions(tmp_path) == tuple(slides)
    with (tmp_path / "predictions.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["flagged"] for row in rows] == ["yes", "no", "not judged", "not checked"]
    assert (rows[0]["flag_reason"], rows[0]["outlier_p"], rows[0]["odd_stain"]) == ("other stain; blur", "0.02", "7.25")
    assert (rows[3]["flag_reason"], rows[3]["outlier_p"]) == ("", "")
    assert (rows[3]["input_focus"], rows[3]["input_glass_b"], rows[3]["input_stain_y"]) == ("0.25", "242.0", "")
    assert slides[0].unlike_text == "unlike training: other stain, blur"
    assert [one.unlike_text for one in slides[1:]] == ["", "", ""]


def test_tables_from_before_sets_are_read(tmp_path: Path, graded: GradedSlide, model: ModelSummary) -> None:
    cells = "slide_id,patient_id,grade,p_0,p_3,calibrated,tiles,bad_tiles,tissue_mm2,model_id,seconds"
    (tmp_path / "predictions.csv").write_text(f"{cells}\nb,p,3,0.25,0.75,yes,5,1,2.5,m,1.0\n")
    (found,) = load_predictions(tmp_path)
    assert (found.class_set, found.set_text) == (None, "none")
    save_model(tmp_path, model)
    kept = json.loads((tmp_path / "model.json").read_text())
    del kept["sets"], kept["coverage"]
    (tmp_path / "model.json").write_text(json.dumps(kept))
    assert load_model(tmp_path).coverage is None
    assert load_model(tmp_path).sets.startswith("The model has no sets")


@pytest.mark.parametrize("held", [("2", "4"), ("3", "9"), ()])
def test_a_set_holds_the_prediction_and_only_classes(graded: GradedSlide, held: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="slide-1: its set .* holds the predicted '3' and nothing but the classes"):
        replace(graded.grading, class_set=ClassSet(held, 0.9))


def test_predictions_come_back(tmp_path: Path, graded: GradedSlide) -> None:
    odd = replace(graded.grading, slide_id='with, comma and "quotes"', patient_id="é\nnew line", calibrated=False)
    other = replace(odd, slide_id="b", task="class", classes=("a", "b"), probabilities=(0.25, 0.75), predicted="b")
    odd, both = replace(odd, class_set=ClassSet(("3", "4"), 0.29)), replace(other, class_set=ClassSet(("a", "b"), 0.9))
    for gradings in ([graded.grading, odd], [other, both], []):
        save_predictions(tmp_path, gradings)
        assert list(load_predictions(tmp_path)) == gradings


def test_quarantine_comes_back(tmp_path: Path) -> None:
    listed = [Quarantined.of("a,b", "open", MissingMppError("no mpp; use --slide-mpp"))]
    assert (listed[0].error_class, listed[0].stage) == ("missing_mpp", "open")
    assert "--slide-mpp" in listed[0].remedy
    for lines in (listed, []):
        save_quarantine(tmp_path, lines)
        assert list(load_quarantine(tmp_path)) == lines


def test_the_model_comes_back_in_order(tmp_path: Path, model) -> None:
    save_model(tmp_path, model)
    assert load_model(tmp_path) == model
    assert list(load_model(tmp_path).cohort) == ["slides", "patients", "sites"]


@pytest.mark.parametrize("name", ["predictions.csv", "quarantine.csv", "model.json"])
def test_damage_is_one_line(tmp_path: Path, name: str) -> None:
    load = {"predictions.csv": load_predictions, "quarantine.csv": load_quarantine, "model.json": load_model}[name]
    with pytest.raises(UsageError, match=f"{name} is missing"):
        load(tmp_path)
    (tmp_path / name).write_bytes(b"slide_id,patient_id\nx,\xff\n")
    with pytest.raises(UsageError, match=f"{name} cannot be read") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_labels() -> None:
    assert class_labels("grade", ("0", "3")) == ("Grade group 0", "Grade group 3")
    assert class_labels("grade", ("low", "high")) == ("low", "high")
    assert class_labels("class", ("0", "1")) == ("0", "1")


def test_a_prediction_must_be_one_of_the_classes(graded: GradedSlide) -> None:
    with pytest.raises(UsageError, match="does not fit the classes"):
        replace(graded.grading, predicted="7")
