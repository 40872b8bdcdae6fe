"""TransMIL: tiles that look at each other through Nyström attention, and at their neighbours through convolutions.

Shao et al.: TransMIL: Transformer based Correlated Multiple Instance Learning for Whole Slide Image Classification,
NeurIPS 2021, algorithm 2. https://arxiv.org/abs/2106.00908

    h = ReLU(W x);  h laid out as a square, its first tiles again in the places left;  t = [c, h]
    t = t + Att(LN(t));    t = [c, PPEG(h)];    t = t + Att(LN(t));    logits = W' LN(c) + b'
    PPEG(h) = h + conv7(h) + conv5(h) + conv3(h), each channel for itself
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mil.bag import BagBatch, MILOutput, StoredTiles
from mil.model import MILModel
from mil.models.embedding import tile_embedding
from mil.nystrom import NystromAttention
from mil.segments import segment_ids, segment_sum

BLOCK = 4096
"""Tiles at a time that are graded each for itself."""


class TransMIL(MILModel):
    """The paper's two layers, class token and sizes. Linear in tiles, in time and memory.

    The square is filled in reading order of the tiles' places, row by row, so that it does not depend on the order in
    which tiles come; where places are not known (NaN), tiles stay in the order given. Bags whose squares have the same
    side go through the network together. The last layer is computed for the class token only, since
    nothing else is read from it. The attention of a tile is its weight in what the class token reads there, mean over
    heads; weights of Nyström attention may be negative and then count as none, and what is left sums to 1.

    Parameters
    ----------
    hidden : int
        Length of a token, a multiple of `heads`.
    landmarks : int
        Of Nyström attention; half of `hidden` in the paper.
    dropout : float
        Of what a layer's attention adds.
    """

    def __init__(
        self,
        dim: int,
        n_outputs: int,
        hidden: int = 512,
        heads: int = 8,
        landmarks: int = 256,
        iterations: int = 6,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.embed = tile_embedding(dim, hidden, 0.0)
        self.class_token = nn.Parameter(torch.randn(hidden))
        self.norm1, self.norm2, self.norm = (nn.LayerNorm(hidden) for _ in range(3))
        self.attend1, self.attend2 = (
            NystromAttention(hidden, heads, landmarks, iterations, kernel=33, dropout=dropout) for _ in range(2)
        )
        self.position = PPEG(hidden)
        self.classify = nn.Linear(hidden, n_outputs)

    def forward(self, batch: BagBatch) -> MILOutput:
        squares = _squares(batch)
        tokens = self._tokens(batch, squares)
        weights = batch.stored.new_zeros(batch.tiles, dtype=torch.float32)  # (sum N,)
        for square, one in zip(squares, tokens, strict=True):
            here = self.attend2.first_weights(self.norm2(one))[:, 1:]  # (g, side^2)
            weights = weights.index_add(0, square.tiles.flatten(), here.flatten().float())
        blocks = [slice(start, start + BLOCK) for start in range(0, batch.tiles, BLOCK)]
        alone = torch.cat([self._single(batch.tiles_of(block)) for block in blocks])  # (sum N, L)
        return MILOutput(self._answer(squares, tokens), _shares(weights, batch.offsets), alone)

    def logits(self, batch: BagBatch) -> Tensor:
        """Without attention, and without an answer to each tile."""
        squares = _squares(batch)
        return self._answer(squares, self._tokens(batch, squares))

    def _single(self, tiles: StoredTiles) -> Tensor:
        """Logits of n bags of one tile, a square of one place: to (n, L)."""
        return self._classified(self._mixed(self.embed(tiles)[:, None], side=1))

    def _tokens(self, batch: BagBatch, squares: list["_Square"]) -> list[Tensor]:
        """What comes out before the last layer, (g, 1 + side^2, hidden) for the bags of each side."""
        places = torch.cat([square.tiles.flatten() for square in squares])
        laid = self.embed(batch.tiles_of(slice(None))).index_select(0, places)  # (sum side^2, hidden)
        parts = torch.split(laid, [square.tiles.numel() for square in squares])
        return [
            self._mixed(part.reshape(*square.tiles.shape, -1), square.side)
            for square, part in zip(squares, parts, strict=True)
        ]

    def _mixed(self, h: Tensor, side: int) -> Tensor:
        """First layer and neighbours: (g, side^2, hidden) to (g, 1 + side^2, hidden)."""
        tokens = torch.cat([self.class_token.to(h.dtype).expand(len(h), 1, -1), h], dim=1)
        tokens = tokens + self.attend1(self.norm1(tokens))
        return torch.cat([tokens[:, :1], self.position(tokens[:, 1:], side)], dim=1)

    def _classified(self, tokens: Tensor) -> Tensor:
        """Last layer, for the class token: (g, 1 + side^2, hidden) to (g, L)."""
        read = tokens[:, 0] + self.attend2.first(self.norm2(tokens))  # (g, hidden)
        logits: Tensor = self.classify(self.norm(read))
        return logits

    def _answer(self, squares: list["_Square"], tokens: list[Tensor]) -> Tensor:
        """Logits (B, L) in the order of the bags."""
        logits = torch.cat([self._classified(one) for one in tokens])
        return logits[torch.argsort(torch.cat([square.bags for square in squares]))]


class PPEG(nn.Module):
    """Pyramid position encoding generator: three convolutions and the identity, as one kernel of 7 x 7."""

    def __init__(self, hidden: int):
        super().__init__()
        self.conv7, self.conv5, self.conv3 = (
            nn.Conv2d(hidden, hidden, size, padding=size // 2, groups=hidden) for size in (7, 5, 3)
        )

    def forward(self, h: Tensor, side: int) -> Tensor:
        """(g, side^2, hidden) to the same."""
        convs: tuple[nn.Conv2d, ...] = (self.conv7, self.conv5, self.conv3)
        kernel = functional.pad(torch.ones_like(self.conv3.weight[:, :, :1, :1]), [3] * 4)  # (hidden, 1, 7, 7)
        for conv in convs:
            kernel = kernel + functional.pad(conv.weight, [(7 - conv.kernel_size[0]) // 2] * 4)
        bias = sum((conv.bias for conv in convs if conv.bias is not None), torch.zeros_like(kernel[:, 0, 0, 0]))
        grid = h.reshape(len(h), side, side, -1).permute(0, 3, 1, 2)  # (g, hidden, side, side)
        mixed = functional.conv2d(grid, kernel, bias, padding=3, groups=len(kernel))
        return mixed.permute(0, 2, 3, 1).flatten(1, 2)  # (g, side^2, hidden)


class _Square(NamedTuple):
    """The g bags that fill squares of the same side.

    Attributes
    ----------
    bags : Tensor (g,) int64
    side : int
        ceil(sqrt(N)).
    tiles : Tensor (g, side^2) int64
        Which tile of the batch lies where; the first ones lie again in the places left at the end.
    """

    bags: Tensor
    side: int
    tiles: Tensor


def _squares(batch: BagBatch) -> list[_Square]:
    order = _reading_order(batch)
    lengths = batch.offsets.diff()
    sides = lengths.double().sqrt().ceil().long()
    squares = []
    for side in torch.unique(sides).tolist():
        bags = torch.nonzero(sides == side)[:, 0]  # (g,)
        places = torch.arange(side * side, device=bags.device) % lengths[bags, None]  # (g, side^2)
        squares.append(_Square(bags, side, order[batch.offsets[bags, None] + places]))
    return squares


def _reading_order(batch: BagBatch) -> Tensor:
    """Tiles by bag, y and x, (sum N,); equal and unknown places in the order given."""
    order = torch.argsort(batch.coords_um[:, 0], stable=True)
    order = order[torch.argsort(batch.coords_um[order, 1], stable=True)]
    return order[torch.argsort(segment_ids(batch.offsets)[order], stable=True)]


def _shares(weights: Tensor, offsets: Tensor) -> Tensor:
    """Weights (sum N,) without the negative ones, to a sum of 1 in each bag; equal where none is left."""
    kept = weights.clamp(min=0)
    ids = segment_ids(offsets)
    total = segment_sum(kept, offsets)[ids]
    return torch.where(total > 0, kept / total.clamp(min=1e-30), 1 / offsets.diff()[ids])
