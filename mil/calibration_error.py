"""How far probabilities are from what happens, without the bias that few slides bring. Numpy only.

Plain ECE of perfectly calibrated predictions is not 0: each bin's share of right predictions differs from its
confidence by chance, and the differences are summed without their sign. What is here takes that out, or looks at
every class:

- `ece_debiased`, `squared_calibration_error`: Kumar, Liang, Ma: Verified Uncertainty Calibration, NeurIPS 2019.
  https://arxiv.org/abs/1909.10155
- `sweep_ece`: Roelofs et al.: Mitigating Bias in Calibration Error Estimation, AISTATS 2022.
  https://arxiv.org/abs/2012.08668
- `adaptive_ece`: Nixon et al.: Measuring Calibration in Deep Learning, 2019. https://arxiv.org/abs/1904.01685
- `classwise_ece`: the same for one class after the other; Kull et al. 2019. https://arxiv.org/abs/1910.12656

A question is a probability (n,) and whether the thing happened (n,): see `top_label`, `class_questions` and
`grade_questions`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wsi.errors import UsageError

ROUNDING = 1e-6
"""By how much a probability may miss 0 and 1: tables keep six decimals."""


@dataclass(frozen=True, slots=True)
class Bins:
    """Slides of like probability.

    Attributes
    ----------
    predicted, observed : ndarray (b,)
        Mean probability, and share of the slides in which the thing happened.
    count : ndarray (b,) int64
        Slides; none is 0.
    member : ndarray (n,) int64
        The bin of each slide.
    """

    predicted: np.ndarray
    observed: np.ndarray
    count: np.ndarray
    member: np.ndarray


def equal_mass(probability: np.ndarray, happened: np.ndarray, bins: int = 10) -> Bins:
    """Bins of like count, by probability. Equal probabilities share a bin, so that no order of slides matters."""
    probability = _checked(probability)
    _, place, count = np.unique(probability, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - count / 2  # mid-rank of each distinct probability, from 0
    return _bins(probability, happened, np.floor(bins * middle / max(len(place), 1)).astype(np.int64)[place])


def equal_width(probability: np.ndarray, happened: np.ndarray, bins: int = 10) -> Bins:
    """Bins of like width on 0 to 1; those without slides are left out."""
    probability = _checked(probability)
    return _bins(probability, happened, np.minimum((probability * bins).astype(np.int64), bins - 1))


Cut = Callable[[np.ndarray, np.ndarray, int], Bins]


def plain_error(bins: Bins) -> float:
    """ECE: mean over slides of |predicted - observed| of their bin."""
    return _weighted(np.abs(bins.predicted - bins.observed), bins)


def debiased_error(bins: Bins) -> float:
    """ECE less an estimate of what chance adds; can fall below 0.

    The bias is taken for what the absolute difference grows by, when each observed share is drawn anew around its
    value with variance o (1 - o) / (n - 1): a folded normal distribution, whose mean is known in closed form. Where a
    bin is all right or all wrong nothing is taken off. An absolute value has no unbiased estimate: of calibrated
    predictions a share of 2 - sqrt(2), 59 %, of plain ECE stays. `squared_error` has no bias.
    """
    gap = np.abs(bins.predicted - bins.observed)
    return _weighted(2 * gap - _folded_mean(gap, np.sqrt(_variance(bins))), bins)


def squared_error(bins: Bins) -> float:
    """Mean of (predicted - observed)^2 less the variance of each observed share: unbiased; its root is in
    probability. Kumar et al. 2019, section 5.
    """
    return _weighted((bins.predicted - bins.observed) ** 2 - _variance(bins), bins)


def ece_debiased(targets: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> float:
    """`debiased_error` of the predicted class over bins of equal mass.

    Parameters
    ----------
    targets : ndarray (n,) int
    probabilities : ndarray (n, C)
    """
    return debiased_error(equal_mass(*top_label(targets, probabilities), bins))


def squared_calibration_error(targets: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> float:
    """`squared_error` of the predicted class over bins of equal mass."""
    return squared_error(equal_mass(*top_label(targets, probabilities), bins))


def sweep_ece(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """ECE of the predicted class over as many bins of equal mass as leave the observed shares rising.

    As many bins as the slides bear, instead of a number somebody chose: the first number at which a share falls is one
    too many.
    """
    confidence, right = top_label(targets, probabilities)
    kept = equal_mass(confidence, right, 1)
    for number in range(2, len(right) + 1):
        tried = equal_mass(confidence, right, number)
        if (np.diff(tried.observed) < 0).any():
            break
        kept = tried
    return plain_error(kept)


def classwise_ece(
    targets: np.ndarray, probabilities: np.ndarray, bins: int = 10, cut: Cut = equal_mass, debias: bool = False
) -> np.ndarray:
    """ECE of each class's probability, (C,).

    The error of the predicted class can hide that one grade is called too often and its neighbour too seldom.

    Parameters
    ----------
    cut : callable
        `equal_mass` or `equal_width`.
    debias : bool
        `debiased_error` instead of `plain_error`.
    """
    error = debiased_error if debias else plain_error
    return np.array([error(cut(p, happened, bins)) for p, happened in class_questions(targets, probabilities)])


def adaptive_ece(targets: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> float:
    """ACE: mean over classes and bins of equal mass of |predicted - observed|; every bin counts alike."""
    gaps = []
    for p, happened in class_questions(targets, probabilities):
        found = equal_mass(p, happened, bins)
        gaps.append(np.abs(found.predicted - found.observed).mean() if len(found.count) else np.nan)
    return float(np.mean(gaps))


Question = tuple[np.ndarray, np.ndarray]


def top_label(targets: np.ndarray, probabilities: np.ndarray) -> Question:
    """Confidence of the predicted class, and whether it was right."""
    probabilities = np.asarray(probabilities, dtype=np.float64)
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == np.asarray(targets)


def class_questions(targets: np.ndarray, probabilities: np.ndarray) -> list[Question]:
    """For each class its probability, and whether it was the truth."""
    p, aim = np.asarray(probabilities, dtype=np.float64), np.asarray(targets)
    return [(p[:, k], aim == k) for k in range(p.shape[1])]


def grade_questions(targets: np.ndarray, probabilities: np.ndarray) -> list[Question]:
    """For each grade but the last the probability of a higher one, and whether it was higher."""
    p, aim = np.asarray(probabilities, dtype=np.float64), np.asarray(targets)
    return [(np.minimum(p[:, k + 1 :].sum(axis=1), 1.0), aim > k) for k in range(p.shape[1] - 1)]


def _checked(probability: np.ndarray) -> np.ndarray:
    probability = np.asarray(probability, dtype=np.float64)
    if not ((probability >= -ROUNDING) & (probability <= 1 + ROUNDING)).all():
        raise UsageError("a probability is below 0, above 1 or not a number; calibration cannot be judged by it")
    return np.clip(probability, 0, 1)


def _bins(probability: np.ndarray, happened: np.ndarray, number: np.ndarray) -> Bins:
    _, member, count = np.unique(number, return_inverse=True, return_counts=True)
    predicted = np.bincount(member, probability) / count
    return Bins(predicted, np.bincount(member, np.asarray(happened, dtype=np.float64)) / count, count, member)


def _variance(bins: Bins) -> np.ndarray:
    """Of each observed share, estimated without bias; 0 for a bin of one slide, which cannot tell."""
    return np.where(bins.count > 1, bins.observed * (1 - bins.observed) / np.maximum(bins.count - 1, 1), 0.0)


def _folded_mean(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Mean of |x| for normal x."""
    ratio = mean / np.where(deviation > 0, deviation, 1.0)
    inside = np.array([math.erf(one / math.sqrt(2)) for one in ratio])
    folded = deviation * math.sqrt(2 / math.pi) * np.exp(-(ratio**2) / 2) + mean * inside
    return np.where(deviation > 0, folded, mean)


def _weighted(values: np.ndarray, bins: Bins) -> float:
    return float((values * bins.count).sum() / bins.count.sum()) if len(bins.count) else float("nan")
