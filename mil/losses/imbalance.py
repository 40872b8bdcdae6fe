"""Cross-entropy for classes that are not equally frequent."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mil.links import softmax


class Reference(nn.Module):
    """A logit of zero for the first class before those of the others."""

    def forward(self, outputs: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(outputs[..., :1]), outputs], dim=-1)  # (..., C-1) to (..., C)


class CrossEntropy:
    """Cross-entropy with weights n / (C n_k); for classes without an order.

    The first class is the reference, what a slide is when nothing speaks for another class (benign, say): the model
    gives C-1 numbers, the evidence for each other class. So a model that picks tiles by their evidence looks for
    what is to be found, and not for the tiles that look most benign.

    The weights make rare classes count in training. They also shift the odds that the logits stand for by w_k;
    `probabilities` takes that back, so that they are those of the cohort's own mixture of classes.

    Parameters
    ----------
    n_classes : int
    class_counts : (C,) of int, optional
        Slides of each class; without it all weights are 1. A class without slides has weight 1.
    """

    def __init__(self, n_classes: int, class_counts: Sequence[int] | None = None):
        self.n_classes = n_classes
        self.n_outputs = n_classes - 1
        counts = np.asarray(class_counts if class_counts is not None else [1] * n_classes, dtype=np.float64)
        self.weights = np.where(counts > 0, counts.sum() / (n_classes * np.maximum(counts, 1)), 1.0)

    def layer(self) -> nn.Module:
        """The reference class's logit."""
        return Reference()

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Weighted mean over the batch: logits (B, C), targets (B,) int64, to a scalar."""
        weights = torch.as_tensor(self.weights, dtype=logits.dtype, device=logits.device)
        return functional.cross_entropy(logits, targets, weights)

    def marks(self, targets: Tensor) -> Tensor:
        """Each class but the reference has an output of its own."""
        return targets[:, None] == torch.arange(1, self.n_classes, device=targets.device)  # (B, C-1)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """(..., C) logits to probabilities of the cohort's mixture of classes."""
        return softmax(np.asarray(logits, dtype=np.float64) - np.log(self.weights))
