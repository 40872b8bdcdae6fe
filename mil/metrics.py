"""How good predictions are. Numpy only, so that an auditor needs nothing else; `mil.intervals` says how sure it is.

Targets are class numbers (n,), probabilities (n, C), scores (n,). A metric that is not defined for what it gets (one
class only, say) is NaN.
"""

import numpy as np


def confusion(targets: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Counts (C, C) int64; rows are the truth, columns the predictions."""
    table = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(table, (np.asarray(targets), np.asarray(predicted)), 1)
    return table


def accuracy(targets: np.ndarray, predicted: np.ndarray) -> float:
    """Share of right predictions."""
    return _mean(np.asarray(targets) == np.asarray(predicted))


def balanced_accuracy(targets: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over the classes that occur of the share of them that is found."""
    targets, predicted = np.asarray(targets), np.asarray(predicted)
    return _mean([np.mean(predicted[targets == k] == k) for k in np.unique(targets)])


def sensitivity(positive: np.ndarray, called: np.ndarray) -> float:
    """Share of the positives that are called positive.

    Parameters
    ----------
    positive, called : ndarray (n,) bool
    """
    return _mean(np.asarray(called, dtype=bool)[np.asarray(positive, dtype=bool)])


def specificity(positive: np.ndarray, called: np.ndarray) -> float:
    """Share of the negatives that are not called positive; parameters as for `sensitivity`."""
    return _mean(~np.asarray(called, dtype=bool)[~np.asarray(positive, dtype=bool)])


def f1(targets: np.ndarray, predicted: np.ndarray, n_classes: int | None = None) -> float:
    """Macro F1: mean of 2 TP / (2 TP + FP + FN) over the classes that occur or are predicted."""
    targets, predicted = np.asarray(targets), np.asarray(predicted)
    size = n_classes or int(max(targets.max(initial=0), predicted.max(initial=0))) + 1
    table = confusion(targets, predicted, size)
    total = table.sum(axis=0) + table.sum(axis=1)
    return _mean((2 * np.diag(table))[total > 0] / total[total > 0])


def quadratic_kappa(targets: np.ndarray, predicted: np.ndarray, n_classes: int | None = None) -> float:
    """Cohen's kappa with quadratic weights (QWK): 1 is perfect, 0 is chance. Cohen 1968."""
    targets, predicted = np.asarray(targets), np.asarray(predicted)
    size = n_classes or int(max(targets.max(initial=0), predicted.max(initial=0))) + 1
    table = confusion(targets, predicted, size).astype(np.float64)
    weight = np.subtract.outer(np.arange(size), np.arange(size)) ** 2
    chance = np.outer(table.sum(axis=1), table.sum(axis=0)) / max(table.sum(), 1)
    expected = (weight * chance).sum()
    return float(1 - (weight * table).sum() / expected) if expected > 0 else float("nan")


def grade_error(targets: np.ndarray, predicted: np.ndarray) -> float:
    """Mean absolute error in grades."""
    return _mean(np.abs(np.asarray(targets) - np.asarray(predicted)))


def auroc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties counting half (Mann-Whitney).

    Parameters
    ----------
    positive : ndarray (n,) bool
    scores : ndarray (n,)
    """
    positive = np.asarray(positive, dtype=bool)
    wins = positive.sum()
    losses = len(positive) - wins
    if wins == 0 or losses == 0:
        return float("nan")
    return float((midranks(scores)[positive].sum() - wins * (wins + 1) / 2) / (wins * losses))


def midranks(values: np.ndarray) -> np.ndarray:
    """Place of each value (n,) in ascending order, from 1, float64; equal values share the middle of their places."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[place], dtype=np.float64)


def macro_auroc(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """Two classes: AUROC of the second. More: mean over the classes that occur of one against the rest."""
    targets, probabilities = np.asarray(targets), np.asarray(probabilities)
    if probabilities.shape[1] == 2:
        return auroc(targets == 1, probabilities[:, 1])
    return _mean([auroc(targets == k, probabilities[:, k]) for k in np.unique(targets)])


def average_precision(positive: np.ndarray, scores: np.ndarray) -> float:
    """Sum over thresholds of precision times gain in recall; no interpolation."""
    positive, scores = np.asarray(positive, dtype=bool), np.asarray(scores)
    if not positive.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(positive[order])[ends]
    gain = np.diff(np.concatenate([[0], hits])) / hits[-1]
    return float((gain * hits / (ends + 1)).sum())


def roc_curve(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False and true positive rate at each distinct threshold, highest first, starting at (0, 0, inf)."""
    positive, scores = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=np.float64)
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.concatenate([[0], np.cumsum(positive[order])[ends]])
    misses = np.concatenate([[0], np.cumsum(~positive[order])[ends]])
    with np.errstate(invalid="ignore"):
        return misses / misses[-1], hits / hits[-1], np.concatenate([[np.inf], scores[order][ends]])


def log_loss(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of -log of the probability of the truth (NLL), bounded at the smallest float64 step above 0."""
    chosen = np.take_along_axis(np.asarray(probabilities, dtype=np.float64), np.asarray(targets)[:, None], axis=1)
    return _mean(-np.log(np.maximum(chosen, np.finfo(np.float64).eps)))


def brier(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over slides of the squared distance to the truth, summed over classes (0 to 2). Brier 1950."""
    probabilities = np.asarray(probabilities, dtype=np.float64)
    truth = np.eye(probabilities.shape[1])[np.asarray(targets)]
    return _mean(((probabilities - truth) ** 2).sum(axis=1))


def calibration_bins(
    targets: np.ndarray, probabilities: np.ndarray, bins: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean confidence, accuracy and count of slides in bins of equal count, ordered by confidence.

    The confidence is the probability of the predicted class. Bins of equal count keep a few dozen slides from being
    spread over bins of one or two.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == np.asarray(targets)
    parts = [part for part in np.array_split(np.argsort(confidence, kind="stable"), bins) if len(part)]
    return (
        np.array([confidence[part].mean() for part in parts]),
        np.array([right[part].mean() for part in parts]),
        np.array([len(part) for part in parts]),
    )


def ece(targets: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error of the predicted class over bins of equal count. Guo et al. 2017, equation 3."""
    confidence, right, count = calibration_bins(targets, probabilities, bins)
    return float((np.abs(confidence - right) * count).sum() / count.sum()) if len(count) else float("nan")


def _mean(values: object) -> float:
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()) if array.size else float("nan")
