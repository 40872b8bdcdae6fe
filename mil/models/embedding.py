"""The first layer that the models share: features to short tile embeddings."""

from typing import Any

import torch
from torch import Tensor, nn

from mil.bag import StoredTiles

BLOCK = 512
"""Tiles at a time on a CPU: 2 MB of features of length 1024 stay in the cache from conversion to product."""


class TileEmbedding(nn.Sequential):
    """(n, D) to (n, hidden): a linear layer, ReLU and dropout."""

    def __init__(self, dim: int, hidden: int, dropout: float):
        super().__init__(nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, tiles: Tensor | StoredTiles) -> Tensor:
        h: Tensor = self[2](self.without_dropout(tiles))
        return h

    def without_dropout(self, tiles: Tensor | StoredTiles) -> Tensor:
        """The same for a look at the tiles in between, which draws no random numbers."""
        if isinstance(tiles, StoredTiles) and tiles.stored.device.type == "cpu" and not tiles.stored.requires_grad:
            h: Tensor = _StoredReLU.apply(tiles, self[0].weight, self[0].bias)
        else:
            h = self[1](self[0](tiles.features if isinstance(tiles, StoredTiles) else tiles))
        return h


def tile_embedding(dim: int, hidden: int, dropout: float) -> TileEmbedding:
    """What a model begins with."""
    return TileEmbedding(dim, hidden, dropout)


class _StoredReLU(torch.autograd.Function):
    """`relu(features @ weight.T + bias)` without a scaled copy of all features; these get no gradient."""

    @staticmethod
    def forward(ctx: Any, tiles: StoredTiles, weight: Tensor, bias: Tensor) -> Tensor:
        out = weight.new_empty((len(tiles), len(weight)))
        for rows in blocks(len(tiles)):
            torch.addmm(bias, _part(tiles, rows), weight.T, out=out[rows]).relu_()
        ctx.tiles = tiles
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[None, Tensor, Tensor]:
        (out,) = ctx.saved_tensors
        weight = slope.new_zeros((slope.shape[1], ctx.tiles.stored.shape[1]))
        bias = slope.new_zeros(slope.shape[1])
        for rows in blocks(len(out)):
            passed = slope[rows] * (out[rows] > 0)  # (n, hidden)
            weight.addmm_(passed.T, _part(ctx.tiles, rows))
            bias += passed.sum(dim=0)
        return None, weight, bias


def _part(tiles: StoredTiles, rows: slice) -> Tensor:
    return StoredTiles(tiles.stored[rows], tiles.mean, tiles.scale).features


def blocks(tiles: int) -> list[slice]:
    """`BLOCK` tiles at a time."""
    return [slice(start, start + BLOCK) for start in range(0, tiles, BLOCK)]
