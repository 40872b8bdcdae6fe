import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mil.bag import pack
from mil.models.transformer import Transformer, _turned, _turns
from mil.testing import toy_bag
from wsi.errors import UsageError


def nowhere(bag):
    return replace(bag, coords_um=np.full_like(bag.coords_um, np.nan))


def attention_of(layer, hidden, heads):
    """torch's own attention with the weights of one of our layers."""
    theirs = nn.MultiheadAttention(hidden, heads, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": torch.cat([layer.query.weight, layer.key_value.weight]),
            "in_proj_bias": torch.cat([layer.query.bias, layer.key_value.bias]),
            "out_proj.weight": layer.out[0].weight,
            "out_proj.bias": layer.out[0].bias,
        }
    )
    return theirs


def test_equals_torchs_layers_with_the_same_weights():
    torch.manual_seed(0)
    model = Transformer(12, 3, hidden=16, heads=2, layers=3, mlp=20).eval()
    theirs = []
    for layer in model.between:
        one = nn.TransformerEncoderLayer(16, 2, 20, activation="gelu", batch_first=True, norm_first=True).eval()
        one.self_attn = attention_of(layer, 16, 2)
        for there, here in ((one.norm1, layer.norm1), (one.norm2, layer.norm2)):
            there.load_state_dict(here.state_dict())
        one.linear1.load_state_dict(layer.mlp[0].state_dict())
        one.linear2.load_state_dict(layer.mlp[3].state_dict())
        theirs.append(one)
    last = model.last
    bags = [nowhere(toy_bag(tiles, seed=tiles)) for tiles in (9, 1, 40, 9)]
    output = model(pack(bags))
    attention = output.attention.split([len(bag) for bag in bags])
    for bag, logits, weights in zip(bags, output.logits, attention, strict=True):
        h = model.embed(torch.from_numpy(bag.features))[None]
        for one in theirs:
            h = one(h)
        c = model.class_token[None, None]
        tiles = last.norm1(h)
        read, expected = attention_of(last, 16, 2)(last.norm1(c), tiles, tiles)
        c = c + read
        c = c + last.mlp(last.norm2(c))
        torch.testing.assert_close(weights, expected[0, 0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(logits, model.classify(model.norm(c))[0, 0], rtol=1e-5, atol=1e-5)


def test_scores_turn_with_distance():
    """Pair m of a head is turned by 2 pi x / w_m in the first half, by 2 pi y / w_m in the second."""
    waves = torch.tensor([500.0, 9000.0], dtype=torch.float64)
    coords_um = torch.tensor([[0.0, 0.0], [224.0, 1120.0], [60_000.0, 33.0]])
    turns = _turns(coords_um, torch.tensor([0, 3]), waves)
    parts = torch.randn(2, 3, 1, 8, generator=torch.Generator().manual_seed(0))
    q, k = (_turned(part, turns) for part in parts)
    for i in range(3):
        for j in range(3):
            expected = 0.0
            x, y = (coords_um[i] - coords_um[j]).tolist()
            for pair, angle in enumerate((x / 500, x / 9000, y / 500, y / 9000)):
                cos, sin = math.cos(2 * math.pi * angle), math.sin(2 * math.pi * angle)
                one = parts[0, i, 0, 2 * pair : 2 * pair + 2].numpy()
                other = parts[1, j, 0, 2 * pair : 2 * pair + 2].numpy()
                expected += float(np.array([[cos, -sin], [sin, cos]]) @ one @ other)
            assert float((q[i] * k[j]).sum()) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_slide_may_be_moved_but_its_tiles_may_not():
    torch.manual_seed(0)
    model, bag = Transformer(12, 1).eval(), toy_bag(30)
    logits = model.logits(pack([bag]))
    moved = replace(bag, coords_um=bag.coords_um + np.float32([31_000, 8_000]))
    torch.testing.assert_close(model.logits(pack([moved])), logits, rtol=1e-4, atol=1e-5)
    for other in (bag.coords_um[::-1].copy(), bag.coords_um[:, ::-1].copy(), 3 * bag.coords_um):
        assert (model.logits(pack([replace(bag, coords_um=other)])) - logits).abs() > 1e-4


def test_one_unknown_place_makes_all_of_its_bag_unknown_and_none_of_another():
    torch.manual_seed(0)
    model, bag, other = Transformer(12, 1).eval(), toy_bag(30), toy_bag(20)
    places = bag.coords_um.copy()
    places[7, 1] = np.nan
    partly = model.logits(pack([replace(bag, coords_um=places), other]))
    torch.testing.assert_close(partly, model.logits(pack([nowhere(bag), other])))
    torch.testing.assert_close(partly[1:], model.logits(pack([other])))
    assert (partly[0] - model.logits(pack([bag]))[0]).abs() > 1e-4


def test_one_layer_looks_only_from_the_class_token():
    torch.manual_seed(0)
    model, bag = Transformer(12, 2, layers=1).eval(), toy_bag(12)
    torch.testing.assert_close(model.logits(pack([bag])), model.logits(pack([nowhere(bag)])))


def test_gradients_of_a_pack_are_the_sum_of_those_of_its_bags():
    torch.manual_seed(0)
    model = Transformer(12, 3, hidden=16, heads=2, layers=3, dropout=0.0).double()
    bags = [toy_bag(tiles, seed=tiles) for tiles in (1, 30, 7, 30)]

    def gradients(*packs):
        model.zero_grad()
        for part in packs:
            batch = pack(part)
            model.logits(replace(batch, stored=batch.stored.double())).square().sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    for together, alone in zip(gradients(bags), gradients(*([bag] for bag in bags)), strict=True):
        torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("options", [{"hidden": 24, "heads": 4}, {"layers": 0}])
def test_sizes_that_cannot_be_are_refused(options):
    with pytest.raises(UsageError, match="expected a multiple of 4 x heads = 16, and at least one layer"):
        Transformer(12, 1, **options)
