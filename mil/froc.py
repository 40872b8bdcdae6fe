"""Are lesions found, and how many other places are pointed at? Peaks of a score map, and FROC. Numpy only.

    sensitivity(t) = lesions that a peak with score >= t hits / all lesions
    false positives(t) = peaks with score >= t that hit none / slides
    FROC score = mean of the sensitivity at 1/4, 1/2, 1, 2, 4 and 8 false positives a slide

Several peaks in one lesion count once, by the highest. All slides count, also those without lesion. Between its points
the curve is linear, and beyond its end level. All three are as in the challenge's own evaluation.

Ehteshami Bejnordi et al.: Diagnostic assessment of deep learning algorithms for detection of lymph node metastases in
women with breast cancer (CAMELYON16), JAMA 2017. https://doi.org/10.1001/jama.2017.14585
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

FALSE_POSITIVES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""A slide, at which the sensitivity is read."""

AT_ONCE = 32
"""Detections a slide that are looked at first."""


def peaks(places_um: np.ndarray, scores: np.ndarray, radius_um: float) -> np.ndarray:
    """Tiles with no higher one near by: greedy non-maximum suppression.

    Parameters
    ----------
    places_um : ndarray (n, 2)
        Where tiles lie (all their centres, or all their corners), um.
    scores : ndarray (n,)
        Of equal ones the place that is further up, then further left, is first.
    radius_um : float
        A tile this near to a chosen one, or nearer, is not chosen.

    Returns
    -------
    ndarray (k,) int64
        Rows of the chosen tiles, the highest first.
    """
    cell_of = np.floor(places_um / radius_um).astype(np.int64).tolist()
    cells: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, (i, j) in enumerate(cell_of):
        cells[i, j].append(row)
    places, silenced, chosen = places_um.tolist(), [False] * len(places_um), []
    for row in np.lexsort((places_um[:, 0], places_um[:, 1], -np.asarray(scores))).tolist():
        if silenced[row]:
            continue
        chosen.append(row)
        (x, y), (i, j) = places[row], cell_of[row]
        for around in ((a, b) for a in (i - 1, i, i + 1) for b in (j - 1, j, j + 1)):
            for other in cells.get(around, ()):
                u, v = places[other]
                silenced[other] |= (x - u) ** 2 + (y - v) ** 2 <= radius_um**2
    return np.array(chosen, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Detections:
    """What counts of the peaks of some slides: the best in each lesion that was hit, and every one that hit none.

    Attributes
    ----------
    slide : ndarray (k,) int64
        Number of the slide of each.
    score : ndarray (k,)
        Highest first.
    hit : ndarray (k,) bool
        Whether a lesion was hit.
    lesions : ndarray (slides,) int64
        How many each slide has.
    """

    slide: np.ndarray
    score: np.ndarray
    hit: np.ndarray
    lesions: np.ndarray

    @classmethod
    def of(cls, slide: np.ndarray, lesion: np.ndarray, score: np.ndarray, lesions: np.ndarray) -> "Detections":
        """From all peaks.

        Parameters
        ----------
        slide : ndarray (m,) int
        lesion : ndarray (m,) int
            Which lesion of its slide a peak hits, from 0; -1 for none.
        score : ndarray (m,)
        lesions : ndarray (slides,) int
        """
        order = np.argsort(-score, kind="stable")
        slide, lesion, score = slide[order], lesion[order], score[order]
        _, best = np.unique(np.stack([slide, lesion]), axis=1, return_index=True)
        first = np.zeros(len(score), dtype=bool)
        first[best] = True
        kept = first | (lesion < 0)
        return cls(slide[kept], score[kept], lesion[kept] >= 0, np.asarray(lesions, dtype=np.int64))

    def best(self, count: int) -> "Detections":
        """The `count` highest, and those that score like the last of them."""
        if count >= len(self.score):
            return self
        end = len(self.score) - int(np.searchsorted(self.score[::-1], self.score[count - 1], side="left"))
        return Detections(self.slide[:end], self.score[:end], self.hit[:end], self.lesions)


def froc_curve(found: Detections, rows: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """False positives a slide and sensitivity, from no detection to all, (thresholds + 1,) each; NaN without lesion.

    Parameters
    ----------
    rows : ndarray (m,) int, optional
        The slides that count, as often as they are named; all of them once if left out.
    """
    slides = len(found.lesions)
    weight = np.ones(slides) if rows is None else np.bincount(rows, minlength=slides).astype(np.float64)
    ends = np.flatnonzero(np.append(np.diff(found.score) != 0, True)) if len(found.score) else np.array([], int)
    each = weight[found.slide]
    wrong = np.concatenate([[0.0], np.cumsum(each * ~found.hit)[ends]])
    right = np.concatenate([[0.0], np.cumsum(each * found.hit)[ends]])
    lesions = float(weight @ found.lesions)
    return wrong / weight.sum(), right / lesions if lesions else np.full(len(right), np.nan)


def froc_sensitivities(found: Detections, rows: np.ndarray | None = None) -> np.ndarray:
    """Sensitivity at each of `FALSE_POSITIVES`, (6,).

    Detections below those that make more than 8 false positives a slide change nothing, and are not looked at.
    """
    count = AT_ONCE * len(found.lesions)
    while True:
        wrong, right = froc_curve(found.best(count), rows)
        if wrong[-1] > FALSE_POSITIVES[-1] or count >= len(found.score):
            return np.interp(FALSE_POSITIVES, wrong, right)
        count *= 4


def froc_score(found: Detections, rows: np.ndarray | None = None) -> float:
    """Mean of `froc_sensitivities`."""
    return float(froc_sensitivities(found, rows).mean())
