"""What a training is given: the slides that have both a label and features, and their folds."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from mil.cohort import Cohort
from mil.folds import assign_folds, check_no_leak
from wsi.errors import UsageError
from wsi.store import FeatureStore

MOST_NAMES = 10


def match(
    cohort: Cohort, stores: Mapping[str, FeatureStore], allow_missing: bool, report: Callable[[str], None]
) -> tuple[Cohort, list[FeatureStore]]:
    """The slides that have both a label and a store; what is left out is reported by name."""
    missing = [slide_id for slide_id in cohort.slide_id if slide_id not in stores]
    if missing and not allow_missing:
        raise UsageError(
            f"without feature store: {_listed(missing)}; extract them, or leave them out with --allow-missing"
        )
    if missing:
        report(f"left out, no feature store: {_listed(missing)}")
    if extra := sorted(set(stores) - set(cohort.slide_id)):
        report(f"left out, no label: {_listed(extra)}")
    kept = [row for row, slide_id in enumerate(cohort.slide_id) if slide_id in stores]
    if not kept:
        raise UsageError("no labelled slide has a feature store; check that slide_id is the stores' name")
    cohort = cohort.select(kept)
    if missing:
        cohort = replace(cohort, notes=(*cohort.notes, f"left out, no feature store: {_listed(missing)}"))
    return cohort, [stores[slide_id] for slide_id in cohort.slide_id]


def encoder_of(stores: list[FeatureStore], asked: str | None) -> str:
    """Whose features are taken: those asked for, or the only ones that all slides have."""
    if asked:
        for store in stores:
            if asked not in store.encoders:
                raise UsageError(f"slide {store.slide.slide_id} has no features by {asked!r}; extract them first")
        return asked
    common = set.intersection(*(set(store.encoders) for store in stores))
    if len(common) != 1:
        have = ", ".join(sorted(common)) or "no encoder for all slides"
        raise UsageError(f"the stores hold features by {have}; say which with --encoder")
    return common.pop()


def with_folds(cohort: Cohort, folds: int, seed: int, by: str, even: str | None) -> Cohort:
    """The cohort with folds: those of its table, numbered from 0, or such as are asked for."""
    if cohort.fold is None:
        cohort = assign_folds(cohort, folds, seed, by, even)
    else:
        names, fold = np.unique(cohort.fold, return_inverse=True)
        if len(names) < 2:
            raise UsageError(f"the fold column holds only {names[0]}; at least two folds are needed")
        cohort = replace(cohort, fold=fold)
    check_no_leak(cohort)
    return cohort


def check_columns(cohort: Cohort, by: str, even: str | None) -> None:
    """Raise `UsageError` unless the labels have the columns that folds are made by."""
    for option, name in (("fold-by", by), ("stratify", even)):
        known = ("patient", "site", *cohort.covariates)
        if name is not None and name not in known:
            raise UsageError(f"--{option} is {name!r}; it can be a column of the labels: {', '.join(known)}")


def _listed(names: list[str]) -> str:
    rest = len(names) - MOST_NAMES
    shown = ", ".join(names[:MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")
    return f"{len(names)} slide{'s' if len(names) > 1 else ''} ({shown})"
