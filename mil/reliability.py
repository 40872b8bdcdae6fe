"""What a reliability diagram shows, how sure it is, and what the Brier score is made of. Numpy only.

Dimitriadis, Gneiting, Jordan: Stable reliability diagrams for probabilistic classifiers, PNAS 2021: an isotonic curve
instead of bins, and the score in three parts without bins. https://doi.org/10.1073/pnas.2016191118
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mil.calibration_error import class_questions, equal_mass
from mil.isotonic import IsotonicCurve
from mil.shares import wilson, worth


@dataclass(frozen=True, slots=True)
class Reliability:
    """Points of a reliability diagram, by rising probability.

    Attributes
    ----------
    predicted : ndarray (b,)
        Mean probability of each bin.
    observed, low, high : ndarray (b,)
        Share in which the thing happened, and its interval.
    slides, patients : ndarray (b,) int64
    level : float
        Share of such intervals that hold the true share.
    """

    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    slides: np.ndarray
    patients: np.ndarray
    level: float


def reliability(
    probability: np.ndarray,
    happened: np.ndarray,
    patients: Sequence[str] | np.ndarray | None = None,
    bins: int = 10,
    level: float = 0.95,
) -> Reliability:
    """Bins of equal mass with Wilson intervals that count patients, not slides.

    Parameters
    ----------
    probability : ndarray (n,)
    happened : ndarray (n,) bool
    patients : (n,), optional
        Whose slide each is; without it each slide is a patient of its own.
    """
    happened = np.asarray(happened, dtype=bool)
    cut = equal_mass(probability, happened, bins)
    who = np.arange(len(happened)) if patients is None else np.asarray(patients)
    members = [cut.member == b for b in range(len(cut.count))]
    trials = np.array([worth(happened[inside], who[inside]) for inside in members])
    low, high = wilson(cut.observed, trials, level)
    count = np.array([len(np.unique(who[inside])) for inside in members], dtype=np.int64)
    return Reliability(cut.predicted, cut.observed, low, high, cut.count, count, level)


@dataclass(frozen=True, slots=True)
class BrierParts:
    """brier = miscalibration - discrimination + uncertainty, each summed over classes.

    Attributes
    ----------
    brier : float
        As `mil.metrics.brier`, 0 to 2.
    miscalibration : float
        What the best rising curve through the probabilities would take off; 0 is calibrated. Never below 0, and with
        few slides a little above it by chance.
    discrimination : float
        What the calibrated probabilities gain over telling everyone the cohort's mixture of classes.
    uncertainty : float
        Brier score of that mixture.
    """

    brier: float
    miscalibration: float
    discrimination: float
    uncertainty: float


def brier_parts(targets: np.ndarray, probabilities: np.ndarray) -> BrierParts:
    """Take the Brier score apart; the parts sum to it to rounding.

    Parameters
    ----------
    targets : ndarray (n,) int
    probabilities : ndarray (n, C)
    """
    parts = np.zeros(3)
    for p, happened in class_questions(targets, probabilities):
        truth = happened.astype(np.float64)
        fitted = IsotonicCurve().fit(p, truth)(p)
        parts += [((guess - truth) ** 2).mean() for guess in (p, fitted, np.full(len(p), truth.mean()))]
    score, calibrated, constant = (float(part) for part in parts)
    return BrierParts(score, score - calibrated, constant - calibrated, constant)
