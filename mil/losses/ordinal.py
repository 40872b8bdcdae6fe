"""Losses for grades: classes with an order, as binary questions "is it higher than k?".

CORN: Shi, Cao, Raschka: Deep Neural Networks for Rank-Consistent Ordinal Regression Based on Conditional
Probabilities, 2021, equations 3 to 5. https://arxiv.org/abs/2111.08851
CORAL: Cao, Mirjalili, Raschka: Rank consistent ordinal regression for neural networks with application to age
estimation, 2020, equation 4. https://arxiv.org/abs/1901.07884
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mil.links import conditional, cumulative


class Corn:
    """Logit k answers "higher than k, given at least k"; each question is put only to the slides it concerns.

    The default for grades: the answers are rank-consistent by construction and each has weights of its own.
    """

    def __init__(self, n_classes: int):
        self.n_classes = n_classes
        self.n_outputs = n_classes - 1

    def layer(self) -> nn.Module:
        """Nothing stands between the model's outputs and the logits."""
        return nn.Identity()

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy, mean over all questions put: logits (B, C-1), targets (B,) int64, to a scalar."""
        level = torch.arange(self.n_classes - 1, device=logits.device)
        asked = (targets[:, None] >= level).to(logits.dtype)  # (B, C-1)
        higher = (targets[:, None] > level).to(logits.dtype)  # (B, C-1)
        losses = functional.binary_cross_entropy_with_logits(logits, higher, reduction="none")
        return (losses * asked).sum() / asked.sum()

    def marks(self, targets: Tensor) -> Tensor:
        """Output k is high for the grades above k."""
        return targets[:, None] > torch.arange(self.n_classes - 1, device=targets.device)  # (B, C-1)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """(..., C-1) logits to (..., C) probabilities: differences of the products of the answers."""
        return conditional(logits)


class RankBias(nn.Module):
    """One score to C-1 logits s + b_k with b_k falling: CORAL's last layer.

    The paper proves the order of the biases for the minimum only; here b_k = b_0 minus positive steps, so that it
    holds at every point of training.
    """

    def __init__(self, n_classes: int):
        super().__init__()
        self.first = nn.Parameter(torch.zeros(1))
        self.steps = nn.Parameter(torch.zeros(n_classes - 2))  # softplus(0) = 0.69

    def forward(self, score: Tensor) -> Tensor:
        falls = torch.cat([torch.zeros_like(self.first), functional.softplus(self.steps).cumsum(0)])
        return score + (self.first - falls)  # (..., 1) to (..., C-1)


class Coral:
    """Logit k answers "higher than k" by one score for all k and a threshold of its own.

    Fewer parameters than CORN; takes the grades to lie on one axis.
    """

    def __init__(self, n_classes: int):
        self.n_classes = n_classes
        self.n_outputs = 1

    def layer(self) -> nn.Module:
        """The thresholds."""
        return RankBias(self.n_classes)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy summed over the levels, mean over slides: logits (B, C-1), targets (B,) int64."""
        level = torch.arange(self.n_classes - 1, device=logits.device)
        higher = (targets[:, None] > level).to(logits.dtype)  # (B, C-1)
        losses = functional.binary_cross_entropy_with_logits(logits, higher, reduction="none")
        return losses.sum(dim=1).mean()

    def marks(self, targets: Tensor) -> Tensor:
        """The score is high for the upper half of the grades."""
        return 2 * targets[:, None] >= self.n_classes  # (B, 1)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """(..., C-1) logits to (..., C) probabilities: differences of the answers."""
        return cumulative(logits)
