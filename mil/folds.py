"""Folds of a cohort: no patient is in two of them, nor a site or any other group where that is asked for.

Whole sites in one fold and labels even ("preserved-site cross-validation"): Howard et al.: The impact of site-specific
digital histology signatures on deep learning model accuracy and bias, Nature Communications 2021.
https://doi.org/10.1038/s41467-021-24698-1

    least sum_{fold f, label l} (n_fl / n_l)^2, each group in one fold

which is their quadratic programme. Groups are placed greedily, and where there are few of them, as with sites, moved
and exchanged until nothing is gained.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mil.cohort import Cohort
from wsi.errors import PatientLeakError, UsageError

STARTS = 10
"""Orders in which few groups are placed; the most even outcome is kept."""
FEW_GROUPS = 300
"""Up to so many groups are exchanged: sites, not patients, of whom each weighs little."""


def assign_folds(cohort: Cohort, folds: int, seed: int = 0, by: str = "patient", even: str | None = None) -> Cohort:
    """Spread patients (or whole sites, or other groups) over folds so that each has its share of every label.

    The order of rows does not enter.

    Parameters
    ----------
    by : str
        "patient", "site" or another column: slides with one value of it stay together, and so do those of a patient;
        a patient with several values joins their groups.
    even : str, optional
        "site" or another column: each fold also has its share of every label at each of its values.

    Raises
    ------
    UsageError
        If there are fewer groups than folds, or fewer than two folds, or a slide has no value of `by`.
    """
    groups = _groups(cohort, by)
    found = len(set(groups))
    if not 2 <= folds <= found:
        raise UsageError(f"{folds} folds cannot be made of {found} {by}s; choose 2 to {found} with --folds")
    strata = [cohort.label]
    if even is not None:
        strata.append(tuple("\x1f".join(pair) for pair in zip(cohort.label, cohort.column(even), strict=True)))
    fold = spread(groups, strata, folds, seed, exchange=by != "patient")
    notes = [
        f"label {label} has {n} {by}s with it, fewer than the {folds} folds: some folds cannot test it"
        for label, n in _groups_of_each(cohort.label, groups).items()
        if n < folds
    ]
    return replace(cohort, fold=fold, notes=(*cohort.notes, *notes))


def spread(
    groups: Sequence[str], strata: Sequence[Sequence[str]], folds: int, seed: int, *, exchange: bool = False
) -> np.ndarray:
    """Fold of each slide, (n,) int64: groups stay whole, and each fold has its share of every stratum.

    Greedy: the groups in seeded order, the largest first, each to the fold where it leaves the counts most even.

    Parameters
    ----------
    groups : (n,) of str
    strata : sequence of (n,) of str
        Labellings of the slides, each of which is to be even.
    exchange : bool
        Move and exchange groups afterwards, from several starts.
    """
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.concatenate([_counts(group, len(names), values) for values in strata], axis=1)
    first = _counts(group, len(names), strata[0])
    rng = np.random.default_rng(seed)
    if not exchange or len(names) > FEW_GROUPS:
        return _greedy(counts, first, folds, rng)[group]
    starts = [_exchanged(counts, _greedy(counts, first, folds, rng), folds) for _ in range(STARTS)]
    return min(starts, key=lambda placed: round(_uneven(counts, placed, folds), 9))[group]


def check_no_leak(cohort: Cohort) -> None:
    """Raise `PatientLeakError`, naming the patient, if slides of one patient are in two folds."""
    if cohort.fold is None:
        raise UsageError("the cohort has no folds")
    fold_of: dict[str, int] = {}
    for patient, fold in zip(cohort.patient_id, cohort.fold, strict=True):
        if fold_of.setdefault(patient, int(fold)) != fold:
            raise PatientLeakError(
                f"patient {patient} is in fold {fold_of[patient]} and in fold {fold}; all slides of a patient "
                "belong in one fold: correct the fold column, or leave it out"
            )


def _counts(group: np.ndarray, n_groups: int, values: Sequence[str]) -> np.ndarray:
    """Slides of each group with each value, (groups, values)."""
    names, value = np.unique(np.asarray(values), return_inverse=True)
    counts = np.zeros((n_groups, len(names)))
    np.add.at(counts, (group, value), 1)
    return counts


def _greedy(counts: np.ndarray, first: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Fold of each group, (groups,) int64; the largest by `first`, (groups, labels), come first."""
    shuffled = rng.permutation(len(counts))
    share = counts.sum(axis=0)
    filled = np.zeros((folds, counts.shape[1]))
    placed = np.zeros(len(counts), dtype=np.int64)
    for group in shuffled[np.argsort(-first[shuffled].max(axis=1), kind="stable")]:
        after = filled[:, None, :] + np.eye(folds)[:, :, None] * counts[group]
        uneven = ((after.transpose(1, 0, 2) / share) ** 2).sum(axis=(1, 2))
        placed[group] = np.lexsort((filled.sum(axis=1), np.round(uneven, 9)))[0]
        filled[placed[group]] += counts[group]
    return placed


def _uneven(counts: np.ndarray, placed: np.ndarray, folds: int) -> float:
    shares = counts / counts.sum(axis=0)
    return float(((np.eye(folds)[placed].T @ shares) ** 2).sum())


def _exchanged(counts: np.ndarray, placed: np.ndarray, folds: int) -> np.ndarray:
    """Move one group or exchange two, whichever gains most, until nothing is gained; no fold is emptied."""
    shares = counts / counts.sum(axis=0)  # (G, S)
    placed = placed.copy()
    everyone = np.arange(len(placed))
    while True:
        filled = np.eye(folds)[placed].T @ shares  # (F, S)
        own = filled[placed]  # (G, S)
        move = 2 * (shares @ filled.T - (shares * own).sum(axis=1)[:, None] + (shares**2).sum(axis=1)[:, None])
        move[everyone, placed] = np.inf
        move[np.bincount(placed, minlength=folds)[placed] == 1] = np.inf
        change = shares[None, :, :] - shares[:, None, :]  # (G, G, S): what the fold of g gains when h comes for it
        swap = 2 * (change * (own[:, None, :] - own[None, :, :]) + change**2).sum(axis=2)
        swap[placed[:, None] == placed[None, :]] = np.inf
        if min(move.min(), swap.min()) > -1e-9:
            return placed
        if move.min() <= swap.min():
            group, target = np.unravel_index(move.argmin(), move.shape)
            placed[group] = target
        else:
            group, other = np.unravel_index(swap.argmin(), swap.shape)
            placed[[group, other]] = placed[[other, group]]


def _groups_of_each(labels: Sequence[str], groups: Sequence[str]) -> dict[str, int]:
    pairs = sorted(set(zip(labels, groups, strict=True)))
    return {label: sum(1 for one, _ in pairs if one == label) for label in sorted(set(labels))}


def _groups(cohort: Cohort, by: str) -> list[str]:
    """Name of the group that must stay together, for each slide."""
    values = cohort.column(by)
    if by == "patient":
        return list(values)
    if not all(values):
        raise UsageError(f"slide {cohort.slide_id[values.index('')]} has no {by}; folds by {by} need one for each")
    leader = {value: value for value in values}

    def lead(value: str) -> str:
        while leader[value] != value:
            value = leader[value]
        return value

    first: dict[str, str] = {}
    for patient, value in zip(cohort.patient_id, values, strict=True):
        low, high = sorted((lead(first.setdefault(patient, value)), lead(value)))
        leader[high] = low
    return [lead(value) for value in values]
