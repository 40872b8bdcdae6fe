"""How badly a class fits a slide: the scores from which conformal sets are made. Numpy only.

A score takes class probabilities (..., C) and a number in [0, 1) for each slide (...), and gives (..., C), the higher
the worse. Where classes tie, the one with the lower number goes first.

- LAC: Sadinle, Lei, Wasserman: Least Ambiguous Set-Valued Classifiers with Bounded Error Levels, JASA 2019:
  1 - p_y. The smallest sets on average. https://doi.org/10.1080/01621459.2017.1395341
- APS: Romano, Sesia, Candes: Classification with Valid and Adaptive Coverage, NeurIPS 2020: the mass of the classes
  that are more probable, plus u p_y. Larger sets for harder slides. https://arxiv.org/abs/2006.02544
- ordinal: Lu, Angelopoulos, Pomerantz: Improving Trustworthiness of AI Disease Severity Rating in Medical Imaging
  with Ordinal Conformal Prediction Sets, MICCAI 2022: as APS, but grades are taken in the order in which an interval
  grows from the most probable grade, to the more probable side each time. https://arxiv.org/abs/2207.02238
"""

from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Literal

import numpy as np

ScoreName = Literal["lac", "aps", "ordinal"]
Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


def lac(probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """1 - p; `uniform` has no part in it."""
    return np.asarray(1 - probabilities)


def aps(probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Mass of the more probable classes, plus a share `uniform` of the class's own."""
    return _mass(probabilities, np.argsort(-probabilities, axis=-1, kind="stable"), uniform)


def ordinal(probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Mass of the grades that an interval from the most probable grade takes in before, plus a share of its own."""
    return _mass(probabilities, growing_order(probabilities), uniform)


SCORES: dict[ScoreName, Score] = {"lac": lac, "aps": aps, "ordinal": ordinal}


def growing_order(probabilities: np.ndarray) -> np.ndarray:
    """Grades (..., C) in the order in which an interval takes them in; each beginning of it is an interval."""
    flat = np.asarray(probabilities).reshape(-1, probabilities.shape[-1])
    rows, size = np.arange(len(flat)), flat.shape[1]
    walled = np.full((len(flat), size + 2), -1.0)  # nothing lies beyond the first and last grade
    walled[:, 1:-1] = flat
    low = high = flat.argmax(axis=1)
    order = np.empty(flat.shape, dtype=np.int64)
    order[:, 0] = low
    for place in range(1, size):
        down = walled[rows, low] >= walled[rows, high + 2]  # of the grades low - 1 and high + 1
        low, high = np.where(down, low - 1, low), np.where(down, high, high + 1)
        order[:, place] = np.where(down, low, high)
    return order.reshape(probabilities.shape)


def slide_uniforms(slide_ids: Iterable[str], seed: int = 0) -> np.ndarray:
    """A number in [0, 1) for each slide, (n,): of its name and the seed alone, so that no batch or order matters."""
    digests = [sha256(f"{seed}\x1f{slide_id}".encode()).digest() for slide_id in slide_ids]
    return np.array([(int.from_bytes(one[:8], "big") >> 11) / 2**53 for one in digests])


def _mass(probabilities: np.ndarray, order: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    ranked = np.take_along_axis(np.asarray(probabilities, dtype=np.float64), order, axis=-1)
    scores = np.cumsum(ranked, axis=-1) - ranked + np.asarray(uniform)[..., None] * ranked
    found = np.empty_like(scores)
    np.put_along_axis(found, order, scores, axis=-1)
    return found
