from math import isfinite

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mil import metrics, regression_metrics, survival_metrics
from mil.intervals import (
    NUMBERS,
    SURVIVAL,
    behind_rarest,
    detection_interval,
    measures,
    score,
    score_numbers,
    score_survival,
)


@pytest.mark.parametrize(
    ("task", "classes", "first", "present", "absent"),
    [
        ("grade", 6, "qwk", "mae", "f1"),
        ("class", 2, "auroc", "average_precision", "qwk"),
        ("class", 3, "auroc", "f1", "average_precision"),
    ],
)
def test_each_task_has_its_metrics(task, classes, first, present, absent):
    names = list(measures(task, classes))
    assert names[0] == first
    assert present in names
    assert absent not in names
    assert len(names) == len(set(names))


def test_score_of_perfect_predictions():
    y = np.arange(6) % 3
    found = score("grade", y, y, np.eye(3)[y], [f"P{number}" for number in range(6)], n=100)
    perfect = {"qwk": 1, "mae": 0, "auroc": 1, "accuracy": 1, "balanced_accuracy": 1, "brier": 0, "ece": 0}
    assert {name: found[name].estimate for name in perfect} == perfect
    assert found["accuracy"].low == pytest.approx(0.025 ** (1 / 6))  # six patients, none wrong
    assert found["auroc"].low == pytest.approx(0.025 ** (1 / 2))  # two patients of each grade
    assert str(found["mae"]) == f"0.000 (0.000 to {2 * (1 - 0.025 ** (1 / 6)):.3f})"


@pytest.mark.parametrize(("task", "classes"), [("grade", 5), ("class", 2), ("class", 4)])
def test_every_measure_lies_within_its_bounds(task: str, classes: int) -> None:
    rng = np.random.default_rng(1)
    y = np.arange(40) % classes
    for trial in range(5):
        p = rng.dirichlet(np.full(classes, 0.2), 40) if trial else np.roll(np.eye(classes), 1, axis=1)[y]
        found = score(task, y, p.argmax(axis=1), p, np.arange(40), n=100)
        for name, one in measures(task, classes).items():
            low, high = one.bounds
            assert low <= found[name].low <= found[name].estimate <= found[name].high <= high, name


def test_better_is_better() -> None:
    y = np.arange(60) % 3
    good, bad = (w * np.eye(3)[y] + (1 - w) / 3 for w in (0.9, -0.3))
    for name, one in {**measures("grade", 3), **measures("class", 3)}.items():
        gain = one(y, good.argmax(axis=1), good) - one(y, bad.argmax(axis=1), bad)
        assert (gain > 0) == one.higher, name


def test_measures_that_see_only_the_order() -> None:
    rng = np.random.default_rng(2)
    y, p = np.arange(40) % 2, rng.dirichlet([1, 1], 40)
    bent = p**3
    for name, one in measures("class", 2).items():
        same = one(y, p.argmax(axis=1), p) == pytest.approx(one(y, p.argmax(axis=1), bent), abs=1e-12)
        assert same == (one.ranks or name in ("accuracy", "balanced_accuracy", "f1")), name


def test_survival() -> None:
    rng = np.random.default_rng(3)
    times, events = rng.exponential(5, 80), rng.random(80) < 0.6
    risks = -times + rng.normal(0, 4, 80)
    found = score_survival(times, events, risks, np.arange(80) // 2, n=100)
    assert set(found) == set(SURVIVAL)
    assert found["c_index"].estimate == survival_metrics.concordance(times, events, risks)
    assert found["uno_c_index"].estimate == survival_metrics.uno_concordance(times, events, risks)
    for one in found.values():
        assert 0.5 < one.low < one.estimate < one.high < 1
        assert one.n_groups == 40


def test_numbers() -> None:
    rng = np.random.default_rng(4)
    y = rng.normal(size=60)
    k = y + rng.normal(0, 0.5, 60)
    y[3] = np.nan
    found = score_numbers(y, k, np.arange(60), n=100)
    assert set(found) == set(NUMBERS)
    assert found["rmse"].estimate == regression_metrics.root_mean_squared_error(y, k)
    for one in found.values():
        assert isfinite(one.low)
        assert one.low < one.estimate < one.high


def test_a_detection_is_as_sure_as_its_rarer_side() -> None:
    positive, scores = np.arange(20) < 4, -np.arange(20.0)
    patients = np.repeat(np.arange(10), 2)
    assert behind_rarest(positive, patients) == 2
    found = detection_interval(positive, scores, patients, n=50)
    assert (found.estimate, found.low) == (1, pytest.approx(0.025**0.5))
    scores[0] = -30
    found = detection_interval(positive, scores, patients, n=50)
    assert found.estimate == pytest.approx(roc_auc_score(positive, scores))
    assert found.low < found.estimate < found.high < 1
    assert np.isnan(metrics.auroc(positive[4:], scores[4:]))
    assert detection_interval(positive[4:], scores[4:], patients[4:], n=20).method == "undefined"
