"""What a model says of a slide, as everything after it needs it. Numpy only."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mil.conformal import set_text


@dataclass(frozen=True, slots=True)
class ClassSet:
    """The classes that a slide may have, so chosen that the truth is among them in a given share of slides.

    Attributes
    ----------
    held : tuple of str
        In the order of the classes; the predicted one is among them.
    coverage : float
        That share, as 0.9.
    """

    held: tuple[str, ...]
    coverage: float

    def text(self, classes: tuple[str, ...], task: Literal["grade", "class"]) -> str:
        """As a person reads it: `3-4 at 90 %`."""
        held = np.array([name in self.held for name in classes])
        return f"{set_text(classes, held, task == 'grade')} at {100 * self.coverage:g} %"


@dataclass(frozen=True, slots=True)
class Prediction:
    """The grade or class of one slide, and why.

    Attributes
    ----------
    slide_id : str
    task : "grade" or "class"
    classes : tuple of str
        In the order of the axes named C.
    probabilities : ndarray (C,) float64
    attention : ndarray (N,) float32
        How much each tile decides; sums to 1.
    tile_evidence : ndarray (N, C) float32
        Class probabilities of each tile alone.
    rows : ndarray (N,) int64
        Row of each tile in the slide's grid.
    model_id : str
    calibrated : bool
        Whether the probabilities were scaled on held-out slides.
    fold_spread : float
        Disagreement of the fold models: largest standard deviation over classes of their probabilities.
    class_set : ClassSet, optional
        None where the model has no sets, or not all of its fold models were asked.
    """

    slide_id: str
    task: Literal["grade", "class"]
    classes: tuple[str, ...]
    probabilities: np.ndarray
    attention: np.ndarray
    tile_evidence: np.ndarray
    rows: np.ndarray
    model_id: str
    calibrated: bool
    fold_spread: float
    class_set: ClassSet | None = None

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.classes[int(self.probabilities.argmax())]

    @property
    def confidence(self) -> float:
        """Its probability."""
        return float(self.probabilities.max())

    @property
    def expected_grade(self) -> float:
        """Probability-weighted mean of the class numbers, from 0: finer than `label` for a worklist of grades."""
        return float(self.probabilities @ np.arange(len(self.classes)))


def score_columns(classes: tuple[str, ...]) -> list[str]:
    """Names of the probability columns in every table of predictions."""
    return [f"p_{name}" for name in classes]
