"""What a loss is: what training needs of it, and what it makes of a model's logits afterwards.

There are two kinds, each with a registry of its own in `mil.losses`. A class loss is built with the number of classes
and gives class probabilities, which calibration, reports and model folders are made of. A value loss is built from its
options alone and gives values: a log hazard, survival at some times, a measurement. So a grade is never trained with a
loss that has no probabilities, and no loss makes up probabilities that mean nothing.
"""

from typing import Protocol

import numpy as np
from torch import Tensor, nn


class Loss(Protocol):
    """What training needs: any entry of `LOSSES` or `VALUE_LOSSES`, once built.

    Attributes
    ----------
    n_outputs : int
        Numbers L that a model gives for a bag.
    """

    n_outputs: int

    def layer(self) -> nn.Module:
        """Between the model's outputs (..., L) and the logits."""
        ...

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits (b, ...) and targets (b, ...) to a scalar."""
        ...

    def marks(self, targets: Tensor) -> Tensor:
        """Which of the L outputs are high for a bag of its target: (b, ...) to (b, L) bool."""
        ...


class ClassLoss(Loss, Protocol):
    """An entry of `LOSSES`: built with `n_classes` and its own options; targets are (B,) int64."""

    n_classes: int

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Logits (..., L) to probabilities (..., C) float64 of the cohort's own mixture of classes."""
        ...


class ValueLoss(Loss, Protocol):
    """An entry of `VALUE_LOSSES`: built with its own options; targets are (B, n_targets) float32.

    Bags whose target is not known (NaN) are left out of the loss.

    Attributes
    ----------
    n_targets : int
        Columns of the targets.
    """

    n_targets: int

    def known(self, targets: Tensor) -> Tensor:
        """Which bags have a target, (B,) bool."""
        ...

    def values(self, logits: np.ndarray) -> np.ndarray:
        """Logits (..., L) to what they say in the units of the targets, (..., V) float64."""
        ...


class SurvivalLoss(ValueLoss, Protocol):
    """A value loss whose targets are (B, 2): time, and 1 for an event or 0 for a slide that was censored then."""

    def risk(self, logits: np.ndarray) -> np.ndarray:
        """Logits (..., L) to one number (...,), higher for an event that is sooner: what a C-index is made of."""
        ...
