"""Whether later slides are distributed as those of a reference: tests by patient, and effect sizes. Numpy only.

Each measure has the statistic of its kind; the p-value comes from exchanging whole patients between the two groups, so
that patients with many slides do not make up evidence:

- numbers: Kolmogorov and Smirnov's largest distance of the two distribution functions;
- classes: chi-squared of the two-row table;
- all numbers together: the squared maximum mean discrepancy, with a Gaussian kernel whose width is the median distance
  (Gretton et al.: A Kernel Two-Sample Test, JMLR 2012). It sees changes of how measures go together.

    p = (1 + #{permutations with a statistic as large}) / (permutations + 1)

Multiplicity: Holm: A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 1979.
Effect: the population stability index, sum (q - r) ln(q / r) over the tenths of the reference (or the classes). By
convention 0.1 is a change worth a look (Siddiqi: Credit Risk Scorecards, 2006), but chance alone gives about
(bins - 1) (1 / n + 1 / m) (Yurdakul, Naranjo 2020), so that is taken off before it is judged.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

Statistic = Callable[[np.ndarray], float]
"""From which slides are later, (n,) bool, to how far they are from the others."""

PERMUTATIONS = 1999
FEWEST_PATIENTS = 10
"""In either group; fewer are named and not judged."""

WORTH_A_LOOK = 0.1
TENTHS = 10
MOST_FOR_MMD = 600
"""Slides whose pairs are looked at for the joint test; more are thinned out by chance."""

JOINT = "all inputs together"


@dataclass(frozen=True, slots=True)
class Change:
    """What came of one measure.

    Attributes
    ----------
    name : str
    test : str
        "KS", "chi2" or "MMD".
    patients : (int, int)
        Reference, later; those for whom it is known.
    statistic, p_value, adjusted : float
        Adjusted for all measures of the comparison; NaN where it is not judged.
    psi : float
        Population stability index less what chance gives, at least 0; NaN for MMD.
    shares : ndarray (2, bins) float64
        Of the slides of reference and later ones, in the bins of `labels`; empty for MMD.
    labels : tuple of str
    """

    name: str
    test: str
    patients: tuple[int, int]
    statistic: float
    p_value: float
    adjusted: float
    psi: float
    shares: np.ndarray
    labels: tuple[str, ...]

    @property
    def judged(self) -> bool:
        """Whether there are patients enough in both groups."""
        return min(self.patients) >= FEWEST_PATIENTS

    def drifted(self, alpha: float) -> bool:
        """Whether it is no chance and large enough to matter; for the joint test, that it is no chance."""
        return self.judged and self.adjusted <= alpha and (self.test == "MMD" or self.psi >= WORTH_A_LOOK)


def compare_groups(
    numbers: Mapping[str, np.ndarray],
    classes: Mapping[str, np.ndarray],
    later: np.ndarray,
    patients: Sequence[str],
    *,
    joint: Sequence[str] = (),
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> list[Change]:
    """Compare later slides with those of the reference, measure by measure.

    Parameters
    ----------
    numbers : mapping of str to ndarray (n,) float
        NaN where it is not known for a slide.
    classes : mapping of str to ndarray (n,) str
        "" where it is not known.
    later : ndarray (n,) bool
    patients : (n,)
        A patient with slides in both groups counts once in each.
    joint : sequence of str
        Of the numbers, those that are tested together as well.
    """
    found = []
    for name, values in numbers.items():
        known = np.isfinite(values)
        found.append(_change(name, "KS", known, later, patients, _ks(values[known]), permutations, seed))
        found[-1] = _with_shares(found[-1], *_tenths(values[known], later[known]), later[known])
    for name, labels in classes.items():
        known = labels != ""
        kinds, number = np.unique(labels[known], return_inverse=True)
        found.append(_change(name, "chi2", known, later, patients, _chi2(number, len(kinds)), permutations, seed))
        found[-1] = _with_shares(found[-1], number, tuple(map(str, kinds)), later[known])
    if joint and (table := _joint(numbers, joint, later, seed)) is not None:
        rows, statistic = table
        found.append(_change(JOINT, "MMD", rows, later, patients, statistic, permutations, seed))
    adjusted = holm([one.p_value for one in found])
    return [replace(one, adjusted=value) for one, value in zip(found, adjusted, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values; NaN stays NaN and does not count."""
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(p), np.nan)
    order = [k for k in np.argsort(p, kind="stable") if np.isfinite(p[k])]
    highest = 0.0
    for place, k in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - place) * p[k]))
        adjusted[k] = highest
    return adjusted.tolist()


def stability_index(shares: np.ndarray, sizes: tuple[int, int]) -> float:
    """Population stability index of shares (2, bins) of so many slides, less what chance gives; at least 0.

    Half a slide is added to every bin, so that an empty one does not make it infinite.
    """
    bins = shares.shape[1]
    count = shares * np.array(sizes)[:, None] + 0.5
    smooth = count / count.sum(axis=1, keepdims=True)
    index = float(((smooth[1] - smooth[0]) * np.log(smooth[1] / smooth[0])).sum())
    return max(0.0, index - (bins - 1) * (1 / sizes[0] + 1 / sizes[1]))


def _change(
    name: str, test: str, known: np.ndarray, later: np.ndarray, patients: Sequence[str], statistic: Statistic,
    permutations: int, seed: int,
) -> Change:  # fmt: skip
    """A measure's p-value; shares and adjustment follow."""
    group = later[known]
    owner = np.asarray(patients)[known]
    each = (len(set(owner[~group].tolist())), len(set(owner[group].tolist())))
    value = p_value = np.nan
    if min(each) >= FEWEST_PATIENTS:
        value, p_value = _permuted(statistic, group, owner, permutations, seed)
    return Change(name, test, each, value, p_value, np.nan, np.nan, np.empty((2, 0)), ())


def _permuted(
    statistic: Statistic, later: np.ndarray, owner: np.ndarray, permutations: int, seed: int
) -> tuple[float, float]:
    """The statistic, and its p-value under exchange of whole patients."""
    units, unit = np.unique(np.stack([owner, later.astype(owner.dtype)]), axis=1, return_inverse=True)
    unit = unit.reshape(-1)
    side = np.zeros(units.shape[1], bool)
    side[unit] = later
    rng = np.random.default_rng(seed)
    observed = statistic(later)
    as_large = sum(statistic(rng.permutation(side)[unit]) >= observed - 1e-12 for _ in range(permutations))
    return observed, (1 + as_large) / (permutations + 1)


def _ks(values: np.ndarray) -> Statistic:
    order = np.argsort(values, kind="stable")
    last = np.append(np.diff(values[order]) > 0, True)  # where a run of equal values ends

    def statistic(later: np.ndarray) -> float:
        ranked = later[order]
        there = int(ranked.sum())
        if there in (0, len(ranked)):
            return 0.0
        apart = np.cumsum(ranked) / there - np.cumsum(~ranked) / (len(ranked) - there)
        return float(np.abs(apart[last]).max())

    return statistic


def _chi2(number: np.ndarray, kinds: int) -> Statistic:
    total = np.bincount(number, minlength=kinds)

    def statistic(later: np.ndarray) -> float:
        found = np.bincount(number[later], minlength=kinds)
        expected = total * (later.sum() / len(later))
        rest = total - expected
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = (found - expected) ** 2 / expected + (found - expected) ** 2 / rest
        return float(np.nan_to_num(parts, posinf=0.0).sum())

    return statistic


def _joint(
    numbers: Mapping[str, np.ndarray], joint: Sequence[str], later: np.ndarray, seed: int
) -> tuple[np.ndarray, Statistic] | None:
    """Which slides take part in the joint test (n,) bool, and its statistic; None where nothing is known of all."""
    names = [name for name in joint if np.isfinite(numbers[name]).any()]
    if not names:
        return None
    table = np.stack([numbers[name] for name in names], axis=1)  # (n, c)
    known = np.isfinite(table).all(axis=1)
    if known.sum() > MOST_FOR_MMD:
        kept = np.random.default_rng(seed).permutation(np.flatnonzero(known))[:MOST_FOR_MMD]
        known = np.isin(np.arange(len(known)), kept)
    if known.sum() < 2:
        return None
    rows = table[known]
    spread = rows.std(axis=0)
    rows = rows / np.where(spread > 0, spread, 1)
    squared = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)  # (k, k)
    width = float(np.median(squared[np.triu_indices(len(rows), 1)])) or 1.0
    kernel = np.exp(-squared / width)
    return known, _mmd(kernel)


def _mmd(kernel: np.ndarray) -> Statistic:
    def statistic(later: np.ndarray) -> float:
        there = int(later.sum())
        if there in (0, len(later)):
            return 0.0
        weight = np.where(later, 1 / there, -1 / (len(later) - there))
        return float(weight @ kernel @ weight)

    return statistic


def _tenths(values: np.ndarray, later: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """In which tenth of the reference each value lies (n,), and what the tenths are called; equal ones are joined."""
    known = values[~later]
    if not len(known):
        return np.zeros(len(values), np.int64), ("all",)
    edges = np.unique(np.quantile(known, np.arange(1, TENTHS) / TENTHS))
    number = np.searchsorted(edges, values, side="left")
    names = [f"{edge:.3g}" for edge in edges]
    return number, (f"up to {names[0]}", *(f"up to {name}" for name in names[1:]), f"above {names[-1]}")


def _with_shares(change: Change, number: np.ndarray, labels: tuple[str, ...], later: np.ndarray) -> Change:
    sizes = (int((~later).sum()), int(later.sum()))
    if not min(sizes):
        return change
    counts = np.stack([np.bincount(number[side], minlength=len(labels)) for side in (~later, later)])
    shares = counts / np.array(sizes)[:, None]
    return replace(change, shares=shares, labels=labels, psi=stability_index(shares, sizes))
