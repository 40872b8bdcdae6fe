"""What a cohort would give away to a model, looked for before anything is trained.

A patient in two folds and a section under two names stop a training (`mil.folds`, `mil.duplicates`). What is weighed
here does not stop it, but is said, kept in the model folder and shown in the report and on the model's card: whether
site or scanner give the label away, and whether the features tell the site.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mil.cohort import Cohort
from mil.confounding import LEVEL, Confounding, confounding
from mil.duplicates import Duplicate, Sketch, check_no_duplicates, find_duplicates, sketch
from mil.site_probe import SiteProbe, probe
from wsi.errors import PatientLeakError

if TYPE_CHECKING:
    from mil.bag import Bags

COLUMNS = ("site", "scanner")
"""Columns of the labels that are looked at, where they are there."""


@dataclass(frozen=True, slots=True)
class SlideLooks:
    """What one pass over the features of a cohort leaves.

    Attributes
    ----------
    means : ndarray (n, D) float64
        Mean feature of each slide.
    duplicates : tuple of Duplicate
    without_places : int
        Slides whose pixel size is not known: whether they show one section twice was not looked at.
    """

    means: np.ndarray
    duplicates: tuple[Duplicate, ...]
    without_places: int


@dataclass(frozen=True, slots=True)
class LeakageAudit:
    """What was found in a cohort.

    Attributes
    ----------
    slides, patients : int
    duplicates : tuple of Duplicate
    without_places : int
    confounders : tuple of Confounding
    probes : tuple of SiteProbe
        Of the same columns.
    whole : tuple of str
        Columns of which no value is in two folds.
    """

    slides: int
    patients: int
    duplicates: tuple[Duplicate, ...]
    without_places: int
    confounders: tuple[Confounding, ...]
    probes: tuple[SiteProbe, ...]
    whole: tuple[str, ...]

    def warnings(self) -> list[str]:
        """What may make the figures of a model look better than they are, and what to do."""
        return [
            f"{one}. A model may grade by the {one.column}, and slides held out of the same {one.column}s will not "
            f"show it. Train with --fold-by {one.column} and judge by those figures, or take labels that are mixed "
            f"within each {one.column}"
            for one in self.confounders
            if one.strong and one.column not in self.whole
        ]

    def findings(self) -> list[str]:
        """What else was found."""
        named = [f"{pair}, of one patient and in one fold" for pair in self.duplicates]
        held = {True: ". No {0} is in two folds, so the held-out figures do not live on it", False: ""}
        named += [
            f"{one}{held[one.column in self.whole].format(one.column)}"
            for one in self.confounders
            if one.found and not (one.strong and one.column not in self.whole)
        ]
        return named + [str(one) for one in self.probes if one.found(LEVEL)]

    def lines(self) -> list[str]:
        """For people, a line each; one where nothing was found."""
        lines = [f"WARNING: {text}" for text in self.warnings()] + [f"audit: {text}" for text in self.findings()]
        return lines or [f"audit: nothing found; {self.looked_at()}"]

    def looked_at(self) -> str:
        """What was looked for."""
        asked = [one.column for one in self.confounders]
        sections = f"no section twice ({self.without_places} slides without pixel size not looked at)"
        parts = ["no patient in two folds", sections if self.without_places else "no section twice"]
        if asked:
            parts.append(f"{' and '.join(asked)} looked at, each at a false-alarm rate of {100 * LEVEL:g} %")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "slides": self.slides,
            "patients": self.patients,
            "patients_in_two_folds": 0,
            "same_section": [str(pair) for pair in self.duplicates],
            "without_places": self.without_places,
            "label_from": [one.to_dict() for one in self.confounders],
            "from_features": [one.to_dict() for one in self.probes],
            "whole_in_folds": list(self.whole),
            "level": LEVEL,
            "looked_at": self.looked_at(),
            "warnings": self.warnings(),
            "findings": self.findings(),
        }


def look_at_slides(bags: "Bags", recipe: Mapping[str, Any]) -> SlideLooks:
    """Read every slide's features once: their mean, and the sketch by which sections are told apart."""
    tiles = recipe.get("tiles", {})
    tile_um = (tiles.get("tile_px") or 0) * (tiles.get("mpp") or 0)
    means: list[np.ndarray] = []
    sketches: list[Sketch] = []
    for row in range(len(bags)):
        bag = bags[row]
        means.append(bag.features.mean(axis=0, dtype=np.float64))
        if tile_um and not np.isnan(bag.coords_um).any():
            sketches.append(sketch(bag, tile_um))
    return SlideLooks(np.stack(means), find_duplicates(sketches), len(means) - len(sketches))


def without_duplicates(cohort: Cohort, looks: SlideLooks, allowed: bool, report: Callable[[str], None]) -> Cohort:
    """The cohort, if no section is in two folds or belongs to two patients; with a note of it where that is allowed.

    Raises
    ------
    PatientLeakError
        Names the pair.
    """
    try:
        check_no_duplicates(cohort, looks.duplicates)
    except PatientLeakError as error:
        if not allowed:
            raise PatientLeakError(f"{error}; if it is not the same section, go on with --allow-duplicates") from error
        report(f"allowed: {error}")
        return replace(cohort, notes=(*cohort.notes, f"allowed: {error}"))
    return cohort


def audit_leakage(cohort: Cohort, looks: SlideLooks, seed: int = 0) -> LeakageAudit:
    """What gives the label of a cohort with folds away."""
    known: dict[str, Sequence[str]] = {"site": cohort.site, **cohort.covariates}
    columns = {name: known[name] for name in COLUMNS if name in known and len({one for one in known[name] if one}) > 1}
    row_of = {slide_id: row for row, slide_id in enumerate(cohort.slide_id)}
    harmless = tuple(pair for pair in looks.duplicates if _together(cohort, row_of[pair.first], row_of[pair.second]))
    people = cohort.patient_id
    return LeakageAudit(
        len(cohort),
        len(set(people)),
        harmless,
        looks.without_places,
        tuple(confounding(name, values, cohort.label, people, seed=seed) for name, values in columns.items()),
        tuple(probe(name, looks.means, values, people, seed=seed) for name, values in columns.items()),
        tuple(name for name, values in columns.items() if _whole(cohort, values)),
    )


def _together(cohort: Cohort, one: int, other: int) -> bool:
    fold = cohort.fold
    return cohort.patient_id[one] == cohort.patient_id[other] and (fold is None or bool(fold[one] == fold[other]))


def _whole(cohort: Cohort, values: Sequence[str]) -> bool:
    """Whether no value of a column is in two folds."""
    if cohort.fold is None:
        return False
    pairs = {(value, int(fold)) for value, fold in zip(values, cohort.fold, strict=True) if value}
    return len(pairs) == len({value for value, _ in pairs})
