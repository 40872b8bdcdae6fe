import json

import numpy as np
import pytest

from mil import metrics
from mil.intervals import bootstrap, measures, score


def test_interval_of_a_mean_is_that_of_its_standard_error():
    values = np.random.default_rng(0).normal(size=400)
    found = bootstrap(np.mean, values, groups=np.arange(400), n=2000)
    half = 1.96 * values.std() / 20
    assert found.estimate == values.mean()
    np.testing.assert_allclose([found.low, found.high], [values.mean() - half, values.mean() + half], atol=0.01)
    assert found.n_groups == 400
    assert found.method == "percentile bootstrap, 2000 resamples"


def test_patients_are_drawn_as_a_whole():
    values = np.repeat(np.random.default_rng(1).normal(size=20), 10)
    by_patient = bootstrap(np.mean, values, groups=np.repeat(np.arange(20), 10))
    by_slide = bootstrap(np.mean, values, groups=np.arange(200))
    ratio = (by_patient.high - by_patient.low) / (by_slide.high - by_slide.low)
    assert 2.5 < ratio < 4  # sqrt(10)
    assert by_patient.n_groups == 20


def test_names_and_order_of_groups_do_not_matter_but_the_seed_does():
    values = np.random.default_rng(2).normal(size=30)
    groups = np.repeat([f"P{number}" for number in range(10)], 3)
    first = bootstrap(np.mean, values, groups=groups, seed=1)
    assert first == bootstrap(np.mean, values, groups=groups, seed=1)
    assert first != bootstrap(np.mean, values, groups=groups, seed=2)


def test_coverage():
    """95 % intervals of accuracy for patients with three slides that stand or fall together hold the truth."""
    rng = np.random.default_rng(3)
    hits = 0
    for trial in range(150):
        right = np.repeat(rng.random(60) < 0.7, 3)
        found = bootstrap(np.mean, right, groups=np.repeat(np.arange(60), 3), n=200, seed=trial)
        hits += found.low <= 0.7 <= found.high
    assert 0.88 <= hits / 150 <= 0.99


def test_undefined_resamples_are_counted():
    positive = np.array([True] + [False] * 9)
    found = bootstrap(metrics.auroc, positive, np.arange(10.0)[::-1], groups=np.arange(10), n=500)
    assert found.estimate == 1
    assert 0.25 < found.undefined / 500 < 0.45  # (9/10)^10 = 0.35 draw no positive
    never = bootstrap(metrics.auroc, positive[1:], np.arange(9.0), groups=np.arange(9))
    assert np.isnan(never.estimate)
    assert never.method == "undefined"
    assert json.loads(json.dumps(never.to_dict(), allow_nan=False))["estimate"] is None


def test_interval_holds_a_metric_that_resampling_biases():
    rng = np.random.default_rng(4)
    p = rng.dirichlet([2, 2], 60)
    y = (rng.random(60) < p[:, 1]).astype(int)
    found = bootstrap(metrics.ece, y, p, groups=np.arange(60))
    assert found.low <= found.estimate <= found.high


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
    assert str(found["qwk"]) == "1.000 (1.000 to 1.000)"
