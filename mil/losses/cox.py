"""Cox's partial likelihood: who has the event first, whatever the clock.

Cox: Regression Models and Life-Tables, JRSS B 34, 1972. https://doi.org/10.1111/j.2517-6161.1972.tb00899.x
Ties: Efron: The Efficiency of Cox's Likelihood Function for Censored Data, JASA 72, 1977.
https://doi.org/10.1080/01621459.1977.10480613
By a network: Katzman et al.: DeepSurv, 2018. https://doi.org/10.1186/s12874-018-0482-1

    loss = -1/B sum over times t of events ( sum_{i in D} x_i - sum_{l=0}^{d-1} log( sum_{R} e^x - l/d sum_{D} e^x ) )

x is the log hazard of a bag; R are the bags at risk at t (time >= t), D the d of them that have their event at t.
"""

import numpy as np
import torch
from torch import Tensor, nn

from wsi.errors import UsageError


class Cox:
    """For times to an event where only the order of risks matters; needs many bags in a batch.

    Risk sets are those of the batch. A random batch is a nested sample of the cohort's risk sets, whose likelihood has
    its maximum at the same hazards, but it says the less the smaller it is, and a batch without an event says nothing:
    take `Packing(slides=32)` or more. Where bags are so large that few fit into a batch, `discrete_time` is better:
    there every bag speaks for itself.

    Each event counts alike, whichever batch it is in: the sum over events is divided by the number of bags.

    Parameters
    ----------
    stratified : bool
        Targets have a third column, a number for each stratum (a site or a cohort, say): bags are compared only within
        one, so that each may have a baseline hazard of its own.
    """

    def __init__(self, stratified: bool = False):
        self.stratified = stratified
        self.n_outputs = 1
        self.n_targets = 3 if stratified else 2

    def layer(self) -> nn.Module:
        """Nothing stands between the model's output and the log hazard."""
        return nn.Identity()

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Log hazards (B, 1) and targets (B, 2): time in any unit, 1 for an event or 0 for censored; to a scalar.

        Memory grows with B^2.
        """
        if targets.ndim != 2 or targets.shape[1] != self.n_targets:
            raise UsageError(f"targets of cox are {tuple(targets.shape)}; expected (B, {self.n_targets}): time, event")
        known = self.known(targets)
        x, targets = logits[known, 0], targets[known]  # (B,)
        time, event = targets[:, 0], targets[:, 1] > 0
        together = time[:, None] == time  # (B, B)
        at_risk = time[:, None] <= time  # (B, B) in row i who is at risk at the time of i
        if self.stratified:
            same = targets[:, 2, None] == targets[:, 2]
            together, at_risk = together & same, at_risk & same
        tied = together & event & event[:, None]  # (B, B)
        rank, size = tied.tril(-1).sum(dim=1), tied.sum(dim=1)  # (B,)
        risk_set = _log_sum_exp(x, at_risk[event])  # (E,)
        deaths = _log_sum_exp(x, tied[event])  # (E,)
        earlier = rank[event].to(x.dtype) / size[event]  # (E,) l / d
        less = torch.log1p(-earlier * torch.exp(deaths - risk_set))
        return (risk_set + less - x[event]).sum() / max(1, len(x))

    def known(self, targets: Tensor) -> Tensor:
        """Bags with both a time and an event or censoring, (B,) bool."""
        return ~targets.isnan().any(dim=1)

    def marks(self, targets: Tensor) -> Tensor:
        """The hazard is high where the event was seen."""
        return targets[:, 1:2] > 0  # (B, 1)

    def values(self, logits: np.ndarray) -> np.ndarray:
        """Log hazards (..., 1); a difference of log 2 is twice the risk."""
        return np.asarray(logits, dtype=np.float64)

    def risk(self, logits: np.ndarray) -> np.ndarray:
        """The same, (...,)."""
        return self.values(logits)[..., 0]


def _log_sum_exp(x: Tensor, members: Tensor) -> Tensor:
    """Over the members (E, B) of each set: x (B,) to (E,). No set is empty."""
    return torch.logsumexp(torch.where(members, x, -torch.inf), dim=1)
