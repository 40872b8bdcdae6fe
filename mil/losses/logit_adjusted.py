"""Cross-entropy with the classes' frequencies in the logits.

Menon, Jayasumana, Rawat, Jain, Veit, Kumar: Long-tail learning via logit adjustment, ICLR 2021, equation 10.
https://arxiv.org/abs/2007.07314

    loss = mean_b -log softmax_y( z + tau log pi ),    pi_k = n_k / n
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mil.links import softmax
from mil.losses.imbalance import counted
from mil.losses.reference import AgainstReference


class LogitAdjusted(AgainstReference):
    """The model learns what speaks for a class beyond its frequency. The first to try when a class is rare.

    Unlike weights it stays consistent for balanced accuracy where classes can be told apart. The logits alone are those
    of a cohort with equally many slides of each class (their highest is the decision of least balanced error);
    `probabilities` puts the frequencies back and is of the cohort's own mixture.

    Parameters
    ----------
    n_classes : int
    class_counts : (C,) of int, optional
        Slides of each class; without it this is cross-entropy. A class without slides counts as one slide.
    tau : float
        1 is for balanced accuracy; more favours rare classes further.
    """

    def __init__(self, n_classes: int, class_counts: Sequence[int] | None = None, tau: float = 1.0):
        super().__init__(n_classes)
        counts = np.maximum(counted(n_classes, class_counts), 1)
        self.adjustment = tau * np.log(counts / counts.sum())

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over the batch: logits (B, C), targets (B,) int64, to a scalar."""
        adjustment = torch.as_tensor(self.adjustment, dtype=logits.dtype, device=logits.device)
        return functional.cross_entropy(logits + adjustment, targets)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """(..., C) logits to probabilities of the cohort's mixture of classes."""
        return softmax(np.asarray(logits, dtype=np.float64) + self.adjustment)
