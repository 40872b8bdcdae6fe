import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from mil.links import conditional, cumulative, sigmoid, softmax
from mil.metrics import log_loss
from mil.ordinal_scaling import OrdinalScaling, exceeding
from wsi.errors import UsageError


def drawn(n, slope=1.0, shift=(0.0, 0.0, 0.0), seed=0):
    """CORAL logits of a model whose thresholds and scale are off, and targets of the truth."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, 1)) + np.array([2.0, 0.0, -2.0])
    truth = cumulative(slope * logits + np.array(shift))
    return logits, (rng.random((n, 1)) > np.cumsum(truth, axis=1)).sum(axis=1), truth


def test_recovers_slope_and_limits():
    logits, targets, truth = drawn(20_000, 0.6, (0.5, -0.4, 0.0))
    scaling = OrdinalScaling(cumulative).fit(logits, targets)
    np.testing.assert_allclose(scaling.slope_, 0.6, atol=0.03)
    np.testing.assert_allclose(scaling.offset_, [0.5, -0.4, 0], atol=0.1)
    np.testing.assert_allclose(scaling.transform(logits), truth, atol=0.03)


def test_two_classes_are_platt_scaling_by_scikit_learn():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(80, 1)) * 3
    targets = (rng.random(80) < sigmoid(logits[:, 0] / 2 + 0.5)).astype(int)
    above = targets.sum()
    aim = np.where(targets == 1, (above + 1) / (above + 2), 1 / (80 - above + 2))
    # A target between 0 and 1 is two slides with weights.
    oracle = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000).fit(
        np.concatenate([logits, logits]), np.repeat([1, 0], 80), np.concatenate([aim, 1 - aim])
    )
    scaling = OrdinalScaling(cumulative).fit(logits, targets)
    np.testing.assert_allclose([scaling.slope_, scaling.offset_[0]], [oracle.coef_[0, 0], oracle.intercept_[0]], 1e-5)


def test_is_the_minimum_that_scipy_finds():
    logits, targets, _ = drawn(60, 0.5, (1.0, 0.0, -1.0), seed=4)
    higher = targets[:, None] > np.arange(3)
    above = higher.sum(axis=0)
    aim = np.where(higher, (above + 1) / (above + 2), 1 / (60 - above + 2))

    def loss(t):
        p = sigmoid(t[0] * logits + t[1:])
        return -(aim * np.log(p) + (1 - aim) * np.log(1 - p)).sum()

    expected = minimize(loss, [1, 0, 0, 0], method="BFGS", options={"gtol": 1e-7}).x
    found = OrdinalScaling(cumulative).fit(logits, targets)
    np.testing.assert_allclose([found.slope_, *found.offset_], expected, atol=1e-5)


@pytest.mark.parametrize("link", [softmax, conditional, cumulative])
def test_gives_probabilities_whatever_the_link(link):
    rng = np.random.default_rng(5)
    logits = -np.sort(-rng.normal(size=(40, 3)), axis=1)
    size = link(logits).shape[1]
    targets = rng.integers(0, size, 40)
    found = OrdinalScaling(link).fit(logits, targets).transform(rng.normal(size=(7, 9, 3)) * 5)
    assert found.shape == (7, 9, size)
    assert (found >= 0).all() if link is softmax else np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=-1), 1)


def test_limits_that_cross_give_no_negative_probability():
    # The middle grade never occurs: its two limits want to change places.
    rng = np.random.default_rng(6)
    logits = 2 * rng.normal(size=(400, 1)) + np.array([2.0, -2.0])
    targets = np.where(logits.mean(axis=1) > rng.normal(size=400), 2, 0)
    found = OrdinalScaling(cumulative).fit(logits, targets).transform(logits)
    np.testing.assert_allclose(found.min(), 1 / 3 / 401)  # of one slide more than the 400
    assert found[:, 1].mean() < 0.02


def test_logits_that_point_the_wrong_way_are_given_no_say():
    logits, targets, _ = drawn(300, seed=7)
    scaling = OrdinalScaling(cumulative).fit(logits, 3 - targets)
    assert scaling.slope_ == 0
    found = scaling.transform(logits)
    np.testing.assert_allclose(found, np.broadcast_to(found[0], found.shape))
    np.testing.assert_allclose(found[0], np.bincount(3 - targets) / 300, atol=0.02)  # the cohort's mixture


@pytest.mark.parametrize("spread", [1.0, 1e8])
def test_missing_grades_and_separated_slides_stay_finite(spread):
    targets = np.repeat([1, 2], 15)
    logits = spread * (targets[:, None] - np.array([0.5, 1.5, 2.5]))
    scaling = OrdinalScaling(cumulative).fit(logits, targets)
    found = scaling.transform(logits)
    assert np.isfinite([scaling.slope_, *scaling.offset_]).all()
    assert (found.argmax(axis=1) == targets).all()
    assert log_loss(targets, found) < 0.3
    one = OrdinalScaling(cumulative).fit(logits[:1], targets[:1]).transform(logits[:1])
    assert np.isfinite(one).all()
    assert one.min() > 0


def test_exceeding_keeps_small_tails():
    np.testing.assert_allclose(exceeding(np.array([1.0, 2e-20, 1e-20])), [3e-20, 1e-20], rtol=1e-14)


def test_no_slides_are_refused():
    with pytest.raises(UsageError, match="at least one held-out slide"):
        OrdinalScaling(cumulative).fit(np.zeros((0, 2)), np.zeros(0, int))
