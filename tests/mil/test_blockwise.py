"""Pooling block by block against the plain computation, in float64."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from mil.bag import pack
from mil.blockwise import TileParts, attention_pool, tile_scores
from mil.testing import toy_bag

BAGS = (1, 700, 30, 5, 901)


class Small(nn.Module):
    def __init__(self, dropout=0.0, heads=2):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(12, 7), nn.Tanh(), nn.Dropout(dropout))
        self.score = nn.Linear(7, heads)
        self.answer = nn.Linear(7, 3)

    def parts(self, tiles):
        h = self.embed(tiles.features)
        return TileParts(h, 4 * self.score(h), self.answer(h))


def packed():
    batch = pack([toy_bag(tiles, seed=tiles) for tiles in BAGS])
    return replace(batch, stored=batch.stored.double(), mean=torch.full((12,), 0.3), scale=torch.full((12,), 1.7))


def results(model, batch, whole, weigh):
    model.zero_grad(set_to_none=True)
    torch.manual_seed(3)
    pooled = attention_pool(model, model.parts, batch, block=64, whole=whole)
    weigh(pooled).backward()
    return [part.detach() for part in pooled], {
        name: one.grad for name, one in model.named_parameters() if one.grad is not None and one.grad.any()
    }


@pytest.mark.parametrize(
    "weigh",
    [
        lambda pooled: pooled.values.sin().sum(),
        lambda pooled: pooled.values.square().sum() + (pooled.attention.square().sum() + pooled.outputs.cos().sum()),
    ],
)
def test_values_and_gradients_are_those_of_the_plain_computation(weigh):
    torch.manual_seed(0)
    model, batch = Small().double(), packed()
    plain, plain_grads = results(model, batch, 1 << 20, weigh)
    found, grads = results(model, batch, 0, weigh)
    for one, other in zip(plain, found, strict=True):
        torch.testing.assert_close(one.float(), other.float(), rtol=1e-5, atol=1e-6)
    assert plain_grads.keys() == grads.keys() != set()
    for name in grads:
        torch.testing.assert_close(grads[name], plain_grads[name], rtol=1e-5, atol=1e-6)


def test_dropout_is_the_same_in_both_passes():
    """With the same seed the gradient is that of the loss: a step along it changes the loss by as much."""
    torch.manual_seed(0)
    model, batch = Small(dropout=0.5).double(), packed()

    def value():
        torch.manual_seed(5)
        return attention_pool(model, model.parts, batch, block=64, whole=0).values.square().sum()

    value().backward()
    after = torch.get_rng_state()
    value()
    assert torch.equal(after, torch.get_rng_state()), "the backward pass leaves the random state alone"
    weight = model.embed[0].weight
    direction = torch.randn_like(weight)
    slope = (weight.grad * direction).sum()
    with torch.no_grad():
        step = 1e-3
        weight += step * direction
        up = value()
        weight -= 2 * step * direction
        down = value()
    torch.testing.assert_close((up - down) / (2 * step), slope, rtol=1e-3, atol=1e-3)


def test_without_gradients_nothing_is_kept():
    model, batch = Small().double(), packed()
    with torch.inference_mode():
        pooled = attention_pool(model, model.parts, batch, block=64, whole=0)
    assert not pooled.values.requires_grad
    sums = [float(part[:, 0].sum()) for part in torch.split(pooled.attention, BAGS)]
    assert sums == pytest.approx([1.0] * len(BAGS))


def test_scores_are_made_block_by_block_and_carry_no_gradient():
    layer, batch = torch.nn.Linear(12, 3), pack([toy_bag(5), toy_bag(9)])
    sizes = []

    def make(tiles):
        sizes.append(len(tiles))
        return layer(tiles.features)

    found = tile_scores(make, batch, block=4)
    assert sizes == [4, 4, 4, 2]
    assert not found.requires_grad
    torch.testing.assert_close(found, layer(batch.features).detach())
