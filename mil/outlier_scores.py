"""How odd a slide is among others, by one thing at a time: scores, the higher the odder. Numpy only.

A score is worked out for a new slide and the training slides together, (n + 1,), and treats all of them alike: each is
held against all others. Nothing else is asked of it, so a statistic more is a line in `TRAIT_SCORES`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mil.slide_view import TRAITS

FLOOR = 1e-6
"""Logarithms are taken above this."""


@dataclass(frozen=True, slots=True)
class Score:
    """One thing by which slides are compared.

    Attributes
    ----------
    reason : str
        What a slide is called that is odd by it.
    resolution : float
        Differences below are within what a measurement repeats to, and never make a slide odd among equal ones.
    """

    reason: str
    resolution: float


@dataclass(frozen=True, slots=True)
class TraitScore:
    """A `Score` that is worked out from some of the traits of all slides: (n + 1, columns) to (n + 1,)."""

    score: Score
    columns: tuple[str, ...]
    of: Callable[[np.ndarray], np.ndarray]

    def __call__(self, traits: np.ndarray) -> np.ndarray:
        """From the traits (n + 1, T) in the order of `TRAITS`; NaN where one that is needed was not measured."""
        wanted = traits[:, [TRAITS.index(name) for name in self.columns]]
        known = np.isfinite(wanted).all(axis=1)
        found = np.full(len(traits), np.nan)
        if known.any():
            found[known] = self.of(wanted[known])
        return found


def nearest_other(points: np.ndarray) -> np.ndarray:
    """Distance (n,) of each point (n, c) to the nearest other one; 0 where there is none."""
    if len(points) < 2:
        return np.zeros(len(points))
    apart = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2))  # (n, n)
    np.fill_diagonal(apart, np.inf)
    return np.asarray(apart.min(axis=1))


def shortfall(values: np.ndarray) -> np.ndarray:
    """How small each value (n, 1) is, as minus its logarithm (n,)."""
    return np.asarray(-np.log(np.maximum(values[:, 0], FLOOR)))


def _nearest_logarithm(values: np.ndarray) -> np.ndarray:
    return nearest_other(np.log(np.maximum(values, FLOOR)))


TILES_SCORE = Score("other tissue (its tiles are unlike those of training)", 1e-3)
SLIDE_SCORE = Score("other tissue or preparation (its features as a whole are unlike those of training)", 1e-3)

TRAIT_SCORES: dict[str, TraitScore] = {
    "stain": TraitScore(Score("other stain", 0.02), ("stain_x", "stain_y", "stain_spread"), nearest_other),
    "density": TraitScore(Score("stained paler or darker", 0.05), ("stain_density",), _nearest_logarithm),
    "glass": TraitScore(
        Score("other scanner (colour of the empty glass)", 2.0), ("glass_r", "glass_g", "glass_b"), nearest_other
    ),
    "focus": TraitScore(Score("blur", 0.1), ("focus",), shortfall),
    "tissue": TraitScore(Score("too little tissue", 0.2), ("tissue_mm2",), shortfall),
}

SCORES: dict[str, Score] = {
    "tiles": TILES_SCORE,
    "slide": SLIDE_SCORE,
    **{name: one.score for name, one in TRAIT_SCORES.items()},
}
"""All of them, in the order in which they are told."""


def oddness(scores: np.ndarray, resolution: float) -> np.ndarray:
    """Scores (n,) on a scale that all statistics share: 0 at the median, 1 where the oddest tenth begins.

    -inf where a score is NaN, and everywhere if it is for more than half of the slides. The measure is taken from all
    n slides, the new one among them, so that they stay exchangeable.
    """
    known = np.isfinite(scores)
    if 2 * np.count_nonzero(known) < len(scores):
        return np.full(len(scores), -np.inf)
    middle, high = np.quantile(scores[known], [0.5, 0.9])
    scaled = (scores - middle) / max(float(high - middle), resolution)
    return np.where(known, np.round(scaled, 6), -np.inf)
