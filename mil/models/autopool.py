"""Tiles weighted by their own evidence: a maximum that every tile has a say in.

McFee, Salamon, Bello: Adaptive pooling operators for weakly labeled sound event detection, 2018, equation 6.
https://arxiv.org/abs/1804.10070 (there on probabilities with a learned alpha; here on logits with a fixed one)

    logit_l = sum_i a_il s_il,    a_il = softmax_i( alpha s_il ),    s_i = W h_i + b
"""

from torch import nn

from mil.bag import BagBatch, MILOutput
from mil.model import MILModel
from mil.models.embedding import tile_embedding
from mil.segments import segment_softmax, segment_sum


class AutoPool(MILModel):
    """A classifier of tiles whose own answers say which tiles count: the best here for foci of a few tiles.

    There is no attention network that could learn to look elsewhere than the evidence is, and unlike the mean of the
    k highest tiles it fits itself to the size of a focus. `alpha` 0 is the mean, large values are the maximum.
    """

    def __init__(self, dim: int, n_outputs: int, alpha: float = 1.0, hidden: int = 128, dropout: float = 0.25):
        super().__init__()
        self.alpha = alpha
        self.embed = tile_embedding(dim, hidden, dropout)
        self.classify = nn.Linear(hidden, n_outputs)

    def forward(self, batch: BagBatch) -> MILOutput:
        scores = self.classify(self.embed(batch.tiles_of(slice(None)))).float()  # (sum N, L)
        weights = segment_softmax(self.alpha * scores, batch.offsets)  # (sum N, L)
        return MILOutput(segment_sum(weights * scores, batch.offsets), weights.mean(dim=1), scores)
