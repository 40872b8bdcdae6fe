"""The best rising curve through points, and the falling sequence nearest to one. Numpy only.

Ayer et al.: An Empirical Distribution Function for Sampling with Incomplete Information, 1955: neighbours that stand
in the wrong order are pooled into their mean until none does. The result minimises sum_i w_i (y_i - f(x_i))^2 over
all f that do not fall.
"""

from collections.abc import Sequence

import numpy as np

from wsi.errors import UsageError


class IsotonicCurve:
    """A curve that does not fall, straight between the points where it was fitted and level beyond them."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> "IsotonicCurve":
        """Find `x_` (the distinct x, rising) and `y_` (the curve there); equal x are one point, their mean.

        Parameters
        ----------
        x, y : ndarray (n,) float
        """
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        if not len(x) or not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise UsageError(f"an isotonic curve needs finite points, at least one; found {len(x)}")
        self.x_, place, weight = np.unique(x, return_inverse=True, return_counts=True)
        self.y_ = pool_adjacent(np.bincount(place, y) / weight, weight)
        return self

    def restore(self, x: Sequence[float], y: Sequence[float]) -> "IsotonicCurve":
        """Take over the points of a fitted curve."""
        self.x_, self.y_ = np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)
        return self

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The curve at any x."""
        return np.asarray(np.interp(x, self.x_, self.y_))


def pool_adjacent(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The sequence (n,) that does not fall and is nearest to `values` by weighted squares.

    Parameters
    ----------
    values, weights : ndarray (n,)
        Weights are positive.
    """
    pools: list[tuple[float, float, int]] = []  # mean, weight, members
    for value, weight in zip(np.asarray(values).tolist(), np.asarray(weights).tolist(), strict=True):
        mean, total, members = value, weight, 1
        while pools and pools[-1][0] >= mean:
            before, its_weight, its_members = pools.pop()
            mean = (before * its_weight + mean * total) / (its_weight + total)
            total, members = total + its_weight, members + its_members
        pools.append((mean, total, members))
    return np.repeat([pool[0] for pool in pools], [pool[2] for pool in pools])


def falling(rows: np.ndarray) -> np.ndarray:
    """For each row the sequence that does not rise and is nearest to it by squares; rows in order stay as they are.

    By the min-max formula f_k = min over j <= k of max over l >= k of the mean of x_j ... x_l (Robertson, Wright,
    Dykstra: Order Restricted Statistical Inference, 1988, theorem 1.4.4): all rows at once, for rows of a few numbers.

    Parameters
    ----------
    rows : ndarray (..., K) float
    """
    rows = np.asarray(rows, dtype=np.float64)
    size = rows.shape[-1]
    sums = np.concatenate([np.zeros_like(rows[..., :1]), np.cumsum(rows, axis=-1)], axis=-1)  # (..., K+1)
    fitted = np.empty_like(rows)
    for k in range(size):
        ends = np.arange(k, size)
        highest = [((sums[..., ends + 1] - sums[..., [j]]) / (ends + 1 - j)).max(axis=-1) for j in range(k + 1)]
        fitted[..., k] = np.min(highest, axis=0)
    in_order = (np.diff(rows, axis=-1) <= 0).all(axis=-1, keepdims=True)
    return np.where(in_order, rows, fitted)
