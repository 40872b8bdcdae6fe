"""The sets of a model folder: fitted to its out-of-fold probabilities, and looked up for a new slide. Numpy only.

Scores come from probabilities that are not calibrated. A calibration is fitted to the very slides that sets are
calibrated on, so their scores would be a little better than those of new slides.

Grades get intervals (`mil.conformal_scores.ordinal`). Classes without order get LAC: its sets are the smallest on
average, and with the two or three classes that such tasks have, APS's larger sets soon hold every class.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mil.cohort import Task
from mil.conformal import ConformalSets, Within
from mil.conformal_scores import ScoreName, slide_uniforms
from mil.prediction import ClassSet

SCORE: dict[Task, ScoreName] = {"grade": "ordinal", "class": "lac"}
PLENTY = 2
"""Sets keep their promise by class where each has so many times the patients that it takes to leave a class out."""


def fit_sets(
    task: Task,
    classes: Sequence[str],
    probabilities: np.ndarray,
    targets: np.ndarray,
    fold: np.ndarray,
    slide_ids: Sequence[str],
    patients: Sequence[str],
    coverage: float = 0.9,
    seed: int = 0,
) -> dict[str, Any]:
    """Sets as `model.json` keeps them: `ConformalSets.to_dict`, the seed, and what a reader should know.

    Parameters
    ----------
    probabilities : ndarray (n, C)
        Of each slide by the network that has not seen it, not calibrated.
    targets, fold : ndarray (n,) int
        Folds from 0, as the networks of the folder are.
    slide_ids, patients : (n,)
    coverage : float
        Share of slides whose set is to hold the truth.
    seed : int
        Of the numbers that `slide_uniforms` gives the slides.
    """
    score = SCORE[task]
    least = ConformalSets(score, coverage).least_patients
    known = [len({patients[row] for row in np.flatnonzero(targets == k).tolist()}) for k in range(len(classes))]
    within: Within = "class" if min(known) >= PLENTY * least else "all"
    sets = ConformalSets(score, coverage, within).fit(
        probabilities, targets, fold, patients=patients, uniform=slide_uniforms(slide_ids, seed)
    )
    return sets.to_dict() | {
        "seed": seed,
        "n_slides": len(targets),
        "n_patients": len(set(patients)),
        "promised": sets.promised(min(sets.patients_.values())),
        "notes": list(sets.notes(classes)),
    }


def held_out_cover(saved: Mapping[str, Any], patients: Sequence[str]) -> np.ndarray:
    """Whether the set of each calibration slide would hold the truth, had its patient not been used, (n,) bool.

    Over all slides this is about the chosen coverage by construction: the slides are held against each other. By class
    and by site it shows who gets less.

    Parameters
    ----------
    saved : mapping
        As `fit_sets` gave it.
    patients : (n,)
        Of its slides, in their order.
    """
    slides, error = saved["slides"], float(ConformalSets(saved["score"], saved["coverage"]).error)
    score, weight = (np.array(slides[name], dtype=np.float64) for name in ("score", "weight"))
    stratum, who = np.array(slides["stratum"]), np.asarray(patients)
    held = np.zeros(len(score), dtype=bool)
    for row in range(len(score)):
        others = (stratum == stratum[row]) & (who != who[row])
        above = weight[others & (score >= score[row])].sum()
        held[row] = (1 + above) / (1 + len(np.unique(who[others]))) > error + 1e-12
    return held


def find_set(
    saved: Mapping[str, Any], classes: tuple[str, ...], each: np.ndarray, slide_id: str, predicted: int
) -> ClassSet:
    """The set of one slide, in which its predicted class always is.

    Parameters
    ----------
    saved : mapping
        As `fit_sets` gave it.
    each : ndarray (folds, C)
        Probabilities by every fold's network, not calibrated.
    """
    sets = ConformalSets.from_dict(saved)
    uniform = slide_uniforms([slide_id], saved["seed"])
    held = sets.sets(each[None], uniform=uniform, best=np.array([predicted]))[0]  # (C,)
    return ClassSet(tuple(name for name, inside in zip(classes, held, strict=True) if inside), sets.coverage)
