"""Operating points: thresholds from held-out training slides, and what they give on the slides at hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mil.bootstrap import SHARE, Interval, bootstrap
from mil.operating_points import Goal, cross_fitted_thresholds
from workflows.prediction_table import PLURAL, Judged
from wsi.errors import UsageError


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What a threshold gives.

    Attributes
    ----------
    question : str
        As in `Judged.questions`.
    goal : Goal
        What the threshold keeps on the slides that it is from.
    thresholds : (lowest, highest)
        The same, unless each fold has its own. A slide is called when its score is at least the threshold.
    sensitivity, specificity : Interval
        By patient, for these thresholds: how sure the thresholds are is not in them.
    without : int
        Slides left out, since the other folds have no slide that could give them a threshold.
    """

    question: str
    goal: Goal
    thresholds: tuple[float, float]
    sensitivity: Interval
    specificity: Interval
    without: int = 0

    def __str__(self) -> str:
        low, high = self.thresholds
        at = f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}"
        return (
            f"{self.question}, {self.goal} kept: threshold {at}, "
            f"sensitivity {self.sensitivity}, specificity {self.specificity}"
            + (f"; {self.without} slides without a threshold left out" if self.without else "")
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "question": self.question,
            "kept": self.goal.kept,
            "share": self.goal.share,
            "thresholds": list(self.thresholds),
            "sensitivity": self.sensitivity.to_dict(),
            "specificity": self.specificity.to_dict(),
            "slides_without_threshold": self.without,
        }


def operating_points(
    judged: Judged, goals: Sequence[Goal], training: Judged | None = None, n: int = 1000, seed: int = 0
) -> tuple[OperatingPoint, ...]:
    """Sensitivity and specificity of each question at each goal.

    Parameters
    ----------
    training : Judged, optional
        Held-out predictions for the slides that the model was trained on; thresholds come from all of them. Without it
        each fold of `judged` has that of the other folds.
    n, seed : int
        Of the resampling.

    Raises
    ------
    UsageError
        If `training` is of other classes.
    """
    if training is not None and (training.task, training.classes) != (judged.task, judged.classes):
        ours, theirs = (f"{PLURAL[one.task]} {', '.join(one.classes)}" for one in (judged, training))
        raise UsageError(
            f"the model's held-out slides have the {theirs}, the predictions the {ours}; "
            "give the model that made the predictions"
        )
    found = []
    for question, (positive, scores) in judged.questions().items():
        for goal in goals:
            if training is None:
                at = cross_fitted_thresholds(goal.threshold, positive, scores, np.asarray(judged.fold))
            else:
                at = np.full(len(scores), goal.threshold(*training.questions()[question]))
            if (known := np.isfinite(at)).any():
                patients = np.asarray(judged.patients)[known]
                called, truth = scores[known] >= at[known], positive[known]
                shares = (
                    _share(called[truth], patients[truth], n, seed),
                    _share(~called[~truth], patients[~truth], n, seed),
                )
                ends = float(at[known].min()), float(at[known].max())
                found.append(OperatingPoint(question, goal, ends, *shares, int((~known).sum())))
    return tuple(found)


def _share(right: np.ndarray, patients: np.ndarray, n: int, seed: int) -> Interval:
    if not len(right):
        return Interval(float("nan"), float("nan"), float("nan"), 0.95, 0, "undefined")
    return bootstrap(_mean, right, groups=patients, n=n, seed=seed, bounds=SHARE)


def _mean(right: np.ndarray) -> float:
    return float(right.mean())
