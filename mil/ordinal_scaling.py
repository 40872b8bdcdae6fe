"""Ordinal scaling: one slope for all grades and an offset for each question "is it higher than k?". Numpy only.

Platt: Probabilistic Outputs for Support Vector Machines, 1999, asked of each threshold of a cumulative model
(McCullagh: Regression Models for Ordinal Data, 1980, https://doi.org/10.1111/j.2517-6161.1980.tb01109.x):

    P'(y > k) = sigmoid(a g_k + b_k),   g_k = log odds of the model's own P(y > k)

Questions share the slope, as one axis of severity asks; the offsets move the limits between grades. Where offsets
put two questions in the wrong order for a slide, the nearest falling sequence is taken.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mil.calibration import Link
from mil.isotonic import falling
from mil.links import from_exceeding, one_slide_more, sigmoid
from mil.newton import minimum
from wsi.errors import UsageError

LEAST_PROBABILITY = 1e-12


class OrdinalScaling:
    """Least sum of binary log losses over the questions, as CORAL's, with Platt's targets.

    Platt's targets are (n+ + 1) / (n+ + 2) and 1 / (n- + 2) instead of 1 and 0: so the fit is finite where
    no slide, or every slide, is above a grade. The same for the grades: as if one slide more had been seen, of every
    grade alike (`mil.links.one_slide_more`), since two questions with one answer leave the grade between them nothing.

    Parameters
    ----------
    link : callable
        (n, L) logits to (n, C) probabilities of grades in their order.
    """

    def __init__(self, link: Link):
        self.link = link

    def fit(self, logits: np.ndarray, targets: np.ndarray) -> "OrdinalScaling":
        """Find `slope_` (never negative; 0: the logits carry nothing) and `offset_` (C-1,), and keep `n_slides_`.

        Parameters
        ----------
        logits : ndarray (n, L)
            Of slides that the model was not trained on.
        targets : ndarray (n,) int
        """
        if len(logits) == 0:
            raise UsageError("calibration needs at least one held-out slide")
        odds = self._log_odds(logits)  # (n, C-1)
        wanted = _platt_targets(np.asarray(targets)[:, None] > np.arange(odds.shape[1]))  # (n, C-1)
        self.slope_, self.offset_ = _fitted(odds, wanted)
        if self.slope_ < 0:
            self.slope_, self.offset_ = _fitted(np.zeros_like(odds), wanted)
            self.slope_ = 0.0
        self.n_slides_ = len(odds)
        return self

    def transform(self, logits: np.ndarray) -> np.ndarray:
        """(..., L) logits to (..., C) calibrated probabilities."""
        higher = falling(sigmoid(self.slope_ * self._log_odds(logits) + self.offset_))
        return one_slide_more(from_exceeding(higher), self.n_slides_)

    def parameters(self) -> dict[str, Any]:
        """What was fitted, as plain values for JSON."""
        return {"slope": self.slope_, "offset": self.offset_.tolist(), "n_slides": self.n_slides_}

    def restore(self, parameters: Mapping[str, Any]) -> "OrdinalScaling":
        """Take over what `parameters` gave instead of a fit."""
        self.slope_, self.offset_ = float(parameters["slope"]), np.array(parameters["offset"], dtype=np.float64)
        self.n_slides_ = int(parameters["n_slides"])
        return self

    def _log_odds(self, logits: np.ndarray) -> np.ndarray:
        return log_odds(exceeding(self.link(np.asarray(logits, dtype=np.float64))))


def exceeding(probabilities: np.ndarray) -> np.ndarray:
    """P(y = k) (..., C) to P(y > k) (..., C-1), summed from the top so that small ones keep their digits."""
    return np.asarray(np.cumsum(probabilities[..., ::-1], axis=-1)[..., -2::-1])


def log_odds(probability: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)), at most 27.6 in size."""
    inside = np.clip(probability, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def _platt_targets(higher: np.ndarray) -> np.ndarray:
    above = higher.sum(axis=0)
    return np.where(higher, (above + 1) / (above + 2), 1 / (len(higher) - above + 2))


def _fitted(odds: np.ndarray, wanted: np.ndarray) -> tuple[float, np.ndarray]:
    """Slope and offsets of least loss, which Platt's targets keep finite; both arguments are (n, C-1)."""
    questions = odds.shape[1]

    def loss(parameters: np.ndarray) -> float:
        scores = parameters[0] * odds + parameters[1:]
        return float((np.logaddexp(0, scores) - wanted * scores).sum())

    def derivatives(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = sigmoid(parameters[0] * odds + parameters[1:])  # (n, C-1)
        gradient = np.concatenate([[((p - wanted) * odds).sum()], (p - wanted).sum(axis=0)])
        weight = p * (1 - p)
        curvature = np.diag(np.concatenate([[(weight * odds**2).sum()], weight.sum(axis=0)]))
        curvature[0, 1:] = curvature[1:, 0] = (weight * odds).sum(axis=0)
        # The ridge matters only where all odds are equal, or all slides so sure that nothing curves.
        return gradient, curvature + 1e-9 * np.eye(questions + 1)

    found = minimum(loss, derivatives, np.concatenate([[1.0], np.zeros(questions)]))  # a, then b
    return float(found[0]), found[1:]
