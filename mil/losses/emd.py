"""Squared earth mover's distance between grades: a miss by two costs more than a miss by one.

Hou, Yu, Samaras: Squared Earth Mover's Distance-based Loss for Training Deep Neural Networks, 2016, with l = 2.
https://arxiv.org/abs/1611.05916

    loss = mean_b sum_k ( P(grade <= k) - [y <= k] )^2,    P from softmax(z)

It is the ranked probability score (Epstein 1969), which is proper: it is least at the true probabilities.
"""

import numpy as np
import torch
from torch import Tensor

from mil.links import softmax
from mil.losses.reference import AgainstReference


class SquaredEMD(AgainstReference):
    """For grades that need not lie on one axis, with a softmax that knows their order.

    Worth a try against corn where neighbouring grades are often confused by graders: it is bounded, so that one slide
    with a wrong label cannot dominate. For the same reason it learns slowly from slides that it has quite wrong.

    Parameters
    ----------
    n_classes : int
    """

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over the batch: logits (B, C), targets (B,) int64, to a scalar."""
        below = torch.softmax(logits, dim=1).cumsum(dim=1)[:, :-1]  # (B, C-1)
        level = torch.arange(self.n_classes - 1, device=logits.device)
        true = (targets[:, None] <= level).to(logits.dtype)  # (B, C-1)
        return (below - true).square().sum(dim=1).mean()

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """(..., C) logits to probabilities."""
        return softmax(logits)
