import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from mil.calibration import TemperatureScaling, cross_fitted
from mil.links import conditional, cumulative, softmax
from mil.metrics import ece, log_loss
from wsi.errors import UsageError


def drawn(link, n=4000, columns=3, seed=0):
    """Logits, and targets drawn from exactly the probabilities that they stand for."""
    rng = np.random.default_rng(seed)
    logits = -np.sort(-rng.normal(size=(n, columns)) * 1.5, axis=1)
    targets = (rng.random((n, 1)) > np.cumsum(link(logits), axis=1)).sum(axis=1)
    return logits, targets


@pytest.mark.parametrize("link", [softmax, conditional, cumulative])
@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_finds_the_factor_by_which_logits_are_too_large(link, factor):
    logits, targets = drawn(link)
    scaling = TemperatureScaling(link).fit(factor * logits, targets)
    np.testing.assert_allclose(scaling.temperature_, factor, rtol=0.1)
    np.testing.assert_allclose(scaling.transform(factor * logits), link(factor * logits / scaling.temperature_))


def test_is_the_minimum_that_scipy_finds():
    logits, targets = drawn(softmax, 300)
    expected = minimize_scalar(
        lambda t: log_loss(targets, softmax(2 * logits / np.exp(t))), bounds=(-2, 2), method="bounded",
        options={"xatol": 1e-9},
    )  # fmt: skip
    np.testing.assert_allclose(
        np.log(TemperatureScaling(softmax).fit(2 * logits, targets).temperature_), expected.x, atol=1e-5
    )


def test_report_says_what_changed():
    logits, targets = drawn(softmax, 500)
    scaling = TemperatureScaling(softmax).fit(4 * logits, targets)
    report = scaling.report_
    assert report.n_slides == 500
    assert report.nll_before == log_loss(targets, softmax(4 * logits))
    assert report.nll_after == log_loss(targets, scaling.transform(4 * logits)) < report.nll_before
    assert report.ece_after == ece(targets, scaling.transform(4 * logits)) < report.ece_before
    assert not report.at_bound


def test_separated_classes_are_said_to_be_at_the_bound():
    targets = np.arange(20) % 2
    scaling = TemperatureScaling(softmax).fit(np.eye(2)[targets], targets)
    assert scaling.report_.at_bound
    assert np.isfinite(scaling.transform(np.eye(2)[targets] * 1e6)).all()


def test_huge_logits_and_no_slides():
    targets = np.arange(20) % 2
    assert np.isfinite(TemperatureScaling(softmax).fit(np.eye(2)[::-1][targets] * 1e8, targets).report_.nll_after)
    with pytest.raises(UsageError, match="at least one held-out slide"):
        TemperatureScaling(softmax).fit(np.zeros((0, 2)), np.zeros(0, int))


def test_cross_fitted_uses_the_other_folds_only():
    logits, targets = drawn(softmax, 300)
    fold = np.arange(300) % 3
    found = cross_fitted(softmax, 3 * logits, targets, fold)
    for k in range(3):
        others = TemperatureScaling(softmax).fit(3 * logits[fold != k], targets[fold != k])
        np.testing.assert_allclose(found[fold == k], others.transform(3 * logits[fold == k]))
