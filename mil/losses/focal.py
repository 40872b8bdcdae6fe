"""Focal loss: slides that are already right count little.

Lin, Goyal, Girshick, He, Dollar: Focal Loss for Dense Object Detection, ICCV 2017, equations 4 and 5.
https://arxiv.org/abs/1708.02002
Its probabilities: Charoenphakdee et al.: On Focal Loss for Class-Posterior Probability Estimation, CVPR 2021.
https://arxiv.org/abs/2011.09172

    loss = sum_b w_y (1 - q_y)^g * -log q_y / sum_b w_y,    q = softmax(z)
    p_k ~ q_k / (w_k phi(q_k)),    phi(q) = (1 - q)^g - g (1 - q)^(g-1) q log q
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mil.links import softmax
from mil.losses.imbalance import counted, inverse_frequency
from mil.losses.reference import AgainstReference
from wsi.errors import UsageError


class Focal(AgainstReference):
    """For many easy slides beside few hard ones, where the easy ones would drown the others.

    It was made for thousands of boxes in an image; with a hundred slides cross-entropy is seldom worse. The softmax of
    its logits is too unsure, since nothing is gained by being surer than sure enough; `probabilities` takes that back,
    and the weights with it.

    Parameters
    ----------
    n_classes : int
    class_counts : (C,) of int, optional
        Slides of each class, for weights n / (C n_k) (the paper's alpha); without it all weights are 1.
    gamma : float
        How fast a slide loses weight as it gets right; 0 is cross-entropy.
    """

    def __init__(self, n_classes: int, class_counts: Sequence[int] | None = None, gamma: float = 2.0):
        super().__init__(n_classes)
        if gamma < 0:
            raise UsageError(f"gamma is {gamma}; it is 0 or more")
        self.gamma = gamma
        self.weights = inverse_frequency(counted(n_classes, class_counts))

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Weighted mean over the batch: logits (B, C), targets (B,) int64, to a scalar."""
        weights = torch.as_tensor(self.weights, dtype=logits.dtype, device=logits.device)[targets]  # (B,)
        whole = torch.logsumexp(logits, dim=1)  # (B,)
        right = logits.gather(1, targets[:, None])[:, 0] - whole  # (B,) log q
        others = logits.scatter(1, targets[:, None], -torch.inf)  # (B, C)
        wrong = torch.logsumexp(others, dim=1) - whole  # (B,) log(1 - q), without cancellation
        return -(weights * torch.exp(self.gamma * wrong) * right).sum() / weights.sum()

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """(..., C) logits to probabilities of the cohort's mixture of classes."""
        logits = np.asarray(logits, dtype=np.float64)
        right = logits - _logsumexp(logits)[..., None]  # (..., C) log q
        every = np.broadcast_to(right[..., None, :], (*right.shape, self.n_classes))
        wrong = _logsumexp(np.where(np.eye(self.n_classes, dtype=bool), -np.inf, every))  # (..., C) log(1 - q)
        sure = right > -1e-8
        slope = np.where(sure, 1.0, -right / np.where(sure, 1.0, -np.expm1(right)))  # -log q / (1 - q)
        phi = self.gamma * wrong + np.log1p(self.gamma * np.exp(right) * slope)
        return softmax(right - phi - np.log(self.weights))


def _logsumexp(values: np.ndarray) -> np.ndarray:
    """Over the last axis, which has at least one finite number."""
    top = values.max(axis=-1, keepdims=True)
    return np.asarray(np.log(np.exp(values - top).sum(axis=-1)) + top[..., 0])
