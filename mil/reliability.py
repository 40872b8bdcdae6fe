"""What a reliability diagram shows, how sure it is, and what the Brier score is made of. Numpy only.

Wilson: Probable inference, the law of succession, and statistical inference, 1927: intervals of shares.
Korn, Graubard: Confidence intervals for proportions with small expected number of positive counts, 1998: with as
many independent slides as the patients are worth.
Dimitriadis, Gneiting, Jordan: Stable reliability diagrams for probabilistic classifiers, PNAS 2021: an isotonic curve
instead of bins, and the score in three parts without bins. https://doi.org/10.1073/pnas.2016191118
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from mil.calibration_error import class_questions, equal_mass
from mil.isotonic import IsotonicCurve


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
    who = np.arange(len(happened)) if patients is None else np.unique(np.asarray(patients), return_inverse=True)[1]
    inside = [np.unique(who[cut.member == b], return_inverse=True)[1] for b in range(len(cut.count))]
    worth = np.array([_worth(happened[cut.member == b], group) for b, group in enumerate(inside)])
    low, high = wilson(cut.observed, worth, level)
    count = np.array([group.max() + 1 for group in inside], dtype=np.int64)
    return Reliability(cut.predicted, cut.observed, low, high, cut.count, count, level)


def wilson(share: np.ndarray, count: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of Wilson's interval for shares out of `count` independent trials."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, count = np.asarray(share, dtype=np.float64), np.asarray(count, dtype=np.float64)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    # At shares of 0 and 1 an end is the share itself, but for rounding.
    return np.clip(middle - half, 0, share), np.clip(middle + half, share, 1)


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


def _worth(happened: np.ndarray, group: np.ndarray) -> float:
    """As how many independent slides these count: the variance by patient tells, patients bound it from below."""
    count, members = len(happened), int(group.max()) + 1
    share = happened.mean()
    spread = np.bincount(group, happened - share)
    if members == count or not 0 < share < 1 or members < 2:
        return float(members)
    variance = (spread**2).sum() * members / (members - 1) / count**2
    return float(np.clip(share * (1 - share) / variance if variance > 0 else count, min(members, count), count))
