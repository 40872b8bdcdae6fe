"""Where to draw the line: the threshold that keeps a promise on the slides it is chosen from. Numpy only.

A slide is called positive when its score is at least the threshold. Equal scores are called alike, so with ties the
promise is kept with room to spare and never missed. What a threshold gives must be read from other slides than those
it was chosen from: `cross_fitted_thresholds` takes the threshold of each fold from the other folds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from wsi.errors import UsageError

Kept = Literal["sensitivity", "specificity"]
ROUNDING = 1e-9
"""So that .95 of 20 slides is 19 of them, whatever the last bit of .95 x 20."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What a threshold promises on the slides it is chosen from: "sensitivity" at least .95, say."""

    kept: Kept
    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"the {self.kept} to keep is a share above 0, up to 1; found {self.share:g}")

    def __str__(self) -> str:
        return f"{self.kept} {self.share:g}"

    def threshold(self, positive: np.ndarray, scores: np.ndarray) -> float:
        """The threshold that keeps the promise and gives away least of the other; NaN where nothing can tell it."""
        find = threshold_for_sensitivity if self.kept == "sensitivity" else threshold_for_specificity
        return find(positive, scores, self.share)


def threshold_for_sensitivity(positive: np.ndarray, scores: np.ndarray, share: float = 0.95) -> float:
    """The highest threshold at which at least `share` of the positives are called; NaN without positives.

    Parameters
    ----------
    positive : ndarray (n,) bool
    scores : ndarray (n,)
    """
    found = np.sort(np.asarray(scores, dtype=np.float64)[np.asarray(positive, dtype=bool)])
    return float(found[len(found) - _at_least(share, len(found))]) if len(found) else float("nan")


def threshold_for_specificity(positive: np.ndarray, scores: np.ndarray, share: float = 0.95) -> float:
    """The lowest threshold at which at least `share` of the negatives are not called; NaN without negatives.

    It is the next number above a negative's score, so that slides with that very score are not called.
    """
    found = np.sort(np.asarray(scores, dtype=np.float64)[~np.asarray(positive, dtype=bool)])
    return float(np.nextafter(found[_at_least(share, len(found)) - 1], np.inf)) if len(found) else float("nan")


def cross_fitted_thresholds(
    find: Callable[[np.ndarray, np.ndarray], float], positive: np.ndarray, scores: np.ndarray, fold: np.ndarray
) -> np.ndarray:
    """For each slide the threshold that the slides of all other folds give, (n,) float64.

    Parameters
    ----------
    find : callable
        From positive and scores to a threshold, such as `Goal.threshold`.
    positive : ndarray (n,) bool
    scores : ndarray (n,)
        Of held-out slides.
    fold : ndarray (n,)
        In which fold each was held out.
    """
    positive, scores, fold = np.asarray(positive, dtype=bool), np.asarray(scores), np.asarray(fold)
    thresholds = np.full(len(scores), np.nan)
    for k in np.unique(fold):
        thresholds[fold == k] = find(positive[fold != k], scores[fold != k])
    return thresholds


def _at_least(share: float, count: int) -> int:
    """The least number of slides that is `share` of `count`, and one at least."""
    return max(1, int(np.ceil(share * count - ROUNDING)))
