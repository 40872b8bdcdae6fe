"""What a model says of a slide, as everything after it needs it. Numpy only."""

from dataclasses import dataclass
from typing import Literal

import numpy as np


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
