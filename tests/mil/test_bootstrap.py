import json
from math import inf, sqrt

import numpy as np
import pytest
from scipy import stats

from mil import metrics
from mil.bootstrap import SHARE, bootstrap, bootstrap_each, interval
from mil.resampling import resamples


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


def test_several_metrics_share_their_resamples() -> None:
    values = np.random.default_rng(5).normal(size=30)
    both = bootstrap_each({"mean": np.mean, "double": lambda x: 2 * x.mean()}, values, groups=np.arange(30), n=50)
    np.testing.assert_allclose(2 * both["mean"][1], both["double"][1])
    np.testing.assert_allclose(both["mean"][1], [values[rows].mean() for rows in resamples(np.arange(30), 50, 0)])


@pytest.mark.parametrize(
    ("bounds", "there", "back"),
    [
        ((0, 1), lambda x: np.log(x / (1 - x)), lambda z: 1 / (1 + np.exp(-z))),
        ((-1, 1), lambda x: 2 * np.arctanh(x), lambda z: np.tanh(z / 2)),
        ((0, inf), np.log, np.exp),
        ((-inf, 1), lambda x: -np.log(1 - x), lambda z: 1 - np.exp(-z)),
        ((-inf, inf), lambda x: x, lambda z: z),
    ],
)
def test_interval_on_a_scale(bounds, there, back) -> None:
    """Against the delta method with a numerical slope."""
    drawn = np.random.default_rng(6).normal(0.6, 0.05, 4000)
    found = interval(0.6, drawn, groups=25, bounds=bounds)
    slope = (there(0.6 + 1e-6) - there(0.6 - 1e-6)) / 2e-6
    reach = stats.t.ppf(0.975, 24) * drawn.std(ddof=1) * sqrt(25 / 24) * slope
    np.testing.assert_allclose([found.low, found.high], back(there(0.6) + reach * np.array([-1, 1])), rtol=1e-4)


@pytest.mark.parametrize("chance", [0.96, 0.8])
def test_intervals_of_few_patients_hold_the_truth(chance: float) -> None:
    """AUROC of 20 patients against 20, two normal distributions; percentiles are too short near 1."""
    shift = sqrt(2) * stats.norm.ppf(chance)
    rng, hits, positive = np.random.default_rng(0), {"scale": 0, "percentiles": 0}, np.arange(40) % 2 == 0
    for trial in range(200):
        scores = rng.normal(size=40) + shift * positive
        estimate, drawn = bootstrap_each(
            {"": metrics.auroc}, positive, scores, groups=np.arange(40), n=100, seed=trial
        )[""]
        for name, bounds in (("scale", SHARE), ("percentiles", None)):
            found = interval(estimate, drawn, groups=40, bounds=bounds, units=20)
            hits[name] += found.low <= chance <= found.high
    assert 0.93 <= hits["scale"] / 200 <= 1
    assert hits["scale"] > hits["percentiles"]
    if chance > 0.9:
        assert hits["percentiles"] / 200 < 0.9


def test_coverage_on_a_scale_by_patient() -> None:
    """Accuracy .9 from 30 patients with three slides that stand or fall together."""
    rng, hits = np.random.default_rng(3), 0
    for trial in range(200):
        right = np.repeat(rng.random(30) < 0.9, 3)
        found = bootstrap(np.mean, right, groups=np.repeat(np.arange(30), 3), n=100, seed=trial, bounds=SHARE)
        hits += found.low <= 0.9 <= found.high
    assert 0.92 <= hits / 200 <= 1


def test_nothing_wrong_is_not_certainty() -> None:
    found = bootstrap(np.mean, np.ones(36), groups=np.repeat(np.arange(12), 3), n=100, bounds=SHARE)
    expected = stats.beta.ppf(0.025, 12, 1)  # Clopper and Pearson, 12 of 12
    assert (found.estimate, found.high) == (1, 1)
    assert found.low == pytest.approx(expected)
    assert found.method == "exact, all of 12 groups at the bound"
    nothing = bootstrap(np.mean, np.zeros(12), groups=np.arange(12), n=100, bounds=SHARE)
    assert (nothing.low, nothing.high) == (0, pytest.approx(1 - expected))


def test_one_patient_says_nothing() -> None:
    found = bootstrap(np.mean, np.arange(4.0), groups=["P"] * 4, n=20, bounds=(0, inf))
    assert found.estimate == 1.5
    assert np.isnan([found.low, found.high]).all()
    assert found.method == "undefined"
