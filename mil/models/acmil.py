"""Attention that is kept from settling on a few tiles: several branches that differ, and top tiles hidden at random.

Zhang, Li, Sun, Zheng, Zhu, Yang: Attention-Challenging Multiple Instance Learning for Whole Slide Image
Classification, ECCV 2024, section 3. https://arxiv.org/abs/2311.07125

    a_ik = softmax_i( w_k^T ( tanh(V h_i) * sigmoid(U h_i) ) ),    z_k = sum_i a_ik h_i,    k = 1 ... K branches
    in training some of the tiles of highest a_ik are hidden from branch k: their score is -1e9
    bag: z = mean_k z_k, which is the pooling by the mean attention
    objective = loss(classify(z)) + mean_k loss(classify_k(z_k)) + mean_(k<l) cos(a_k, a_l)

The mean cosine of K columns needs no pairs: with unit columns u_k it is (|sum_k u_k|^2 - K) / (K (K - 1)).
"""

import torch
from torch import Tensor, nn

from mil.bag import BagBatch, MILOutput, StoredTiles
from mil.batch_view import with_columns
from mil.blockwise import Pooled, TileParts, attention_pool, tile_scores
from mil.model import Criterion, MILModel
from mil.models.embedding import tile_embedding
from mil.models.gated_attention import GatedAttention
from mil.segments import segment_ids, segment_ranks, segment_sum
from wsi.errors import UsageError

UNSEEN = -1e9
"""Score of a hidden tile: finite, as a block may hold hidden tiles only."""


class ACMIL(MILModel):
    """The gated form (ACMIL-GA): for cohorts so small that one attention learns a few tiles by heart.

    Which tiles rank highest is found in a pass of its own, without gradients and without dropout. Bags of any length
    train in the memory of a block (`mil.blockwise`).

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
    branches : int
        K. The attention of a tile is its mean over them.
    top_tiles : int
        Of each bag and branch, from which the hidden ones are drawn.
    hidden_share : float
        Share of the top tiles that is hidden in a step of training, rounded down; below 1, so that a tile is left.
    """

    def __init__(
        self,
        dim: int,
        n_outputs: int,
        hidden: int = 128,
        attention_dim: int = 64,
        dropout: float = 0.25,
        branches: int = 5,
        top_tiles: int = 10,
        hidden_share: float = 0.6,
    ):
        super().__init__()
        if branches < 1 or top_tiles < 0 or not 0 <= hidden_share < 1:
            raise UsageError(
                f"ACMIL has branches {branches}, top_tiles {top_tiles}, hidden_share {hidden_share}; "
                "expected branches >= 1, top_tiles >= 0 and a share from 0 to below 1"
            )
        self.top_tiles, self.hidden_share = top_tiles, hidden_share
        self.embed = tile_embedding(dim, hidden, dropout)
        self.attend = GatedAttention(hidden, attention_dim, branches)
        self.classify_branch = nn.ModuleList(nn.Linear(hidden, n_outputs) for _ in range(branches))
        self.classify = nn.Linear(hidden, n_outputs)

    def forward(self, batch: BagBatch) -> MILOutput:
        pooled = attention_pool(self, self._with_evidence, self._challenged(batch))
        return MILOutput(self._bag_logits(pooled), pooled.attention.mean(dim=1), pooled.outputs)

    def logits(self, batch: BagBatch) -> Tensor:
        """Without the classifier's answers to each tile."""
        return self._bag_logits(attention_pool(self, self._parts, self._challenged(batch)))

    def objective(self, batch: BagBatch, criterion: Criterion) -> Tensor:
        """Loss of the bags, of the branches, and the likeness of the branches' attention, each with weight 1."""
        pooled = attention_pool(self, self._parts, self._challenged(batch))
        branches = [classify(z) for classify, z in zip(self.classify_branch, pooled.values.unbind(dim=1), strict=True)]
        answers = torch.stack(branches, dim=1).flatten(0, 1)  # (B K, L)
        targets = batch.targets.repeat_interleave(len(branches), dim=0)  # (B K, ...)
        bags = criterion(self._bag_logits(pooled), batch.targets)
        return bags + criterion(answers, targets) + likeness(pooled.attention, batch.offsets).mean()

    def _bag_logits(self, pooled: Pooled) -> Tensor:
        logits: Tensor = self.classify(pooled.values.mean(dim=1))
        return logits

    def _parts(self, tiles: StoredTiles) -> TileParts:
        """In training tiles have a column for each branch that says which of them are hidden."""
        h = self.embed(tiles)  # (n, hidden)
        scores = self.attend(h)  # (n, K)
        seen = scores if tiles.columns is None else scores.masked_fill(tiles.columns, UNSEEN)
        return TileParts(h, seen, h.new_empty(len(h), 0))

    def _with_evidence(self, tiles: StoredTiles) -> TileParts:
        h, scores, _ = self._parts(tiles)
        return TileParts(h, scores, self.classify(h))

    def _challenged(self, batch: BagBatch) -> BagBatch:
        """The batch, in training with the tiles that are hidden from each branch."""
        if not self.training or int(self.top_tiles * self.hidden_share) == 0:
            return batch
        scores = tile_scores(lambda tiles: self.attend(self.embed.without_dropout(tiles)), batch)
        return with_columns(batch, self._drawn(scores, batch.offsets))

    def _drawn(self, scores: Tensor, offsets: Tensor) -> Tensor:
        """Which tiles are hidden, (sum N, K) bool: drawn from the highest of each bag and branch."""
        ids = segment_ids(offsets)
        top = offsets.diff().clamp(max=self.top_tiles)  # (B,)
        count = (top * self.hidden_share).long()  # (B,)
        lots = torch.rand(scores.shape, device=scores.device)  # (sum N, K) in [0, 1)
        among_top = segment_ranks(scores, offsets) < top[ids, None]
        return segment_ranks(lots.masked_fill(~among_top, -1.0), offsets) < count[ids, None]


def likeness(attention: Tensor, offsets: Tensor) -> Tensor:
    """Mean cosine between the branches' attention: attention (sum N, K) to (B,); zero where there is one branch."""
    branches = attention.shape[1]
    length = segment_sum(attention.square(), offsets).sqrt()  # (B, K)
    units = attention / length[segment_ids(offsets)]  # (sum N, K)
    square = segment_sum(units.sum(dim=1).square(), offsets)  # (B,)
    return (square - branches) / max(1, branches * (branches - 1))
