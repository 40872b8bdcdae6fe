"""Maps inside of a tile: they point at the planted quarter, random weights destroy them, captum agrees."""

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam

from mil.encoders import load_encoder
from mil.encoders.card import EncoderCard
from mil.encoders.timm import TimmEncoder, import_timm
from mil.explanations import Explained, log_odds
from mil.inside_tile import can_look_inside, feature_slopes, inside_tile
from mil.network import Network, NetworkSpec
from mil.testing import toy_bag

SIDE = 224


def tissue(seed=0):
    """Pink without structure."""
    rng = np.random.default_rng(seed)
    return np.clip(np.array([225, 180, 205]) + rng.normal(0, 6, (SIDE, SIDE, 1)), 0, 255).astype(np.uint8)


def with_lesion(pixels, rows, cols, seed=1):
    """Dark round nuclei, side by side, in a part of the tile."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    changed = pixels.copy()
    for top in range(rows.start + 8, rows.stop - 4, 14):
        for left in range(cols.start + 8, cols.stop - 4, 14):
            dy, dx = rng.integers(-2, 3, 2)
            changed[(y - top - dy) ** 2 + (x - left - dx) ** 2 < 25] = (70, 40, 120)
    return changed


QUARTERS = {
    (a, b): (slice(a * SIDE // 2, (a + 1) * SIDE // 2), slice(b * SIDE // 2, (b + 1) * SIDE // 2))
    for a in (0, 1)
    for b in (0, 1)
}


def share_inside(found, quarter):
    """Of the map's sum that lies in a quarter; 0.25 of a map without direction."""
    side = found.shape[0]
    big = np.kron(found, np.ones((2, 2)))  # so that a grid of odd size is cut in the middle
    a, b = quarter
    return float(big[a * side : (a + 1) * side, b * side : (b + 1) * side].sum() / big.sum())


@pytest.fixture(scope="module")
def lite0():
    return load_encoder("lite0", device="cpu")


@pytest.fixture(scope="module")
def slope(lite0):
    """The direction from plain tissue to lesion among features: what a trained head would have learned."""
    whole = slice(0, SIDE)
    plain = lite0.encode(np.stack([tissue(k) for k in range(10, 13)])).mean(axis=0)
    return lite0.encode(with_lesion(tissue(20), whole, whole)[None])[0] - plain


@pytest.mark.parametrize("quarter", list(QUARTERS))
def test_the_map_points_at_the_quarter_with_the_lesion(lite0, slope, quarter):
    found = inside_tile(lite0, with_lesion(tissue(), *QUARTERS[quarter]), slope)
    assert found.shape == (7, 7)
    assert (found.min(), found.max()) == (pytest.approx(0, abs=1), 1)
    shares = {one: share_inside(found, one) for one in QUARTERS}
    assert max(shares, key=shares.get) == quarter
    assert shares[quarter] > 0.38  # of a lesion that lies at a corner of the 7 x 7 places at the least


def test_random_weights_destroy_the_map(slope):
    """Adebayo et al. 2018: the same procedure with an encoder that has learned nothing."""
    timm, shares = import_timm(), []
    for seed in range(3):
        torch.manual_seed(seed)
        card = EncoderCard("random", 1280, SIDE, 0.5, (0.5,) * 3, (0.5,) * 3, "none", "none")
        model = timm.create_model("efficientnet_lite0", pretrained=False, num_classes=0)
        encoder = TimmEncoder(model, card, "cpu")
        for quarter, place in QUARTERS.items():
            found = inside_tile(encoder, with_lesion(tissue(), *place), slope)
            shares.append(share_inside(found, quarter) if found.any() else 0.25)
    assert np.mean(shares) < 0.3  # 0.25 points nowhere


def test_the_map_is_that_of_captum(lite0, slope):
    pixels, pushed = with_lesion(tissue(), *QUARTERS[0, 1]), torch.from_numpy(slope)
    cam = LayerGradCam(lambda x: (lite0.backbone(x) * pushed).sum(dim=1), lite0.backbone.bn2)
    inputs = lite0.prepared(pixels[None]).requires_grad_()
    expected = cam.attribute(inputs, relu_attributions=True)[0, 0].detach().numpy()
    np.testing.assert_allclose(inside_tile(lite0, pixels, slope), expected / expected.max(), atol=1e-5)


def test_nothing_for_the_class_is_an_empty_map(lite0, slope):
    assert not inside_tile(lite0, tissue(), np.zeros_like(slope)).any()


def vit(seed, pool):
    torch.manual_seed(seed)
    timm = import_timm()
    model = timm.create_model(
        "vit_tiny_patch16_224", pretrained=False, num_classes=0, depth=2, global_pool=pool, class_token=pool == "token"
    )
    card = EncoderCard("small-vit", 192, SIDE, 0.5, (0.5,) * 3, (0.5,) * 3, "none", "none")
    return TimmEncoder(model, card, "cpu")


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_a_transformer_is_rolled_out_as_by_hand(pool):
    encoder = vit(0, pool)
    pixels = with_lesion(tissue(), *QUARTERS[1, 0])
    slope = np.random.default_rng(0).normal(size=192).astype(np.float32)
    before = [block.attn.fused_attn for block in encoder.backbone.blocks]
    found = inside_tile(encoder, pixels, slope)
    assert [block.attn.fused_attn for block in encoder.backbone.blocks] == before
    assert found.shape == (14, 14)
    # by hand: what reaches the pooled token from each other one, with slopes of attention by differences
    expected = _rollout_by_hand(encoder, pixels, slope, pool)
    np.testing.assert_allclose(found, expected / expected.max(), atol=2e-2)


def _rollout_by_hand(encoder, pixels, slope, pool):
    """Through the equations of the paper with autograd on attention that is put in anew at each block."""
    network, kept = encoder.backbone, []
    x = network._pos_embed(network.patch_embed(encoder.prepared(pixels[None])))
    for block in network.blocks:
        own = block.attn
        q, k, v = own.qkv(block.norm1(x)).reshape(1, -1, 3, 3, 64).permute(2, 0, 3, 1, 4)
        attention = torch.softmax(q @ k.mT / 8, dim=-1).requires_grad_()
        kept.append(attention)
        x = x + own.proj((attention @ v).transpose(1, 2).reshape(x.shape))
        x = x + block.mlp(block.norm2(x))
    last = network.norm(x)
    pooled = last[:, 0] if pool == "token" else network.fc_norm(x).mean(1) if pool == "map" else None
    if pool == "avg":
        pooled = network.fc_norm(network.norm(x).mean(1))
    flows = torch.autograd.grad((pooled[0] * torch.from_numpy(slope)).sum(), kept)
    rows = np.eye(kept[0].shape[-1])
    for attention, flow in zip(kept, flows, strict=True):
        step = (attention * flow).clamp(min=0)[0].mean(dim=0).detach().numpy()
        rows = rows + step @ rows
    row = rows[0][1:] if pool == "token" else rows.mean(axis=0)
    return row.reshape(14, 14)


def test_other_weights_of_a_transformer_give_another_map():
    slope = np.random.default_rng(0).normal(size=192).astype(np.float32)
    pixels = with_lesion(tissue(), *QUARTERS[1, 0])
    first, second = (inside_tile(vit(seed, "token"), pixels, slope).ravel() for seed in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.7


def test_slopes_go_through_the_whole_model():
    """Log odds of the class against differences in one stored feature."""
    torch.manual_seed(0)
    spec = NetworkSpec("abmil", "corn", 12, 4).complete()
    network, link, bag = Network(spec).eval(), spec.build_class_loss().probabilities, toy_bag(9)
    network.scale.fill_(0.7)
    slopes = feature_slopes(network, link, bag, np.array([4, 2]), 2)
    assert slopes.shape == (2, 12)
    for place, tile in enumerate((4, 2)):
        both = []
        for sign in (1, -1):
            features = bag.features.copy()
            features[tile, 5] += sign * 1e-2
            moved = Explained.of(network, link, type(bag)("s", features, bag.coords_um, bag.rows))
            both.append(log_odds(moved.probabilities([np.arange(9)]))[0, 2])
        np.testing.assert_allclose(slopes[place, 5], (both[0] - both[1]) / 2e-2, rtol=0.05, atol=2e-4)


def test_encoders_that_cannot_be_looked_into():
    assert not can_look_inside(load_encoder("toy", device="cpu"))
