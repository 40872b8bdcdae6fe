"""Mean and maximum of the tile embeddings: what attention has to beat.

Ilse, Tomczak, Welling: Attention-based Deep Multiple Instance Learning, ICML 2018, section 2.3.
https://arxiv.org/abs/1802.04712
"""

import torch
from torch import Tensor, nn

from mil.bag import BagBatch, MILOutput
from mil.model import MILModel
from mil.models.embedding import tile_embedding
from mil.segments import segment_ids, segment_max, segment_mean, segment_sum


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
