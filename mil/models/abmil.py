"""Attention pooling, gated and plain.

Ilse, Tomczak, Welling: Attention-based Deep Multiple Instance Learning, ICML 2018, equations 7 to 9.
https://arxiv.org/abs/1802.04712

    z = sum_i a_i h_i,    a_i = softmax_i( w^T ( tanh(V h_i) * sigmoid(U h_i) ) )
    plain: a_i = softmax_i( w^T tanh(V h_i) )
"""

import torch
from torch import Tensor, nn

from mil.bag import BagBatch, MILOutput, StoredTiles
from mil.blockwise import TileParts, attention_pool
from mil.model import MILModel
from mil.models.embedding import tile_embedding
from mil.models.gated_attention import gated_scores


class GatedABMIL(MILModel):
    """Attention says which tiles matter, the classifier what their weighted mean is. The default.

    Bags of more than 32,768 tiles are pooled block by block (`mil.blockwise`): memory stays near that of the bag.

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
    heads : int
        Attentions side by side; the classifier sees all their means, and the attention of a tile is its mean.
    """

    gated = True

    def __init__(
        self,
        dim: int,
        n_outputs: int,
        hidden: int = 128,
        attention_dim: int = 64,
        dropout: float = 0.25,
        heads: int = 1,
    ):
        super().__init__()
        self.heads = heads
        self.embed = tile_embedding(dim, hidden, dropout)
        self.v = nn.Linear(hidden, attention_dim)
        self.u = nn.Linear(hidden, attention_dim) if self.gated else None
        self.w = nn.Linear(attention_dim, heads)
        self.classify = nn.Linear(hidden * heads, n_outputs)

    def forward(self, batch: BagBatch) -> MILOutput:
        pooled = attention_pool(self, self._with_evidence, batch)
        logits = self.classify(pooled.values.flatten(1))  # (B, heads, hidden) to (B, L)
        return MILOutput(logits, pooled.attention.mean(dim=1), pooled.outputs)

    def logits(self, batch: BagBatch) -> Tensor:
        """Without the classifier's answers to each tile."""
        logits: Tensor = self.classify(attention_pool(self, self._parts, batch).values.flatten(1))
        return logits

    def _parts(self, tiles: StoredTiles) -> TileParts:
        h = self.embed(tiles)  # (n, hidden)
        scores = self.w(torch.tanh(self.v(h))) if self.u is None else gated_scores(h, self.v, self.u, self.w)
        return TileParts(h, scores, h.new_empty(len(h), 0))  # (n, hidden), (n, heads)

    def _with_evidence(self, tiles: StoredTiles) -> TileParts:
        h, scores, _ = self._parts(tiles)
        return TileParts(h, scores, self.classify(h.repeat(1, self.heads)))  # (n, L)


class ABMIL(GatedABMIL):
    """The same without the gate: equation 8."""

    gated = False
