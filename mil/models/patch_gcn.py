"""A graph over neighbouring tiles: each tile sees what lies around it before attention pools the slide.

Chen, Lu, Shaban et al.: Whole Slide Images are 2D Point Clouds: Context-Aware Survival Prediction using Patch-based
Graph Convolutional Networks, MICCAI 2021, equations 1 to 4. https://arxiv.org/abs/2107.13048
The convolution: Li, Xiong, Thabet, Ghanem: DeeperGCN, 2020, equations 3 and 5. https://arxiv.org/abs/2006.07739

    m_j = relu(h_j) + eps,    conv(h)_i = MLP( h_i + sum_j softmax_j(t m_j) m_j )    over the neighbours j of i, by axis
    h^1 = conv(h^0),    h^l = h^(l-1) + relu(norm(conv(h^(l-1)))),    g_i = relu(W [h^0_i, h^1_i, ..., h^L_i])
    z = sum_i a_i g_i with gated attention a (Ilse 2018),    logits = classifier(relu(R z))

The authors let a tile's features flow to its k nearest; here they flow from its k nearest to it, so that every tile has
as many. Inside of a grid both are the same.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mil.bag import BagBatch, MILOutput
from mil.model import MILModel
from mil.models.embedding import tile_embedding
from mil.neighbours import neighbours
from mil.segments import segment_softmax, segment_sum

EPS = 1e-7


class PatchGCN(MILModel):
    """For grades that are in the arrangement of tiles (invasion fronts, infiltrates) more than in any one of them.

    Tiles need places: features that were imported without a pixel size are refused with `UsageError`. `Packing` draws
    `bag_tiles` of a large bag at random, and then the nearest of those drawn are the neighbours: set it so that
    training sees whole bags. A tile takes about 45 KB in a training step (10^5 tiles: 4.5 GB), its graph 64 bytes.

    Parameters
    ----------
    hidden : int
        Length of h; the pooled g has `hidden * (layers + 1)`.
    layers : int
        Convolutions: how many tiles far a tile sees.
    k : int
        Neighbours of a tile; 8 are those around it.
    attention_dim : int
        Width of the attention; the authors have that of g.
    dropout : float
    """

    def __init__(
        self,
        dim: int,
        n_outputs: int,
        hidden: int = 128,
        layers: int = 3,
        k: int = 8,
        attention_dim: int = 64,
        dropout: float = 0.25,
    ):
        super().__init__()
        self.k = k
        width = hidden * (layers + 1)
        self.embed = tile_embedding(dim, hidden, dropout)
        self.first = GENConv(hidden)
        self.further = nn.ModuleList(_Residual(hidden) for _ in range(layers - 1))
        self.mix = tile_embedding(width, width, dropout)
        self.v = nn.Linear(width, attention_dim)
        self.u = nn.Linear(width, attention_dim)
        self.w = nn.Linear(attention_dim, 1)
        self.classify = nn.Sequential(tile_embedding(width, width, dropout), nn.Linear(width, n_outputs))

    def forward(self, batch: BagBatch) -> MILOutput:
        features = batch.features
        pooled, attention = self._pooled(batch, features)
        alone = self.classify(self._context(features, None))  # (sum N, L)
        return MILOutput(self.classify(pooled), attention, alone)

    def logits(self, batch: BagBatch) -> Tensor:
        """Without the answers to each tile, which cost as much again."""
        logits: Tensor = self.classify(self._pooled(batch, batch.features)[0])
        return logits

    def _pooled(self, batch: BagBatch, features: Tensor) -> tuple[Tensor, Tensor]:
        near = neighbours(batch.coords_um, batch.offsets, self.k, features.sum(dim=1))  # (sum N, k)
        g = self._context(features, near)  # (sum N, width)
        scores = self.w(torch.tanh(self.v(g)) * torch.sigmoid(self.u(g)))[:, 0]  # (sum N,)
        attention = segment_softmax(scores, batch.offsets)
        return segment_sum(attention[:, None] * g, batch.offsets), attention  # (B, width)

    def _context(self, features: Tensor, near: Tensor | None) -> Tensor:
        """Tiles with what lies around them, (sum N, D) to (sum N, width); without neighbours each by itself."""
        levels = [self.embed(features)]  # (sum N, hidden)
        levels.append(self.first(levels[0], near))
        for layer in self.further:
            levels.append(layer(levels[-1], near))
        mixed: Tensor = self.mix(torch.cat(levels, dim=1))
        return mixed


class GENConv(nn.Module):
    """Messages of the neighbours, weighted by a softmax in each axis and added to the tile; a small network on that."""

    def __init__(self, width: int):
        super().__init__()
        self.sharpness = nn.Parameter(torch.ones(1))  # t
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.LayerNorm(2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )

    def forward(self, h: Tensor, near: Tensor | None) -> Tensor:
        """(sum N, width) and neighbours (sum N, k), -1 for none, to (sum N, width)."""
        if near is not None:
            messages = torch.relu(h if h.dtype == torch.float64 else h.float()) + EPS
            h = h + softmax_sum(messages, self.sharpness, near)
        out: Tensor = self.mlp(h)
        return out


class _Residual(nn.Module):
    """A convolution, normalised, added to what it was made of."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = GENConv(width)
        self.norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(0.1)

    def forward(self, h: Tensor, near: Tensor | None) -> Tensor:
        out: Tensor = self.drop(h + torch.relu(self.norm(self.conv(h, near))))
        return out


def softmax_sum(messages: Tensor, sharpness: Tensor, near: Tensor) -> Tensor:
    """sum_j softmax_j(t m_j) m_j over the neighbours j of each tile, axis by axis; zero for a tile without any.

    Neighbour by neighbour, forward and backward, so that nothing of size (sum N, k, H) is ever made.

    Parameters
    ----------
    messages : Tensor (sum N, H)
    sharpness : Tensor (1,)
        t; at 0 the mean of the neighbours, for large values their maximum.
    near : Tensor (sum N, k) int64
        -1 for none.
    """
    result: Tensor = _SoftmaxSum.apply(messages, sharpness, near)
    return result


class _SoftmaxSum(torch.autograd.Function):
    """With w = softmax_j(t m_j) and o = sum_j w_j m_j:

    do/dm_j = w_j (1 + t (m_j - o)),    do/dt = sum_j w_j m_j (m_j - o)
    """

    @staticmethod
    def forward(ctx: Any, messages: Tensor, sharpness: Tensor, near: Tensor) -> Tensor:
        top = torch.full_like(messages, -torch.inf)
        for _, scores in _columns(messages, sharpness, near):
            top = torch.maximum(top, scores)
        total, weighted = torch.zeros_like(messages), torch.zeros_like(messages)
        for message, scores in _columns(messages, sharpness, near):
            weights = _rise(scores, top)
            total += weights
            weighted += weights * message
        total.clamp_(min=1)  # the highest adds 1, so this is for tiles without neighbours
        pooled = weighted / total
        ctx.save_for_backward(messages, sharpness, near, top, total, pooled)
        return pooled

    @staticmethod
    def backward(ctx: Any, d_pooled: Tensor) -> tuple[Tensor, Tensor, None]:
        messages, sharpness, near, top, total, pooled = ctx.saved_tensors
        d_messages, d_sharpness = torch.zeros_like(messages), torch.zeros_like(sharpness)
        for tiles, (message, scores) in zip(near.unbind(1), _columns(messages, sharpness, near), strict=True):
            slope = d_pooled * _rise(scores, top) / total
            away = message - pooled
            d_messages.index_add_(0, tiles.clamp(min=0), slope * (1 + sharpness * away))
            d_sharpness += (slope * message * away).sum()
        return d_messages, d_sharpness, None


def _columns(messages: Tensor, sharpness: Tensor, near: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Of the first, second, ... neighbour of each tile: its message and t times that, -inf where there is none."""
    for tiles in near.unbind(1):
        message = messages[tiles.clamp(min=0)]  # (sum N, H)
        yield message, torch.where((tiles >= 0)[:, None], sharpness * message, -torch.inf)


def _rise(scores: Tensor, top: Tensor) -> Tensor:
    """exp(scores - top), 0 where there is no neighbour."""
    return torch.where(torch.isinf(scores), 0.0, torch.exp(scores - top))
