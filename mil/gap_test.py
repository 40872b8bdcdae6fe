"""Whether a metric differs between groups of slides by more than chance. Numpy only.

Good: Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005: the groups' names are exchanged and the largest
gap is measured anew. Two things make that right for slides:

- what is exchanged is a patient (in a column that differs within a patient: the patient's slides of one value), since
  slides of a patient go together;
- only patients of one true class are exchanged, so that a site with harder grades is not called worse for its mixture:
  asked is whether the predictions, given the truth, depend on the group (equalised odds; Hardt, Price, Srebro: Equality
  of Opportunity in Supervised Learning, NeurIPS 2016, https://arxiv.org/abs/1610.02413). A patient with several classes
  goes with the highest.

Several metrics of the same predictions rise and fall together, so their p-values are corrected by the same draws:
Westfall, Young: Resampling-Based Multiple Testing, 1993, section 2.3 (each gap in standard deviations of the draws,
against the largest over the metrics in each draw).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], float]
"""targets (n,), predicted (n,), probabilities (n, C) to a number."""

LOWER_IS_BETTER = frozenset({"mae", "rmse", "log_loss", "brier", "ece"})


@dataclass(frozen=True, slots=True)
class Gap:
    """The largest difference of a metric between two groups.

    Attributes
    ----------
    size : float
        Not below 0.
    best, worst : str
        The groups.
    p_value : float
        How often chance alone makes a gap as large; NaN where group and class are so bound together that nothing
        can be exchanged.
    over_metrics : float
        How often chance alone makes the gap of any of the metrics as unusual.
    """

    size: float
    best: str
    worst: str
    p_value: float
    over_metrics: float


def gap_test(
    measures: Mapping[str, Metric],
    targets: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    values: Sequence[str] | np.ndarray,
    patients: Sequence[str] | np.ndarray,
    n: int = 1000,
    seed: int = 0,
) -> dict[str, Gap]:
    """The worst gap of each metric over the groups, and its permutation test.

    A metric that is not defined in a group is compared over the others; one that is defined in fewer than two is left
    out.

    Parameters
    ----------
    targets, predicted : ndarray (n_slides,) int
    probabilities : ndarray (n_slides, C)
    values : (n_slides,)
        The group of each slide.
    patients : (n_slides,)
    n : int
        Permutations.
    """
    columns = np.asarray(targets), np.asarray(predicted), np.asarray(probabilities)
    names, group = np.unique(np.asarray(values), return_inverse=True)
    unit, unit_group, stratum = _units(columns[0], group, np.asarray(patients))
    seen = _table(measures, columns, group, len(names))  # (metrics, groups)
    gaps = _spread(seen, ~np.isnan(seen))
    rng = np.random.default_rng(seed)
    drawn = [gaps]
    for _ in range(n if _can_exchange(unit_group, stratum) else 0):
        table = _table(measures, columns, _exchanged(unit_group, stratum, rng)[unit], len(names))
        # Where a draw leaves a metric undefined it counts against the finding.
        drawn.append(np.nan_to_num(_spread(table, ~np.isnan(seen)), nan=np.inf))
    compared = [row for row, one in enumerate(seen) if (~np.isnan(one)).sum() >= 2]
    p_values, over = _p_values(np.stack(drawn)[:, compared])
    found = {}
    for row, p, p_over in zip(compared, p_values, over, strict=True):
        name, one = list(measures)[row], seen[row]
        ends = str(names[np.nanargmax(one)]), str(names[np.nanargmin(one)])
        best, worst = ends[::-1] if name in LOWER_IS_BETTER else ends
        found[name] = Gap(float(gaps[row]), best, worst, float(p), float(p_over))
    return found


def _p_values(gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p of each metric, and over the metrics, each (m,); NaN where nothing was drawn.

    Parameters
    ----------
    gaps : ndarray (1 + n, m)
        What was seen, then what was drawn.
    """
    if len(gaps) == 1 or not gaps.shape[1]:
        return (np.full(gaps.shape[1], np.nan),) * 2
    rounded = np.round(gaps, 12)
    p_values = (rounded >= rounded[0]).mean(axis=0)  # (m,)
    known = np.where(np.isfinite(rounded), rounded, np.nan)
    spread = np.nanstd(known, axis=0)
    far = np.round((rounded - np.nanmean(known, axis=0)) / np.where(spread > 0, spread, 1), 9)  # (1 + n, m)
    return p_values, (far.max(axis=1)[:, None] >= far[0]).mean(axis=0)


def _units(targets: np.ndarray, group: np.ndarray, patients: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is exchanged: the unit of each slide (n,), and group and highest class of each unit (u,)."""
    who = np.unique(patients, return_inverse=True)[1]
    pairs, unit = np.unique(np.stack([who, group]), axis=1, return_inverse=True)
    highest = np.zeros(pairs.shape[1], dtype=np.int64)
    np.maximum.at(highest, unit.ravel(), targets)
    return unit.ravel(), pairs[1], highest


def _can_exchange(unit_group: np.ndarray, stratum: np.ndarray) -> bool:
    return any(len(np.unique(unit_group[stratum == k])) > 1 for k in np.unique(stratum))


def _exchanged(unit_group: np.ndarray, stratum: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Groups of the units, dealt anew within each stratum."""
    dealt = np.empty_like(unit_group)
    dealt[np.argsort(stratum, kind="stable")] = unit_group[np.lexsort((rng.random(len(stratum)), stratum))]
    return dealt


def _table(
    measures: Mapping[str, Metric], columns: tuple[np.ndarray, np.ndarray, np.ndarray], group: np.ndarray, groups: int
) -> np.ndarray:
    """Every metric (rows) in every group (columns); NaN where it is not defined."""
    found = np.full((len(measures), groups), np.nan)
    for g in range(groups):
        rows = np.flatnonzero(group == g)
        if len(rows):
            found[:, g] = [measure(*(column[rows] for column in columns)) for measure in measures.values()]
    return found


def _spread(table: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Largest less smallest of each row among the groups asked, (metrics,); NaN if one of these is not defined."""
    high = np.where(asked, table, -np.inf).max(axis=1)
    low = np.where(asked, table, np.inf).min(axis=1)
    return np.where(asked.sum(axis=1) > 1, np.maximum(high, low) - np.minimum(high, low), np.nan)
