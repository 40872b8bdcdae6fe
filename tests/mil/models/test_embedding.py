"""The first layer on stored tiles, block by block, against the same on a scaled copy of them."""

import torch

from mil.bag import StoredTiles
from mil.models.embedding import BLOCK, tile_embedding


def test_stored_tiles_give_what_their_features_give():
    torch.manual_seed(0)
    layer = tile_embedding(12, 5, 0.0)
    tiles = StoredTiles(torch.randn(2 * BLOCK + 7, 12).half(), torch.randn(12), torch.rand(12))
    scaled = (tiles.stored.float() - tiles.mean) * tiles.scale
    parameters = list(layer.parameters())
    found, expected = layer(tiles), layer(scaled)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    slopes = [torch.autograd.grad(h.square().mean(), parameters) for h in (found, expected)]
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_few_tiles_and_none():
    layer = tile_embedding(12, 5, 0.0)
    for tiles in (0, 1):
        assert layer(StoredTiles(torch.zeros(tiles, 12))).shape == (tiles, 5)
