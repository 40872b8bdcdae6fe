"""What came of holding predictions against labels: for people, as a table, and as plain values."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mil.cohort import Task
from mil.intervals import Interval
from mil.metrics import confusion
from mil.set_report import SetReport
from workflows.prediction_table import named
from workflows.thresholds import OperatingPoint

if TYPE_CHECKING:
    from workflows.localisation import Localisation


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Predictions that have a label, compared with it.

    Attributes
    ----------
    task : "grade" or "class"
    classes : tuple of str
    targets, predicted : ndarray (n,) int64
    probabilities : ndarray (n, C)
    patients : tuple (n,) of str
    calibrated : bool
    metrics : dict of str to Interval
    detections : dict of str to Interval
        AUROC of each question that can be asked of the classes: "at least grade k", or one class against the rest.
    only_predicted, only_labelled : tuple of str
        Slides that could not be compared.
    points : tuple of OperatingPoint
    points_from : str
        Whose held-out slides gave the thresholds.
    localisation : Localisation, optional
    sets : SetReport, optional
        Where the table has the slides' sets.
    coverage : float or None
        What the sets were made for.
    notes : tuple of str
        What limits the figures.
    """

    task: Task
    classes: tuple[str, ...]
    targets: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    patients: tuple[str, ...]
    calibrated: bool
    metrics: dict[str, Interval]
    detections: dict[str, Interval]
    only_predicted: tuple[str, ...]
    only_labelled: tuple[str, ...]
    points: tuple[OperatingPoint, ...] = ()
    points_from: str = ""
    localisation: "Localisation | None" = None
    sets: SetReport | None = None
    coverage: float | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "task": self.task,
            "classes": list(self.classes),
            "slides": len(self.targets),
            "patients": len(set(self.patients)),
            "calibrated": self.calibrated,
            "metrics": {name: interval.to_dict() for name, interval in self.metrics.items()},
            "detection_auroc": {name: interval.to_dict() for name, interval in self.detections.items()},
            "confusion": confusion(self.targets, self.predicted, len(self.classes)).tolist(),
            "only_predicted": list(self.only_predicted),
            "only_labelled": list(self.only_labelled),
            "operating_points": [point.to_dict() for point in self.points],
            "operating_points_from": self.points_from,
            "localisation": None if self.localisation is None else self.localisation.to_dict(),
            "sets": None if self.sets is None else self.sets.to_dict() | {"made_for": self.coverage},
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """The outcome for people."""
        first = next(iter(self.metrics.values()))
        lines = [
            f"{len(self.targets)} slides of {len(set(self.patients))} patients; 95 % intervals by patient "
            f"({first.method}); probabilities {'calibrated' if self.calibrated else 'NOT calibrated'}",
            *(f"  {name:<18}{interval}" for name, interval in self.metrics.items()),
            *(f"  AUROC of {name}: {interval}" for name, interval in self.detections.items()),
        ]
        if self.points:
            lines += [f"operating points, thresholds from {self.points_from}:", *(f"  {one}" for one in self.points)]
        if self.localisation is not None:
            found = self.localisation
            lines.append(
                f"tiles against drawn findings: AUROC over {found.slides} slides with both kinds of tiles, "
                f"FROC over {found.lesions} lesions in {found.all_slides} slides:"
            )
            lines += found.lines()
        lines += self._set_lines()
        for what, names in (("prediction", self.only_labelled), ("label", self.only_predicted)):
            if names:
                lines.append(f"left out, no {what}: {named(names)}")
        return lines + [f"note: {note}" for note in self.notes]

    def _set_lines(self) -> list[str]:
        if self.sets is None or self.coverage is None:
            return []
        found = self.sets
        parts = {self.task: found.by_class, "site": found.by_site}
        return [
            f"sets made for {100 * self.coverage:g} %: they hold the truth in {found.coverage} of slides, mean size "
            f"{found.size}, one {self.task} only in {found.single}",
            *(f"  coverage of {kind} {name}: {one}" for kind, part in parts.items() for name, one in part.items()),
        ]

    def table(self) -> str:
        """Every metric as a line of CSV."""
        named_intervals: dict[str, Interval] = {
            **self.metrics,
            **{f"auroc of {name}": interval for name, interval in self.detections.items()},
        }
        for point in self.points:
            for name in ("sensitivity", "specificity"):
                named_intervals[f"{name} of {point.question} at {point.goal}"] = getattr(point, name)
        if self.localisation is not None:
            for kind in ("attention", "evidence"):
                for name in ("auroc", "froc", "iou"):
                    named_intervals[f"{name} of {kind}"] = getattr(getattr(self.localisation, kind), name)
        if self.sets is not None:
            named_intervals |= {"coverage of sets": self.sets.coverage, "size of sets": self.sets.size}
            named_intervals |= {f"coverage of {self.task} {name}": one for name, one in self.sets.by_class.items()}
            named_intervals |= {f"coverage of site {name}": one for name, one in self.sets.by_site.items()}
        lines = ["metric,estimate,low,high,level,slides,patients,method"]
        for name, one in named_intervals.items():
            numbers = ",".join(f"{value:.6f}" for value in (one.estimate, one.low, one.high))
            text = name.replace('"', '""')
            lines.append(f'"{text}",{numbers},{one.level},{len(self.targets)},{one.n_groups},"{one.method}"')
        return "\n".join(lines) + "\n"
