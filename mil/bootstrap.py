"""How sure a metric is: a number with its interval, from resampling whole patients. Numpy only.

An interval for a metric that cannot leave its bounds is made where it can: on the logit (or log) scale, as estimate
plus and minus Student's t times the bootstrap's standard error, and carried back. For an AUROC of .96 from 40 patients
percentiles hold the truth in 84 to 87 % instead of 95 %, since resamples of nearly perfect predictions look better
still; this one does in 98 to 99 %, and nearer the middle in 95 to 97 % (`tests/mil/test_bootstrap.py`).

Pepe: The Statistical Evaluation of Medical Tests, 2003, section 5.2 for the scale; Efron and Tibshirani: An
Introduction to the Bootstrap, 1993, chapter 12 for bootstrap-and-t.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from math import exp, isfinite, log, sqrt
from typing import Any, TypeVar

import numpy as np

from mil.resampling import Groups, group_numbers, resamples, t_quantile

Bounds = tuple[float, float]
"""The least and the greatest value that a metric can have; infinite where there is none."""
SHARE: Bounds = (0.0, 1.0)
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Interval:
    """A number and how sure it is.

    Attributes
    ----------
    estimate, low, high : float
    level : float
        Share of such intervals that hold the true value.
    n_groups : int
        Independent groups (patients) behind it.
    method : str
    undefined : int
        Resamples in which the metric was not defined; they are left out.
    """

    estimate: float
    low: float
    high: float
    level: float
    n_groups: int
    method: str
    undefined: int = 0

    def __str__(self) -> str:
        return f"{self.estimate:.3f} ({self.low:.3f} to {self.high:.3f})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; None where a number is not defined."""
        numbers = {name: getattr(self, name) for name in ("estimate", "low", "high")}
        known = {name: value if isfinite(value) else None for name, value in numbers.items()}
        rest = {name: getattr(self, name) for name in ("level", "n_groups", "method", "undefined")}
        return known | rest


def bootstrap(
    metric: Callable[..., float],
    *columns: np.ndarray,
    groups: Groups,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    bounds: Bounds | None = None,
    units: int | None = None,
) -> Interval:
    """Interval of `metric(*columns)` by resampling whole groups (patients).

    Parameters
    ----------
    columns : ndarray (n_slides, ...)
        Handed to the metric row by row resampled.
    groups : (n_slides,)
        What must be drawn together.
    n : int
        Resamples.
    bounds : (low, high), optional
        Between which the metric lies. Without them the interval is that of the percentiles, widened to hold the
        estimate; it is too short for few groups and estimates near a bound.
    units : int, optional
        Groups that stand behind an estimate at its very bound; all of them if left out.
    """
    found = bootstrap_each({"": metric}, *columns, groups=groups, n=n, seed=seed)[""]
    return interval(*found, groups=len(set(group_numbers(groups))), level=level, bounds=bounds, units=units)


def bootstrap_each(
    metrics: Mapping[Name, Callable[..., float]], *columns: np.ndarray, groups: Groups, n: int = 1000, seed: int = 0
) -> dict[Name, tuple[float, np.ndarray]]:
    """Estimate and values (n,) of several metrics on the same resamples; parameters as for `bootstrap`."""
    arrays = [np.asarray(column) for column in columns]
    drawn = {name: np.empty(n) for name in metrics}
    for number, rows in enumerate(resamples(groups, n, seed)):
        some = [array[rows] for array in arrays]
        for name, metric in metrics.items():
            drawn[name][number] = metric(*some)
    return {name: (float(metric(*arrays)), drawn[name]) for name, metric in metrics.items()}


def interval(
    estimate: float,
    drawn: np.ndarray,
    *,
    groups: int,
    level: float = 0.95,
    bounds: Bounds | None = None,
    units: int | None = None,
) -> Interval:
    """The interval that resamples `drawn` (n,) of a metric give; parameters as for `bootstrap`, `groups` counted."""
    known = drawn[np.isfinite(drawn)]
    undefined = len(drawn) - len(known)
    if len(known) < 2 or groups < 2 or not isfinite(estimate):
        return Interval(estimate, float("nan"), float("nan"), level, groups, "undefined", undefined)
    if bounds is None:
        low, high = _percentiles(estimate, known, level)
        method = f"percentile bootstrap, {len(drawn)} resamples"
    elif not bounds[0] < estimate < bounds[1]:
        low, high = _at_bound(estimate, bounds, units or groups, level)
        method = f"exact, all of {units or groups} groups at the bound"
    else:
        low, high, scale = _on_scale(estimate, known, groups, level, bounds)
        method = f"bootstrap {scale}, {len(drawn)} resamples"
    return Interval(estimate, low, high, level, groups, method, undefined)


def _percentiles(estimate: float, known: np.ndarray, level: float) -> tuple[float, float]:
    """Widened to hold the estimate, where resampling shifts a metric to one side."""
    low, high = np.quantile(known, ((1 - level) / 2, (1 + level) / 2))
    return min(float(low), estimate), max(float(high), estimate)


def _at_bound(estimate: float, bounds: Bounds, units: int, level: float) -> tuple[float, float]:
    """Clopper and Pearson's interval for `units` successes out of `units`, stretched to the bounds.

    Resamples of flawless predictions are flawless, so the bootstrap would claim certainty. For a share it is exact; an
    AUROC is a share of pairs, of which so many share no patient as the smaller side has patients.
    """
    low, high = bounds
    reach = (high - low) * (1 - ((1 - level) / 2) ** (1 / units))
    return (estimate, estimate + reach) if estimate <= low else (estimate - reach, estimate)


def _on_scale(
    estimate: float, known: np.ndarray, groups: int, level: float, bounds: Bounds
) -> tuple[float, float, str]:
    """Student's t times the standard error around the estimate, on a scale that has no bounds.

    The standard error of resamples is that of a variance divided by n instead of n - 1, which is put right.
    """
    low, high = bounds
    reach = t_quantile((1 + level) / 2, groups - 1) * float(known.std(ddof=1)) * sqrt(groups / (groups - 1))
    if isfinite(low) and isfinite(high):
        middle = log((estimate - low) / (high - estimate))
        reach *= (high - low) / ((estimate - low) * (high - estimate))
        ends = [low + (high - low) / (1 + exp(-x)) if x > -700 else low for x in (middle - reach, middle + reach)]
        return ends[0], ends[1], "on the logit scale"
    if isfinite(low):
        return low + (estimate - low) * exp(-reach / (estimate - low)), _far(low, estimate, reach), "on the log scale"
    if isfinite(high):
        return (
            -_far(-high, -estimate, reach),
            high - (high - estimate) * exp(-reach / (high - estimate)),
            "on the log scale",
        )
    return estimate - reach, estimate + reach, "with Student's t"


def _far(low: float, estimate: float, reach: float) -> float:
    """The end that points away from a lower bound, on the log scale."""
    above = estimate - low
    return low + above * exp(min(reach / above, 700.0))


__all__ = ["SHARE", "Bounds", "Interval", "bootstrap", "bootstrap_each", "interval"]
