"""The few highest tiles decide: for foci of a handful of tiles.

Campanella et al.: Clinical-grade computational pathology using weakly supervised deep learning on whole slide images,
Nature Medicine 2019 (the highest tile). https://doi.org/10.1038/s41591-019-0508-1
Mean of the k highest: Durand, Thome, Cord: WELDON, CVPR 2016, equation 3.

    logit_l = 1/k sum of the k highest s_il over the bag,    s_i = W h_i + b
"""

from torch import nn

from mil.bag import BagBatch, MILOutput
from mil.model import MILModel
from mil.models.embedding import tile_embedding
from mil.segments import segment_sum, segment_topk


class TopK(MILModel):
    """A classifier of tiles; each logit of a bag is the mean of that logit over its `k` highest tiles.

    The attention of a tile is its share in these means, so that it is zero for most tiles; `tile_logits` rank them all.
    """

    def __init__(self, dim: int, n_outputs: int, k: int = 5, hidden: int = 128, dropout: float = 0.25):
        super().__init__()
        self.k = k
        self.embed = tile_embedding(dim, hidden, dropout)
        self.classify = nn.Linear(hidden, n_outputs)

    def forward(self, batch: BagBatch) -> MILOutput:
        scores = self.classify(self.embed(batch.tiles_of(slice(None)))).float()  # (sum N, L)
        chosen = segment_topk(scores, batch.offsets, self.k).float()  # (sum N, L)
        taken = batch.offsets.diff().clamp(max=self.k).float()[:, None]  # (B, 1)
        logits = segment_sum(scores * chosen, batch.offsets) / taken  # (B, L)
        share = chosen / taken.repeat_interleave(batch.offsets.diff(), dim=0)  # (sum N, L)
        return MILOutput(logits, share.mean(dim=1), scores)
