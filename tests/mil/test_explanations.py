"""Maps of models whose right map is known on paper, and slopes of every model against differences."""

import numpy as np
import pytest
import torch
from torch import nn

from mil.bag import Bag, BagBatch, MILOutput
from mil.explanations import (
    FEWEST_BLOCKS,
    PACK_TILES,
    WORK_TILES,
    Explained,
    block_count,
    log_odds,
    random_network,
    tile_blocks,
    tile_map,
)
from mil.faithfulness import judge_map
from mil.links import sigmoid
from mil.map_names import MAP_TITLES, MAPS
from mil.model import MILModel
from mil.models import MODELS
from mil.network import Network, NetworkSpec
from mil.segments import segment_ids, segment_mean
from mil.testing import toy_bag
from wsi.errors import UsageError

W = torch.tensor([2.0, -1.0, 0.5])


class Planted(MILModel):
    """logit = mean_i w . x_i: each tile adds w . x_i / N, and no more is to be known of it."""

    def __init__(self):
        super().__init__()
        self.asked: list[tuple[int, int]] = []
        self.weight = nn.Parameter(W.clone())

    def forward(self, batch: BagBatch) -> MILOutput:
        scores = batch.features @ self.weight  # (sum N,)
        self.asked.append((len(batch), batch.tiles))
        attention = 1 / batch.offsets.diff()[segment_ids(batch.offsets)]
        return MILOutput(segment_mean(scores[:, None], batch.offsets), attention.float(), scores[:, None])


def planted():
    """Two classes; the log odds of the second are the logit."""
    network = Network(NetworkSpec("mean", "cross_entropy", 3, 2).complete())
    network.model = Planted()
    return network.eval(), NetworkSpec("mean", "cross_entropy", 3, 2).build_class_loss().probabilities


def small_bag(tiles=6, seed=0):
    rng = np.random.default_rng(seed)
    places = rng.permutation(tiles)[:, None] * [112.0, 0.0]
    return Bag("s", (0.3 * rng.normal(size=(tiles, 3))).astype(np.float32), places.astype(np.float32), np.arange(tiles))


@pytest.mark.parametrize("name", ["contribution", "gradient", "left_out"])
def test_of_a_linear_model_every_signed_map_is_known(name):
    """Without tile i the mean of the others remains: S - S_i = (w . x_i - S) / (N - 1)."""
    network, link = planted()
    bag = small_bag()
    own = bag.features @ W.numpy()
    expected = own if name != "left_out" else len(bag) * (own - own.mean()) / (len(bag) - 1)
    found = tile_map(network, link, bag, name)
    np.testing.assert_allclose(found[:, 1], expected, atol=2e-5)
    np.testing.assert_allclose(found[:, 0], -expected, atol=2e-5)
    if name != "left_out":
        np.testing.assert_allclose(found[:, 1].mean(), own.mean(), atol=1e-5)  # the slide's logit, completely


def test_deletion_of_the_planted_map_is_as_computed_by_hand():
    """Tiles of 3, 1, -1, -3 go one by one, the highest first: means 0, -1, -2, -3 remain."""
    network, link = planted()
    features = np.array([[0.5, 0, 0], [1.5, 0, 0], [-1.5, 0, 0], [-0.5, 0, 0]], np.float32)
    bag = Bag("s", features, np.zeros((4, 2), np.float32), np.arange(4))
    asked = Explained.of(network, link, bag)
    steps = (0, 1 / 3, 2 / 3, 1)
    found = judge_map(
        lambda kept: asked.probabilities([kept])[0, 1], tile_map(network, link, bag, "gradient")[:, 1], steps=steps
    )
    left = sigmoid(np.array([0.0, -1.0, -2.0, -3.0]))
    np.testing.assert_allclose(found.deletion.score, left, atol=1e-6)
    np.testing.assert_allclose(found.deletion.area, (left[0] / 2 + left[1] + left[2] + left[3] / 2) / 3, atol=1e-6)
    back = sigmoid(np.array([3.0, 2.0, 1.0, 0.0]))
    np.testing.assert_allclose(found.insertion.area, (back[0] / 2 + back[1] + back[2] + back[3] / 2) / 3, atol=1e-6)


def test_contributions_of_the_additive_model_sum_to_its_logit():
    torch.manual_seed(0)
    spec = NetworkSpec("additive", "cross_entropy", 12, 2).complete()
    network, link = Network(spec).eval(), spec.build_class_loss().probabilities
    bag = toy_bag(30)
    asked = Explained.of(network, link, bag)
    whole = log_odds(asked.probabilities([np.arange(30)]))[0]
    np.testing.assert_allclose(tile_map(network, link, bag, "contribution").mean(axis=0), whole, atol=1e-6)


@pytest.mark.parametrize("name", list(MODELS))
def test_slopes_of_every_model_are_those_of_differences(name):
    torch.manual_seed(1)
    spec = NetworkSpec(name, "corn", 12, 4).complete()
    network = Network(spec).eval()
    network.mean.fill_(0.1)
    network.scale.fill_(1.3)
    network.prepare([toy_bag(9, seed=k) for k in range(8)], np.arange(8) % 4, spec.build_class_loss())
    bag, link = toy_bag(20), spec.build_class_loss().probabilities
    asked = Explained.of(network, link, bag)
    if name == "dtfd":  # its second tier is cut off from the tiles, by design of its authors
        assert not asked.slopes()[1].any()
        return
    step = 5e-4  # small, for the kinks of maxima, and for float32 not too small
    for tilt in (np.eye(20)[0], np.random.default_rng(0).normal(size=20)):
        factors = [1 + torch.from_numpy(sign * step * tilt).float()[:, None] for sign in (1, -1)]
        up, down = (Explained(network, link, bag, asked.scaled * factor).slopes()[0] for factor in factors)
        np.testing.assert_allclose(tilt @ asked.slopes()[1], (up - down) / (2 * step), rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("loss", ["corn", "coral", "cross_entropy"])
def test_maps_of_one_tile_and_of_tiles_without_places(name, loss):
    torch.manual_seed(2)
    spec = NetworkSpec("abmil", loss, 12, 3).complete()
    network, link = Network(spec).eval(), spec.build_class_loss().probabilities
    one = tile_map(network, link, toy_bag(1), name)
    assert one.shape == (1, 3)
    assert np.isfinite(one).all()
    bag = toy_bag(90)
    lost = Bag("s", bag.features, np.full((90, 2), np.nan, np.float32), bag.rows)
    found = tile_map(network, link, lost, name)
    assert found.shape == (90, 3)
    assert np.isfinite(found).all()
    if name == "attention":
        np.testing.assert_allclose(found.mean(axis=0), 1, rtol=1e-5)
    if name == "evidence":
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-9)


def test_unknown_map_is_named():
    with pytest.raises(UsageError, match="no map is called 'saliency'; there are: evidence, attention"):
        tile_map(*planted(), small_bag(), "saliency")
    assert set(MAP_TITLES) == set(MAPS)


def test_leaving_tiles_out_of_fifty_thousand_is_bounded():
    """Never more than the bag at once, and the work does not grow with its square."""
    network, link = planted()
    rng = np.random.default_rng(3)
    n = 50_000
    places = np.stack([np.arange(n) % 224, np.arange(n) // 224], axis=1).astype(np.float32)
    bag = Bag("huge", rng.normal(size=(n, 3)).astype(np.float16), places, np.arange(n))
    found = tile_map(network, link, bag, "left_out")
    asked = np.array(network.model.asked)
    assert asked[:, 1].max() <= n
    assert asked[:, 1].sum() <= max(WORK_TILES, FEWEST_BLOCKS * n) + n
    assert len(np.unique(found[:, 1])) > FEWEST_BLOCKS / 2
    # the sum over tiles of what is left out is the sum over blocks, by hand for the linear model
    blocks = tile_blocks(places, block_count(n))
    own = bag.features.astype(np.float64) @ W.numpy()
    for block in blocks[:3]:
        gap = own.mean() - np.delete(own, block).mean()
        np.testing.assert_allclose(found[block, 1], gap * n / len(block), atol=2e-3)


def test_small_questions_are_asked_together():
    network, link = planted()
    tile_map(network, link, small_bag(40), "left_out")
    assert [bags for bags, _ in network.model.asked] == [1, 40]
    assert all(tiles <= PACK_TILES for _, tiles in network.model.asked)


@pytest.mark.parametrize(("tiles", "count"), [(1, 1), (7, 7), (64, 64), (1000, 64), (50_000, 20), (1_000_000, 16)])
def test_block_counts(tiles, count):
    assert block_count(tiles) == count


def test_blocks_are_neighbours_of_like_size():
    places = np.stack(np.meshgrid(np.arange(16), np.arange(8)), axis=-1).reshape(-1, 2)
    blocks = tile_blocks(places, 8)
    assert sorted(np.concatenate(blocks).tolist()) == list(range(128))
    for block in blocks:
        assert len(block) == 16
        assert np.ptp(places[block], axis=0).tolist() == [3, 3]
    assert [len(block) for block in tile_blocks(np.zeros((10, 2)), 3)] in ([3, 4, 3], [4, 3, 3], [3, 3, 4])


def test_a_random_network_has_other_weights_and_the_same_scaling():
    torch.manual_seed(4)
    spec = NetworkSpec("abmil", "corn", 12, 3).complete()
    network = Network(spec).eval()
    network.mean.fill_(0.5)
    state = torch.get_rng_state()
    fresh, again, other = (random_network(spec, network, seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(fresh.mean, network.mean)
    weights = [one.model.embed[0].weight for one in (network, fresh, again, other)]
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[3])
