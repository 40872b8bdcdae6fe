from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torchmil.nn import AttentionPool
from torchmil.nn.gnns import DeepGCNLayer

from mil.bag import Bag, pack
from mil.models.patch_gcn import GENConv, PatchGCN, softmax_sum
from mil.testing import toy_bag
from wsi.errors import UsageError

NEAR = torch.tensor([[1, 2, 3], [0, 2, -1], [-1, -1, -1], [1, 0, 2], [3, 3, 0]])


def plain_sum(messages, sharpness, near):
    """Tile by tile, with torch's own softmax."""
    rows = []
    for tiles in near:
        chosen = messages[tiles[tiles >= 0]]
        rows.append((torch.softmax(sharpness * chosen, dim=0) * chosen).sum(dim=0))
    return torch.stack(rows)


@pytest.mark.parametrize("sharpness", [0.0, 1.3, -2.0])
def test_softmax_sum_and_its_gradients_are_those_of_the_plain_computation(sharpness):
    generator = torch.Generator().manual_seed(0)
    messages = torch.rand(5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    t = torch.tensor([sharpness], dtype=torch.float64, requires_grad=True)
    weights = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    results = []
    for function in (softmax_sum, plain_sum):
        value = function(messages, t, NEAR)
        results.append((value, *torch.autograd.grad((weights * value).sum(), (messages, t))))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert (results[0][0][2] == 0).all(), "a tile without neighbours gets nothing"


def test_softmax_sum_of_huge_messages_is_their_maximum():
    messages = 1e30 * torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    found = softmax_sum(messages, torch.ones(1), NEAR)
    torch.testing.assert_close(found[0], messages[1:4].amax(dim=0))
    torch.testing.assert_close(found[4], messages[[3, 0]].amax(dim=0))


class DenseConv(nn.Module):
    """DeeperGCN's convolution with an adjacency matrix, as torchmil's layers call it."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x, adjacency):
        scores = (self.conv.sharpness * (torch.relu(x) + 1e-7))[:, None].expand(-1, x.shape[1], -1, -1)  # b, i, j, axis
        scores = scores.masked_fill(adjacency[..., None] == 0, -torch.inf)
        weights = torch.softmax(scores, dim=2)
        return self.conv.mlp(x + (weights * (torch.relu(x) + 1e-7)[:, None]).sum(dim=2))


def by_torchmil(model, bag, adjacency):
    """Logits of one bag in float64: torchmil's residual layer and gated attention pooling, our weights."""
    x = model.embed(torch.from_numpy(bag.features).double())[None]
    levels = [x, DenseConv(model.first)(x, adjacency)]
    for layer in model.further:
        theirs = DeepGCNLayer(DenseConv(layer.conv), layer.norm, nn.ReLU(), block="res").double().eval()
        levels.append(theirs(levels[-1], adjacency))
    g = model.mix(torch.cat(levels, dim=2))
    pool = AttentionPool(g.shape[2], model.v.out_features, gated=True).double()
    pool.fc1, pool.fc_gated = model.v, model.u
    pool.fc2.weight = model.w.weight
    z, scores = pool(g, mask=torch.ones(1, g.shape[1], dtype=torch.float64), return_att=True)
    return model.classify(z)[0], torch.softmax(scores[0], dim=0)


def test_equals_torchmils_layers_on_a_dense_graph_in_float64():
    torch.manual_seed(0)
    model = PatchGCN(12, 3, hidden=16, layers=3, k=4).eval().double()
    with torch.no_grad():
        for conv in (model.first, *(layer.conv for layer in model.further)):
            conv.sharpness.fill_(1.7)
    bag = toy_bag(30, seed=1)
    places = np.random.default_rng(0).random((30, 2)).astype(np.float32) * 1e4  # no two distances are the same
    bag = Bag("scattered", bag.features, places, bag.rows)
    apart = np.linalg.norm(places[:, None].astype(np.float64) - places[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    adjacency = torch.zeros(1, 30, 30, dtype=torch.float64)
    adjacency[0].scatter_(1, torch.from_numpy(np.argsort(apart, axis=1)[:, :4].copy()), 1.0)
    batch = pack([toy_bag(7), bag, toy_bag(1)])
    output = model(replace(batch, stored=batch.stored.double()))
    logits, attention = by_torchmil(model, bag, adjacency)
    torch.testing.assert_close(output.logits[1], logits, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(output.attention[7:37], attention, rtol=1e-9, atol=1e-12)


def test_a_convolution_without_neighbours_is_its_network_alone():
    torch.manual_seed(0)
    conv = GENConv(6)
    h = torch.randn(3, 6)
    torch.testing.assert_close(conv(h, torch.full((3, 2), -1)), conv(h, None))
    torch.testing.assert_close(conv(h, None), conv.mlp(h))


def test_arrangement_matters():
    """The same tiles elsewhere: what no pooling of single tiles can see."""
    torch.manual_seed(0)
    model = PatchGCN(12, 1).eval()
    bag = toy_bag(36, signal=3.0)
    elsewhere = np.random.default_rng(0).permutation(36)
    moved = Bag("moved", bag.features, bag.coords_um[elsewhere], bag.rows)
    output = model(pack([bag, moved]))
    assert abs(output.logits[0] - output.logits[1]).item() > 1e-4
    torch.testing.assert_close(output.tile_logits[:36], output.tile_logits[36:])


def test_order_of_tiles_at_one_place_does_not_matter():
    torch.manual_seed(0)
    model = PatchGCN(12, 2, k=3).eval()
    bag = toy_bag(20)
    stacked = Bag("stacked", bag.features, np.repeat(bag.coords_um[:4], 5, axis=0), bag.rows)
    order = np.random.default_rng(1).permutation(20)
    first, second = model(pack([stacked])), model(pack([stacked.take(order)]))
    torch.testing.assert_close(first.logits, second.logits, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(first.attention[order], second.attention, rtol=1e-4, atol=1e-6)


def test_features_without_places_are_refused():
    bag = toy_bag(5)
    lost = Bag("imported", bag.features, np.full((5, 2), np.nan, np.float32), bag.rows)
    with pytest.raises(UsageError, match="tile 0 of bag 1 in the batch is not known"):
        PatchGCN(12, 1)(pack([bag, lost]))
