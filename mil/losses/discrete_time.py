"""Survival in intervals of time: the chance to have the event in each, given none before.

Gensheimer, Narasimhan: A scalable discrete-time survival model for neural networks, PeerJ 2019 (nnet-survival).
https://doi.org/10.7717/peerj.6257
Zadeh, Schmid: Bias in Cross-Entropy-Based Training of Deep Survival Networks, TPAMI 2021; as Patch-GCN and MCAT use it.
https://doi.org/10.1109/TPAMI.2020.2979450

    h_k = sigmoid(z_k),    S_k = prod_{j <= k} (1 - h_j)
    event in k: -log h_k - log S_{k-1};    censored after surviving k: -(1 - alpha) log S_k
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mil.links import sigmoid
from wsi.errors import UsageError

CensoredIn = Literal["middle", "end"]


def event_quantiles(time: np.ndarray, event: np.ndarray, intervals: int = 4) -> list[float]:
    """Cuts between intervals that hold equally many events: those that Patch-GCN and MCAT take.

    Parameters
    ----------
    time : ndarray (n,)
        Of the training slides alone.
    event : ndarray (n,)
        1 for an event, 0 for censored.

    Returns
    -------
    list of float
        intervals - 1 rising times, fewer where events share theirs.
    """
    seen = np.asarray(time, dtype=np.float64)[np.asarray(event) > 0]
    if intervals < 2 or len(seen) < intervals:
        raise UsageError(f"{len(seen)} events cannot be cut into {intervals} intervals; choose 2 or more, and no more")
    cuts = np.unique(np.quantile(seen, np.arange(1, intervals) / intervals))
    return [float(cut) for cut in cuts if cut > seen.min()]


class BaseHazard(nn.Module):
    """Adds the logits of the hazards of a mean bag, so that a model starts there and learns what differs.

    Of intervals that hold equally many events a hazard is 1 / (intervals left). From hazards of one half a model would
    spend its first epochs on the mean bag (Lin et al. 2017, section 3.3, on priors).
    """

    logits: Tensor

    def __init__(self, intervals: int, outputs: int):
        super().__init__()
        left = torch.arange(intervals, intervals - outputs, -1, dtype=torch.float32)
        self.register_buffer("logits", -torch.log((left - 1).clamp(min=1)), persistent=False)

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs + self.logits  # (..., L)


class DiscreteTime:
    """For times to an event where bags are large and batches small: every bag has a likelihood of its own.

    Hazards need not be proportional, and survival at the cuts comes with them. Four intervals are usual; more need more
    events (some 20 an interval).

    Parameters
    ----------
    cuts : sequence of float
        Rising times between the intervals, in the unit of the targets (`event_quantiles`). Interval k is
        [cuts[k-1], cuts[k]); the last has no end.
    censored : "middle" or "end"
        When a bag that is censored within an interval counts as having survived it: if it was followed past the middle
        (nnet-survival), or always (Patch-GCN, MCAT), which makes hazards too low. With "middle" the last interval has
        no output: nobody is seen to survive what has no end.
    alpha : float
        How much less a censored bag counts, 0 to 1; 0 is the likelihood.
    """

    def __init__(self, cuts: Sequence[float], censored: CensoredIn = "middle", alpha: float = 0.0):
        if not len(cuts) or not np.isfinite(cuts).all() or (np.diff(cuts) <= 0).any() or cuts[0] <= 0:
            raise UsageError(f"cuts are {list(cuts)}; expected one time or more above 0, rising")
        if censored not in ("middle", "end"):
            raise UsageError(f"censored is {censored!r}; it can be middle or end")
        if not 0 <= alpha <= 1:
            raise UsageError(f"alpha is {alpha}; it lies in [0, 1]")
        self.cuts = [float(cut) for cut in cuts]
        self.censored = censored
        self.alpha = alpha
        self.n_outputs = len(self.cuts) + (censored == "end")
        self.n_targets = 2

    def layer(self) -> nn.Module:
        """The hazards of a mean bag."""
        return BaseHazard(len(self.cuts) + 1, self.n_outputs)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over bags: logits (B, L), targets (B, 2): time, 1 for an event or 0 for censored; to a scalar."""
        if targets.ndim != 2 or targets.shape[1] != self.n_targets:
            raise UsageError(f"targets of discrete_time are {tuple(targets.shape)}; expected (B, 2): time, event")
        known = self.known(targets)
        logits, targets = logits[known], targets[known]
        had = self._had(targets).to(logits.dtype)  # (B, L)
        survived = self._survived(targets).to(logits.dtype)  # (B, L)
        weight = torch.where(targets[:, 1:2] > 0, 1.0, 1 - self.alpha)  # (B, 1)
        told = functional.binary_cross_entropy_with_logits(logits, had, reduction="none") * (had + survived)
        return (weight * told).sum() / max(1, len(logits))

    def known(self, targets: Tensor) -> Tensor:
        """Bags with both a time and an event or censoring, (B,) bool."""
        return ~targets.isnan().any(dim=1)

    def marks(self, targets: Tensor) -> Tensor:
        """The hazard is high in the interval in which the event was seen."""
        return self._had(targets)

    def values(self, logits: np.ndarray) -> np.ndarray:
        """Survival at each cut, (..., L) to (..., len(cuts))."""
        return np.asarray(np.cumprod(sigmoid(-np.asarray(logits, dtype=np.float64)), axis=-1)[..., : len(self.cuts)])

    def risk(self, logits: np.ndarray) -> np.ndarray:
        """Minus the survivals summed over the intervals, (...,), as Patch-GCN and MCAT rank slides."""
        return -np.cumprod(sigmoid(-np.asarray(logits, dtype=np.float64)), axis=-1).sum(axis=-1)

    def _edges(self, targets: Tensor) -> Tensor:
        edges = [0.0, *self.cuts, torch.inf][: self.n_outputs + 1]
        return torch.tensor(edges, dtype=targets.dtype, device=targets.device)  # (L+1,)

    def _had(self, targets: Tensor) -> Tensor:
        """The interval of the event, (B, L) bool; none for a censored bag."""
        edges, time = self._edges(targets), targets[:, :1]
        inside = (time < edges[1:]) & ((time >= edges[:-1]) | (edges[:-1] == 0))  # (B, L)
        return inside & (targets[:, 1:2] > 0)

    def _survived(self, targets: Tensor) -> Tensor:
        """Intervals that are known to have passed without the event, (B, L) bool."""
        edges, time, event = self._edges(targets), targets[:, :1], targets[:, 1:2] > 0
        middle = (edges[:-1] + edges[1:]) / 2  # (L,)
        enough = middle if self.censored == "middle" else edges[:-1]
        return torch.where(event, time >= edges[1:], time >= enough)
