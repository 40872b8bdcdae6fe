"""How well risks order the times to an event: the concordance index of Harrell, and of Uno. Numpy only.

    C = sum over comparable pairs (i, j) of w_i [1(r_i > r_j) + 1/2 1(r_i = r_j)]  /  sum of w_i

A pair is comparable when i has the event and j is known to be free of it for longer: t_j > t_i, or t_j = t_i and j is
censored then. Harrell: w_i = 1. Uno: w_i = 1 / G(t_i)^2 with G the share not yet censored, which makes C independent
of how many are censored and when.

Harrell et al.: Evaluating the yield of medical tests, JAMA 1982. https://doi.org/10.1001/jama.1982.03320430047030
Uno et al.: On the C-statistics for evaluating overall adequacy of risk prediction procedures with censored survival
data, Statistics in Medicine 2011. https://doi.org/10.1002/sim.4154
"""

import numpy as np

from wsi.errors import UsageError


def concordance(times: np.ndarray, events: np.ndarray, risks: np.ndarray) -> float:
    """Harrell's C-index: 1 is perfect order, .5 is chance; NaN without a comparable pair.

    Parameters
    ----------
    times : ndarray (n,)
        Until the event, or until a slide's patient was last seen without it; any unit.
    events : ndarray (n,) bool
        Whether the event was seen.
    risks : ndarray (n,)
        Higher means earlier.
    """
    times, events, risks = _checked(times, events, risks)
    return _weighted_concordance(times, events, risks, np.ones(len(times)))


def uno_concordance(
    times: np.ndarray,
    events: np.ndarray,
    risks: np.ndarray,
    *,
    horizon: float | None = None,
    censoring: tuple[np.ndarray, np.ndarray] | None = None,
) -> float:
    """Uno's C-index; parameters as for `concordance`.

    Parameters
    ----------
    horizon : float, optional
        Only events before this time count. Late events of a few patients weigh much: choose a time at which enough of
        them are still followed.
    censoring : (times (m,), events (m,)), optional
        Where the share not yet censored is learned from, usually the training patients; the slides themselves if left
        out. Events at which that share is 0 cannot be weighted and do not count.
    """
    times, events, risks = _checked(times, events, risks)
    known_times, known_events = (times, events) if censoring is None else map(np.asarray, censoring)
    free = not_censored(known_times, known_events.astype(bool), times)
    counted = events & (free > 0) & (times < (np.inf if horizon is None else horizon))
    weights = np.where(counted, 1 / np.where(counted, free, 1) ** 2, 0.0)
    return _weighted_concordance(times, events, risks, weights)


def not_censored(times: np.ndarray, events: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Kaplan-Meier estimate of the share that is not censored up to and including each time in `at`, (len(at),).

    Events at a time come before censorings at the same time.
    """
    moments, place = np.unique(times, return_inverse=True)
    leave = np.bincount(place)
    censored = np.bincount(place, weights=~events)
    at_risk = leave[::-1].cumsum()[::-1] - (leave - censored)
    stay = np.cumprod(1 - np.divide(censored, at_risk, out=np.zeros(len(moments)), where=at_risk > 0))
    return np.concatenate([[1.0], stay])[np.searchsorted(moments, at, side="right")]


def _weighted_concordance(times: np.ndarray, events: np.ndarray, risks: np.ndarray, weights: np.ndarray) -> float:
    """After sorting, those comparable with an event are all that come after the events of its time."""
    order = np.lexsort((~events, times))  # at one time the events first
    times, events, weights = times[order], events[order], weights[order]
    rank = np.unique(risks[order], return_inverse=True)[1]
    mine = np.flatnonzero(events & (weights > 0))
    past = np.searchsorted(times, times[mine], side="left")
    past += np.bincount(np.searchsorted(times, times[events], side="left"), minlength=len(times) + 1)[past]
    lower, equal = _counts_after(rank, past, rank[mine])
    total = weights[mine] @ (len(times) - past)
    return float(weights[mine] @ (lower + equal / 2) / total) if total > 0 else float("nan")


def _counts_after(rank: np.ndarray, start: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of `rank[start:]` (n,) are below each `value`, and how many equal it, (m,) each; ranks are from 0.

    What comes after a place is a few stretches whose lengths are powers of two. The stretches of one length are sorted
    at once, so that all counts take n log(n)^2 steps and no array is longer than twice n.
    """
    span = 1 << max(len(rank) - 1, 0).bit_length()
    top = int(rank.max(initial=0)) + 1  # fills up to the power of two, above every rank
    padded = np.concatenate([rank, np.full(span - len(rank), top)])
    place = np.minimum(start, span)
    lower, equal = np.zeros((2, len(start)), dtype=np.int64)
    for level in range(span.bit_length()):
        length = 1 << level
        asked = np.flatnonzero((place & length > 0) | ((length == span) & (place == 0)))
        stretch = place[asked] >> level
        inside = stretch < span >> level  # a place at the end has nothing after it
        asked, stretch = asked[inside], stretch[inside]
        keys = np.sort((np.arange(span) >> level) * (top + 1) + padded)
        wanted = stretch * (top + 1) + value[asked]
        below = np.searchsorted(keys, wanted, side="left")
        lower[asked] += below - stretch * length
        equal[asked] += np.searchsorted(keys, wanted, side="right") - below
        place[asked] += length
    return lower, equal


def _checked(times: np.ndarray, events: np.ndarray, risks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    times, risks = np.asarray(times, dtype=np.float64), np.asarray(risks, dtype=np.float64)
    events = np.asarray(events).astype(bool)
    if not times.shape == events.shape == risks.shape or times.ndim != 1:
        raise UsageError(f"expected times, events and risks (n,); found {times.shape}, {events.shape}, {risks.shape}")
    if not (np.isfinite(times).all() and np.isfinite(risks).all()):
        raise UsageError("a time or a risk is not a finite number; leave slides without follow-up out")
    return times, events, risks
