"""Huber loss: a measurement by a network, in which a few wild values do not decide.

Huber: Robust Estimation of a Location Parameter, Annals of Mathematical Statistics 35, 1964.
https://doi.org/10.1214/aoms/1177703732

    r = (y - center) / scale - z
    loss = mean over the known y of  r^2 / 2 where |r| <= delta,  delta (|r| - delta / 2) beyond
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wsi.errors import UsageError


class Huber:
    """For measurements: a share of tumour, a count of mitoses, a gene's expression; one or several, each known or not.

    Counts and expressions with a long tail are better given as their logarithm.

    Parameters
    ----------
    center, scale : float or sequence of float (T,)
        Of the training slides' values (median and standard deviation, say), so that outputs are near 0 and 1.
    n_values : int
        Values T of a bag; the columns of its targets.
    delta : float
        In units of `scale`: a miss beyond counts by its size and not by its square. 1.345 loses 5 % against least
        squares where errors are normal.
    """

    def __init__(
        self,
        center: float | Sequence[float] = 0.0,
        scale: float | Sequence[float] = 1.0,
        n_values: int = 1,
        delta: float = 1.345,
    ):
        self.center = np.broadcast_to(np.asarray(center, dtype=np.float64), (n_values,))
        self.scale = np.broadcast_to(np.asarray(scale, dtype=np.float64), (n_values,))
        if not (self.scale > 0).all() or not np.isfinite([self.center, self.scale]).all() or delta <= 0:
            raise UsageError(f"center is {center}, scale {scale}, delta {delta}; scale and delta must be above 0")
        self.delta = delta
        self.n_outputs = self.n_targets = n_values

    def layer(self) -> nn.Module:
        """Nothing stands between the model's outputs and the values in units of `scale`."""
        return nn.Identity()

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over the values known: logits (B, T), targets (B, T), NaN where not known; to a scalar."""
        if targets.numel() != logits.numel():
            raise UsageError(f"targets of huber are {tuple(targets.shape)}; expected (B, {self.n_targets})")
        wanted = self._scaled(targets.reshape(logits.shape)).to(logits.dtype)  # (B, T)
        known = ~wanted.isnan()
        wanted = torch.where(known, wanted, logits.detach())
        losses = functional.huber_loss(logits, wanted, reduction="none", delta=self.delta)  # (B, T)
        return losses.sum() / known.sum().clamp(min=1)

    def known(self, targets: Tensor) -> Tensor:
        """Bags of which a value is known, (B,) bool."""
        return ~targets.reshape(len(targets), -1).isnan().all(dim=1)

    def marks(self, targets: Tensor) -> Tensor:
        """An output is high for values above `center`."""
        return self._scaled(targets.reshape(len(targets), self.n_targets)) > 0  # (B, T)

    def values(self, logits: np.ndarray) -> np.ndarray:
        """(..., T) in the units of the targets."""
        return np.asarray(logits, dtype=np.float64) * self.scale + self.center

    def _scaled(self, targets: Tensor) -> Tensor:
        center, scale = (
            torch.as_tensor(np.array(one), dtype=targets.dtype, device=targets.device)
            for one in (self.center, self.scale)
        )
        return (targets - center) / scale
