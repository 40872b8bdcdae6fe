import numpy as np
import pytest
from scipy.optimize import minimize

from mil.links import conditional, cumulative, softmax
from mil.metrics import log_loss
from mil.vector_scaling import VectorScaling
from wsi.errors import UsageError


def drawn(n, slope, offset, seed=0):
    """Logits of a model that is off by just these slopes and offsets, and targets of the truth."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3)) * 2
    truth = softmax(slope * np.log(softmax(logits)) + offset)
    return logits, (rng.random((n, 1)) > np.cumsum(truth, axis=1)).sum(axis=1), truth


def test_recovers_what_is_wrong():
    slope, offset = np.array([0.5, 0.8, 0.5]), np.array([0.0, 1.0, -1.0])
    logits, targets, truth = drawn(20_000, slope, offset)
    scaling = VectorScaling(softmax).fit(logits, targets)
    np.testing.assert_allclose(scaling.slope_, slope, atol=0.06)
    np.testing.assert_allclose(np.diff(scaling.offset_), np.diff(offset), atol=0.12)
    np.testing.assert_allclose(scaling.transform(logits), truth, atol=0.03)


@pytest.mark.parametrize("link", [softmax, conditional, cumulative])
def test_is_the_minimum_that_scipy_finds(link):
    logits, targets, _ = drawn(150, np.array([0.4, 1.0, 2.0]), np.array([1.0, 0.0, -1.0]), seed=1)
    logits = -np.sort(-logits, axis=1)
    x = np.log(np.maximum(link(logits), 1e-12))
    size = x.shape[1]

    def loss(t):
        fit = log_loss(targets, softmax(t[:size] * x + t[size:])) * len(x)
        return fit + ((t[:size] - 1) ** 2).sum() / 2 + (t[size:] ** 2).sum() / 2

    expected = minimize(loss, np.concatenate([np.ones(size), np.zeros(size)]), method="BFGS", options={"gtol": 1e-6}).x
    found = VectorScaling(link).fit(logits, targets)
    np.testing.assert_allclose(np.concatenate([found.slope_, found.offset_]), expected, atol=1e-5)


def test_a_number_added_to_all_logits_changes_nothing():
    logits, targets, _ = drawn(100, 1, 0)
    one = VectorScaling(softmax).fit(logits, targets)
    other = VectorScaling(softmax).fit(logits + 7, targets)
    np.testing.assert_allclose(one.transform(logits), other.transform(logits + 7), atol=1e-9)


@pytest.mark.parametrize("spread", [1.0, 1e8])
def test_missing_class_separated_slides_and_huge_logits_stay_finite(spread):
    targets = np.arange(30) % 2
    scaling = VectorScaling(softmax).fit(np.eye(3)[targets] * spread, targets)
    found = scaling.transform(np.eye(3) * spread)
    assert np.isfinite(found).all()
    assert (found[2] > 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found[0].argmax() == 0


def test_keeps_leading_axes_and_refuses_no_slides():
    logits, targets, _ = drawn(60, 1, 0)
    scaling = VectorScaling(softmax).fit(logits, targets)
    np.testing.assert_array_equal(
        scaling.transform(logits.reshape(3, 20, 3)), scaling.transform(logits).reshape(3, 20, 3)
    )
    with pytest.raises(UsageError, match="at least one held-out slide"):
        VectorScaling(softmax).fit(np.zeros((0, 3)), np.zeros(0, int))
