"""The nearest class mean: for a handful of labelled slides, where anything that is trained learns them by heart.

Snell, Swersky, Zemel: Prototypical Networks for Few-shot Learning, NeurIPS 2017, equations 1, 2 and 8.
https://arxiv.org/abs/1703.05175
Features on the unit sphere: Wang, Chao, Weinberger, van der Maaten: SimpleShot, 2019, section 3.
https://arxiv.org/abs/1911.04623

    x = 1/N sum_i f_i of a slide,    c_k = mean of x over the slides of class k
    logit_k = s ( |x - c_0|^2 - |x - c_k|^2 ) + b_k

so that softmax over the classes, class 0 being the reference with logit 0, is the paper's softmax(-s |x - c_k|^2).
Prototypes are not trained. The scale s is the one with the least loss when each slide is left out of its own prototype;
training moves the b_k alone, which begin at 0.

Ordinal losses put other questions, and each output has a pair of prototypes for its own. "Higher than k, given at least
k" (CORN): the mean of the slides above k against the mean of those at k. One score for all thresholds (CORAL): the mean
of the upper half of the grades against that of the lower half; training moves the thresholds.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from mil.bag import BagBatch, MILOutput
from mil.model import Criterion, MILModel
from mil.segments import segment_ids, segment_mean

SCALES = torch.arange(-6.0, 2.5, 0.5).exp2()
"""Tried for s, as the logit of a slide on a prototype; a handful of slides cannot prove more than 4 (98 %)."""


class NearestPrototype(MILModel):
    """Mean pooling and class means: nothing to choose, nothing to overfit; what few-shot models have to beat.

    An output whose mark no training slide has (a class that is missing in a fold) is the log odds of none in n slides
    after Jeffreys, log( 1/2 / (n + 1/2) ), whatever the slide; one that all of them have is the opposite.

    Parameters
    ----------
    unit : bool
        Bring x to length 1, as SimpleShot does after centring, which standardising has done. Then directions count
        and not how much of it there is; `tile_logits` do not average to the logits any more.
    """

    high: Tensor
    low: Tensor
    scale: Tensor

    def __init__(self, dim: int, n_outputs: int, unit: bool = False):
        super().__init__()
        self.unit = unit
        self.register_buffer("high", torch.randn(n_outputs, dim))  # until `prepare`
        self.register_buffer("low", torch.randn(n_outputs, dim))
        self.register_buffer("scale", torch.tensor(1 / (2 * dim)))
        self.bias = nn.Parameter(torch.zeros(n_outputs))

    def prepare(self, batches: Iterable[BagBatch], criterion: Criterion) -> None:
        """Prototypes, scale and the outputs that cannot be known, from the training slides."""
        found = [(self._pooled(batch), batch.targets) for batch in batches]
        x = torch.cat([one for one, _ in found])  # (n, D)
        targets = torch.cat([one for _, one in found])
        high, low = sides(criterion.marks(targets))  # (n, L)
        known = high.any(dim=0) & low.any(dim=0)  # (L,)
        self.high.copy_(_means(x, high, known))
        self.low.copy_(_means(x, low, known))
        self.bias.copy_(torch.where(known, 0.0, torch.log((high.sum(dim=0) + 0.5) / (low.sum(dim=0) + 0.5))))
        whole = (self.high - self.low).square().sum(dim=1)  # (L,), the margin on a prototype
        unit = whole[known].mean() if known.any() else torch.ones(())
        self.scale.copy_(1 / unit.clamp(min=1e-12))
        margins, usable = self._left_out(x, high, low)
        if usable.any() and known.any():
            losses = [criterion(s * self.scale * margins + self.bias, targets[usable]) for s in SCALES]
            self.scale *= SCALES[int(torch.stack(losses).argmin())]

    def forward(self, batch: BagBatch) -> MILOutput:
        attention = 1 / batch.offsets.diff().float()[segment_ids(batch.offsets)]  # (sum N,)
        return MILOutput(self.logits(batch), attention, self._outputs(self._placed(batch.features)))

    def logits(self, batch: BagBatch) -> Tensor:
        """Without the outputs for each tile."""
        return self._outputs(self._pooled(batch))

    def _pooled(self, batch: BagBatch) -> Tensor:
        return self._placed(segment_mean(batch.features, batch.offsets))  # (B, D)

    def _placed(self, x: Tensor) -> Tensor:
        return functional.normalize(x, dim=-1) if self.unit else x

    def _outputs(self, x: Tensor) -> Tensor:
        """(n, D) to (n, L): the difference of the squared distances as (c - c') . (2x - c - c')."""
        away = self.high - self.low  # (L, D)
        at_middle = (away * (self.high + self.low)).sum(dim=1)  # (L,)
        return self.scale * (2 * x @ away.T - at_middle) + self.bias

    def _left_out(self, x: Tensor, high: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
        """Margins (m, L) of the slides against prototypes without themselves, and which slides have such, (n,) bool.

        The mean of a side of n slides without x is further from x by n / (n - 1).
        """
        margins = x.new_zeros(high.shape)
        alone = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for prototypes, side, sign in ((self.low, low, 1), (self.high, high, -1)):
            n = side.sum(dim=0)  # (L,)
            further = (n / (n - 1).clamp(min=1)).square()
            distances = torch.cdist(x, prototypes, compute_mode="donot_use_mm_for_euclid_dist").square()  # (n, L)
            margins += sign * distances * torch.where(side, further, 1.0)
            alone |= (side & (n < 2)).any(dim=1)
        return margins[~alone], ~alone


def sides(marks: Tensor) -> tuple[Tensor, Tensor]:
    """Which bags each output has to tell apart: (n, L) marks to high and low, (n, L) bool each.

    High are those with the mark, low those without it whose marks are otherwise most like theirs: the reference class
    of a class, the grade k of "higher than k", the lower half of the upper one.
    """
    rows, row = torch.unique(marks, dim=0, return_inverse=True)  # (C, L), (n,)
    differ = (rows[:, None] != rows[None]).sum(dim=2)  # (C, C)
    low = ~rows
    for output, high in enumerate(rows.T):
        if high.any() and not high.all():
            nearest = torch.where(high, differ, rows.shape[1] + 1).amin(dim=1)  # (C,), to a row with the mark
            low[:, output] = ~high & (nearest == nearest[~high].min())
    return marks, low[row]


def _means(x: Tensor, side: Tensor, known: Tensor) -> Tensor:
    """Mean of x (n, D) over the slides of each side (n, L), (L, D); zero where an output is not known."""
    weights = side.to(x.dtype) * known / side.sum(dim=0).clamp(min=1)  # (n, L)
    return weights.T @ x
