"""Whether a new model is worse than an old one by no more than a margin, in every group of slides. Numpy only.

A difference that is "not significant" shows nothing: too few slides never show one. Asked is the opposite: that the
new model is worse by less than a margin that was fixed before (Piaggio et al.: Reporting of Noninferiority and
Equivalence Randomized Trials, CONSORT, JAMA 2012, https://doi.org/10.1001/jama.2012.87802). It is shown where the lower
end of the interval of the gain lies above minus the margin; with 95 % intervals that errs in 2.5 % at most.

That it holds in *every* group is claimed only where each group shows it. Such an intersection-union test needs no
correction for the number of groups: Berger: Multiparameter Hypothesis Testing and Acceptance Sampling, Technometrics
1982. https://doi.org/10.1080/00401706.1982.10487790. A group with too few patients cannot show it, so that nothing is
claimed of every group then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mil.bootstrap import Interval
from mil.comparison import Columns, compare_models
from mil.intervals import Measure
from wsi.errors import UsageError

Outcome = Literal["non-inferior", "not shown", "inferior"]


@dataclass(frozen=True, slots=True)
class GroupGain:
    """A group of slides, and what the new model gains there.

    Attributes
    ----------
    name : str
    slides, patients : int
    old, new : Interval
    gain : Interval
        New less old, turned so that more is better.
    outcome : "non-inferior", "not shown" or "inferior"
        Inferior: the whole interval lies below minus the margin.
    """

    name: str
    slides: int
    patients: int
    old: Interval
    new: Interval
    gain: Interval
    outcome: Outcome

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        parts = {name: getattr(self, name).to_dict() for name in ("old", "new", "gain")}
        return {"group": self.name, "slides": self.slides, "patients": self.patients, "outcome": self.outcome} | parts


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """Groups of slides, and whether the new model may replace the old one in all of them.

    Attributes
    ----------
    metric : str
    margin : float
    groups : tuple of GroupGain
        All slides first.
    too_small : mapping of str to int
        Groups with too few patients, or in which the metric is not defined, and their patients.
    """

    metric: str
    margin: float
    groups: tuple[GroupGain, ...]
    too_small: Mapping[str, int]

    @property
    def everywhere(self) -> bool:
        """Whether it is shown for all slides and for every group."""
        return bool(self.groups) and not self.too_small and self.everywhere_judged

    @property
    def everywhere_judged(self) -> bool:
        """Whether it is shown in every group that is large enough."""
        return bool(self.groups) and all(one.outcome == "non-inferior" for one in self.groups)

    def verdict(self, title: str = "") -> str:
        """The outcome in a sentence; `title` is what the metric is called there."""
        what = f"at a margin of {self.margin:g} in {title or self.metric}"
        if failed := [one for one in self.groups if one.outcome == "inferior"]:
            return f"the new model is inferior {what} in {', '.join(one.name for one in failed)}"
        if open_ := [one.name for one in self.groups if one.outcome == "not shown"]:
            return f"not shown to be non-inferior {what} in {', '.join(open_)}"
        if not self.groups:
            return f"no group is large enough to be judged {what}"
        if self.too_small:
            return f"non-inferior {what} wherever it could be judged; nothing is claimed of {', '.join(self.too_small)}"
        if len(self.groups) == 1:
            return f"non-inferior {what} for {self.groups[0].name}; no groups were looked at"
        return f"non-inferior {what}, for all slides and in every group"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "metric": self.metric,
            "margin": self.margin,
            "test": "intersection-union (Berger 1982): each group at one-sided 2.5 %, no correction",
            "groups": [one.to_dict() for one in self.groups],
            "too_small": dict(self.too_small),
            "everywhere": self.everywhere,
            "verdict": self.verdict(),
        }


def non_inferiority(
    name: str,
    measure: Measure,
    truth: Columns,
    old: Columns,
    new: Columns,
    patients: Sequence[str],
    groups: Mapping[str, np.ndarray],
    margin: float,
    *,
    least_patients: int = 20,
    n: int = 1000,
    seed: int = 0,
) -> NonInferiority:
    """Hold a new model against an old one on the same slides, in all of them and in every group.

    Parameters
    ----------
    name : str
        Of the measure.
    truth, old, new : sequence of ndarray (n_slides, ...)
        The measure's columns of the truth, and of either model's predictions.
    patients : (n_slides,)
    groups : mapping of str to ndarray (n_slides,) bool
    margin : float
        By how much the new model may be worse, in units of the measure; above 0.
    least_patients : int
        Groups with fewer are named and not judged.
    """
    if not margin > 0:
        raise UsageError(f"the margin is {margin}; it is a loss that would be borne, above 0")
    who = np.asarray(patients)
    every = {"all slides": np.ones(len(who), dtype=bool), **groups}
    judged, small = [], {}
    for group, inside in every.items():
        rows = np.flatnonzero(inside)
        people = len(np.unique(who[rows]))
        y, before, after = ([np.asarray(column)[rows] for column in columns] for columns in (truth, old, new))
        found = None
        if people >= least_patients:
            found = compare_models({name: measure}, y, before, after, who[rows].tolist(), n, seed)[name]
        if found is None or not np.isfinite(found.difference.low):
            small[group] = people
            continue
        gain = found.difference if measure.higher else _turned(found.difference)
        judged.append(GroupGain(group, len(rows), people, found.first, found.second, gain, _outcome(gain, margin)))
    return NonInferiority(name, margin, tuple(judged), small)


def _outcome(gain: Interval, margin: float) -> Outcome:
    if gain.low > -margin:
        return "non-inferior"
    return "inferior" if gain.high < -margin else "not shown"


def _turned(one: Interval) -> Interval:
    return Interval(-one.estimate, -one.high, -one.low, one.level, one.n_groups, one.method, one.undefined)
