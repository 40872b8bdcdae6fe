"""How sure a share is (so many of so many slides), when several slides may be of one patient. Numpy only.

Wilson: Probable inference, the law of succession, and statistical inference, JASA 1927. Unlike a bootstrap it says
something at 0 of 20 and 20 of 20 as well.
Korn, Graubard: Confidence intervals for proportions with small expected number of positive counts, Survey Methodology
1998: Wilson's trials are as many as the slides are worth, by their variance over patients.
"""

from collections.abc import Sequence
from math import nan
from statistics import NormalDist

import numpy as np

from mil.intervals import Interval


def wilson(share: np.ndarray | float, count: np.ndarray | float, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of Wilson's interval for shares out of `count` independent trials."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, count = np.asarray(share, dtype=np.float64), np.asarray(count, dtype=np.float64)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    # At shares of 0 and 1 an end is the share itself, but for rounding.
    return np.clip(middle - half, 0, share), np.clip(middle + half, share, 1)


def worth(happened: np.ndarray, patients: Sequence[str] | np.ndarray | None = None) -> float:
    """As how many independent slides these count: at least as their patients, at most as their number.

    Parameters
    ----------
    happened : ndarray (n,) bool
    patients : (n,), optional
        Whose slide each is; without it each slide is a patient of its own.
    """
    count = len(happened)
    if patients is None or not count:
        return float(count)
    group = np.unique(np.asarray(patients), return_inverse=True)[1]
    members, share = int(group.max()) + 1, float(np.mean(happened))
    if members in (1, count) or not 0 < share < 1:
        return float(members)
    spread = np.bincount(group, np.asarray(happened, dtype=np.float64) - share)
    variance = (spread**2).sum() * members / (members - 1) / count**2
    return float(np.clip(share * (1 - share) / variance if variance > 0 else count, members, count))


def share_interval(
    happened: np.ndarray, patients: Sequence[str] | np.ndarray | None = None, level: float = 0.95
) -> Interval:
    """Share of slides in which something happened, with Wilson's interval by patient; NaN where there are no slides."""
    happened = np.asarray(happened, dtype=bool)
    if not len(happened):
        return Interval(nan, nan, nan, level, 0, "undefined")
    share = float(happened.mean())
    low, high = wilson(share, worth(happened, patients), level)
    groups = len(happened) if patients is None else len(np.unique(np.asarray(patients)))
    return Interval(share, float(low), float(high), level, groups, "Wilson by patient")
