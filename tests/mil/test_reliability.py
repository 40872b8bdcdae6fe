import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss

from mil.metrics import brier
from mil.reliability import brier_parts, reliability
from mil.shares import wilson


def drawn(n, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    return p, rng.random(n) < p


def test_points_are_those_of_scikit_learn():
    p, happened = drawn(500)
    found = reliability(p, happened, bins=10)
    observed, predicted = calibration_curve(happened, p, n_bins=10, strategy="quantile")
    np.testing.assert_allclose(found.predicted, predicted, atol=1e-8)
    np.testing.assert_allclose(found.observed, observed, atol=1e-8)


def test_intervals_hold_the_true_share():
    held = []
    for seed in range(200):
        found = reliability(*drawn(200, seed), bins=5)
        held.append((found.low <= found.predicted) & (found.predicted <= found.high))
    assert 0.93 <= np.mean(held) <= 0.98


def test_intervals_hold_it_where_slides_of_a_patient_agree():
    rng = np.random.default_rng(1)
    by_patient, by_slide = [], []
    for _ in range(200):
        p = np.repeat(rng.random(60), 4)
        happened = np.repeat(rng.random(60) < p[::4], 4)
        for kept, patients in ((by_patient, np.repeat(np.arange(60), 4)), (by_slide, None)):
            found = reliability(p, happened, patients, bins=4)
            kept.append((found.low <= found.predicted) & (found.predicted <= found.high))
            assert found.slides.tolist() == [60] * 4
    assert np.mean(by_patient) > 0.93
    assert np.mean(by_slide) < 0.75
    assert reliability(p, happened, np.repeat(np.arange(60), 4), bins=4).patients.tolist() == [15] * 4


def test_one_patient_and_shares_without_spread():
    found = reliability(np.full(10, 0.5), np.ones(10, bool), ["A"] * 10)
    assert found.patients.tolist() == [1]
    low, high = wilson(1.0, 1)
    assert (found.low[0], found.high[0]) == (low, high)
    empty = reliability(np.zeros(0), np.zeros(0, bool))
    assert len(empty.predicted) == len(empty.low) == 0


def test_brier_score_of_two_classes_in_parts_against_scikit_learn():
    p, happened = drawn(300, 2)
    parts = brier_parts(happened.astype(int), np.stack([1 - p, p], axis=1))
    fitted = IsotonicRegression().fit_transform(p, happened)
    base = np.full(300, happened.mean())
    score, calibrated, constant = (2 * brier_score_loss(happened, guess) for guess in (p, fitted, base))
    np.testing.assert_allclose(
        [parts.brier, parts.miscalibration, parts.discrimination, parts.uncertainty],
        [score, score - calibrated, constant - calibrated, constant],
        atol=1e-8,
    )


def test_parts_sum_to_the_score_and_find_what_is_wrong():
    rng = np.random.default_rng(3)
    p = rng.dirichlet([1, 1, 1], 3000)
    y = (rng.random((3000, 1)) > np.cumsum(p, axis=1)).sum(axis=1).clip(0, 2)
    sharp = p**3 / (p**3).sum(axis=1, keepdims=True)
    good, bad = brier_parts(y, p), brier_parts(y, sharp)
    for parts, shown in ((good, p), (bad, sharp)):
        np.testing.assert_allclose(parts.miscalibration - parts.discrimination + parts.uncertainty, brier(y, shown))
    assert 0 <= good.miscalibration < 0.02
    assert bad.miscalibration > 0.08
    np.testing.assert_allclose(good.discrimination, bad.discrimination, atol=0.03)


def test_constant_predictions_tell_nothing():
    parts = brier_parts(np.array([0, 1, 1, 1]), np.tile([0.25, 0.75], (4, 1)))
    np.testing.assert_allclose([parts.miscalibration, parts.discrimination], 0, atol=1e-12)
    np.testing.assert_allclose(parts.uncertainty, 2 * 0.25 * 0.75)
