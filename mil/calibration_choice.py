"""Which calibration to use, judged by slides that it was not fitted on. Numpy only.

A method is judged by its cross-fitted log loss: fitted on all folds but one and asked about that one. The
probabilities that are shown for held-out slides come from one level further out: for each fold the choice itself is
made anew among the other folds, so that no slide helped to choose what it is judged by (Varma, Simon: Bias in error
estimation when using cross-validation for model selection, 2006, https://doi.org/10.1186/1471-2105-7-91).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mil.calibration import Link, TemperatureScaling
from mil.cohort import Task
from mil.isotonic_scaling import IsotonicScaling
from mil.ordinal_scaling import OrdinalScaling
from mil.vector_scaling import VectorScaling
from wsi.errors import RecipeMismatchError, UsageError


class Calibrator(Protocol):
    """What every method of calibration does."""

    def fit(self, logits: np.ndarray, targets: np.ndarray) -> "Calibrator": ...

    def transform(self, logits: np.ndarray) -> np.ndarray: ...

    def parameters(self) -> dict[str, Any]: ...

    def restore(self, parameters: Mapping[str, Any]) -> "Calibrator": ...


Methods = Mapping[str, Callable[[], Calibrator]]
"""Names to makers of calibrators that are not fitted yet, the plainest first."""


@dataclass(frozen=True, slots=True)
class CalibrationChoice:
    """The method chosen, and what it was chosen by.

    Attributes
    ----------
    method : str
    calibrator : Calibrator
        Fitted on all the slides: for slides to come.
    log_loss : mapping of str to float
        Cross-fitted, for each method; {} where there are too few folds to compare.
    note : str
        One line for a reader: why this method.
    """

    method: str
    calibrator: Calibrator
    log_loss: Mapping[str, float]
    note: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        told = {"method": self.method, "log_loss": dict(self.log_loss), "note": self.note}
        return told | self.calibrator.parameters()


def calibration_methods(task: Task, link: Link) -> dict[str, Callable[[], Calibrator]]:
    """The methods that suit a task, those with the fewest numbers to fit first."""
    temperature = {"temperature": lambda: TemperatureScaling(link)}
    vector = {"vector": lambda: VectorScaling(link)}
    isotonic = {"isotonic": lambda: IsotonicScaling(link, ordered=task == "grade")}
    ordinal = {"ordinal": lambda: OrdinalScaling(link)} if task == "grade" else {}
    return {**temperature, **ordinal, **vector, **isotonic}


def load_calibrator(saved: Mapping[str, Any], link: Link) -> Calibrator:
    """A fitted calibrator from the plain values of `CalibrationChoice.to_dict`, or of any section that has them.

    So also from the calibration of a model folder that knows temperature only.

    Raises
    ------
    RecipeMismatchError
        If it is of a method that this program does not know.
    """
    methods = calibration_methods("grade", link)
    if (name := saved.get("method")) not in methods:
        raise RecipeMismatchError(
            f"calibration by {name!r}; this program knows {', '.join(methods)}: use the histograde that made it"
        )
    return methods[name]().restore(saved)


def held_out_probabilities(
    make: Callable[[], Calibrator], logits: np.ndarray, targets: np.ndarray, fold: np.ndarray
) -> np.ndarray:
    """Calibrated probabilities (n, C) of each slide by a calibrator that was fitted on the other folds.

    Parameters
    ----------
    logits : ndarray (n, L)
        Of each slide by the network that has not seen it.
    targets, fold : ndarray (n,) int
    """
    logits, targets, fold = np.asarray(logits, dtype=np.float64), np.asarray(targets), np.asarray(fold)
    return _held_out(lambda seen: make().fit(logits[seen], targets[seen]), logits, fold)


def choose_calibration(
    methods: Methods,
    logits: np.ndarray,
    targets: np.ndarray,
    fold: np.ndarray,
    patients: Sequence[str] | np.ndarray | None = None,
) -> CalibrationChoice:
    """Choose by cross-fitted log loss, and fit the choice on all slides.

    Taken is the first method (the plainest) whose loss is within one standard error, by patient, of the least: a
    dozen slides more or less must not decide between methods that do equally well (Breiman et al.: Classification
    and Regression Trees, 1984, section 3.4.3).

    Parameters
    ----------
    methods : mapping
        As of `calibration_methods`.
    logits : ndarray (n, L)
        Of each slide by the network that has not seen it.
    targets, fold : ndarray (n,) int
        With one fold there is nothing to compare by: the first method is taken, and the note says so.
    patients : (n,), optional
        Whose slide each is; without it each slide is a patient of its own.
    """
    logits, targets, fold = np.asarray(logits, dtype=np.float64), np.asarray(targets), np.asarray(fold)
    first = next(iter(methods))
    if len(np.unique(fold)) < 2:
        note = f"{first}, the plainest method: one fold leaves nothing to compare methods by"
        return CalibrationChoice(first, methods[first]().fit(logits, targets), {}, note)
    losses = {
        name: _slide_losses(targets, held_out_probabilities(make, logits, targets, fold))
        for name, make in methods.items()
    }
    group = np.unique(np.arange(len(logits)) if patients is None else np.asarray(patients), return_inverse=True)[1]
    means = {name: float(loss.mean()) for name, loss in losses.items()}
    best = min(means, key=lambda name: means[name])
    chosen = next(
        name for name in methods if means[name] - means[best] <= _standard_error(losses[name] - losses[best], group)
    )
    said = ", ".join(f"{name} {mean:.3f}" for name, mean in means.items())
    note = f"{chosen}: the plainest within one standard error of the least cross-fitted log loss ({said})"
    return CalibrationChoice(chosen, methods[chosen]().fit(logits, targets), means, note)


def nested_probabilities(
    methods: Methods,
    logits: np.ndarray,
    targets: np.ndarray,
    fold: np.ndarray,
    patients: Sequence[str] | np.ndarray | None = None,
) -> np.ndarray:
    """Probabilities (n, C) of each slide, calibrated by what is chosen and fitted on the other folds alone.

    With these the figures of a model are honest although the method was chosen. Parameters as of
    `choose_calibration`; with two folds the first method serves, since one fold has nothing to compare by.
    """
    logits, targets, fold = np.asarray(logits, dtype=np.float64), np.asarray(targets), np.asarray(fold)
    names = np.arange(len(logits)) if patients is None else np.asarray(patients)

    def chosen(seen: np.ndarray) -> Calibrator:
        return choose_calibration(methods, logits[seen], targets[seen], fold[seen], names[seen]).calibrator

    return _held_out(chosen, logits, fold)


def _held_out(fitted: Callable[[np.ndarray], Calibrator], logits: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Each fold's slides through what `fitted` makes of the others; it is handed which they are, (n,) bool."""
    folds = np.unique(fold)
    if len(folds) < 2:
        raise UsageError(f"calibration is judged across folds, at least two; found {len(folds)}")
    parts = [fitted(fold != k).transform(logits[fold == k]) for k in folds]
    order = np.concatenate([np.flatnonzero(fold == k) for k in folds])
    return np.asarray(np.concatenate(parts)[np.argsort(order)])


def _slide_losses(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """-log of the probability of the truth, (n,), bounded as in `mil.metrics.log_loss`."""
    chosen = np.take_along_axis(probabilities, targets[:, None], axis=1)[:, 0]
    return np.asarray(-np.log(np.maximum(chosen, np.finfo(np.float64).eps)))


def _standard_error(difference: np.ndarray, group: np.ndarray) -> float:
    """Of the mean over slides, the slides of a patient going together."""
    sums = np.bincount(group, difference - difference.mean())
    count = len(sums)
    return float(np.sqrt((sums**2).sum() * count / (count - 1)) / len(difference)) if count > 1 else float("inf")
