"""How good predicted numbers are: errors in the target's unit, explained variance, correlation. Numpy only.

Targets and predictions are (n,). Rows with a missing target (NaN) are left out. What is not defined (fewer than two
values, or all of them equal) is NaN.
"""

import numpy as np

from mil.metrics import midranks


def mean_absolute_error(targets: np.ndarray, predicted: np.ndarray) -> float:
    """Mean of the absolute differences, in the unit of the target."""
    truth, found = _known(targets, predicted)
    return float(np.abs(truth - found).mean()) if len(truth) else float("nan")


def root_mean_squared_error(targets: np.ndarray, predicted: np.ndarray) -> float:
    """Root of the mean squared difference, in the unit of the target."""
    truth, found = _known(targets, predicted)
    return float(np.sqrt(((truth - found) ** 2).mean())) if len(truth) else float("nan")


def r_squared(targets: np.ndarray, predicted: np.ndarray) -> float:
    """Share of the targets' variance that is explained: 1 is perfect, 0 is what their mean gives, and it can be less.

    One minus the sum of squared errors over the sum of squares around the mean; not the square of the correlation.
    """
    truth, found = _known(targets, predicted)
    around = ((truth - truth.mean()) ** 2).sum() if len(truth) else 0.0
    return float(1 - ((truth - found) ** 2).sum() / around) if around > 0 else float("nan")


def pearson(targets: np.ndarray, predicted: np.ndarray) -> float:
    """Linear correlation, -1 to 1."""
    truth, found = _known(targets, predicted)
    if len(truth) < 2 or np.ptp(truth) == 0 or np.ptp(found) == 0:
        return float("nan")
    a, b = truth - truth.mean(), found - found.mean()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))


def spearman(targets: np.ndarray, predicted: np.ndarray) -> float:
    """Correlation of the ranks, ties having the middle one."""
    truth, found = _known(targets, predicted)
    return pearson(midranks(truth), midranks(found))


def _known(targets: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    truth, found = np.asarray(targets, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    known = ~np.isnan(truth)
    return truth[known], found[known]
