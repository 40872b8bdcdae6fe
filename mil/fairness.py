"""Every metric by site, scanner, sex, age band or any column of a cohort: where a model is worse, and how sure that is.

Numpy only. What is reported follows Collins et al.: TRIPOD+AI, BMJ 2024 (performance in subgroups with intervals;
https://doi.org/10.1136/bmj-2023-078378). Groups with too few patients are named and not judged: an audit that calls
them fair, or unfair, would be guessing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from math import isfinite, isnan
from typing import Any

import numpy as np

from mil.cohort import Cohort, Task
from mil.gap_test import Gap, gap_test
from mil.intervals import Interval, measures, score
from wsi.errors import UsageError

LEAST_PATIENTS = 20
"""A share of 20 patients has an interval of up to 40 points; below that nothing can be said."""

MOST_NAMES = 12


@dataclass(frozen=True, slots=True)
class GroupScore:
    """A group of slides that is large enough, and each metric in it.

    Attributes
    ----------
    value : str
        What the slides have in common.
    slides, patients : int
    metrics : dict of str to Interval
        Those that are defined in this group.
    """

    value: str
    slides: int
    patients: int
    metrics: dict[str, Interval]


@dataclass(frozen=True, slots=True)
class ColumnAudit:
    """A column of the cohort.

    Attributes
    ----------
    column : str
    groups : tuple of GroupScore
        By name.
    gaps : dict of str to Gap
        The worst gap of each metric between these groups; {} if there are fewer than two.
    adjusted : dict of str to float
        Their p-values, corrected for the metrics of the column (`mil.gap_test`) and for the columns of the audit
        (Bonferroni): all false findings of an audit together have the chosen level.
    notes : tuple of str
        Groups that are too small, slides without a value, and what could not be tested; a line each.
    """

    column: str
    groups: tuple[GroupScore, ...]
    gaps: dict[str, Gap]
    adjusted: dict[str, float]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        groups = [
            {
                "value": one.value, "slides": one.slides, "patients": one.patients,
                "metrics": {name: interval.to_dict() for name, interval in one.metrics.items()},
            }
            for one in self.groups
        ]  # fmt: skip
        gaps = {
            name: asdict(gap)
            | {"p_value": _or_none(gap.p_value), "over_metrics": _or_none(gap.over_metrics)}
            | {"adjusted": _or_none(self.adjusted[name])}
            for name, gap in self.gaps.items()
        }
        return {"column": self.column, "groups": groups, "gaps": gaps, "notes": list(self.notes)}


def audit(
    task: Task,
    targets: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    patients: Sequence[str],
    columns: Mapping[str, Sequence[str]],
    *,
    least_patients: int = LEAST_PATIENTS,
    n: int = 1000,
    seed: int = 0,
) -> tuple[ColumnAudit, ...]:
    """Audit predictions by every column.

    Parameters
    ----------
    targets, predicted : ndarray (n_slides,) int
    probabilities : ndarray (n_slides, C)
    patients : (n_slides,)
    columns : mapping of str to (n_slides,) of str
        As of `columns_of`; an empty string says that the value is not known.
    least_patients : int
        Groups with fewer are named and not judged.
    n : int
        Resamples behind an interval, and permutations behind a p-value.
    """
    arrays = np.asarray(targets), np.asarray(predicted), np.asarray(probabilities)
    who = np.asarray(patients)
    for name, values in columns.items():
        if len(values) != len(who):
            raise UsageError(f"column {name} has {len(values)} values for {len(who)} slides; give one for each")
    judged = [
        _judged(task, arrays, who, name, np.asarray(values, dtype=str), least_patients, n, seed)
        for name, values in columns.items()
    ]
    tested = sum(any(not isnan(gap.p_value) for gap in one.gaps.values()) for one in judged)
    return tuple(
        replace(one, adjusted={metric: _times(gap.over_metrics, tested) for metric, gap in one.gaps.items()})
        for one in judged
    )


def findings(audits: Sequence[ColumnAudit], level: float = 0.05) -> tuple[str, ...]:
    """A line for each gap that is no chance at the level, after correction: the smallest p-value first."""
    found = [
        (one.adjusted[metric], one.column, metric, gap, one)
        for one in audits
        for metric, gap in one.gaps.items()
        if one.adjusted[metric] <= level
    ]
    return tuple(
        f"{column}: {metric} is {_at(one, gap.worst, metric)} for {gap.worst} and {_at(one, gap.best, metric)} for "
        f"{gap.best} (p {gap.p_value:.2g}, over all metrics and columns {p:.2g})"
        for p, column, metric, gap, one in sorted(found, key=lambda item: item[:3])
    )


def columns_of(cohort: Cohort) -> dict[str, tuple[str, ...]]:
    """The columns of a cohort to audit by: site, where it is known of any slide, and every covariate."""
    site = {"site": cohort.site} if any(cohort.site) else {}
    return {**site, **cohort.covariates}


def in_bands(values: Sequence[str], limits: Sequence[float]) -> tuple[str, ...]:
    """Numbers as bands, such as an age: with limits 50 and 70 "below 50", "50 to below 70", "70 and above".

    What is not a number becomes an empty string: not known.
    """
    edges = [f"{limit:g}" for limit in sorted(limits)]
    if not edges:
        raise UsageError("bands need at least one limit")
    between = [f"{low} to below {high}" for low, high in pairwise(edges)]
    names = [f"below {edges[0]}", *between, f"{edges[-1]} and above"]

    def band(value: str) -> str:
        try:
            number = float(value)
        except ValueError:
            return ""
        return "" if isnan(number) else names[sum(number >= limit for limit in limits)]

    return tuple(band(value) for value in values)


def _judged(
    task: Task,
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray],
    who: np.ndarray,
    column: str,
    values: np.ndarray,
    least_patients: int,
    n: int,
    seed: int,
) -> ColumnAudit:
    """One column, not corrected for the others yet."""
    count = {str(value): len(np.unique(who[values == value])) for value in np.unique(values) if value}
    large = [value for value, patients in count.items() if patients >= least_patients]
    groups = []
    for value in large:
        rows = np.flatnonzero(values == value)
        y, k, p = (array[rows] for array in arrays)
        known = {
            name: one
            for name, one in score(task, y, k, p, who[rows].tolist(), n, seed).items()
            if isfinite(one.estimate)
        }
        groups.append(GroupScore(value, len(rows), count[value], known))
    gaps = {}
    if len(large) > 1:
        rows = np.flatnonzero(np.isin(values, large))
        y, k, p = (array[rows] for array in arrays)
        gaps = gap_test(measures(task, p.shape[1]), y, k, p, values[rows], who[rows], n, seed)
    return ColumnAudit(column, tuple(groups), gaps, {}, _notes(column, values, count, least_patients, groups, gaps))


def _notes(
    column: str,
    values: np.ndarray,
    count: Mapping[str, int],
    least_patients: int,
    groups: Sequence[GroupScore],
    gaps: Mapping[str, Gap],
) -> tuple[str, ...]:
    notes = []
    if small := [f"{value} ({patients})" for value, patients in count.items() if patients < least_patients]:
        rest = f" and {len(small) - MOST_NAMES} more" if len(small) > MOST_NAMES else ""
        notes.append(
            f"{column}: fewer than {least_patients} patients, not judged: {', '.join(small[:MOST_NAMES])}{rest}"
        )
    if unknown := int((values == "").sum()):
        notes.append(f"{column}: not known of {unknown} of {len(values)} slides, which are left out")
    if len(groups) < 2:
        notes.append(f"{column}: {'one group is' if groups else 'no group is'} large enough, so nothing is compared")
    elif gaps and all(isnan(gap.p_value) for gap in gaps.values()):
        notes.append(f"{column}: each class occurs in one group only, so group and class cannot be told apart")
    every = {name for one in groups for name in one.metrics}
    for one in groups:
        if missing := sorted(every - set(one.metrics)):
            notes.append(f"{column}: in {one.value} not defined, and not compared: {', '.join(missing)}")
    return tuple(notes)


def _at(one: ColumnAudit, value: str, metric: str) -> str:
    group = next(group for group in one.groups if group.value == value)
    return str(group.metrics[metric])


def _times(p_value: float, count: int) -> float:
    return p_value if isnan(p_value) else min(1.0, count * p_value)


def _or_none(value: float) -> float | None:
    return None if isnan(value) else value
