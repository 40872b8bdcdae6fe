"""Grading only the slides that a model is sure of: what that gains, and where to stop. Numpy only.

Geifman, El-Yaniv: Selective Classification for Deep Neural Networks, NeurIPS 2017. https://arxiv.org/abs/1705.08500
Geifman, Uziel, El-Yaniv: Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers, ICLR 2019 (AURC, E-AURC).
https://arxiv.org/abs/1805.08206

    coverage(t) = share of slides with confidence >= t        risk(t) = mean loss of these
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, lgamma, log, log2

import numpy as np

from wsi.errors import UsageError


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """Risk when slides are graded from the surest on.

    Attributes
    ----------
    coverage : ndarray (n,)
        1/n, 2/n, ... 1.
    risk : ndarray (n,)
        Mean loss of that many of the surest slides; among slides of one confidence, on average over their orders.
    threshold : ndarray (n,)
        Confidence of the last of them.
    """

    coverage: np.ndarray
    risk: np.ndarray
    threshold: np.ndarray

    @property
    def aurc(self) -> float:
        """Area under the curve: mean risk over all coverages. 0 is perfect; NaN without slides."""
        return float(self.risk.mean()) if len(self.risk) else float("nan")


def risk_coverage(confidence: np.ndarray, loss: np.ndarray) -> RiskCoverage:
    """The risk-coverage curve.

    Parameters
    ----------
    confidence : ndarray (n,)
        Higher is surer: the highest probability, or minus the entropy, the size of a set, the spread of the folds.
    loss : ndarray (n,)
        1 for a wrong grade, or its distance in grades.
    """
    confidence, loss = _checked(confidence), np.asarray(loss, dtype=np.float64)
    _, place, count = np.unique(-confidence, return_inverse=True, return_counts=True)
    order = np.argsort(place, kind="stable")
    mean = np.bincount(place, loss) / count if len(loss) else loss
    number = np.arange(1, len(loss) + 1)
    return RiskCoverage(number / max(len(loss), 1), np.cumsum(mean[place][order]) / number, confidence[order])


def aurc(confidence: np.ndarray, loss: np.ndarray) -> float:
    """Area under the risk-coverage curve."""
    return risk_coverage(confidence, loss).aurc


def excess_aurc(confidence: np.ndarray, loss: np.ndarray) -> float:
    """E-AURC: the area above that of a confidence which puts every error last.

    By this, models compare that err unequally often.
    """
    return aurc(confidence, loss) - aurc(-np.asarray(loss, dtype=np.float64), loss)


@dataclass(frozen=True, slots=True)
class Abstention:
    """From which confidence on a model may grade alone.

    Attributes
    ----------
    threshold : float
        Grade slides of at least this confidence; infinite where no threshold keeps the risk.
    coverage : float
        Share of the calibration patients with a slide that is graded then.
    risk : float
        Share of these with a wrong grade.
    bound : float
        The risk is at most this with probability 1 - delta; 1 where nothing is graded.
    """

    threshold: float
    coverage: float
    risk: float
    bound: float


def abstention_threshold(
    confidence: np.ndarray,
    wrong: np.ndarray,
    risk: float,
    delta: float = 0.05,
    patients: Sequence[str] | np.ndarray | None = None,
) -> Abstention:
    """The lowest threshold found at which the risk is below `risk` with probability 1 - delta (their algorithm 2, SGR).

    A binary search over thresholds; each of its ceil(log2 n) looks spends an equal part of delta on an exact binomial
    bound. The risk is counted by patient: one is wrong if any of the slides that are graded is.

    Parameters
    ----------
    confidence : ndarray (n,)
        Of slides that the model was not trained on.
    wrong : ndarray (n,) bool
    risk, delta : float
        Above 0 and below 1.
    patients : (n,), optional
        Whose slide each is; without it each slide is a patient of its own.
    """
    if not (0 < risk < 1 and 0 < delta < 1):
        raise UsageError(f"risk is {risk} and delta {delta}; both lie between 0 and 1, as 0.05")
    confidence, wrong = _checked(confidence), np.asarray(wrong, dtype=bool)
    who = np.arange(len(wrong)) if patients is None else np.unique(np.asarray(patients), return_inverse=True)[1]
    thresholds = np.unique(confidence)
    best = Abstention(float("inf"), 0.0, 0.0, 1.0)
    low, high = 0, len(thresholds)  # `high` is known to do, or is the threshold that grades nothing
    looks = max(1, ceil(log2(len(thresholds) + 1)))
    while low < high:
        middle = (low + high) // 2
        graded = confidence >= thresholds[middle]
        count, errors = len(np.unique(who[graded])), len(np.unique(who[graded & wrong]))
        bound = binomial_bound(errors, count, delta / looks)
        if bound < risk:
            high = middle
            best = Abstention(float(thresholds[middle]), count / len(np.unique(who)), errors / count, bound)
        else:
            low = middle + 1
    return best


def binomial_bound(errors: int, count: int, delta: float) -> float:
    """The largest error rate at which `errors` or fewer of `count` have probability delta (Clopper, Pearson 1934)."""
    if errors >= count:
        return 1.0
    number = np.arange(errors + 1)
    ways = np.array([lgamma(count + 1) - lgamma(k + 1) - lgamma(count - k + 1) for k in number.tolist()])
    low, high = 0.0, 1.0
    for _ in range(40):
        rate = (low + high) / 2
        terms = ways + number * log(rate) + (count - number) * log(1 - rate) if rate < 1 else np.full(1, -np.inf)
        low, high = (rate, high) if np.exp(terms).sum() > delta else (low, rate)
    return high


def _checked(confidence: np.ndarray) -> np.ndarray:
    confidence = np.asarray(confidence, dtype=np.float64)
    if np.isnan(confidence).any():
        raise UsageError("a confidence is not a number; slides cannot be put in order by it")
    return confidence
