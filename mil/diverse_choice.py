"""Which slides to have labelled next: those that the model doubts, and not the same ones over and over.

The slides of a batch are chosen as the likeliest set of a determinantal point process,

    P(Y) ~ det(L_Y),    L_ij = q_i S_ij q_j,    S_ij = exp(-|x_i - x_j|^2 / (2 s^2)),

greedily, each next one where it raises the determinant most. A slide's own worth is q_i^2, here by its uncertainty, and
what it has in common with those chosen before takes from it; s^2 is half of the mean squared distance of two slides.

Kulesza, Taskar: Determinantal Point Processes for Machine Learning, 2012. https://arxiv.org/abs/1207.6083
Chen, Zhang, Zhou: Fast Greedy MAP Inference for Determinantal Point Process, NeurIPS 2018 (algorithm 1).
https://arxiv.org/abs/1709.05135
Choosing by uncertainty and diversity at once: Ash et al.: Deep Batch Active Learning by Diverse, Uncertain Gradient
Lower Bounds, ICLR 2020. https://arxiv.org/abs/1906.03671
By coverage alone (k-center): Sener, Savarese, ICLR 2018. https://arxiv.org/abs/1708.00489

Nothing is drawn at random: equal slides are taken in their order.
"""

from dataclasses import dataclass

import numpy as np

SURE = 0.05
"""What a slide without any doubt is worth: little, so that it comes after doubtful ones, but not nothing."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen slide: its row, the row of those before that is most like it (-1: none is), and how like, 0 to 1."""

    row: int
    nearest: int
    similarity: float


def choose_diverse(features: np.ndarray, uncertainty: np.ndarray, count: int) -> list[Choice]:
    """Choose slides one after the other.

    Parameters
    ----------
    features : ndarray (n, D)
        Finite; each column is brought to unit variance first.
    uncertainty : ndarray (n,)
        0 to 1.
    count : int
        How many; all if there are fewer.
    """
    n = len(features)
    points = _standardised(np.asarray(features, np.float64))  # (n, D)
    worth = SURE + np.asarray(uncertainty, np.float64)  # (n,)
    width = _mean_squared_distance(points)
    gain = worth**2  # (n,): what each adds to log det, before the logarithm
    parts = np.zeros((n, 0))  # (n, chosen): columns of the Cholesky factor of L
    like = np.zeros(n)  # (n,): similarity to the nearest chosen
    nearest = np.full(n, -1)
    free = np.ones(n, bool)
    chosen: list[Choice] = []
    for _ in range(min(count, n)):
        row = int(np.argmax(np.where(free, gain, -np.inf)))
        chosen.append(Choice(row, int(nearest[row]), float(like[row])))
        free[row] = False
        same = _similarity(points, row, width)  # (n,)
        closer = same > like
        nearest[closer], like[closer] = row, same[closer]
        if gain[row] > 1e-12:
            part = (worth * same * worth[row] - parts @ parts[row]) / np.sqrt(gain[row])  # (n,)
            parts = np.column_stack([parts, part])  # (n, chosen)
            gain = np.maximum(gain - part**2, 0)
    return chosen


def _standardised(points: np.ndarray) -> np.ndarray:
    spread = points.std(axis=0)
    return (points - points.mean(axis=0)) / np.where(spread > 0, spread, 1)


def _mean_squared_distance(points: np.ndarray) -> float:
    """Mean of |x - y|^2 over pairs of slides, by way of their variance."""
    return max(2 * float(points.var(axis=0).sum()), 1e-12)


def _similarity(points: np.ndarray, row: int, width: float) -> np.ndarray:
    return np.exp(-np.square(points - points[row]).sum(axis=1) / width)
