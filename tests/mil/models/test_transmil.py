from dataclasses import replace

import numpy as np
import pytest
import torch
import torchmil.models
from torch import nn

from mil.bag import Bag, pack
from mil.models.transmil import PPEG, TransMIL, _reading_order, _shares, _squares
from mil.testing import toy_bag


def copied(hidden, heads, landmarks):
    """Our model and torchmil's with the same weights, where ours has what torchmil's lacks switched off.

    Unlike paper and authors' program, torchmil has no convolution over the values and no linear layer after attention.
    """
    torch.manual_seed(0)
    ours = TransMIL(12, 1, hidden=hidden, heads=heads, landmarks=landmarks).eval()
    first = nn.Sequential(nn.Linear(12, hidden), nn.ReLU())
    theirs = torchmil.models.TransMIL((12,), hidden, 2, heads, landmarks, 6, feat_ext=first).eval()
    with torch.no_grad():
        for layer in (ours.attend1, ours.attend2):
            layer.residual.weight.zero_()
            layer.out[0].weight.copy_(torch.eye(hidden))
            layer.out[0].bias.zero_()
            layer.qkv.weight *= 2
        theirs.cls_token[0, 0] = ours.class_token
    pairs = [
        (first[0], ours.embed[0]),
        (theirs.layers[0].norm1, ours.norm1),
        (theirs.layers[1].norm1, ours.norm2),
        (theirs.layers[0].att_module.qkv_nn, ours.attend1.qkv),
        (theirs.layers[1].att_module.qkv_nn, ours.attend2.qkv),
        (theirs.pos_layer.proj, ours.position.conv7),
        (theirs.pos_layer.proj1, ours.position.conv5),
        (theirs.pos_layer.proj2, ours.position.conv3),
        (theirs.norm, ours.norm),
        (theirs.classifier, ours.classify),
    ]
    for there, here in pairs:
        there.load_state_dict(here.state_dict())
    return ours, theirs


@pytest.mark.parametrize(("sizes", "lengths"), [((32, 4, 16), (30, 1, 16, 100, 2, 30)), ((512, 8, 256), (49,))])
def test_equals_torchmil_with_the_same_weights(sizes, lengths):
    ours, theirs = copied(*sizes)
    bags = [toy_bag(tiles, seed=number) for number, tiles in enumerate(lengths)]
    with torch.no_grad():
        output = ours(pack(bags))
        for bag, logit, attention in zip(bags, output.logits, output.attention.split(lengths), strict=True):
            expected, weights = theirs(torch.from_numpy(bag.features)[None], return_att=True)
            torch.testing.assert_close(logit, expected, rtol=1e-5, atol=1e-5)
            if int(len(bag) ** 0.5) ** 2 == len(bag):  # of tiles that lie in the square twice it gives one place only
                kept = weights[0].clamp(min=0)
                torch.testing.assert_close(attention, kept / kept.sum(), rtol=1e-4, atol=1e-5)


def placed(places, name="placed"):
    places = np.asarray(places, dtype=np.float32)
    return Bag(name, np.arange(len(places), dtype=np.float32)[:, None], places, np.arange(len(places)))


def test_squares_are_filled_in_reading_order_and_with_the_first_tiles_again():
    scattered = placed([(448, 0), (0, 224), (224, 0), (224, 224), (0, 448)])  # read: 2 0 | 1 3 | 4
    small = placed([(9, 9), (9, 5)])
    batch = pack([scattered, small, placed([(0, 0)] * 9)])
    two, three = _squares(batch)
    assert (two.side, two.bags.tolist(), two.tiles.tolist()) == (2, [1], [[6, 5, 6, 5]])
    assert (three.side, three.bags.tolist()) == (3, [0, 2])
    assert three.tiles.tolist() == [[2, 0, 1, 3, 4, 2, 0, 1, 3], list(range(7, 16))]


def test_tiles_without_places_stay_in_the_order_given():
    nan = np.nan
    batch = pack([placed([(5, 1), (3, 1)]), placed([(nan, nan)] * 4), placed([(5, 1), (3, 1)])])
    assert _reading_order(batch).tolist() == [1, 0, 2, 3, 4, 5, 7, 6]


def test_every_square_up_to_a_thousand_tiles_has_room_and_none_to_spare():
    lengths = [*range(1, 60), 99, 100, 101, 999, 1000]
    batch = pack([placed([(0, 0)] * tiles) for tiles in lengths])
    for square in _squares(batch):
        for bag, tiles in zip(square.bags.tolist(), square.tiles, strict=True):
            assert (square.side - 1) ** 2 < lengths[bag] <= square.side**2
            assert len(set(tiles.tolist())) == lengths[bag]


def test_ppeg_is_the_sum_of_its_convolutions():
    torch.manual_seed(0)
    ppeg, h = PPEG(4), torch.randn(2, 9, 4)
    grid = h.transpose(1, 2).reshape(2, 4, 3, 3)
    expected = grid + ppeg.conv7(grid) + ppeg.conv5(grid) + ppeg.conv3(grid)
    torch.testing.assert_close(ppeg(h, 3), expected.flatten(2).transpose(1, 2))


def test_attention_has_no_negative_weights_and_is_equal_where_none_is_left():
    shares = _shares(torch.tensor([-1.0, 3.0, 1.0, -2.0, -1.0]), torch.tensor([0, 3, 5]))
    torch.testing.assert_close(shares, torch.tensor([0.0, 0.75, 0.25, 0.5, 0.5]))


def test_gradients_of_a_pack_are_the_sum_of_those_of_its_bags():
    torch.manual_seed(0)
    model = TransMIL(12, 3, hidden=16, heads=2, landmarks=8, dropout=0.0).double()
    bags = [toy_bag(tiles, seed=tiles) for tiles in (1, 30, 7, 28)]

    def gradients(*packs):
        model.zero_grad()
        for part in packs:
            batch = pack(part)
            model.logits(replace(batch, stored=batch.stored.double())).square().sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    for together, alone in zip(gradients(bags), gradients(*([bag] for bag in bags)), strict=True):
        torch.testing.assert_close(together, alone, rtol=1e-7, atol=1e-9)


def test_neighbours_matter():
    """The same tiles at other places are another slide."""
    torch.manual_seed(0)
    model, bag = TransMIL(12, 1, hidden=16, heads=2, landmarks=8).eval(), toy_bag(36)
    moved = replace(bag, coords_um=bag.coords_um[np.random.default_rng(0).permutation(36)])
    assert (model.logits(pack([bag])) - model.logits(pack([moved]))).abs() > 1e-3
