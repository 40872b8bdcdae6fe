"""Whether the site of a slide gives its label away. Numpy only.

Where one site sends the high grades and another the low ones, a model can grade by the stain of a site, and held-out
slides of the same sites will not show it: Howard et al.: The impact of site-specific digital histology signatures on
deep learning model accuracy and bias, Nature Communications 2021. https://doi.org/10.1038/s41467-021-24698-1

Each patient's label is guessed from the shares of labels among the *other* patients of the site, and from those among
all other patients. What the site explains is the share of the log loss that it takes off (Theil's uncertainty
coefficient, 1970, left out by patient):

    U = 1 - sum_p loss(label of p | site of p, others) / sum_p loss(label of p | others)

U is 1 where the site decides the label, and about 0, or a little below, where it says nothing. The test deals the
labels anew among patients and is exact: all slides of a patient, and all sites of one, stay together (Phipson, Smyth
2010, https://doi.org/10.2202/1544-6115.1585).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

LEVEL = 0.01
"""Cohorts without confounding that are called confounded: one in a hundred for each column that is looked at."""

STRONG = 0.2
"""Two sites, one with three quarters of one class and the other with a quarter, come to 0.19."""

PERMUTATIONS = 999


@dataclass(frozen=True, slots=True)
class Confounding:
    """What a column of the cohort says of the label.

    Attributes
    ----------
    column : str
        "site", say.
    groups : int
        Different values.
    patients : int
        Whose slides have a value.
    explained : float
        U, above.
    guessed, without : float
        Share of patients whose label is guessed right from the column and the other patients; and share of the most
        frequent label. A patient with several labels counts by their shares.
    p_value : float
        Of U; NaN where there is nothing to test: fewer than two groups or labels.
    """

    column: str
    groups: int
    patients: int
    explained: float
    guessed: float
    without: float
    p_value: float

    @property
    def found(self) -> bool:
        """Whether the column says more of the label than chance would have it."""
        return self.p_value <= LEVEL

    @property
    def strong(self) -> bool:
        """Whether it says so much that a model may live on it."""
        return self.found and self.explained >= STRONG

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        numbers = ("explained", "guessed", "without", "p_value")
        known = {name: value if isfinite(value := getattr(self, name)) else None for name in numbers}
        rest = {"column": self.column, "groups": self.groups, "patients": self.patients}
        return rest | known | {"found": self.found, "strong": self.strong}

    def __str__(self) -> str:
        return (
            f"the label can be guessed from the {self.column} alone: right for {100 * self.guessed:.0f} % of "
            f"{self.patients} patients, {100 * self.without:.0f} % without it ({100 * self.explained:.0f} % of the "
            f"label explained, p {self.p_value:.2g})"
        )


def confounding(
    column: str,
    values: Sequence[str],
    labels: Sequence[str],
    patients: Sequence[str],
    n: int = PERMUTATIONS,
    seed: int = 0,
) -> Confounding:
    """How far a column gives the label away.

    Parameters
    ----------
    values : (n_slides,)
        Of the column; an empty string says that the value is not known, and leaves the slide out.
    labels, patients : (n_slides,)
    n : int
        Permutations.
    """
    known = np.flatnonzero(np.asarray(values, dtype=str) != "")
    where, what, who = (np.asarray(column, dtype=str)[known] for column in (values, labels, patients))
    sites, kinds, people = (np.unique(part, return_inverse=True) for part in (where, what, who))
    count = len(people[0])
    if len(sites[0]) < 2 or len(kinds[0]) < 2 or count < 3:
        nothing = float("nan")
        return Confounding(column, len(sites[0]), count, nothing, nothing, nothing, nothing)
    label = _shares(people[1], kinds[1], len(kinds[0]))  # (P, C)
    places = _Places.of(_shares(people[1], sites[1], len(sites[0])))
    base = _left_out(label)  # (P, C)
    alone = float(-(label * np.log(base)).sum())
    rng = np.random.default_rng(seed)
    seen = places.loss(label, base)
    draws = (rng.permutation(count) for _ in range(n))
    below = sum(places.loss(label[dealt], base[dealt]) <= seen + 1e-9 for dealt in draws)
    best = places.guess(label, base).argmax(axis=1)
    guessed, without = label[np.arange(count), best].mean(), label.mean(axis=0).max()
    p_value = (1 + below) / (1 + n)
    return Confounding(column, len(sites[0]), count, 1 - seen / alone, float(guessed), float(without), p_value)


@dataclass(frozen=True, slots=True)
class _Places:
    """Where patients were seen, as the entries (e,) of a sparse table: patient, site, share of the patient's slides."""

    patient: np.ndarray
    site: np.ndarray
    share: np.ndarray

    @classmethod
    def of(cls, table: np.ndarray) -> "_Places":
        """From the shares (P, S), by site."""
        site, patient = np.nonzero(table.T)
        return cls(patient, site, table[patient, site])

    def guess(self, label: np.ndarray, base: np.ndarray) -> np.ndarray:
        """Shares of the labels (P, C) that the other patients at the same sites have.

        They are drawn towards those of all other patients, which weigh as one patient more: a patient who is alone at
        a site is guessed as if there were no site.
        """
        own = self.share[:, None] * label[self.patient]  # (e, C)
        first = np.flatnonzero(np.diff(self.site, prepend=-1))
        total, weight = np.add.reduceat(own, first)[self.site], np.add.reduceat(self.share, first)[self.site]
        others = (total - own + base[self.patient]) / (weight - self.share + 1)[:, None]  # (e, C)
        guessed = np.zeros_like(label)
        np.add.at(guessed, self.patient, self.share[:, None] * others)
        return guessed

    def loss(self, label: np.ndarray, base: np.ndarray) -> float:
        """Log loss of these guesses, summed over patients."""
        return float(-(label * np.log(self.guess(label, base))).sum())


def _shares(patient: np.ndarray, value: np.ndarray, size: int) -> np.ndarray:
    """Share of each patient's slides that have each value, (P, size)."""
    table = np.zeros((int(patient.max()) + 1, size))
    np.add.at(table, (patient, value), 1)
    return np.asarray(table / table.sum(axis=1, keepdims=True))


def _left_out(label: np.ndarray) -> np.ndarray:
    """Shares of the labels among all other patients, (P, C), with one patient more that is of every class alike."""
    return np.asarray((label.sum(axis=0) - label + 1 / label.shape[1]) / len(label))
