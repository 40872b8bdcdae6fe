"""Urgencies are computed by hand from the rule in the module's text."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest

from mil.outliers import OutlierCheck
from mil.prediction import ClassSet
from workflows.gradings import Grading
from workflows.worklist import (
    quality_trouble,
    rank_slides,
    reason,
    relative_entropy,
    save_worklist,
    severities,
    urgency,
)

GRADES = ("0", "1", "2", "3", "4", "5")


def grading(slide_id: str = "s", probabilities: tuple[float, ...] = (0, 0, 0, 0, 0, 1.0), **changes: Any) -> Grading:
    classes = changes.pop("classes", GRADES)
    best = classes[max(range(len(probabilities)), key=lambda k: probabilities[k])]
    values: dict[str, Any] = {
        "patient_id": "p", "task": "grade", "predicted": best, "calibrated": True, "tiles": 100, "bad_tiles": 0,
        "tissue_mm2": 5.0, "model_id": "m", "seconds": 1.0,
    }  # fmt: skip
    return Grading(slide_id=slide_id, classes=classes, probabilities=probabilities, **(values | changes))


def test_severity_is_the_mean_grade() -> None:
    assert urgency(grading()) == pytest.approx(1.0)
    assert urgency(grading(probabilities=(1, 0, 0, 0, 0, 0))) == pytest.approx(0.0)
    assert urgency(grading(probabilities=(0, 0, 0, 1, 0, 0))) == pytest.approx(0.6)


def test_uncertainty_is_half_of_the_relative_entropy() -> None:
    split = grading(probabilities=(0, 0, 0.5, 0.5, 0, 0))
    assert urgency(split) == pytest.approx(0.5 + 0.5 * math.log(2) / math.log(6))
    assert relative_entropy((1 / 3,) * 3) == pytest.approx(1)
    assert relative_entropy((1.0,)) == 0


@pytest.mark.parametrize(
    ("held", "doubt"), [(("5",), 0), (("3", "4", "5"), 2 / 5), (GRADES, 1)], ids=["one", "three", "all"]
)
def test_a_wide_set_is_uncertain_however_sure_the_probabilities_are(held: tuple[str, ...], doubt: float) -> None:
    assert urgency(grading(class_set=ClassSet(held, 0.9))) == pytest.approx(1 + 0.5 * doubt)


def test_of_set_and_entropy_the_larger_counts() -> None:
    entropy = math.log(2) / math.log(6)  # 0.39: above the width of two grades, below that of three
    for held, doubt in ((("2", "3"), entropy), (("2", "3", "4"), 0.4)):
        split = grading(probabilities=(0, 0, 0.5, 0.5, 0, 0), class_set=ClassSet(held, 0.9))
        assert urgency(split) == pytest.approx(0.5 + 0.5 * doubt)
    alone = grading(probabilities=(1.0,), classes=("0",), class_set=ClassSet(("0",), 0.9))
    assert urgency(alone) == 0


def test_of_two_alike_the_one_with_the_wide_set_is_first() -> None:
    sure, wide = (grading(name, class_set=ClassSet(held, 0.9)) for name, held in (("a", ("5",)), ("b", ("4", "5"))))
    assert [place.grading.slide_id for place in rank_slides([sure, wide])] == ["b", "a"]


@pytest.mark.parametrize(
    ("bad", "tissue", "trouble"),
    [(0, 5, 0), (10, 5, (10 / 110) / 0.2), (100, 5, 1), (0, 0.25, 0.75), (10, 0.25, 0.75), (0, 1, 0)],
)
def test_quality_is_the_worse_of_damage_and_little_tissue(bad: int, tissue: float, trouble: float) -> None:
    troubled = grading(bad_tiles=bad, tissue_mm2=tissue)
    assert quality_trouble(troubled) == pytest.approx(trouble)
    assert urgency(troubled) == pytest.approx(1 + 0.25 * trouble)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (("benign", "tumour"), [0, 1]),
        (("tumour", "Normal tissue"), [1, 0]),
        (("LUAD", "LUSC", "other"), [0, 1, 1]),
    ],
)
def test_severity_of_classes_without_order(classes: tuple[str, ...], expected: list[float]) -> None:
    assert severities("class", classes) == expected


def test_order_and_ties() -> None:
    mild = (0, 1.0, 0, 0, 0, 0)
    slides = [grading("z"), grading("b", mild), grading("a"), grading("c", mild, bad_tiles=50)]
    places = rank_slides(slides)
    assert [(place.rank, place.grading.slide_id) for place in places] == [(1, "a"), (2, "z"), (3, "c"), (4, "b")]
    assert rank_slides(reversed(slides)) == places


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"probabilities": (0.02, 0.03, 0.04, 0.04, 0.04, 0.83)}, "grade group 5 (0.83)"),
        (
            {"probabilities": (0.02, 0.05, 0.4, 0.41, 0.1, 0.02)},
            "grade group 3 (0.41); uncertain between 2 and 3",
        ),
        (
            {"probabilities": (0.0, 0.05, 0.1, 0.25, 0.3, 0.3)},
            "grade group 4 (0.30); uncertain between 3, 4 and 5",
        ),
        ({"probabilities": (0.1, 0.1, 0.2, 0.2, 0.2, 0.2)}, "grade group 2 (0.20); uncertain among 6 grades"),
        ({"bad_tiles": 12, "tiles": 88}, "grade group 5 (1.00); 12 % of tiles unreadable"),
        ({"bad_tiles": 1, "tiles": 999}, "grade group 5 (1.00); 1 unreadable tile"),
        ({"class_set": ClassSet(("4", "5"), 0.9)}, "grade group 5 (1.00); set 4-5 at 90 %"),
        ({"class_set": ClassSet(("5",), 0.9)}, "grade group 5 (1.00)"),
        ({"tissue_mm2": 0.4}, "grade group 5 (1.00); little tissue (0.4 mm²)"),
        (
            {"probabilities": (0.3, 0.1, 0.25, 0.2, 0.1, 0.05), "predicted": "3"},
            "grade group 3 (0.20); probability is highest for 0 (0.30)",
        ),
        ({"task": "class", "classes": ("benign", "tumour"), "probabilities": (0.1, 0.9)}, "tumour (0.90)"),
    ],
)
def test_reasons(changes: dict[str, Any], text: str) -> None:
    assert reason(grading(**changes)) == text


def test_a_slide_unlike_training_goes_up_by_a_half_and_says_why() -> None:
    unlike = OutlierCheck(0.01, 0.05, 99, ("other stain", "other scanner (colour of the empty glass)"))
    odd, like = grading("odd", outlier=unlike), grading("like", outlier=OutlierCheck(0.5, 0.05, 99))
    assert urgency(odd) == pytest.approx(urgency(like) + 0.5)
    assert urgency(like) == urgency(grading("none"))
    assert reason(odd) == "grade group 5 (1.00); unlike training: other stain, other scanner"
    assert "unlike" not in reason(like)
    assert [place.grading.slide_id for place in rank_slides([like, odd])] == ["odd", "like"]


def test_the_file(tmp_path: Path) -> None:
    narrow = ClassSet(("4", "5"), 0.975)
    save_worklist(tmp_path, rank_slides([grading("b", class_set=narrow), grading("a", (0.75, 0, 0, 0.25, 0, 0))]))
    with (tmp_path / "worklist.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == [
        "rank", "slide_id", "patient_id", "grade", "confidence", "calibrated", "set", "flagged", "urgency",
        "reason",
    ]  # fmt: skip
    assert [(row["calibrated"], row["set"]) for row in rows] == [("yes", "4-5 at 97.5 %"), ("yes", "none")]
    assert [(row["rank"], row["slide_id"], row["grade"]) for row in rows] == [("1", "b", "5"), ("2", "a", "0")]
    save_worklist(tmp_path, [])
    assert (tmp_path / "worklist.csv").read_text().count("\n") == 1
