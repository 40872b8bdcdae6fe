"""How prediction sets did on slides with known truth: coverage and size, overall and where it matters. Numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mil.intervals import Interval, bootstrap
from mil.shares import share_interval


@dataclass(frozen=True, slots=True)
class SetReport:
    """Coverage and size of sets.

    Attributes
    ----------
    coverage : Interval
        Share of slides whose set holds the truth.
    size : Interval
        Mean number of classes in a set.
    single : Interval
        Share of slides whose set is one class.
    by_class, by_site, by_size : mapping to Interval
        Coverage among the slides of each class, each site, and each size of set.
    """

    coverage: Interval
    size: Interval
    single: Interval
    by_class: dict[str, Interval]
    by_site: dict[str, Interval]
    by_size: dict[int, Interval]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        parts: dict[str, dict[Any, Interval]] = {
            "by_class": self.by_class, "by_site": self.by_site, "by_size": dict(self.by_size)
        }  # fmt: skip
        tables = {name: {str(key): one.to_dict() for key, one in part.items()} for name, part in parts.items()}
        return {name: getattr(self, name).to_dict() for name in ("coverage", "size", "single")} | tables


def report_sets(
    held: np.ndarray,
    targets: np.ndarray,
    classes: Sequence[str],
    *,
    patients: Sequence[str] | np.ndarray | None = None,
    sites: Sequence[str] | np.ndarray | None = None,
    seed: int = 0,
) -> SetReport:
    """Judge sets (n, C) bool by the truth; intervals of 95 % are by patient.

    Parameters
    ----------
    held : ndarray (n, C) bool
    targets : ndarray (n,) int
    patients : (n,), optional
        Whose slide each is; without it each slide is a patient of its own.
    sites : (n,), optional
    """
    targets = np.asarray(targets)
    who = np.arange(len(targets)) if patients is None else np.asarray(patients)
    right = held[np.arange(len(targets)), targets]
    size = held.sum(axis=1)

    def among(key: np.ndarray, value: object) -> Interval:
        return share_interval(right[key == value], who[key == value])

    where = np.asarray(sites) if sites is not None else np.zeros(0, dtype=str)
    return SetReport(
        share_interval(right, who),
        bootstrap(np.mean, size, groups=who, seed=seed),
        share_interval(size == 1, who),
        {name: among(targets, k) for k, name in enumerate(classes) if (targets == k).any()},
        {str(site): among(where, site) for site in np.unique(where)},
        {int(number): among(size, number) for number in np.unique(size)},
    )
