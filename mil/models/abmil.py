"""Gated attention pooling.

Ilse, Tomczak, Welling: Attention-based Deep Multiple Instance Learning, ICML 2018, equations 7 and 9.
https://arxiv.org/abs/1802.04712

    z = sum_i a_i h_i,    a_i = softmax_i( w^T ( tanh(V h_i) * sigmoid(U h_i) ) )
"""

import torch
from torch import nn

from mil.bag import BagBatch, MILOutput
from mil.models.embedding import tile_embedding
from mil.segments import segment_softmax, segment_sum


class GatedABMIL(nn.Module):
    """Attention says which tiles matter, the classifier what their weighted mean is.

    Parameters
    ----------
    dim : int
        Length D of a feature.
    n_outputs : int
        Numbers that the loss asks for.
    hidden : int
        Length of a tile embedding.
    attention_dim : int
        Width of V and U.
    dropout : float
        Of the tile embeddings.
    """

    def __init__(self, dim: int, n_outputs: int, hidden: int = 128, attention_dim: int = 64, dropout: float = 0.25):
        super().__init__()
        self.embed = tile_embedding(dim, hidden, dropout)
        self.v = nn.Linear(hidden, attention_dim)
        self.u = nn.Linear(hidden, attention_dim)
        self.w = nn.Linear(attention_dim, 1)
        self.classify = nn.Linear(hidden, n_outputs)

    def forward(self, batch: BagBatch) -> MILOutput:
        h = self.embed(batch.features)  # (sum N, hidden)
        gated = torch.tanh(self.v(h)) * torch.sigmoid(self.u(h))  # (sum N, attention_dim)
        attention = segment_softmax(self.w(gated)[:, 0], batch.offsets)  # (sum N,)
        z = segment_sum(attention[:, None] * h, batch.offsets)  # (B, hidden)
        return MILOutput(self.classify(z), attention, self.classify(h))
