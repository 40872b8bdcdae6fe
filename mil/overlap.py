"""How well a map that is cut at a threshold covers what was drawn: intersection over union. Numpy only.

    IoU(t) = sum of cover over tiles with score >= t  /  (tiles with score >= t + sum of cover over the others)

A tile stands for its own area, of which `cover` is the share that was drawn. A map of scores has no threshold of its
own. The one used for a slide is that with the highest mean IoU over the slides of the other patients, so that no slide
chooses its own.
"""

import numpy as np

from mil.resampling import Groups, group_numbers


def iou(cover: np.ndarray, scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """IoU of one slide at each threshold, (t,); NaN where nothing is drawn and nothing is above it.

    Parameters
    ----------
    cover : ndarray (n,)
        Share of each tile that was drawn, 0 to 1.
    scores : ndarray (n,)
    thresholds : ndarray (t,)
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    above = np.searchsorted(-np.asarray(scores)[order], -np.asarray(thresholds), side="right")  # (t,)
    covered = np.concatenate([[0.0], np.cumsum(np.asarray(cover)[order])])
    union = above + covered[-1] - covered[above]
    return np.divide(covered[above], union, out=np.full(len(above), np.nan), where=union > 0)


def held_out_iou(table: np.ndarray, patients: Groups) -> tuple[np.ndarray, np.ndarray]:
    """Each slide's IoU at the threshold that is best for the other patients, and which that is.

    Parameters
    ----------
    table : ndarray (slides, t)
        `iou` of each slide at the same thresholds.

    Returns
    -------
    values : ndarray (slides,)
        NaN where there is no other patient.
    chosen : ndarray (slides,) int64
        Column of the threshold.
    """
    group = group_numbers(patients)
    sums = np.zeros((group.max() + 1, table.shape[1]))
    np.add.at(sums, group, table)
    chosen = (sums.sum(axis=0) - sums).argmax(axis=1)[group]
    values = table[np.arange(len(table)), chosen]
    return (values if len(sums) > 1 else np.full(len(table), np.nan)), chosen
