"""A plain transformer over tiles that knows where they lie, in um.

Vaswani et al.: Attention is all you need, NeurIPS 2017. https://arxiv.org/abs/1706.03762
Norms in front: Xiong et al.: On Layer Normalization in the Transformer Architecture, ICML 2020, figure 1b.
https://arxiv.org/abs/2002.04745
Positions: Su et al.: RoFormer: Enhanced Transformer with Rotary Position Embedding, 2021, equation 16.
https://arxiv.org/abs/2104.09864
Class token in the last layer: Touvron et al.: Going deeper with Image Transformers, ICCV 2021, section 3.
https://arxiv.org/abs/2103.17239

    h = h + Att(LN(h));        h = h + MLP(LN(h))    tiles among themselves, layers - 1 times
    c = c + Att(LN(c), LN(h)); c = c + MLP(LN(c))    the class token reads the tiles
    logits = W LN(c) + b

With q and k of a head taken as complex numbers, half of them for x and half for y, each with a wavelength w of its own,
what tile i makes of tile j depends on how far they lie apart:

    Re( q_i e^(2 pi i x_i / w) conj(k_j e^(2 pi i x_j / w)) ) = Re( q_i conj(k_j) e^(2 pi i (x_i - x_j) / w) )
"""

import math

import torch
from torch import Tensor, nn

from mil.attention import self_attention
from mil.bag import BagBatch, MILOutput, StoredTiles
from mil.model import MILModel
from mil.models.embedding import tile_embedding
from mil.segments import segment_ids, segment_max, segment_softmax, segment_sum
from wsi.errors import UsageError

BLOCK = 4096
"""Tiles at a time that are graded each for itself."""


class Transformer(MILModel):
    """Exact attention of all tiles of a bag to all: time grows with the square of its length, memory with its length.

    Only how far and in which direction tiles lie from each other matters, so that a slide moved as a whole has the same
    logits. The class token has no place: it enters in the last layer, where it reads what tiles are and not where. A
    tile's attention is what it gets of the class token there, mean over heads. A bag in which the place of a
    tile is unknown (NaN) goes without positions.

    Parameters
    ----------
    hidden : int
        Length of a token, a multiple of 4 x `heads`.
    layers : int
        With the last one, in which only the class token looks; 1 is attention pooling with a learned query.
    mlp : int
        Width of the MLP's middle.
    dropout : float
        Of the tile embeddings and of what each part adds.
    shortest_um, longest_um : float
        Wavelengths, in equal ratios between them: a few tiles, and more than twice the length of a slide, so that no
        distance on it looks like another.
    """

    wavelengths_um: Tensor

    def __init__(
        self,
        dim: int,
        n_outputs: int,
        hidden: int = 128,
        heads: int = 4,
        layers: int = 2,
        mlp: int = 256,
        dropout: float = 0.1,
        shortest_um: float = 500.0,
        longest_um: float = 160_000.0,
    ):
        super().__init__()
        if hidden % (4 * heads) or layers < 1:
            raise UsageError(
                f"transformer: hidden is {hidden} and layers {layers}; expected a multiple of 4 x heads = {4 * heads}, "
                "and at least one layer"
            )
        self.embed = tile_embedding(dim, hidden, dropout)
        self.class_token = nn.Parameter(torch.randn(hidden))
        self.between = nn.ModuleList(Layer(hidden, heads, mlp, dropout) for _ in range(layers - 1))
        self.last = Layer(hidden, heads, mlp, dropout)
        self.norm = nn.LayerNorm(hidden)
        self.classify = nn.Linear(hidden, n_outputs)
        waves = torch.logspace(
            math.log10(shortest_um), math.log10(longest_um), hidden // heads // 4, dtype=torch.float64
        )
        self.register_buffer("wavelengths_um", waves, persistent=False)

    def forward(self, batch: BagBatch) -> MILOutput:
        logits, attention = self._whole(batch)
        blocks = [slice(start, start + BLOCK) for start in range(0, batch.tiles, BLOCK)]
        return MILOutput(logits, attention, torch.cat([self._single(batch.tiles_of(block)) for block in blocks]))

    def logits(self, batch: BagBatch) -> Tensor:
        """Without an answer to each tile."""
        return self._whole(batch)[0]

    def _whole(self, batch: BagBatch) -> tuple[Tensor, Tensor]:
        turns = _turns(batch.coords_um, batch.offsets, self.wavelengths_um)
        return self._answer(self.embed(batch.tiles_of(slice(None))), batch.offsets, turns)

    def _single(self, tiles: StoredTiles) -> Tensor:
        """Logits of n bags of one tile, which has no distance to anything: to (n, L)."""
        offsets = torch.arange(len(tiles) + 1, device=tiles.stored.device)
        turns = torch.ones(len(tiles), 1, 1, dtype=torch.complex64, device=tiles.stored.device)
        return self._answer(self.embed(tiles), offsets, turns)[0]

    def _answer(self, h: Tensor, offsets: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (sum N, hidden) to logits (B, L) and attention (sum N,)."""
        for layer in self.between:
            h = layer(h, offsets, turns)
        read, attention = self.last.read(self.class_token, h, offsets)  # (B, hidden), (sum N, heads)
        return self.classify(self.norm(read)), attention.mean(dim=1)


class Layer(nn.Module):
    """Attention and MLP, each added to what it was given and with a norm in front."""

    def __init__(self, hidden: int, heads: int, mlp: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.query = nn.Linear(hidden, hidden)
        self.key_value = nn.Linear(hidden, 2 * hidden)
        self.out = nn.Sequential(nn.Linear(hidden, hidden), nn.Dropout(dropout))
        self.mlp = nn.Sequential(
            nn.Linear(hidden, mlp), nn.GELU(), nn.Dropout(dropout), nn.Linear(mlp, hidden), nn.Dropout(dropout)
        )

    def forward(self, h: Tensor, offsets: Tensor, turns: Tensor) -> Tensor:
        """Tiles read the tiles of their bag: (sum N, hidden) to the same."""
        normed = self.norm1(h)
        q, (k, v) = self._heads(self.query(normed)), self._keys_and_values(normed)  # (sum N, heads, d) each
        read = self_attention(_turned(q, turns), _turned(k, turns), v, offsets)
        h = h + self.out(read.flatten(1))
        return h + self.mlp(self.norm2(h))

    def read(self, token: Tensor, h: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """A token (hidden,) reads each bag: what becomes of it (B, hidden), and its attention (sum N, heads)."""
        q = self._heads(self.query(self.norm1(token[None])))  # (1, heads, d)
        k, v = self._keys_and_values(self.norm1(h))
        scores = (q * k).sum(dim=2) / math.sqrt(q.shape[2])  # (sum N, heads)
        attention = segment_softmax(scores, offsets)
        read = segment_sum(attention[..., None] * v, offsets).flatten(1)  # (B, hidden)
        tokens = token + self.out(read)
        return tokens + self.mlp(self.norm2(tokens)), attention

    def _keys_and_values(self, normed: Tensor) -> tuple[Tensor, Tensor]:
        k, v = self.key_value(normed).chunk(2, dim=1)
        return self._heads(k), self._heads(v)

    def _heads(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(len(tokens), self.heads, -1)  # (n, hidden) to (n, heads, d)


def _turns(coords_um: Tensor, offsets: Tensor, wavelengths_um: Tensor) -> Tensor:
    """e^(2 pi i x / w) and e^(2 pi i y / w), (sum N, 1, d/2) complex64; 1 throughout a bag with an unknown place."""
    unknown = ~coords_um.isfinite().all(dim=1, keepdim=True)  # (sum N, 1)
    without = segment_max(unknown.float(), offsets)[segment_ids(offsets)] > 0  # (sum N, 1)
    places = coords_um.double().masked_fill(without, 0.0)
    angles = 2 * math.pi * places[:, :, None] / wavelengths_um  # (sum N, 2, d/4)
    return torch.polar(torch.ones_like(angles), angles).flatten(1)[:, None].to(torch.complex64)


def _turned(parts: Tensor, turns: Tensor) -> Tensor:
    """Pairs of numbers as complex ones, times those of `turns`: (n, heads, d) to the same."""
    wide = parts if parts.dtype == torch.float64 else parts.float()
    pairs = torch.view_as_complex(wide.reshape(*parts.shape[:2], -1, 2))  # (n, heads, d/2)
    return torch.view_as_real(pairs * turns).flatten(2).to(parts.dtype)
