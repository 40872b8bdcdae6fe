"""Probabilities that mean what they say: temperature scaling on out-of-fold logits. Numpy only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mil.metrics import ece, log_loss
from wsi.errors import UsageError

Link = Callable[[np.ndarray], np.ndarray]
LOG_RANGE = (np.log(0.05), np.log(20.0))
"""Bounds of log(temperature): beyond them the fit says that the logits carry nothing, or that all are right."""


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """What scaling changed, on the slides it was fitted on.

    Attributes
    ----------
    temperature : float
    n_slides : int
        Out-of-fold slides behind the fit.
    nll_before, nll_after, ece_before, ece_after : float
        Log loss and expected calibration error.
    at_bound : bool
        The temperature lies at a bound of its range: the slides cannot tell it.
    """

    temperature: float
    n_slides: int
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float
    at_bound: bool


class TemperatureScaling:
    """Divide logits by one number, so that the log loss of the class probabilities is least.

    Guo et al.: On Calibration of Modern Neural Networks, ICML 2017, section 4.2. https://arxiv.org/abs/1706.04599
    One number cannot change the predicted class of a softmax; it can for ordinal links, where probabilities are
    products of answers.

    Parameters
    ----------
    link : callable
        (n, L) logits to (n, C) probabilities (`mil.links`, or a loss's `probabilities`).
    """

    def __init__(self, link: Link):
        self.link = link

    def fit(self, logits: np.ndarray, targets: np.ndarray) -> "TemperatureScaling":
        """Find `temperature_`; `report_` holds the figures before and after.

        Parameters
        ----------
        logits : ndarray (n, L)
            Of slides that the model was not trained on.
        targets : ndarray (n,) int
        """
        logits, targets = np.asarray(logits, dtype=np.float64), np.asarray(targets)
        if len(logits) == 0:
            raise UsageError("calibration needs at least one held-out slide")
        best = _minimum(lambda log_t: log_loss(targets, self.link(logits / np.exp(log_t))), *LOG_RANGE)
        self.temperature_ = float(np.exp(best))
        before, after = self.link(logits), self.transform(logits)
        self.report_ = CalibrationReport(
            self.temperature_,
            len(logits),
            log_loss(targets, before),
            log_loss(targets, after),
            ece(targets, before),
            ece(targets, after),
            bool(min(abs(best - bound) for bound in LOG_RANGE) < 1e-3),
        )
        return self

    def transform(self, logits: np.ndarray) -> np.ndarray:
        """(..., L) logits to (..., C) calibrated probabilities."""
        return self.link(np.asarray(logits, dtype=np.float64) / self.temperature_)

    def parameters(self) -> dict[str, Any]:
        """What was fitted, as plain values for JSON."""
        return {"temperature": self.temperature_}

    def restore(self, parameters: Mapping[str, Any]) -> "TemperatureScaling":
        """Take over what `parameters` gave instead of a fit."""
        self.temperature_ = float(parameters["temperature"])
        return self


def cross_fitted(link: Link, logits: np.ndarray, targets: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Calibrated probabilities (n, C) of held-out slides, each with the temperature of the other folds.

    What calibration does for a new slide can be read from these, not from slides that the temperature was fitted on.
    """
    parts = [TemperatureScaling(link).fit(logits[fold != k], targets[fold != k]) for k in np.unique(fold)]
    probabilities = np.empty_like(link(logits))
    for k, scaling in zip(np.unique(fold), parts, strict=True):
        probabilities[fold == k] = scaling.transform(logits[fold == k])
    return probabilities


def _minimum(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function of one number is least: a coarse scan, then golden-section search to 1e-6."""
    grid = np.linspace(low, high, 61)
    values = [function(float(x)) for x in grid]
    best = int(np.argmin(values))
    left, right = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)])
    ratio = (5**0.5 - 1) / 2
    while right - left > 1e-6:
        a, b = right - ratio * (right - left), left + ratio * (right - left)
        if function(a) <= function(b):
            right = b
        else:
            left = a
    return (left + right) / 2
