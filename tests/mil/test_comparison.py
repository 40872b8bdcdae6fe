"""Paired comparison: by hand, against SciPy, and on simulated models of which the truth is known."""

import json

import numpy as np
import pytest
from scipy import stats

from mil import metrics
from mil.comparison import compare_models, paired_bootstrap, permutation_test
from mil.intervals import NUMBERS, SURVIVAL, Measure, measures

AUROC = Measure(metrics.auroc, by_class=True, ranks=True)
RIGHT = Measure(lambda y, k: float(np.mean(y == k)))
MEAN = Measure(lambda _, x: float(np.mean(x)), (-np.inf, np.inf))


def test_every_swap_by_hand() -> None:
    """Three patients with differences 1, 2, 3: of the 8 signs two sum to 6 or -6."""
    a, b = np.zeros(3), np.array([1.0, 2.0, 3.0])
    p, tried, every = permutation_test(MEAN, (a,), (a,), (b,), groups=[0, 1, 2], n=100, seed=0)
    assert (p, tried, every) == (2 / 8, 8, True)


def test_swaps_against_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 9))
    b += 0.4
    expected = stats.permutation_test(
        (a, b), lambda x, y: np.mean(y - x), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    found, _, every = permutation_test(MEAN, (a,), (a,), (b,), groups=np.arange(9), n=1000, seed=0)
    assert every
    assert found == pytest.approx(expected, abs=1e-12)
    drawn, tried, every = permutation_test(MEAN, (a,), (a,), (b,), groups=np.arange(9), n=500, seed=0)
    assert (tried, every) == (500, False)
    assert drawn == pytest.approx(expected, abs=0.08)


def test_slides_of_a_patient_change_sides_together() -> None:
    a, b = np.zeros(12), np.ones(12)
    p, tried, _ = permutation_test(MEAN, (a,), (a,), (b,), groups=np.repeat([0, 1], 6), n=1000, seed=0)
    assert (p, tried) == (0.5, 4)  # two patients cannot prove anything


def test_another_scale_is_no_difference() -> None:
    """The same order of scores, one model far surer: no difference in AUROC, and none may be found."""
    rng = np.random.default_rng(1)
    positive = np.arange(40) % 2 == 0
    scores = rng.normal(size=40) + positive
    p, _, _ = permutation_test(
        AUROC, (positive,), (scores,), (100 + np.exp(scores),), groups=np.arange(40), n=200, seed=0
    )
    assert p == 1


def models(rng: np.random.Generator, gain: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """30 patients with two slides each, noise shared by both and by models; the second on another scale."""
    patient = np.repeat(np.arange(30), 2)
    positive = np.repeat(rng.random(30) < 0.5, 2)
    case = rng.normal(size=30)[patient]
    a, b = (positive + 0.7 * case + 0.7 * rng.normal(size=30)[patient] + 0.3 * rng.normal(size=60) for _ in range(2))
    return patient, positive, a, 1 / (1 + np.exp(-3 * (b + gain * positive)))


def rejected(gain: float, trials: int) -> float:
    rng, hits = np.random.default_rng(2), 0
    for trial in range(trials):
        patient, positive, a, b = models(rng, gain)
        hits += permutation_test(AUROC, (positive,), (a,), (b,), groups=patient, n=79, seed=trial)[0] <= 0.05
    return hits / trials


def test_false_alarms_are_as_rare_as_promised() -> None:
    assert 0.01 <= rejected(0, 200) <= 0.095


def test_a_difference_is_found() -> None:
    assert rejected(1.5, 50) > 0.8


def test_interval_of_the_difference_holds_the_truth() -> None:
    """Accuracies of .8 and .9 that depend on each other; 40 patients with two slides."""
    rng, hits, patient = np.random.default_rng(3), 0, np.repeat(np.arange(40), 2)
    for trial in range(200):
        hard = rng.random(40)[patient]
        truth, a, b = np.ones(80), (hard < 0.8) * 1, ((hard < 0.6) | (rng.random(40)[patient] < 0.75)) * 1
        found = compare_models({"": RIGHT}, (truth,), (a,), (b,), patient, n=100, seed=trial)[""]
        hits += found.difference.low <= 0.1 <= found.difference.high
    assert 0.9 <= hits / 200 <= 0.99


def test_both_models_meet_the_same_resamples() -> None:
    x = np.random.default_rng(4).normal(size=30)
    drawn = paired_bootstrap({"mean": MEAN}, (x,), (x,), (x + 1,), groups=np.arange(30), n=40, seed=0)["mean"]
    np.testing.assert_allclose(drawn[2][1], 1)
    assert drawn[0][1].std() > 0.05


def test_all_measures_of_a_task() -> None:
    rng = np.random.default_rng(5)
    y = np.arange(60) % 3
    p = [rng.dirichlet(np.ones(3), 60) + w * np.eye(3)[y] for w in (0.3, 1.5)]
    p = [one / one.sum(axis=1, keepdims=True) for one in p]
    sides = [(one.argmax(axis=1), one) for one in p]
    found = compare_models(measures("grade", 3), (y,), sides[0], sides[1], np.arange(60) // 2, n=100, seed=1)
    assert list(found) == list(measures("grade", 3))
    for name in ("qwk", "auroc", "accuracy", "mae", "log_loss"):
        one = found[name]
        assert one.first.estimate == pytest.approx(measures("grade", 3)[name](y, *sides[0]))
        assert one.difference.estimate == pytest.approx(one.second.estimate - one.first.estimate)
        assert (one.difference.low > 0) == one.higher
        assert one.p == pytest.approx(1 / 101)
        assert json.loads(json.dumps(one.to_dict(), allow_nan=False))["permutations"] == 100


def test_survival_and_numbers() -> None:
    rng = np.random.default_rng(6)
    times, events = rng.exponential(5, 60), rng.random(60) < 0.7
    good, bad = -times + rng.normal(0, 1, 60), rng.normal(size=60)
    found = compare_models(SURVIVAL, (times, events), (bad,), (good,), np.arange(60), n=100)
    found |= compare_models(NUMBERS, (times,), (bad,), (-good,), np.arange(60), n=100)
    assert set(found) == {*SURVIVAL, *NUMBERS}
    for name, one in found.items():
        assert (one.difference.low > 0) == one.higher, name
        assert one.p == pytest.approx(1 / 101), name


def test_one_model_twice() -> None:
    y, k = np.arange(20) % 2, np.arange(20) % 3 % 2
    found = compare_models({"": RIGHT}, (y,), (k,), (k,), np.arange(20), n=100)[""]
    assert (found.difference.low, found.difference.high, found.p) == (0, 0, 1)


def test_two_flawless_models_may_still_differ() -> None:
    positive = np.arange(20) < 10
    found = compare_models(
        {"": AUROC}, (positive,), (positive * 1.0,), (positive + np.arange(20) / 50,), np.arange(20), n=100
    )[""]
    assert found.difference.estimate == 0
    assert found.difference.high == pytest.approx(1 - 0.025 ** (1 / 10))
    assert found.difference.low == -found.difference.high


def test_models_that_agree_do_not_differ() -> None:
    """The same classes predicted, other probabilities: no interval for the accuracy."""
    y, k = np.arange(20) % 2, np.arange(20) % 3 % 2
    p = [np.stack([1 - w * k, w * k], axis=1) for w in (0.6, 0.9)]
    found = compare_models(measures("class", 2), (y,), (k, p[0]), (k, p[1]), np.arange(20), n=100)
    assert (found["accuracy"].difference.low, found["accuracy"].difference.high) == (0, 0)
    assert found["log_loss"].difference.low < found["log_loss"].difference.high


def test_not_defined() -> None:
    nobody, scores = np.zeros(6, bool), np.arange(6.0)
    found = compare_models({"": AUROC}, (nobody,), (scores,), (-scores,), np.arange(6), n=100)[""]
    assert np.isnan(found.p)
    assert found.to_dict()["p"] is None
    assert found.difference.method == "undefined"
