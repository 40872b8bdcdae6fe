"""Drawing patients: with replacement for intervals, and swapping of two models for tests. Numpy only.

Slides of one patient always go together: they stand or fall together, and drawn one by one they would make every
interval too short and every difference too significant.
"""

from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np

Groups = Sequence[str] | np.ndarray


def group_numbers(groups: Groups) -> np.ndarray:
    """Number of each slide's group, from 0 in the order of their names, (n,) int64."""
    return np.unique(np.asarray(groups), return_inverse=True)[1]


def resamples(groups: Groups, n: int, seed: int) -> Iterator[np.ndarray]:
    """`n` times the rows (m,) int64 of as many groups as there are, drawn with replacement, each whole."""
    group = group_numbers(groups)
    rows = np.argsort(group, kind="stable")
    size = np.bincount(group)
    start = np.cumsum(size) - size
    rng = np.random.default_rng(seed)
    for _ in range(n):
        drawn = rng.integers(len(size), size=len(size))
        length = size[drawn]
        shift = start[drawn] - (np.cumsum(length) - length)
        yield rows[np.repeat(shift, length) + np.arange(length.sum())]


def swaps(groups: Groups, n: int, seed: int) -> tuple[int, bool, Iterator[np.ndarray]]:
    """Which slides (rows,) bool change sides, by whole groups.

    Returns
    -------
    count : int
    every : bool
        Each of the 2^groups ways once, since there are no more than `n`; else `n` ways at random.
    masks : iterator
    """
    group = group_numbers(groups)
    count = int(group.max()) + 1
    if count < 63 and 2**count <= n:
        return 2**count, True, ((((way >> np.arange(count)) & 1) == 1)[group] for way in range(2**count))
    rng = np.random.default_rng(seed)
    return n, False, ((rng.random(count) < 0.5)[group] for _ in range(n))


def t_quantile(share: float, freedom: int) -> float:
    """Quantile of Student's t, by the expansion of Cornish and Fisher: within 1 % from four degrees of freedom on.

    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    z = NormalDist().inv_cdf(share)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))
