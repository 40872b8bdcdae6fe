import subprocess
import sys

import numpy as np
import pytest
from sklearn import metrics as oracle

from mil import metrics

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def made_up(n=200, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[targets]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return targets, probabilities.argmax(axis=1), probabilities


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_labels_against_scikit_learn(classes, seed):
    y, k, _ = made_up(60, classes, seed)
    np.testing.assert_array_equal(metrics.confusion(y, k, classes), oracle.confusion_matrix(y, k))
    np.testing.assert_allclose(metrics.accuracy(y, k), oracle.accuracy_score(y, k), **EXACT)
    np.testing.assert_allclose(metrics.balanced_accuracy(y, k), oracle.balanced_accuracy_score(y, k), **EXACT)
    np.testing.assert_allclose(metrics.f1(y, k), oracle.f1_score(y, k, average="macro"), **EXACT)
    kappa = oracle.cohen_kappa_score(y, k, weights="quadratic")
    np.testing.assert_allclose(metrics.quadratic_kappa(y, k), kappa, **EXACT)
    np.testing.assert_allclose(metrics.quadratic_kappa(y, k, classes + 2), kappa, **EXACT)
    np.testing.assert_allclose(metrics.grade_error(y, k), oracle.mean_absolute_error(y, k), **EXACT)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_probabilities_against_scikit_learn(classes, seed):
    y, _, p = made_up(80, classes, seed)
    np.testing.assert_allclose(metrics.log_loss(y, p), oracle.log_loss(y, p), **EXACT)
    np.testing.assert_allclose(metrics.brier(y, p), ((p - np.eye(classes)[y]) ** 2).sum(1).mean(), **EXACT)
    expected = oracle.roc_auc_score(y, p[:, 1]) if classes == 2 else oracle.roc_auc_score(y, p, multi_class="ovr")
    np.testing.assert_allclose(metrics.macro_auroc(y, p), expected, **EXACT)
    if classes == 2:
        binary = oracle.brier_score_loss(y, p[:, 1])  # half of Brier's own sum over both classes
        np.testing.assert_allclose(metrics.brier(y, p), 2 * binary, **EXACT)


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_ranking_against_scikit_learn_with_ties(decimals):
    rng = np.random.default_rng(decimals)
    positive = rng.random(150) < 0.3
    scores = np.round(rng.normal(size=150) + positive, decimals)
    np.testing.assert_allclose(metrics.auroc(positive, scores), oracle.roc_auc_score(positive, scores), **EXACT)
    expected = oracle.average_precision_score(positive, scores)
    np.testing.assert_allclose(metrics.average_precision(positive, scores), expected, **EXACT)
    for found, wanted in zip(
        metrics.roc_curve(positive, scores), oracle.roc_curve(positive, scores, drop_intermediate=False), strict=True
    ):
        np.testing.assert_allclose(found, wanted, **EXACT)


def test_auroc_by_hand():
    assert metrics.auroc([1, 1, 0], [0.9, 0.5, 0.5]) == 0.75
    assert metrics.auroc([1, 0], [0.0, 0.0]) == 0.5
    assert metrics.auroc([0, 1, 1], [0.9, 0.5, 0.1]) == 0


def test_quadratic_kappa_by_hand():
    # Three slides, all one grade off in a scale of three: observed 1/4 each; chance from the margins.
    assert metrics.quadratic_kappa([0, 1, 2], [0, 1, 2]) == 1
    assert metrics.quadratic_kappa([0, 0, 1, 1], [0, 1, 0, 1]) == 0
    assert metrics.quadratic_kappa([0, 2], [2, 0]) == -1


def test_not_defined_is_nan():
    assert np.isnan(metrics.auroc([1, 1], [0.1, 0.2]))
    assert np.isnan(metrics.average_precision([0, 0], [0.1, 0.2]))
    assert np.isnan(metrics.quadratic_kappa([1, 1], [1, 1]))
    assert np.isnan(metrics.accuracy([], []))
    assert np.isfinite(metrics.log_loss(np.array([0]), np.array([[0.0, 1.0]])))


def test_calibration_error_by_hand():
    # Two bins: confidence .6 and right half of the time, confidence .9 and always right.
    p = np.array([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.9, 0.1]])
    y = np.array([0, 1, 0, 0])
    confidence, right, count = metrics.calibration_bins(y, p, 2)
    np.testing.assert_allclose(confidence, [0.6, 0.9])
    np.testing.assert_allclose(right, [0.5, 1])
    assert count.tolist() == [2, 2]
    np.testing.assert_allclose(metrics.ece(y, p, 2), (0.1 + 0.1) / 2)


def test_calibration_error_vanishes_for_true_probabilities():
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], 40_000)
    y = (rng.random((40_000, 1)) > np.cumsum(p, axis=1)).sum(axis=1)
    assert metrics.ece(y, p) < 0.01
    assert metrics.ece(y, p**3 / (p**3).sum(axis=1, keepdims=True)) > 0.1


def test_an_auditor_needs_no_torch():
    code = (
        "import sys, mil.metrics, mil.intervals, mil.calibration, mil.prediction, mil.cohort, mil.links;"
        "import mil.comparison, mil.delong, mil.operating_points;"
        "sys.exit(bool({'torch', 'sklearn', 'scipy', 'lightning'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
