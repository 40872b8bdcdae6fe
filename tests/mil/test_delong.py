"""DeLong's test against the pairwise definition, and against simulated patients."""

from math import erfc, sqrt

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mil.delong import delong


def pairwise(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Components of the positives and the negatives straight from the kernel, O(m n)."""
    x, y = scores[positive][:, None], scores[~positive][None]
    psi = (x > y) + 0.5 * (x == y)
    return psi.mean(axis=1), psi.mean(axis=0)


@pytest.mark.parametrize("decimals", [0, 8])
@pytest.mark.parametrize("seed", range(3))
def test_one_slide_a_patient_is_delongs_own(decimals: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.random(60) < 0.4
    shared = rng.normal(size=60)
    a, b = (np.round(shared + rng.normal(size=60) + k * positive, decimals) for k in (1, 0.5))
    found = delong(positive, a, b, np.arange(60))
    (a10, a01), (b10, b01) = pairwise(positive, a), pairwise(positive, b)
    expected = np.cov(np.stack([a10, b10])) / positive.sum() + np.cov(np.stack([a01, b01])) / (~positive).sum()
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-10)
    assert found.first == pytest.approx(roc_auc_score(positive, a))
    assert found.second == pytest.approx(roc_auc_score(positive, b))
    z = (found.second - found.first) / sqrt(expected[0, 0] + expected[1, 1] - 2 * expected[0, 1])
    assert found.p == pytest.approx(erfc(abs(z) / sqrt(2)))


def test_clusters_by_the_sums_of_the_paper() -> None:
    """Obuchowski's S10, S01 and S11 written out, cluster by cluster."""
    rng = np.random.default_rng(4)
    patient = rng.integers(0, 12, 50)
    positive = rng.random(50) < 0.5
    scores = np.round(rng.normal(size=50) + positive, 1)
    found = delong(positive, scores, -scores, patient)
    v10, v01 = pairwise(positive, scores)
    theta, m, n = v10.mean(), positive.sum(), (~positive).sum()
    with_it = [g for g in range(12) if (positive & (patient == g)).any()]
    without = [g for g in range(12) if (~positive & (patient == g)).any()]
    ten = {g: v10[patient[positive] == g].sum() - (positive & (patient == g)).sum() * theta for g in range(12)}
    one = {g: v01[patient[~positive] == g].sum() - (~positive & (patient == g)).sum() * theta for g in range(12)}
    s10 = len(with_it) / ((len(with_it) - 1) * m) * sum(ten[g] ** 2 for g in with_it)
    s01 = len(without) / ((len(without) - 1) * n) * sum(one[g] ** 2 for g in without)
    everybody = len(set(patient))
    s11 = everybody / (everybody - 1) * sum(ten[g] * one[g] for g in range(12))
    assert found.covariance[0, 0] == pytest.approx(s10 / m + s01 / n + 2 * s11 / (m * n))
    assert found.covariance[0, 1] == pytest.approx(-found.covariance[0, 0])  # a score turned round


def simulated(gain: float, clustered: bool, trials: int) -> float:
    """Share of trials with p < .05; 40 patients with 3 slides that share most of both models' noise."""
    rng, hits = np.random.default_rng(5), 0
    patient = np.repeat(np.arange(40), 3)
    for _ in range(trials):
        positive = np.repeat(rng.random(40) < 0.5, 3)
        a, b = (np.repeat(rng.normal(size=40), 3) + 0.3 * rng.normal(size=120) + positive for _ in range(2))
        hits += delong(positive, a, b + gain * positive, patient if clustered else np.arange(120)).p < 0.05
    return hits / trials


def test_false_alarms_are_as_rare_as_promised() -> None:
    assert 0.02 <= simulated(0, True, 500) <= 0.085
    assert simulated(0, False, 300) > 0.15  # slides taken for patients: far too many


def test_a_difference_is_found() -> None:
    assert simulated(1.6, True, 200) > 0.7


def test_nothing_to_tell() -> None:
    positive, scores = np.arange(10) < 4, np.arange(10.0)
    assert np.isnan(delong(positive, scores, scores, np.arange(10)).p)  # the same model twice
    assert np.isnan(delong(positive & False, scores, -scores, np.arange(10)).p)
    assert np.isnan(delong(positive, scores, -scores, ["P"] * 10).p)  # one patient
