"""Isotonic scaling: probabilities through rising curves of any shape. Numpy only.

Zadrozny, Elkan: Transforming Classifier Scores into Accurate Multiclass Probability Estimates, KDD 2002: a curve for
each class against the rest, then shares of the sum. https://doi.org/10.1145/775047.775151
Grades have an order, so there the curves are those of the questions "is it higher than k?".

It takes hundreds of slides: below that its steps follow chance (Niculescu-Mizil, Caruana: Predicting Good
Probabilities With Supervised Learning, ICML 2005, find sigmoids better under about 1,000).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mil.calibration import Link
from mil.isotonic import IsotonicCurve, falling
from mil.links import from_exceeding, one_slide_more
from mil.ordinal_scaling import exceeding
from wsi.errors import UsageError


class IsotonicScaling:
    """A rising curve for each class, or for each limit between grades.

    The curves' steps say 0 and 1 readily, but n slides cannot show that something never happens. So the result is that
    of one slide more, of every class alike: `mil.links.one_slide_more`.

    Parameters
    ----------
    link : callable
        (n, L) logits to (n, C) probabilities.
    ordered : bool
        Whether the classes are grades.
    """

    def __init__(self, link: Link, ordered: bool = False):
        self.link = link
        self.ordered = ordered

    def fit(self, logits: np.ndarray, targets: np.ndarray) -> "IsotonicScaling":
        """Find `curves_`, C of them or C-1 for grades, and keep `n_slides_`.

        Parameters
        ----------
        logits : ndarray (n, L)
            Of slides that the model was not trained on.
        targets : ndarray (n,) int
        """
        if len(logits) == 0:
            raise UsageError("calibration needs at least one held-out slide")
        scores = self._scores(logits)  # (n, C) or (n, C-1)
        number = np.arange(scores.shape[1])
        aim = np.asarray(targets)[:, None]
        holds = aim > number if self.ordered else aim == number
        self.curves_ = [IsotonicCurve().fit(scores[:, k], holds[:, k]) for k in number]
        self.n_slides_ = len(scores)
        return self

    def transform(self, logits: np.ndarray) -> np.ndarray:
        """(..., L) logits to (..., C) calibrated probabilities."""
        scores = self._scores(logits)
        found = np.stack([curve(scores[..., k]) for k, curve in enumerate(self.curves_)], axis=-1)
        if self.ordered:
            return one_slide_more(from_exceeding(falling(found)), self.n_slides_)
        total = found.sum(axis=-1, keepdims=True)
        shares = np.where(total > 0, found / np.where(total > 0, total, 1), 1 / found.shape[-1])
        return one_slide_more(shares, self.n_slides_)

    def parameters(self) -> dict[str, Any]:
        """What was fitted, as plain values for JSON."""
        curves = [[one.x_.tolist(), one.y_.tolist()] for one in self.curves_]
        return {"ordered": self.ordered, "curves": curves, "n_slides": self.n_slides_}

    def restore(self, parameters: Mapping[str, Any]) -> "IsotonicScaling":
        """Take over what `parameters` gave instead of a fit."""
        self.ordered, self.n_slides_ = bool(parameters["ordered"]), int(parameters["n_slides"])
        self.curves_ = [IsotonicCurve().restore(x, y) for x, y in parameters["curves"]]
        return self

    def _scores(self, logits: np.ndarray) -> np.ndarray:
        probabilities = self.link(np.asarray(logits, dtype=np.float64))
        return exceeding(probabilities) if self.ordered else probabilities
