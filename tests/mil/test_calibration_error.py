import numpy as np
import pytest

from mil import calibration_error as ce
from mil.metrics import ece
from wsi.errors import UsageError


def calibrated(n, seed=0, classes=3, sharpness=1.0):
    """Probabilities, and targets drawn from exactly these."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(classes, sharpness), n)
    return (rng.random((n, 1)) > np.cumsum(p, axis=1)).sum(axis=1).clip(0, classes - 1), p


# Two bins of two: confidence .6 and one of two right, confidence .9 and both right.
P = np.array([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.9, 0.1]])
Y = np.array([0, 1, 0, 0])


def test_bins_by_hand():
    found = ce.equal_mass(*ce.top_label(Y, P), 2)
    np.testing.assert_allclose(found.predicted, [0.6, 0.9])
    assert found.observed.tolist() == [0.5, 1]
    assert found.count.tolist() == [2, 2]
    assert found.member.tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(ce.plain_error(found), 0.1)


def test_errors_by_hand():
    found = ce.equal_mass(*ce.top_label(Y, P), 2)
    # Variances of the shares: 1/4 and 0.
    np.testing.assert_allclose(ce.squared_error(found), ((0.1**2 - 0.25) + 0.1**2) / 2)
    normal = np.random.default_rng(0).normal(0.1, 0.5, 2_000_000)
    drawn = 2 * 0.1 - np.abs(normal).mean()
    np.testing.assert_allclose(ce.debiased_error(found), (drawn + 0.1) / 2, atol=1e-3)


def test_ties_share_a_bin_whatever_their_order():
    p = np.array([0.5] * 6 + [0.7, 0.8, 0.9])
    happened = np.array([1, 0, 1, 0, 0, 0, 1, 1, 0], dtype=bool)
    first = ce.equal_mass(p, happened, 3)
    assert first.count.tolist() == [6, 3]
    other = np.random.default_rng(0).permutation(9)
    again = ce.equal_mass(p[other], happened[other], 3)
    np.testing.assert_array_equal(first.observed, again.observed)
    np.testing.assert_array_equal(first.member[other], again.member)


def test_without_ties_bins_are_those_of_the_plain_error():
    y, p = calibrated(200)
    np.testing.assert_allclose(ce.plain_error(ce.equal_mass(*ce.top_label(y, p), 10)), ece(y, p, 10))


def test_equal_width_by_hand():
    found = ce.equal_width(np.array([0.0, 0.09, 0.95, 1.0]), np.array([0, 1, 1, 1]), 10)
    assert found.count.tolist() == [2, 2]
    np.testing.assert_allclose(found.predicted, [0.045, 0.975])


def test_errors_of_calibrated_predictions():
    plain, debiased, squared = np.transpose(
        [
            (ece(y, p), ce.ece_debiased(y, p), ce.squared_calibration_error(y, p))
            for y, p in (calibrated(150, seed) for seed in range(300))
        ]
    )
    assert plain.mean() > 0.07  # what chance alone looks like
    np.testing.assert_allclose(debiased.mean() / plain.mean(), 2 - np.sqrt(2), atol=0.06)  # of normal differences
    assert abs(squared.mean()) < 3 * squared.std() / np.sqrt(300)


def test_debiased_errors_find_what_is_there():
    """Probabilities of .9 and .1 where .7 and .3 is true: off by .2 everywhere."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(200):
        high = rng.random(100) < 0.5
        p = np.where(high, 0.9, 0.1) + rng.uniform(-0.01, 0.01, 100)
        y = (rng.random(100) < np.where(high, 0.7, 0.3)).astype(int)
        both = np.stack([1 - p, p], axis=1)
        found.append((ce.ece_debiased(y, both, 5), ce.squared_calibration_error(y, both, 5)))
    debiased, squared = np.mean(found, axis=0)
    assert debiased == pytest.approx(0.2, abs=0.015)
    assert squared == pytest.approx(0.04, abs=0.006)


def test_sweep_takes_the_most_bins_that_rise():
    y, p = np.array([1, 0, 1, 1]), np.array([0.6, 0.7, 0.8, 0.9])
    both = np.stack([1 - p, p], axis=1)
    # Two bins: 1/2 and 1 of them right. Three bins of 1, 2 and 1: 1, 1/2, 1 falls.
    np.testing.assert_allclose(ce.sweep_ece(y, both), (abs(0.65 - 0.5) + abs(0.85 - 1)) / 2)
    all_right = np.array([1, 1, 1, 1])
    np.testing.assert_allclose(ce.sweep_ece(all_right, both), 0.25)


def test_sweep_is_less_biased_than_plain():
    pairs = [(ce.sweep_ece(y, p), ece(y, p)) for y, p in (calibrated(100, seed) for seed in range(100))]
    sweep, plain = np.mean(pairs, axis=0)
    assert sweep < plain


def test_classes_by_hand():
    y, p = np.array([0, 0, 1]), np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]])
    np.testing.assert_allclose(ce.classwise_ece(y, p, 1), [abs(1.5 - 2) / 3, abs(1.2 - 1) / 3, 0.1])
    np.testing.assert_allclose(ce.adaptive_ece(y, p, 1), np.mean([0.5 / 3, 0.2 / 3, 0.1]))
    wide = ce.classwise_ece(y, p, 2, cut=ce.equal_width)
    np.testing.assert_allclose(wide[0], (0.1 * 1 + abs(0.7 - 1) * 2) / 3)


def test_the_predicted_class_can_hide_what_classes_show():
    """Sure of the right share of slides, but always of the wrong one of two classes."""
    p = np.tile([0.5, 0.3, 0.2], (1000, 1))
    y = np.repeat([0, 2, 1], [500, 300, 200])
    assert ce.ece_debiased(y, p) < 1e-3
    np.testing.assert_allclose(ce.classwise_ece(y, p), [0, 0.1, 0.1], atol=1e-12)
    assert ce.classwise_ece(y, p, debias=True)[1] == pytest.approx(0.1, abs=1e-3)


def test_questions_of_grades():
    y, p = np.array([0, 2]), np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    (first, above), (second, highest) = ce.grade_questions(y, p)
    np.testing.assert_allclose(first, [0.3, 0.9])
    np.testing.assert_allclose(second, [0.1, 0.6])
    assert above.tolist() == highest.tolist() == [False, True]


def test_one_slide_none_and_nan():
    assert ce.ece_debiased(np.array([0]), np.array([[0.75, 0.25]])) == 0.25
    none = np.zeros(0, int), np.zeros((0, 3))
    assert np.isnan(ce.ece_debiased(*none))
    assert np.isnan(ce.adaptive_ece(*none))
    assert np.isnan(ce.sweep_ece(*none))
    assert ce.equal_width(np.array([1 + 1e-9, -1e-9]), np.array([True, False])).predicted.tolist() == [0, 1]
    with pytest.raises(UsageError, match="above 1"):
        ce.equal_mass(np.array([0.1, 1.1]), np.array([True, False]))
    with pytest.raises(UsageError, match="not a number"):
        ce.equal_mass(np.array([0.1, np.nan]), np.array([True, False]))
