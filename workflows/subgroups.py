"""Predictions by the columns of a cohort: which columns, in which bands, and how the groups did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mil.bootstrap import Interval
from mil.fairness import LEAST_PATIENTS, ColumnAudit, audit, columns_of, findings, in_bands
from mil.shares import share_interval
from workflows.prediction_table import Judged
from wsi.errors import UsageError

MANY_VALUES = 8
"""A column of numbers with more different ones is cut into bands."""

LEVEL = 0.05
Columns = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class SubgroupAudit:
    """How groups of slides did.

    Attributes
    ----------
    columns : tuple of ColumnAudit
    coverage : mapping of str to mapping of str to Interval
        Of the sets, by column and group; {} where there are none. The intervals of a column hold together.
    made_for : float or None
        What the sets were made for.
    notes : tuple of str
        How columns were cut.
    """

    columns: tuple[ColumnAudit, ...]
    coverage: Mapping[str, Mapping[str, Interval]]
    made_for: float | None
    notes: tuple[str, ...] = ()

    def findings(self) -> list[str]:
        """Gaps that are no chance, and groups whose sets hold the truth less often than they were made to."""
        return [*findings(self.columns, LEVEL), *self.uncovered()]

    def not_judged(self) -> list[str]:
        """Groups that were too small, and what else could not be judged."""
        return [note for one in self.columns for note in one.notes]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "level": LEVEL,
            "columns": [one.to_dict() for one in self.columns],
            "coverage_of_sets": {
                column: {name: one.to_dict() for name, one in groups.items()}
                for column, groups in self.coverage.items()
            },
            "sets_made_for": self.made_for,
            "findings": self.findings(),
            "not_judged": self.not_judged(),
            "notes": list(self.notes),
        }

    def uncovered(self) -> list[str]:
        """Groups whose sets hold the truth less often than they were made to."""
        return [
            f"{column}: sets made for {100 * self.made_for:g} % hold the truth in {one} for {name}"
            for column, groups in self.coverage.items()
            for name, one in groups.items()
            if self.made_for is not None and one.high < self.made_for
        ]


def chosen_columns(
    judged: Judged, by: Sequence[str], limits: Mapping[str, Sequence[float]]
) -> tuple[Columns, tuple[str, ...]]:
    """The columns to audit by, numbers as bands, and a note for each that was cut.

    Parameters
    ----------
    by : sequence of str
        Names of columns; all that the labels have where it is empty.
    limits : mapping
        Where to cut a column of numbers; others with more than `MANY_VALUES` values are cut into thirds.

    Raises
    ------
    UsageError
        If there is no such column, or none at all, or a column that is to be cut holds no number.
    """
    cohort = judged.cohort
    known = {name: cohort.column(name) for name in by} if by else columns_of(cohort)
    if unknown := sorted(set(limits) - set(known)):
        raise UsageError(f"--band cuts {unknown[0]!r}, which is not audited; name it with --by too")
    if not known:
        raise UsageError(
            "the labels have no column to audit by; add site, scanner, sex, age ... to the CSV of --labels"
        )
    columns, notes = {}, []
    for name, values in known.items():
        cuts = limits.get(name) or _thirds(values)
        columns[name] = in_bands(values, cuts) if cuts else values
        if name in limits and not any(columns[name]):
            raise UsageError(f"--band cuts {name!r}, which holds no number")
        if cuts and name not in limits:
            shown = " and ".join(f"{cut:g}" for cut in cuts)
            notes.append(f"{name}: numbers, cut into thirds at {shown}; choose with --band {name}={cuts[0]:g},...")
    return columns, tuple(notes)


def audit_subgroups(
    judged: Judged,
    columns: Columns,
    made_for: float | None,
    *,
    least_patients: int = LEAST_PATIENTS,
    n: int = 1000,
    seed: int = 0,
    notes: tuple[str, ...] = (),
) -> SubgroupAudit:
    """Every metric by every column, and the coverage of sets where there are any."""
    found = audit(
        judged.task, judged.targets, judged.predicted, judged.probabilities, judged.patients, columns,
        least_patients=least_patients, n=n, seed=seed,
    )  # fmt: skip
    return SubgroupAudit(found, _coverage(judged, columns, found), made_for, notes)


def _coverage(judged: Judged, columns: Columns, found: Sequence[ColumnAudit]) -> dict[str, dict[str, Interval]]:
    """Of the groups that are large enough; by Bonferroni over them, so that a column accuses by chance in 5 %."""
    if judged.held is None:
        return {}
    right = judged.held[np.arange(len(judged.targets)), judged.targets]
    who = np.asarray(judged.patients)
    covered: dict[str, dict[str, Interval]] = {}
    for one in found:
        value = np.asarray(columns[one.column])
        level = 1 - LEVEL / max(len(one.groups), 1)
        covered[one.column] = {
            group.value: share_interval(right[value == group.value], who[value == group.value], level)
            for group in one.groups
        }
    return covered


def _thirds(values: Sequence[str]) -> tuple[float, ...]:
    """Where to cut numbers into three like parts; nothing for words and for few different numbers."""
    try:
        numbers = np.array([float(value) for value in values if value])
    except ValueError:
        return ()
    numbers = numbers[np.isfinite(numbers)]
    if len(np.unique(numbers)) <= MANY_VALUES:
        return ()
    return tuple(np.unique(np.quantile(numbers, [1 / 3, 2 / 3], method="higher")).tolist())
