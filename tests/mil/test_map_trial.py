"""Maps of a planted model on made-up slides: the true ones are found, random weights are not, long slides are drawn."""

import numpy as np
import pytest
import torch

from mil.bag import Bag, pack
from mil.map_choice import report_maps
from mil.map_names import MAPS
from mil.map_trial import finding_score, sampled, try_maps
from mil.network import Network, NetworkSpec
from mil.testing import toy_bag

SPEC = NetworkSpec("abmil", "cross_entropy", 12, 2, {"hidden": 16, "attention_dim": 8}).complete()


@pytest.fixture(scope="module")
def network():
    """Trained for a moment to tell slides with a few tiles of signal from slides without."""
    torch.manual_seed(0)
    network = Network(SPEC)
    bags = [toy_bag(30, seed=k, signal=4.0 * (k % 2)) for k in range(24)]
    batch = pack(bags, np.arange(24) % 2)
    loss, step = SPEC.build_class_loss(), torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(60):
        step.zero_grad()
        network.objective(batch, loss).backward()
        step.step()
    return network.eval()


def trials(network, **options):
    return [
        try_maps(network, SPEC, toy_bag(30, seed=100 + k, signal=4.0), patient_id=f"P{k}", fold=k % 3, **options)
        for k in range(10)
    ]


def marked(rows, scores):
    """AUROC by counting pairs; the first tenth of the tiles has the signal."""
    truth = rows < 3
    return float(np.mean([(a > b) + 0.5 * (a == b) for a in scores[truth] for b in scores[~truth]]))


def test_maps_of_a_trained_network_are_found_faithful_and_those_of_random_weights_not(network):
    found = report_maps(trials(network, repeats=4, agreement=marked))
    assert found.chosen is not None
    for name in ("attention", "evidence", "contribution", "gradient"):
        one = found.figures[name]
        assert one.gain.low > 0.1, name
        assert one.may_be_shown, name
        assert one.control_failed, name
        assert one.agreement.estimate > 0.8, name
        assert abs(one.control_gain.estimate) < one.gain.estimate / 2, name
    assert found.figures[found.chosen].deletion.estimate <= found.figures["attention"].deletion.estimate
    assert found.random.estimate > found.figures["attention"].deletion.high


def test_a_slide_is_drawn_and_tried_the_same_whatever_others_there_are(network):
    bag = toy_bag(200, signal=4.0)
    first, again = (
        try_maps(network, SPEC, bag, patient_id="P", fold=0, repeats=2, most_tiles=50, names=("attention",))
        for _ in range(2)
    )
    assert first.tiles == 50
    np.testing.assert_array_equal(first.maps["attention"].deletion.score, again.maps["attention"].deletion.score)
    assert first.agreement == {}
    drawn = sampled(bag, 50, 1)
    assert len(set(drawn.rows.tolist())) == 50
    assert (np.diff(drawn.rows) > 0).all()
    assert sampled(bag, 200, 1) is bag


@pytest.mark.parametrize("tiles", [1, 2, 3])
def test_tiny_slides(network, tiles):
    found = try_maps(network, SPEC, toy_bag(tiles), patient_id="P", fold=0, repeats=2)
    assert set(found.maps) == set(MAPS)
    assert np.isnan(found.stability["attention"]) == (tiles < 3)
    assert all(np.isfinite(value) for value in found.limit.values())


def test_a_finding_is_what_speaks_against_the_first_class():
    signed = np.array([[-2.0, 0.5, 1.5], [3.0, -1.0, -2.0]])
    assert finding_score("gradient", signed).tolist() == [2.0, -3.0]
    assert finding_score("evidence", np.array([[0.2, 0.3, 0.5]])).tolist() == pytest.approx([1.3])
    assert finding_score("attention", np.array([[4.0, 4.0]])).tolist() == [4.0]


def test_slides_without_places_are_tried_as_well(network):
    bag = toy_bag(20, signal=4.0)
    lost = Bag("lost", bag.features, np.full((20, 2), np.nan, np.float32), bag.rows)
    found = try_maps(network, SPEC, lost, patient_id="P", fold=0, repeats=2)
    assert np.isfinite(found.maps["left_out"].deletion.area)
