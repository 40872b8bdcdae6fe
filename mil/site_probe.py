"""How well the site of a slide can be told from its features. Numpy only.

Alain, Bengio: Understanding intermediate layers using linear classifier probes, 2016. https://arxiv.org/abs/1610.01644
For sites: Howard et al.: The impact of site-specific digital histology signatures, Nature Communications 2021.
https://doi.org/10.1038/s41467-021-24698-1

A slide is the mean x of its tiles' features, each feature scaled by its spread over the training part. Ridge regression
on the indicators of the sites, each divided by the site's share, estimates how much likelier a site is for x than it is
for any slide; the highest wins, so that a small site counts as much as a large one:

    B = argmin sum_i |y_i - x_i B - b|^2 + ridge |B|^2,    y_is = [site of i is s] / share of s

Patients are held out together. What it finds is a property of features and sites, not a fault: nearly all encoders tell
sites apart (de Jong, Marcus, Teuwen 2025, https://arxiv.org/abs/2501.18055). It is harm where the label depends on the
site as well (`mil.confounding`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from mil.bootstrap import SHARE, bootstrap
from mil.folds import spread
from mil.intervals import Interval, behind_rarest
from mil.metrics import balanced_accuracy

LEAST_PATIENTS = 10
"""A site with fewer is named and not asked for: its interval would say nothing."""

FOLDS, RIDGE, PERMUTATIONS = 5, 1.0, 199
"""The ridge is in units of a mean slide's squared length, feature by feature."""


@dataclass(frozen=True, slots=True)
class SiteProbe:
    """How well a column can be told from the features.

    Attributes
    ----------
    column : str
    groups : tuple of str
        Those that were asked for.
    slides, patients : int
    accuracy : Interval or None
        Balanced, of held-out patients; None where fewer than two groups are large enough.
    p_value : float
        How often chance alone does as well, the groups being dealt anew among patients; NaN without groups.
    notes : tuple of str
        Groups that were too small.
    """

    column: str
    groups: tuple[str, ...]
    slides: int
    patients: int
    accuracy: Interval | None
    p_value: float
    notes: tuple[str, ...] = ()

    @property
    def chance(self) -> float:
        """Balanced accuracy of guessing."""
        return 1 / max(len(self.groups), 1)

    def found(self, level: float = 0.01) -> bool:
        """Whether the features tell the groups apart better than chance would."""
        return self.p_value <= level

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "column": self.column,
            "groups": list(self.groups),
            "slides": self.slides,
            "patients": self.patients,
            "balanced_accuracy": None if self.accuracy is None else self.accuracy.to_dict(),
            "chance": self.chance,
            "p_value": self.p_value if isfinite(self.p_value) else None,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return (
            f"the features tell the {self.column} of a slide: balanced accuracy {self.accuracy}, chance "
            f"{self.chance:.3f} (p {self.p_value:.2g})"
        )


def probe(
    column: str,
    means: np.ndarray,
    values: Sequence[str],
    patients: Sequence[str],
    n: int = PERMUTATIONS,
    seed: int = 0,
    least_patients: int = LEAST_PATIENTS,
    resamples: int = 1000,
) -> SiteProbe:
    """Ask a linear probe for a column.

    Parameters
    ----------
    means : ndarray (n_slides, D)
        Mean feature of each slide.
    values : (n_slides,)
        Of the column; an empty string says that the value is not known, and leaves the slide out.
    patients : (n_slides,)
    n, resamples : int
        Permutations behind the p-value, resamples behind the interval.
    """
    where, who = np.asarray(values, dtype=str), np.asarray(patients, dtype=str)
    count = {str(value): len(np.unique(who[where == value])) for value in np.unique(where) if value}
    large = tuple(value for value, people in count.items() if people >= least_patients)
    small = [f"{value} ({people})" for value, people in count.items() if people < least_patients]
    notes = (f"{column}: fewer than {least_patients} patients, not asked for: {', '.join(small)}",) if small else ()
    rows = np.flatnonzero(np.isin(where, large))
    people = len(np.unique(who[rows]))
    if len(large) < 2:
        return SiteProbe(column, large, len(rows), people, None, float("nan"), notes)
    site, owner = np.unique(where[rows], return_inverse=True)[1], who[rows]
    # By patient alone: folds that knew the sites would not be as good for sites that are dealt anew.
    fold = spread(owner.tolist(), [("",) * len(rows)], FOLDS, seed)
    x = np.asarray(means, dtype=np.float64)[rows]
    folds = [_Fold.of(x, fold, k) for k in range(FOLDS)]
    guess = _guess(folds, site, len(large))
    units = behind_rarest(site, owner)
    accuracy = bootstrap(
        balanced_accuracy, site, guess, groups=owner, n=resamples, seed=seed, bounds=SHARE, units=units
    )
    p_value = _chance(folds, site, owner, accuracy.estimate, n, seed)
    return SiteProbe(column, large, len(rows), people, accuracy, p_value, notes)


@dataclass(frozen=True, slots=True)
class _Fold:
    """One fold solved for all the ways in which sites are dealt: ridge regression is linear in its targets.

    Attributes
    ----------
    held, seen : ndarray (h,), (t,)
        Rows of the slides.
    left, right : ndarray (h, m), (m, t)
        Their product takes targets of the slides seen, less their mean, to those of the slides held out.
    """

    held: np.ndarray
    seen: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, fold: np.ndarray, k: int) -> "_Fold":
        """Solved by features or by slides, whichever are fewer."""
        seen, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        scaled = _scaled(x, seen)
        train, test = scaled[seen], scaled[held]
        if len(seen) > train.shape[1]:
            return cls(held, seen, test, np.linalg.solve(train.T @ train + RIDGE * np.eye(train.shape[1]), train.T))
        return cls(held, seen, test @ train.T, np.linalg.inv(train @ train.T + RIDGE * np.eye(len(seen))))

    def guess(self, site: np.ndarray, groups: int) -> np.ndarray:
        """The most likely site of each slide held out, (h,)."""
        marks = np.eye(groups)[site[self.seen]]  # (t, S)
        likelier = marks / np.maximum(marks.mean(axis=0), 1e-12)
        mean = likelier.mean(axis=0)
        return np.asarray((mean + self.left @ (self.right @ (likelier - mean))).argmax(axis=1))


def _scaled(x: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Centred and scaled by the slides seen, so that one of these has a squared length of 1 in the mean."""
    off = x - x[seen].mean(axis=0)
    spread_ = off[seen].std(axis=0)
    useful = spread_ > 1e-9 * max(spread_.max(), 1e-300)
    return np.asarray(off[:, useful] / spread_[useful] / np.sqrt(max(useful.sum(), 1)))


def _guess(folds: Sequence[_Fold], site: np.ndarray, groups: int) -> np.ndarray:
    """The most likely site of each slide, (n,), by the patients of the other folds."""
    guess = np.zeros(len(site), dtype=np.int64)
    for one in folds:
        guess[one.held] = one.guess(site, groups)
    return guess


def _chance(folds: Sequence[_Fold], site: np.ndarray, owner: np.ndarray, seen: float, n: int, seed: int) -> float:
    """p of the accuracy; what is dealt is the site of a patient, or of each of a patient's sites."""
    who = np.unique(owner, return_inverse=True)[1]
    pairs, unit = np.unique(np.stack([who, site]), axis=1, return_inverse=True)
    rng = np.random.default_rng(seed)
    groups, above = int(site.max()) + 1, 0
    for _ in range(n):
        dealt = rng.permutation(pairs[1])[unit.ravel()]
        above += balanced_accuracy(dealt, _guess(folds, dealt, groups)) >= seen - 1e-12
    return (1 + above) / (1 + n)
