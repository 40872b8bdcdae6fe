"""Bags cut into pseudo-bags, and what these distil pooled once more: more bags to learn from where slides are few.

Zhang, Meng, Zhao, Qiao, Yang, Coupland, Zheng: DTFD-MIL: Double-Tier Feature Distillation Multiple Instance Learning
for Histopathology Whole Slide Image Classification, CVPR 2022, section 3. https://arxiv.org/abs/2203.12081

    tier 1: a bag is dealt at random into M pseudo-bags of its target; gated attention z_m = sum_i a_i h_i, logits W z_m
    Grad-CAM: what tile i of pseudo-bag m says for output l is W_l a_i h_i
    distilled of m: z_m (afs); h of the k tiles that say most (maxs), or of those and the k that say least (maxmins)
    tier 2: another gated attention over all that is distilled of a bag, and another classifier
    objective = mean_m loss(tier 1) + loss(tier 2); what is distilled passes no gradient back to tier 1
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mil.bag import BagBatch, MILOutput, StoredTiles
from mil.batch_view import reordered
from mil.blockwise import Pooled, TileParts, attention_pool, tile_scores
from mil.model import Criterion, MILModel
from mil.models.embedding import tile_embedding
from mil.models.gated_attention import GatedAttention
from mil.segments import segment_ids, segment_ranks, segment_softmax, segment_sum
from wsi.errors import UsageError

Distil = Literal["afs", "maxmins", "maxs"]
DISTIL = ("afs", "maxmins", "maxs")


class _Distilled(NamedTuple):
    """What tier 2 sees of a batch: features (M, hidden), offsets (B + 1,), and the tiles' rows (M,) if it is tiles."""

    features: Tensor
    offsets: Tensor
    rows: Tensor | None


class DTFD(MILModel):
    """Logits are those of tier 2.

    Tiles are dealt at random, by torch's generator, in training only. A prediction must not depend on chance or on the
    order of tiles; so there they are dealt like cards in the order of their attention, and each pseudo-bag gets its
    share of what matters. Bags of any length train in the memory of a block (`mil.blockwise`).

    The attention of a tile is its share in what tier 2 sees: with afs its attention within the pseudo-bag times that of
    the pseudo-bag, else that of tier 2, zero for tiles that are not distilled.

    Parameters
    ----------
    dim : int
        Length D of a feature.
    n_outputs : int
        Numbers that the loss asks for. With several, tiles are distilled for each of them.
    hidden : int
        Length of a tile embedding.
    attention_dim : int
        Width of V and U.
    dropout : float
        Of the tile embeddings.
    groups : int
        M; bags of fewer tiles have a pseudo-bag for each.
    distil : "afs", "maxmins" or "maxs"
    k : int
        Tiles distilled at either end of a pseudo-bag; one that is at both ends is taken once.
    """

    def __init__(
        self,
        dim: int,
        n_outputs: int,
        hidden: int = 128,
        attention_dim: int = 64,
        dropout: float = 0.25,
        groups: int = 4,
        distil: Distil = "afs",
        k: int = 1,
    ):
        super().__init__()
        if distil not in DISTIL:
            raise UsageError(f"DTFD's distil is {distil!r}; it can be: {', '.join(DISTIL)}")
        if groups < 1 or k < 1:
            raise UsageError(f"DTFD has groups {groups} and k {k}; expected at least 1 of each")
        self.groups, self.distil, self.k = groups, distil, k
        self.embed = tile_embedding(dim, hidden, dropout)
        self.attend = GatedAttention(hidden, attention_dim)
        self.classify = nn.Linear(hidden, n_outputs)
        self.attend_distilled = GatedAttention(hidden, attention_dim)
        self.classify_distilled = nn.Linear(hidden, n_outputs)

    def forward(self, batch: BagBatch) -> MILOutput:
        order, pseudo = self._dealt(batch)
        pooled = attention_pool(self, self._with_evidence, pseudo)
        signals, evidence = pooled.outputs.chunk(2, dim=1)  # (sum N, L) each
        distilled = self._distilled(batch, pseudo, pooled._replace(outputs=signals))
        logits, weights = self._second_tier(distilled)
        back = torch.argsort(order)
        return MILOutput(logits, self._shares(distilled, weights, pseudo, pooled)[back], evidence[back])

    def logits(self, batch: BagBatch) -> Tensor:
        """Without tier 2's answers to each tile."""
        _, pseudo = self._dealt(batch)
        return self._second_tier(self._distilled(batch, pseudo, attention_pool(self, self._parts, pseudo)))[0]

    def objective(self, batch: BagBatch, criterion: Criterion) -> Tensor:
        """Loss of the pseudo-bags by tier 1, each with its bag's target, and of the bags by tier 2."""
        _, pseudo = self._dealt(batch)
        pooled = attention_pool(self, self._parts, pseudo)
        first = criterion(self.classify(pooled.values[:, 0]), pseudo.targets)
        second, _ = self._second_tier(self._distilled(batch, pseudo, pooled))
        return first + criterion(second, batch.targets)

    def _dealt(self, batch: BagBatch) -> tuple[Tensor, BagBatch]:
        """Order of the tiles (sum N,), pseudo-bag by pseudo-bag, and the batch of pseudo-bags in that order."""
        ids = segment_ids(batch.offsets)
        groups = batch.offsets.diff().clamp(max=self.groups)  # (B,)
        place = segment_ranks(self._lots(batch), batch.offsets)[:, 0]  # (sum N,)
        pseudo = (groups.cumsum(0) - groups)[ids] + place % groups[ids]  # (sum N,), none of them empty
        order = torch.argsort(pseudo, stable=True)
        offsets = functional.pad(torch.bincount(pseudo).cumsum(0), (1, 0))  # (P + 1,)
        return order, reordered(batch, order, offsets, batch.targets.repeat_interleave(groups, dim=0))

    def _lots(self, batch: BagBatch) -> Tensor:
        """What tiles are dealt by, (sum N, 1)."""
        if self.training:
            return torch.rand((batch.tiles, 1), device=batch.stored.device)
        return tile_scores(lambda tiles: self.attend(self.embed(tiles)), batch)

    def _parts(self, tiles: StoredTiles) -> TileParts:
        h = self.embed(tiles)  # (n, hidden)
        signals = functional.linear(h, self.classify.weight).detach()  # (n, L), Grad-CAM before attention
        return TileParts(h, self.attend(h), signals)

    def _with_evidence(self, tiles: StoredTiles) -> TileParts:
        h, scores, signals = self._parts(tiles)
        return TileParts(h, scores, torch.cat([signals, self.classify_distilled(h)], dim=1))  # (n, 2 L)

    def _distilled(self, batch: BagBatch, pseudo: BagBatch, pooled: Pooled) -> _Distilled:
        with torch.no_grad():
            if self.distil == "afs":
                groups = batch.offsets.diff().clamp(max=self.groups)  # (B,)
                return _Distilled(pooled.values[:, 0], functional.pad(groups.cumsum(0), (1, 0)), None)
            chosen = self._chosen(pooled.attention * pooled.outputs, pseudo.offsets)  # (sum N,)
            rows = chosen.nonzero()[:, 0]  # (M,)
            counts = segment_sum(chosen.long(), batch.offsets)  # (B,): a bag's tiles are still one stretch
            return _Distilled(self.embed(pseudo.tiles_of(rows)), functional.pad(counts.cumsum(0), (1, 0)), rows)

    def _chosen(self, signals: Tensor, offsets: Tensor) -> Tensor:
        """Tiles that say most, or least, for one of the outputs: (sum N, L) to (sum N,) bool."""
        ranks = segment_ranks(signals, offsets)  # (sum N, L)
        chosen = ranks < self.k
        if self.distil == "maxmins":
            lengths = offsets.diff()[segment_ids(offsets)]  # (sum N,)
            chosen = chosen | (ranks >= lengths[:, None] - self.k)
        return chosen.any(dim=1)

    def _second_tier(self, distilled: _Distilled) -> tuple[Tensor, Tensor]:
        """Logits (B, L) and the attention of what is distilled (M,)."""
        features, offsets, _ = distilled
        weights = segment_softmax(self.attend_distilled(features), offsets)  # (M, 1)
        return self.classify_distilled(segment_sum(weights * features, offsets)), weights[:, 0]

    @staticmethod
    def _shares(distilled: _Distilled, weights: Tensor, pseudo: BagBatch, pooled: Pooled) -> Tensor:
        """Attention of each tile in the order of `pseudo`, (sum N,)."""
        if distilled.rows is None:
            return pooled.attention[:, 0] * weights[segment_ids(pseudo.offsets)]
        return weights.new_zeros(pseudo.tiles).index_copy(0, distilled.rows, weights)
