"""A recurrent network over the few tiles that a classifier of tiles ranks highest.

Campanella et al.: Clinical-grade computational pathology using weakly supervised deep learning on whole slide images,
Nature Medicine 2019, methods, "MIL-based tile classifier" and "RNN-based slide integration".
https://doi.org/10.1038/s41591-019-0508-1

    h_i = ReLU(E x_i);    s_i = W h_i + b                                          tile classifier
    r_t = ReLU(U h_(t) + V r_(t-1)),  r_0 = 0;    logits = W' r_S + b'              over the S highest, highest first
    minimised: loss(s_(1)) + loss(logits)
"""

import torch
from torch import Tensor, nn

from mil.bag import BagBatch, MILOutput, StoredTiles
from mil.blockwise import tile_scores
from mil.model import Criterion, MILModel
from mil.models.embedding import tile_embedding
from mil.segments import segment_ids

BLOCK = 4096
"""Tiles at a time that are ranked, and graded each for itself."""


class RNN(MILModel):
    """The paper's two parts, trained together instead of one after the other.

    The tile classifier learns from the highest tile of each bag, as in max pooling; the recurrent network reads the
    tiles that it ranks highest, and what it learns does not change what it reads. With several outputs a tile
    ranks by its highest one. A bag of fewer than `top` tiles is read to its end. Only the tiles that are read
    are kept for the gradient, so that bags of any length train in the memory of a few tiles.

    The tiles that are read share the attention alike, since the network gives them no weights.

    Parameters
    ----------
    top : int
        S, tiles that are read.
    hidden : int
        Length of a tile embedding.
    state : int
        Length of r.
    """

    def __init__(
        self, dim: int, n_outputs: int, top: int = 10, hidden: int = 128, state: int = 128, dropout: float = 0.25
    ):
        super().__init__()
        self.top = top
        self.embed = tile_embedding(dim, hidden, dropout)
        self.classify_tile = nn.Linear(hidden, n_outputs)
        self.read = nn.Linear(hidden, state)
        self.keep = nn.Linear(state, state)
        self.classify = nn.Linear(state, n_outputs)

    def forward(self, batch: BagBatch) -> MILOutput:
        tiles, there = self._highest(batch)
        share = (there / there.sum(dim=1, keepdim=True))[there]  # (sum of tiles read,)
        attention = share.new_zeros(batch.tiles).index_add(0, tiles[there], share)  # (sum N,)
        alone = torch.cat([self._single(batch.tiles_of(block)) for block in _blocks(batch.tiles)])  # (sum N, L)
        return MILOutput(self._answer(self._embedded(batch, tiles), there), attention, alone)

    def logits(self, batch: BagBatch) -> Tensor:
        """Without an answer to each tile."""
        tiles, there = self._highest(batch)
        return self._answer(self._embedded(batch, tiles), there)

    def objective(self, batch: BagBatch, criterion: Criterion) -> Tensor:
        """Loss of the highest tile as if it were the bag, plus that of the bag."""
        tiles, there = self._highest(batch)
        h = self._embedded(batch, tiles)  # (B, S, hidden)
        highest = self.classify_tile(h[:, 0])  # (B, L)
        return criterion(highest, batch.targets) + criterion(self._answer(h.detach(), there), batch.targets)

    @torch.no_grad()
    def _highest(self, batch: BagBatch) -> tuple[Tensor, Tensor]:
        """The S highest tiles of each bag in falling order, (B, S) int64, and whether there are so many, (B, S) bool.

        They are ranked without dropout, and in float32, since in half precision the highest of many are often equal.
        Of equal tiles the first counts as higher.
        """
        with torch.autocast(batch.stored.device.type, enabled=False):
            answers = tile_scores(lambda tiles: self.classify_tile(self.embed.without_dropout(tiles)), batch)
        scores = answers.amax(dim=1)  # (sum N,)
        order = torch.argsort(scores, descending=True, stable=True)
        order = order[torch.argsort(segment_ids(batch.offsets)[order], stable=True)]  # by bag, within it by score
        lengths = batch.offsets.diff()[:, None]
        rank = torch.arange(min(self.top, int(lengths.max())), device=lengths.device)  # (S,)
        return order[batch.offsets[:-1, None] + torch.minimum(rank, lengths - 1)], rank < lengths

    def _embedded(self, batch: BagBatch, tiles: Tensor) -> Tensor:
        return self.embed(batch.tiles_of(tiles.flatten())).reshape(*tiles.shape, -1)  # (B, S, hidden)

    def _answer(self, h: Tensor, there: Tensor) -> Tensor:
        """Logits (B, L) of tiles (B, S, hidden) read one after the other, as far as they are there."""
        state = h.new_zeros(len(h), self.keep.in_features)  # (B, state)
        for step in range(h.shape[1]):
            after = torch.relu(self.read(h[:, step]) + self.keep(state))
            state = torch.where(there[:, step, None], after, state)
        logits: Tensor = self.classify(state)
        return logits

    def _single(self, tiles: StoredTiles) -> Tensor:
        """Logits of n bags of one tile: to (n, L)."""
        h = self.embed(tiles)[:, None]  # (n, 1, hidden)
        return self._answer(h, torch.ones(len(h), 1, dtype=torch.bool, device=h.device))


def _blocks(tiles: int) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, tiles, BLOCK)]
