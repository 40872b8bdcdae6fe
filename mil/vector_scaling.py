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
from wsi.errors import UsageError

LEAST_PROBABILITY = 1e-12
MOST_STEPS = 100


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
        self.slope_, self.offset_ = _newton(x, truth)
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


def _newton(x: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Newton's method with halved steps; the loss is convex and, with the pull, has one minimum."""
    classes = x.shape[1]
    parameters = np.stack([np.ones(classes), np.zeros(classes)])  # (2, C): a, b
    terms = np.stack([x, np.ones_like(x)])  # (2, n, C)
    loss = _loss(parameters, x, truth)
    for _ in range(MOST_STEPS):
        p = softmax(parameters[0] * x + parameters[1])  # (n, C)
        pull = parameters - np.array([[1.0], [0.0]])
        gradient = np.einsum("nk,fnk->fk", p - truth, terms) + pull  # (2, C)
        same = np.einsum("nk,fnk,gnk->fgk", p, terms, terms)  # (2, 2, C)
        between = -np.einsum("fnk,gnl->fkgl", terms * p, terms * p)  # (2, C, 2, C)
        every = np.arange(classes)
        between[:, every, :, every] += same.transpose(2, 0, 1)
        curvature = between.reshape(2 * classes, 2 * classes) + np.eye(2 * classes)
        step = np.linalg.solve(curvature, gradient.ravel()).reshape(2, classes)
        size = 1.0
        while (tried := _loss(parameters - size * step, x, truth)) > loss and size > 1e-10:
            size /= 2
        parameters, fell, loss = parameters - size * step, loss - tried, tried
        if fell <= 1e-12 * max(1.0, loss):
            break
    return parameters[0], parameters[1]


def _loss(parameters: np.ndarray, x: np.ndarray, truth: np.ndarray) -> float:
    scores = parameters[0] * x + parameters[1]
    top = scores.max(axis=1)
    fit = (np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top - (truth * scores).sum(axis=1)).sum()
    return float(fit + ((parameters[0] - 1) ** 2).sum() / 2 + (parameters[1] ** 2).sum() / 2)
