"""DeLong's test: do two scores of the same slides have the same AUROC? Closed form, numpy only.

    theta_hat = mean of psi(x_i, y_j),  psi = 1 if x > y, 1/2 if x = y, 0 else;  x of positives, y of negatives
    V10_i = mean over j of psi(x_i, y_j),  V01_j = mean over i of psi(x_i, y_j)
    var(theta) = S10 / m + S01 / n + 2 S11 / (m n),  S as sums over clusters of the V less their mean

DeLong et al.: Comparing the areas under two or more correlated ROC curves, Biometrics 1988. https://doi.org/10.2307/2531595
Sun and Xu: Fast implementation of DeLong's algorithm, IEEE Signal Processing Letters 2014, for V by mid-ranks in
O(n log n). https://doi.org/10.1109/LSP.2014.2337313
Obuchowski: Nonparametric analysis of clustered ROC curve data, Biometrics 1997, for slides of one patient.
https://doi.org/10.2307/2533958. With one slide a patient it is DeLong's own.
"""

from dataclasses import dataclass
from math import erfc, sqrt

import numpy as np

from mil.metrics import midranks
from mil.resampling import Groups, group_numbers


@dataclass(frozen=True, slots=True)
class DeLong:
    """Two AUROCs of the same slides.

    Attributes
    ----------
    first, second : float
    covariance : ndarray (2, 2)
        Of the two.
    p : float
        Two-sided, for their being equal; NaN where nothing varies or fewer than two patients have either answer.
    """

    first: float
    second: float
    covariance: np.ndarray
    p: float

    @property
    def standard_error(self) -> float:
        """Of the difference."""
        (a, ab), (_, b) = self.covariance
        return sqrt(max(a + b - 2 * ab, 0.0))


def delong(positive: np.ndarray, first: np.ndarray, second: np.ndarray, groups: Groups) -> DeLong:
    """Compare the AUROCs of two scores, with slides of one patient taken together.

    It leans on the normal distribution: with fewer than about 30 patients on the smaller side trust the permutation
    test of `mil.comparison` more.

    Parameters
    ----------
    positive : ndarray (n,) bool
    first, second : ndarray (n,)
        Scores of the two models.
    groups : (n,)
        Patient of each slide.
    """
    positive, group = np.asarray(positive, dtype=bool), group_numbers(groups)
    parts = [_components(positive, np.asarray(scores, dtype=np.float64)) for scores in (first, second)]
    theta = np.array([part[positive].mean() if positive.any() else np.nan for part in parts])
    covariance = _covariance(positive, group, np.stack([part - area for part, area in zip(parts, theta, strict=True)]))
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    error = sqrt(variance) if variance > 1e-15 else float("nan")
    p = erfc(abs(theta[1] - theta[0]) / error / sqrt(2))
    return DeLong(float(theta[0]), float(theta[1]), covariance, p)


def _components(positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """V10 of the positives and V01 of the negatives, (n,): the share of the other side that each is in order with."""
    m, n = positive.sum(), (~positive).sum()
    together = midranks(scores)
    parts = np.full(len(scores), np.nan)
    if m and n:
        parts[positive] = (together[positive] - midranks(scores[positive])) / n
        parts[~positive] = 1 - (together[~positive] - midranks(scores[~positive])) / m
    return parts


def _covariance(positive: np.ndarray, group: np.ndarray, centred: np.ndarray) -> np.ndarray:
    """Covariance (2, 2) of the areas from components (2, n) less their mean, summed over each patient's slides."""
    sums = []
    for side in (positive, ~positive):
        clusters = len(np.unique(group[side]))
        total = np.stack([np.bincount(group[side], row[side], minlength=group.max() + 1) for row in centred])
        sums.append((total, clusters, side.sum()))
    (ten, many_ten, m), (one, many_one, n) = sums
    if min(many_ten, many_one) < 2:
        return np.full((2, 2), np.nan)
    s10 = many_ten / ((many_ten - 1) * m) * ten @ ten.T
    s01 = many_one / ((many_one - 1) * n) * one @ one.T
    both = len(np.unique(group))
    s11 = both / (both - 1) * ten @ one.T
    return np.asarray(s10 / m + s01 / n + (s11 + s11.T) / (m * n))
