import csv
import json

import numpy as np

from mil.intervals import Interval
from mil.operating_points import Goal
from workflows.evaluation import Evaluation
from workflows.thresholds import OperatingPoint

SURE = Interval(0.75, 0.5, 0.9, 0.95, 3, "made up")
UNKNOWN = Interval(float("nan"), float("nan"), float("nan"), 0.95, 0, "undefined")


def evaluation(**changes):
    y, p = np.array([0, 1, 1]), np.array([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9]])
    parts = {
        "points": (OperatingPoint('so-called "hot"', Goal("sensitivity", 0.9), (0.3, 0.4), SURE, UNKNOWN, 2),),
        "points_from": "the other folds",
        "notes": ("look twice",),
    }
    return Evaluation(
        "class", ("cold", 'so-called "hot"'), y, p.argmax(axis=1), p, ("A", "A", "B"), False,
        {"auroc": SURE}, {'so-called "hot"': SURE}, ("s9",), (), **(parts | changes),
    )  # fmt: skip


def test_table_is_csv_whatever_the_classes_are_called():
    rows = list(csv.DictReader(evaluation().table().splitlines()))
    assert [row["metric"] for row in rows] == [
        "auroc",
        'auroc of so-called "hot"',
        'sensitivity of so-called "hot" at sensitivity 0.9',
        'specificity of so-called "hot" at sensitivity 0.9',
    ]
    assert [row["low"] for row in rows] == ["0.500000"] * 3 + ["nan"]
    assert [row["patients"] for row in rows] == ["3", "3", "3", "0"]


def test_people_are_told_what_limits_the_figures():
    lines = evaluation().lines()
    assert lines[0].startswith("3 slides of 2 patients")
    assert "NOT calibrated" in lines[0]
    assert "left out, no label: 1 (s9)" in lines
    assert lines[-1] == "note: look twice"
    (point,) = (line for line in lines if "kept:" in line)
    assert "threshold 0.300 to 0.400, sensitivity 0.750 (0.500 to 0.900)" in point
    assert point.endswith("2 slides without a threshold left out")
    assert not any("operating points" in line for line in evaluation(points=()).lines())


def test_plain_values_hold_no_nan():
    kept = json.loads(json.dumps(evaluation().to_dict(), allow_nan=False))
    assert kept["confusion"] == [[1, 0], [1, 1]]
    assert kept["operating_points"][0]["specificity"]["estimate"] is None
    assert kept["localisation"] is None
