"""Mean, maximum and log-sum-exp of the tile embeddings: what attention has to beat.

Ilse, Tomczak, Welling: Attention-based Deep Multiple Instance Learning, ICML 2018, section 2.3.
https://arxiv.org/abs/1802.04712
Log-sum-exp: Ramon, De Raedt: Multi Instance Neural Networks, ICML workshop on attribute-value and relational learning,
2000; with the mean inside the logarithm as in Pinheiro, Collobert: From Image-level to Pixel-level Labeling with
Convolutional Networks, CVPR 2015, equation 3. https://arxiv.org/abs/1411.6228

    z_d = 1/N sum_i h_id,    z_d = max_i h_id,    z_d = 1/r log( 1/N sum_i exp( r h_id ) )
"""

import torch
from torch import Tensor, nn

from mil.bag import BagBatch, MILOutput
from mil.model import MILModel
from mil.models.embedding import tile_embedding
from mil.segments import segment_ids, segment_max, segment_mean, segment_softmax, segment_sum
from wsi.errors import UsageError


class MeanPooling(MILModel):
    """z = 1/N sum h_i: every tile counts alike."""

    def __init__(self, dim: int, n_outputs: int, hidden: int = 128, dropout: float = 0.25):
        super().__init__()
        self.embed = tile_embedding(dim, hidden, dropout)
        self.classify = nn.Linear(hidden, n_outputs)

    def forward(self, batch: BagBatch) -> MILOutput:
        h = self.embed(batch.tiles_of(slice(None)))  # (sum N, hidden)
        z = segment_mean(h.float(), batch.offsets)  # (B, hidden)
        attention = 1 / batch.offsets.diff().float()[segment_ids(batch.offsets)]  # (sum N,)
        return MILOutput(self.classify(z), attention, self.classify(h))


class MaxPooling(MILModel):
    """z_d = max_i h_id; a tile's attention is the share of axes in which it is the maximum, ties shared."""

    def __init__(self, dim: int, n_outputs: int, hidden: int = 128, dropout: float = 0.25):
        super().__init__()
        self.embed = tile_embedding(dim, hidden, dropout)
        self.classify = nn.Linear(hidden, n_outputs)

    def forward(self, batch: BagBatch) -> MILOutput:
        h = self.embed(batch.tiles_of(slice(None)))  # (sum N, hidden)
        z = segment_max(h, batch.offsets)  # (B, hidden)
        return MILOutput(self.classify(z), self._attention(h.detach(), z.detach(), batch.offsets), self.classify(h))

    @staticmethod
    def _attention(h: Tensor, z: Tensor, offsets: Tensor) -> Tensor:
        ids = segment_ids(offsets)
        wins = (h == z[ids]).float()  # (sum N, hidden)
        shared = wins / segment_sum(wins, offsets)[ids]  # ties share an axis
        return torch.as_tensor(shared.mean(dim=1))  # (sum N,)


class LogSumExpPooling(MILModel):
    """A smooth maximum: between the mean (small `r`) and the maximum (large `r`).

    A tile's attention is its share in the gradient, softmax_i(r h_id), as a mean over the axes.

    Parameters
    ----------
    r : float
        Above 0. At 5 a tile whose embedding is higher by 1 counts as 148 others.
    """

    def __init__(self, dim: int, n_outputs: int, r: float = 5.0, hidden: int = 128, dropout: float = 0.25):
        super().__init__()
        if not r > 0:
            raise UsageError(f"r of log-sum-exp pooling is {r}; it must be above 0 (for 0 take the model mean)")
        self.r = r
        self.embed = tile_embedding(dim, hidden, dropout)
        self.classify = nn.Linear(hidden, n_outputs)

    def forward(self, batch: BagBatch) -> MILOutput:
        h = self.embed(batch.tiles_of(slice(None)))  # (sum N, hidden)
        attention = segment_softmax(self.r * h.detach(), batch.offsets).mean(dim=1)  # (sum N,)
        return MILOutput(self.classify(self._pooled(h.float(), batch.offsets)), attention, self.classify(h))

    def logits(self, batch: BagBatch) -> Tensor:
        """Without attention and the classifier's answers to each tile."""
        logits: Tensor = self.classify(self._pooled(self.embed(batch.tiles_of(slice(None))).float(), batch.offsets))
        return logits

    def _pooled(self, h: Tensor, offsets: Tensor) -> Tensor:
        """The maximum is taken out first, so that no exponential overflows; its own gradient cancels."""
        top = segment_max(h.detach(), offsets)  # (B, hidden)
        rises = torch.exp(self.r * (h - top[segment_ids(offsets)]))  # (sum N, hidden)
        return top + torch.log(segment_mean(rises, offsets)) / self.r  # (B, hidden)
