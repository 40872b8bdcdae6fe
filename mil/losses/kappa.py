"""Quadratic weighted kappa as a loss: of the very figure that grading is judged by.

de la Torre, Puig, Valls: Weighted kappa loss function for multi-class classification of ordinal data in deep learning,
Pattern Recognition Letters 105, 2018. https://doi.org/10.1016/j.patrec.2017.05.018

    loss = log(1 - kappa) + a * mean_b -log p_by
    1 - kappa = sum_b sum_k w_yk p_bk / sum_jk w_jk (n_j / B) sum_b p_bk,    w_jk = (j - k)^2

The paper has a = 0. Then a slide whose probability has gathered at a wrong grade hardly moves any more, since the
gradient is linear in p.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mil.links import softmax
from mil.losses.reference import AgainstReference
from wsi.errors import UsageError

SMALLEST = 1e-6
"""Added above and below the line: a batch without a miss has a logarithm, and one of a single grade is worth 0."""


class QuadraticKappa(AgainstReference):
    """For a last gain in QWK, with many slides in a batch; otherwise corn or emd.

    Kappa is a figure of a batch: with few slides it is mostly noise, and of a batch whose slides are all of one grade
    it says nothing. Take `Packing(slides=32)` or more. The probabilities gather at the grade of least expected squared
    miss and say little of how sure it is; calibrate them before they are used as such.

    Parameters
    ----------
    n_classes : int
    cross_entropy : float
        The share a of cross-entropy beside kappa; 0 is the paper's loss.
    """

    def __init__(self, n_classes: int, cross_entropy: float = 0.5):
        super().__init__(n_classes)
        if cross_entropy < 0:
            raise UsageError(f"cross_entropy is {cross_entropy}; it is 0 or more")
        self.cross_entropy = cross_entropy

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Of the batch as a whole: logits (B, C), targets (B,) int64, to a scalar."""
        grade = torch.arange(self.n_classes, device=logits.device, dtype=logits.dtype)
        cost = (grade[:, None] - grade).square() / (self.n_classes - 1) ** 2  # (C, C)
        p = torch.softmax(logits, dim=1)  # (B, C)
        missed = (cost[targets] * p).mean(dim=0).sum()
        by_chance = (cost[targets].mean(dim=0) * p.mean(dim=0)).sum()
        kappa = torch.log((missed + SMALLEST) / (by_chance + SMALLEST))
        return kappa + self.cross_entropy * functional.cross_entropy(logits, targets)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """(..., C) logits to probabilities."""
        return softmax(logits)
