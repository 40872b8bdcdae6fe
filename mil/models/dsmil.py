"""Two streams: the tile that speaks loudest, and attention to the tiles that are like it.

Li, Li, Eliceiri: Dual-stream Multiple Instance Learning Network for Whole Slide Image Classification with
Self-supervised Contrastive Learning, CVPR 2021, section 3.2. https://arxiv.org/abs/2011.08939

    c_i = W_0 h_i,    m_l = argmax_i c_il (the critical tile of output l)
    q_i = W_q h_i,    v_i = W_v h_i,    a_il = softmax_i( <q_i, q_(m_l)> / sqrt(length of q) )
    bag stream = W_b (sum_i a_i1 v_i ... sum_i a_iL v_i)
    logit_l = 1/2 (c_(m_l)l + bag stream_l),    objective = 1/2 loss(max stream) + 1/2 loss(bag stream)

The scale by the length of q is that of the authors' code.
"""

from functools import partial

import torch
from torch import Tensor, nn

from mil.bag import BagBatch, MILOutput, StoredTiles
from mil.batch_view import with_columns
from mil.blockwise import TileParts, attention_pool, tile_scores
from mil.model import Criterion, MILModel
from mil.models.embedding import TileEmbedding, tile_embedding
from mil.segments import segment_ids, segment_ranks


class DSMIL(MILModel):
    """Attention by likeness to the critical tile, which the max stream learns by its own half of the loss.

    The critical tiles are found in a pass of its own, without gradients, so that bags of any length train in the memory
    of a block (`mil.blockwise`).

    Parameters
    ----------
    dim : int
        Length D of a feature.
    n_outputs : int
        L, the numbers that the loss asks for. Each output has a critical tile and an attention of its own; the
        attention of a tile is the mean over them.
    hidden : int
        Length of a tile embedding; 0 takes features as they are, as the authors do.
    query_dim : int
        Length of q.
    dropout : float
        Of what v is made from; classifier and q see all of it, so that a bag's critical tile is one for all tiles.
    """

    def __init__(self, dim: int, n_outputs: int, hidden: int = 128, query_dim: int = 128, dropout: float = 0.25):
        super().__init__()
        self.embed = tile_embedding(dim, hidden, 0.0) if hidden else nn.Identity()
        width = hidden or dim
        self.classify_tile = nn.Linear(width, n_outputs)
        self.query = nn.Linear(width, query_dim)
        self.value = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, width))
        self.classify_bag = nn.Linear(width * n_outputs, n_outputs)

    def forward(self, batch: BagBatch) -> MILOutput:
        critical = self._critical_features(batch)
        pooled = attention_pool(self, partial(self._with_evidence, critical), _numbered(batch))
        logits = (self._max_stream(critical) + self.classify_bag(pooled.values.flatten(1))) / 2  # (B, L)
        return MILOutput(logits, pooled.attention.mean(dim=1), pooled.outputs)

    def logits(self, batch: BagBatch) -> Tensor:
        """The mean of both streams."""
        highest, pooled = self._streams(batch)
        return (highest + pooled) / 2

    def objective(self, batch: BagBatch, criterion: Criterion) -> Tensor:
        """Half the loss of either stream."""
        highest, pooled = self._streams(batch)
        return (criterion(highest, batch.targets) + criterion(pooled, batch.targets)) / 2

    def _streams(self, batch: BagBatch) -> tuple[Tensor, Tensor]:
        """Logits (B, L) of the critical tiles and of the pooled bag."""
        critical = self._critical_features(batch)
        pooled = attention_pool(self, partial(self._parts, critical), _numbered(batch))
        return self._max_stream(critical), self.classify_bag(pooled.values.flatten(1))

    def _critical_features(self, batch: BagBatch) -> Tensor:
        """Features (B, L, D) of the tile that is highest in each output."""
        scores = tile_scores(lambda tiles: self.classify_tile(self._embedded(tiles)), batch)  # (sum N, L)
        first = (segment_ranks(scores, batch.offsets) == 0).T  # (L, sum N), one true in each bag
        rows = first.nonzero()[:, 1].reshape(len(first), len(batch)).T  # (B, L)
        return batch.tiles_of(rows.flatten()).features.reshape(*rows.shape, -1)

    def _max_stream(self, critical: Tensor) -> Tensor:
        """Each output at its own critical tile: (B, L, D) to (B, L)."""
        answers: Tensor = self.classify_tile(self.embed(critical))  # (B, L tiles, L outputs)
        return answers.diagonal(dim1=1, dim2=2)

    def _embedded(self, tiles: StoredTiles) -> Tensor:
        h: Tensor = self.embed(tiles if isinstance(self.embed, TileEmbedding) else tiles.features)
        return h

    def _parts(self, critical: Tensor, tiles: StoredTiles) -> TileParts:
        """Of tiles that have the number of their bag as a column."""
        assert tiles.columns is not None
        h, bag = self._embedded(tiles), tiles.columns[:, 0]  # (n, width), (n,)
        queries = self.query(h).float()  # (n, query_dim)
        leading = self.query(self.embed(critical)).float()  # (B, L, query_dim)
        scores = [(queries * one[bag]).sum(dim=1) for one in leading.unbind(dim=1)]  # L of (n,)
        return TileParts(self.value(h), torch.stack(scores, dim=1) / queries.shape[1] ** 0.5, h.new_empty(len(h), 0))

    def _with_evidence(self, critical: Tensor, tiles: StoredTiles) -> TileParts:
        values, scores, _ = self._parts(critical, tiles)
        pooled = self.classify_bag(values.repeat(1, scores.shape[1]))  # (n, L): a tile alone has all attention
        return TileParts(values, scores, (self.classify_tile(self._embedded(tiles)) + pooled) / 2)


def _numbered(batch: BagBatch) -> BagBatch:
    """Each tile with the number of its bag."""
    return with_columns(batch, segment_ids(batch.offsets)[:, None])
