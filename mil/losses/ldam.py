"""A margin for each class, wider for rare ones.

Cao, Wei, Gaidon, Arechiga, Ma: Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS 2019,
section 3. https://arxiv.org/abs/1906.07413

    loss = sum_b w_y * -log( exp(z_y - m_y) / (exp(z_y - m_y) + sum_{k != y} exp(z_k)) ) / sum_b w_y
    m_k = max_margin (min_j n_j / n_k)^(1/4)
    p_k ~ q_k (1 - q_k (1 - exp(-m_k))) / w_k,    q = softmax(z)

The last line is where the gradient of the expected loss vanishes: sum_y w_y p_y (pi_yk - [y = k]) = 0, with pi_y the
softmax that has y's margin in it, is solved by it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mil.links import softmax
from mil.losses.imbalance import counted, effective_number
from mil.losses.reference import AgainstReference
from wsi.errors import UsageError


class LDAM(AgainstReference):
    """For a rare class with slides so few that they are all learnt by heart: the margin keeps room around them.

    The paper has a last layer of cosines times 30 and a widest margin of 0.5 of a cosine. The models here give logits
    without such a bound, so the margin is in logits: 1 asks of the rarest class odds 2.7 times as good.

    Deferred reweighting, the paper's second half, is beta: train with 0 first, then go on with 0.99. A loss does
    not know the epoch.

    Parameters
    ----------
    n_classes : int
    class_counts : (C,) of int, optional
        Slides of each class; without it all margins are the widest. A class without slides has the widest.
    max_margin : float
        Of the rarest class, in logits; 0 or more.
    beta : float
        For weights by the effective number of slides (`effective_number`); 0 weighs no class.
    """

    def __init__(
        self, n_classes: int, class_counts: Sequence[int] | None = None, max_margin: float = 1.0, beta: float = 0.0
    ):
        super().__init__(n_classes)
        if max_margin < 0:
            raise UsageError(f"max_margin is {max_margin}; it is 0 or more")
        counts = counted(n_classes, class_counts)
        rarest = counts[counts > 0].min(initial=np.inf)
        self.margins = max_margin * np.where(counts > 0, rarest / np.maximum(counts, 1), 1.0) ** 0.25
        self.weights = effective_number(counts, beta)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Weighted mean over the batch: logits (B, C), targets (B,) int64, to a scalar."""
        margins = torch.as_tensor(self.margins, dtype=logits.dtype, device=logits.device)
        weights = torch.as_tensor(self.weights, dtype=logits.dtype, device=logits.device)
        less = functional.one_hot(targets, self.n_classes) * margins  # (B, C)
        return functional.cross_entropy(logits - less, targets, weights)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """(..., C) logits to probabilities of the cohort's mixture of classes."""
        logits = np.asarray(logits, dtype=np.float64)
        room = np.log1p(softmax(logits) * np.expm1(-self.margins))  # (..., C)
        return softmax(logits + room - np.log(self.weights))
