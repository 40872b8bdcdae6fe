"""A new model against the old one, on the same slides: what `histograde dossier` writes down."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mil.comparison import Comparison, compare_models
from mil.intervals import measures
from mil.non_inferiority import NonInferiority, non_inferiority
from workflows.change_log import Change, change_log
from workflows.model_card import Described, describe
from workflows.pairing import in_common, paired
from workflows.prediction_table import Judged, Predictions, read_predictions
from workflows.subgroups import chosen_columns
from wsi.errors import UsageError


@dataclass(frozen=True, slots=True)
class DossierConfig:
    """What is to be held against each other.

    Attributes
    ----------
    old, new : path
        Model folders.
    out : path
        Folder of dossier.html, dossier.json, and the card of the new model.
    predictions : (old, new) or ()
        Tables of predictions or runs; those of the held-out slides of either model where it is empty.
    labels : path, optional
        Needed where these hold no labels.
    by : tuple of str
        Columns of subgroups; all of the labels where it is empty.
    margin : float
    metric : str, optional
        By which it is judged; the first of the task if left out.
    least_patients : int
        Groups with fewer are named and not judged.
    n : int
        Resamples, and permutations.
    seed : int
    """

    old: Path
    new: Path
    out: Path
    predictions: tuple[Path, ...] = ()
    labels: Path | None = None
    by: tuple[str, ...] = ()
    margin: float = 0.05
    metric: str | None = None
    least_patients: int = 20
    n: int = 1000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Dossier:
    """A new model against the old one.

    Attributes
    ----------
    old, new : Described
    changes : tuple of Change
    unchanged : tuple of str
        Sections in which nothing differs.
    slides, patients : int
        On which the two are compared.
    judged_on : str
    metrics : mapping of str to Comparison
    groups : NonInferiority
    notes : tuple of str
    """

    old: Described
    new: Described
    changes: tuple[Change, ...]
    unchanged: tuple[str, ...]
    slides: int
    patients: int
    judged_on: str
    metrics: Mapping[str, Comparison]
    groups: NonInferiority
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The outcome for people."""
        main = self.metrics[self.groups.metric]
        return [
            f"{self.old.model_id} to {self.new.model_id}: {len(self.changes)} changes"
            + (f"; the same: {', '.join(self.unchanged)}" if self.unchanged else ""),
            f"{self.slides} slides of {self.patients} patients, {self.judged_on}: {self.groups.metric} {main.first} "
            f"old, {main.second} new, difference {main.difference}",
            self.groups.verdict(),
            *(f"note: {note}" for note in self.notes),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "old": self.old.model_id,
            "new": self.new.model_id,
            "changes": [one.to_dict() for one in self.changes],
            "unchanged": list(self.unchanged),
            "slides": self.slides,
            "patients": self.patients,
            "judged_on": self.judged_on,
            "metrics": {name: one.to_dict() for name, one in self.metrics.items()},
            "non_inferiority": self.groups.to_dict(),
            "notes": list(self.notes),
            "sha256": {"old": dict(self.old.hashes), "new": dict(self.new.hashes)},
        }


def compare_folders(config: DossierConfig) -> Dossier:
    """Everything that a dossier says."""
    old, new = (describe(path, config.n, config.seed) for path in (config.old, config.new))
    tables, judged_on, left_out = _tables(config)
    first, second, notes = paired(*tables, config.labels)
    known = measures(first.task, len(first.classes))
    metric = config.metric or next(iter(known))
    if metric not in known:
        raise UsageError(f"--metric is {metric!r}; it can be {', '.join(known)}")
    truth = (first.targets,)
    before, after = ((one.predicted, one.probabilities) for one in (first, second))
    compared = compare_models(known, truth, before, after, first.patients, config.n, config.seed)
    groups = non_inferiority(
        metric, known[metric], truth, before, after, first.patients, _groups(config, first), config.margin,
        least_patients=config.least_patients, n=config.n, seed=config.seed,
    )  # fmt: skip
    return Dossier(
        old, new, *change_log(old, new), len(first.targets), len(set(first.patients)), judged_on, compared, groups,
        (*left_out, *notes),
    )  # fmt: skip


def _tables(config: DossierConfig) -> tuple[tuple[Predictions, Predictions], str, tuple[str, ...]]:
    """Predictions of both models for the same slides, where they are from, and what was left out."""
    if len(config.predictions) not in (0, 2):
        raise UsageError("--predictions is given twice: for the old model, then for the new one")
    asked = config.predictions or (config.old / "out_of_fold.csv", config.new / "out_of_fold.csv")
    first, second = (read_predictions(path) for path in asked)
    if config.predictions:
        return (first, second), "of the tables given", ()
    *both, left_out = in_common(first, second)
    return (both[0], both[1]), "each by the networks that had not seen it", left_out


def _groups(config: DossierConfig, judged: Judged) -> dict[str, np.ndarray]:
    """Slides of each value of each column, bool by name."""
    known = any(judged.cohort.site) or bool(judged.cohort.covariates)
    columns = chosen_columns(judged, config.by, {})[0] if config.by or known else {}
    return {
        f"{column} {value}": np.asarray(values) == value
        for column, values in columns.items()
        for value in sorted(set(values))
        if value
    }
