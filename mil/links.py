"""From logits to class probabilities, in numpy: the three links that the losses use.

All take logits (..., L) and return float64 probabilities (..., C) that sum to 1.
"""

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """C = L: exp(z_k) over their sum."""
    logits = np.asarray(logits, dtype=np.float64)
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=-1, keepdims=True))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-z)) without overflow."""
    logits = np.asarray(logits, dtype=np.float64)
    odds = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + odds), odds / (1 + odds))


def conditional(logits: np.ndarray) -> np.ndarray:
    """C = L + 1, CORN: logit k is that of P(y > k | y >= k); their products are P(y > k)."""
    return from_exceeding(np.cumprod(sigmoid(logits), axis=-1))


def cumulative(logits: np.ndarray) -> np.ndarray:
    """C = L + 1, CORAL: logit k is that of P(y > k), not rising with k."""
    return from_exceeding(sigmoid(logits))


def from_exceeding(exceeding: np.ndarray) -> np.ndarray:
    """P(y > k) (..., C-1), not rising with k, to P(y = k) (..., C)."""
    one, zero = np.ones_like(exceeding[..., :1]), np.zeros_like(exceeding[..., :1])
    return -np.diff(np.concatenate([one, exceeding, zero], axis=-1), axis=-1)


def one_slide_more(probabilities: np.ndarray, n_slides: int) -> np.ndarray:
    """Probabilities (..., C) that follow from n slides, with one slide more that is of every class alike.

    (n p + 1 / C) / (n + 1), Perks's rule: nothing is impossible that n slides have not shown.
    """
    return np.asarray((n_slides * probabilities + 1 / probabilities.shape[-1]) / (n_slides + 1))
