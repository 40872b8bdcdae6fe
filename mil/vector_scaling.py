"""Vector scaling: each class gets a slope and an offset of its own. Numpy only.

Guo et al.: On Calibration of Modern Neural Networks, ICML 2017, section 4.2. https://arxiv.org/abs/1706.04599
Kull et al.: Beyond temperature scaling: Obtaining well-calibrated multi-class probabilities with Dirichlet
calibration, NeurIPS 2019. https://arxiv.org/abs/1910.12656

    p'_k = softmax_k(a_k log p_k + b_k)

The logarithm of the probabilities stands for Guo's logits (the diagonal case of Kull's Dirichlet calibration), so
that it means the same for every link, and adding a number to all logits changes nothing.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mil.calibration import Link
from mil.links import softmax
from mil.newton import minimum
from wsi.errors import UsageError

LEAST_PROBABILITY = 1e-12


class VectorScaling:
    """Least log loss over slopes a and offsets b, drawn a little towards a = 1, b = 0.

    The pull is a normal prior of standard deviation 1. It weighs about as much as one slide, and keeps the fit finite
    where a class is missing or the slides are separated.

    Parameters
    ----------
    link : callable
        (n, L) logits to (n, C) probabilities.
    """

    def __init__(self, link: Link):
        self.link = link

    def fit(self, logits: np.ndarray, targets: np.ndarray) -> "VectorScaling":
        """Find `slope_` and `offset_`, each (C,).

        Parameters
        ----------
        logits : ndarray (n, L)
            Of slides that the model was not trained on.
        targets : ndarray (n,) int
        """
        if len(logits) == 0:
            raise UsageError("calibration needs at least one held-out slide")
        x = self._logs(logits)  # (n, C)
        truth = np.eye(x.shape[1])[np.asarray(targets)]  # (n, C)
        self.slope_, self.offset_ = _fitted(x, truth)
        return self

    def transform(self, logits: np.ndarray) -> np.ndarray:
        """(..., L) logits to (..., C) calibrated probabilities."""
        return softmax(self.slope_ * self._logs(logits) + self.offset_)

    def parameters(self) -> dict[str, Any]:
        """What was fitted, as plain values for JSON."""
        return {"slope": self.slope_.tolist(), "offset": self.offset_.tolist()}

    def restore(self, parameters: Mapping[str, Any]) -> "VectorScaling":
        """Take over what `parameters` gave instead of a fit."""
        self.slope_, self.offset_ = (np.array(parameters[name], dtype=np.float64) for name in ("slope", "offset"))
        return self

    def _logs(self, logits: np.ndarray) -> np.ndarray:
        return np.log(np.maximum(self.link(np.asarray(logits, dtype=np.float64)), LEAST_PROBABILITY))


def _fitted(x: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes and offsets of least loss and pull; x and truth are (n, C)."""
    classes = x.shape[1]
    unchanged = np.repeat([1.0, 0.0], classes)  # a, then b: (2C,)
    terms = np.stack([x, np.ones_like(x)])  # (2, n, C)
    every = np.arange(classes)

    def loss(parameters: np.ndarray) -> float:
        scores = parameters[:classes] * x + parameters[classes:]
        top = scores.max(axis=1)
        fit = (np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top - (truth * scores).sum(axis=1)).sum()
        return float(fit + ((parameters - unchanged) ** 2).sum() / 2)

    def derivatives(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = softmax(parameters[:classes] * x + parameters[classes:])  # (n, C)
        gradient = np.einsum("nk,fnk->fk", p - truth, terms).ravel() + parameters - unchanged  # (2C,)
        weighted = terms * p  # (2, n, C)
        curvature = -np.einsum("fnk,gnl->fkgl", weighted, weighted)  # (2, C, 2, C)
        curvature[:, every, :, every] += np.einsum("fnk,gnk->kfg", weighted, terms)
        return gradient, curvature.reshape(2 * classes, 2 * classes) + np.eye(2 * classes)

    found = minimum(loss, derivatives, unchanged)
    return found[:classes], found[classes:]
