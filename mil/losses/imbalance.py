"""Cross-entropy for classes that are not equally frequent.

Class weights: Cui, Jia, Lin, Song, Belongie: Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019,
sections 3 and 4. https://arxiv.org/abs/1901.05555
Label smoothing: Szegedy et al.: Rethinking the Inception Architecture for Computer Vision, CVPR 2016, section 7.
https://arxiv.org/abs/1512.00567

    loss = sum_b w_y(b) * -log p_y(b)(b) / sum_b w_y(b)
    inverse frequency: w_k = n / (C n_k);    effective number: w_k ~ (1 - beta) / (1 - beta^n_k)
    smoothed: the one of the truth becomes 1 - e, and every class k gets e u_k, u_k its share in the cohort
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mil.links import softmax
from mil.losses.reference import AgainstReference
from wsi.errors import UsageError


def counted(n_classes: int, class_counts: Sequence[int] | None) -> np.ndarray:
    """Slides of each class (C,) float64; one of each where they are not given."""
    counts = np.asarray(class_counts if class_counts is not None else [1] * n_classes, dtype=np.float64)
    if counts.shape != (n_classes,) or (counts < 0).any():
        raise UsageError(f"class_counts is {class_counts}; expected {n_classes} numbers of slides, one for each class")
    return counts


def inverse_frequency(counts: np.ndarray) -> np.ndarray:
    """Weights n / (C n_k) for counts (C,); 1 for a class without slides."""
    return np.where(counts > 0, counts.sum() / (len(counts) * np.maximum(counts, 1)), 1.0)


def effective_number(counts: np.ndarray, beta: float) -> np.ndarray:
    """Weights 1 / E_k that sum to C, E_k = (1 - beta^n_k) / (1 - beta); a class without slides counts as one slide."""
    if not 0 <= beta < 1:
        raise UsageError(f"beta is {beta}; it lies in [0, 1): 0 weighs no class, near 1 by inverse frequency")
    effective = (1 - np.power(beta, np.maximum(counts, 1))) / (1 - beta)
    return 1 / effective * len(counts) / (1 / effective).sum()


class CrossEntropy(AgainstReference):
    """Cross-entropy with weights n / (C n_k). The default for classes without an order.

    The weights make rare classes count in training. They also shift the odds that the logits stand for by w_k;
    `probabilities` takes that back, so that they are those of the cohort's own mixture of classes.

    Smoothing is for labels that are sometimes wrong, and for few slides: it holds back logits that grow without end. It
    goes towards the shares of the classes (the paper's u(k), uniform where no counts are given), since towards 1/C it
    would make rare classes more probable than they are. It is not taken back.

    Parameters
    ----------
    n_classes : int
    class_counts : (C,) of int, optional
        Slides of each class; without it all weights are 1. A class without slides has weight 1.
    label_smoothing : float
        The share e in [0, 1) of a label that is spread over all classes.
    """

    def __init__(self, n_classes: int, class_counts: Sequence[int] | None = None, label_smoothing: float = 0.0):
        super().__init__(n_classes)
        if not 0 <= label_smoothing < 1:
            raise UsageError(f"label_smoothing is {label_smoothing}; it lies in [0, 1)")
        counts = counted(n_classes, class_counts)
        self.weights = inverse_frequency(counts)
        self.shares = counts / counts.sum() if counts.any() else np.full(n_classes, 1 / n_classes)
        self.label_smoothing = label_smoothing

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Weighted mean over the batch: logits (B, C), targets (B,) int64, to a scalar."""
        weights = torch.as_tensor(self.weights, dtype=logits.dtype, device=logits.device)
        sharp = functional.cross_entropy(logits, targets, weights)
        if not self.label_smoothing:
            return sharp
        spread = weights * torch.as_tensor(self.shares, dtype=logits.dtype, device=logits.device)  # (C,)
        blurred = -(functional.log_softmax(logits, dim=1) * spread).sum() / weights[targets].sum()
        return (1 - self.label_smoothing) * sharp + self.label_smoothing * blurred

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """(..., C) logits to probabilities of the cohort's mixture of classes."""
        return softmax(np.asarray(logits, dtype=np.float64) - np.log(self.weights))


class ClassBalanced(CrossEntropy):
    """Cross-entropy weighted by the effective number of slides: between no weights and inverse frequency.

    For cohorts in which the rarest class has a handful of slides and the most frequent a hundred times as many, where
    inverse frequency lets the handful decide. Beyond some 1 / (1 - beta) slides a class is taken to show nothing new:
    100 slides with the default.

    Parameters
    ----------
    n_classes : int
    class_counts : (C,) of int, optional
    beta : float
        0 weighs no class, near 1 is inverse frequency.
    label_smoothing : float
    """

    def __init__(
        self,
        n_classes: int,
        class_counts: Sequence[int] | None = None,
        beta: float = 0.99,
        label_smoothing: float = 0.0,
    ):
        super().__init__(n_classes, class_counts, label_smoothing)
        self.weights = effective_number(counted(n_classes, class_counts), beta)
