"""Is one model better than another on the same slides? Paired statistics by patient. Numpy only.

The interval of the difference comes from resampling patients, both models on the same resamples: difference plus and
minus Student's t times the standard error. The test swaps the two models within patients, all slides of a patient
together: if the models were equally good, it would not matter which of them said what. Metrics that see only the order
of scores are swapped as ranks, since two models may be on different scales without being different.

Good: Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005, chapter 3; for ranks Venkatraman and Begg: A
distribution-free procedure for comparing receiver operating characteristic curves, Biometrika 1996.
https://doi.org/10.1093/biomet/83.4.835
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np

from mil.bootstrap import Interval, bootstrap_each, interval
from mil.intervals import Measure, behind_rarest
from mil.metrics import midranks
from mil.resampling import Groups, group_numbers, swaps

UNBOUNDED = (-np.inf, np.inf)
SAME = 1e-12
"""Differences this close count as equal, so that the last bit of a sum decides no test."""

Columns = Sequence[np.ndarray]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of two models on the same slides.

    Attributes
    ----------
    first, second : Interval
    difference : Interval
        Second less first.
    p : float
        Two-sided, of the permutation test; NaN where the metric is not defined.
    permutations : int
        Ways of swapping that were tried.
    every : bool
        Whether these were all there are: then the test is exact.
    higher : bool
        Whether more is better.
    """

    first: Interval
    second: Interval
    difference: Interval
    p: float
    permutations: int
    every: bool
    higher: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        parts = {name: getattr(self, name).to_dict() for name in ("first", "second", "difference")}
        known = self.p if isfinite(self.p) else None
        rest = {"permutations": self.permutations, "every_permutation": self.every, "higher_is_better": self.higher}
        return parts | {"p": known} | rest


def compare_models(
    found: Mapping[str, Measure],
    truth: Columns,
    first: Columns,
    second: Columns,
    groups: Groups,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Comparison]:
    """Compare two models by each of some measures.

    Parameters
    ----------
    found : mapping of str to Measure
    truth : sequence of ndarray (n_slides, ...)
        The measures' columns of the truth.
    first, second : sequence of ndarray (n_slides, ...)
        Their columns of either model's predictions, slide for slide.
    groups : (n_slides,)
        Patient of each slide.
    n : int
        Resamples, and permutations.
    """
    sides = [[np.asarray(column) for column in columns] for columns in (first, second)]
    differences = paired_bootstrap(found, truth, *sides, groups=groups, n=n, seed=seed)
    count = len(set(group_numbers(groups)))
    rarest = behind_rarest(np.asarray(truth[0]), groups) if any(one.by_class for one in found.values()) else None
    alike = all(np.array_equal(x, y) for x, y in zip(*sides, strict=True))
    done = {}
    for name, one in found.items():
        units = rarest if one.by_class else None
        *each, between = (
            interval(value, drawn, groups=count, level=level, bounds=bounds, units=units)
            for (value, drawn), bounds in zip(differences[name], (one.bounds, one.bounds, UNBOUNDED), strict=True)
        )
        if not alike and between.low == between.high and each[0].estimate in one.bounds:
            between = _at_the_end(each[0], each[1], between)
        p, tried, every = permutation_test(one, truth, *sides, groups=groups, n=n, seed=seed)
        done[name] = Comparison(each[0], each[1], between, p, tried, every, one.higher)
    return done


def paired_bootstrap(
    found: Mapping[str, Measure], truth: Columns, first: Columns, second: Columns, *, groups: Groups, n: int, seed: int
) -> dict[str, list[tuple[float, np.ndarray]]]:
    """Estimate and values (n,) of first, second, and second less first, on the same resamples of patients."""
    here, there = len(truth), len(truth) + len(first)
    both = {(name, 0): _Side(one, here, slice(here, there)) for name, one in found.items()}
    both |= {(name, 1): _Side(one, here, slice(there, None)) for name, one in found.items()}
    drawn = bootstrap_each(both, *truth, *first, *second, groups=groups, n=n, seed=seed)
    pairs = {name: (drawn[name, 0], drawn[name, 1]) for name in found}
    return {name: [a, b, (b[0] - a[0], b[1] - a[1])] for name, (a, b) in pairs.items()}


def permutation_test(
    measure: Measure, truth: Columns, first: Columns, second: Columns, *, groups: Groups, n: int, seed: int
) -> tuple[float, int, bool]:
    """Two-sided p of the difference, how many ways of swapping were tried, and whether these were all.

    Where they were drawn, the ways that were not are accounted for: p = (1 + as extreme) / (1 + tried), which is never
    0 (Phipson and Smyth 2010, https://doi.org/10.2202/1544-6115.1585).
    """
    a, b = ([_ranked(column) for column in side] if measure.ranks else list(side) for side in (first, second))
    seen = measure(*truth, *b) - measure(*truth, *a)
    tried, every, masks = swaps(groups, n, seed)
    if not isfinite(seen):
        return float("nan"), tried, every
    extreme = defined = 0
    for mask in masks:
        here = [np.where(_wide(mask, x), y, x) for x, y in zip(a, b, strict=True)]
        there = [np.where(_wide(mask, x), x, y) for x, y in zip(a, b, strict=True)]
        found = measure(*truth, *there) - measure(*truth, *here)
        defined += isfinite(found)
        extreme += abs(found) >= abs(seen) - SAME
    p = extreme / max(defined, 1) if every else (1 + extreme) / (1 + defined)
    return float(p), tried, every


def _at_the_end(first: Interval, second: Interval, between: Interval) -> Interval:
    """Where no resample tells two models apart, both being flawless, say: what their own intervals leave room for."""
    low, high = second.low - first.high, second.high - first.low
    return replace(between, low=low, high=high, method=first.method)


@dataclass(frozen=True, slots=True)
class _Side:
    """A measure of one model, where the columns of both are at hand."""

    measure: Measure
    truth: int
    side: slice

    def __call__(self, *columns: np.ndarray) -> float:
        return self.measure(*columns[: self.truth], *columns[self.side])


def _ranked(column: np.ndarray) -> np.ndarray:
    """Ranks of a column (n,), or of each column of (n, C); predicted classes stay as they are."""
    if column.ndim == 1:
        return midranks(column) if column.dtype.kind == "f" else column
    return np.stack([midranks(part) for part in column.T], axis=1)


def _wide(mask: np.ndarray, column: np.ndarray) -> np.ndarray:
    return mask.reshape(-1, *[1] * (column.ndim - 1))
