import numpy as np
import pytest
import torch

from mil.early_stopping import BestWeights, Watched, logits_of, parted, set_apart
from mil.network import Network, NetworkSpec, predict
from mil.selection import Standing
from mil.testing import toy_bag
from wsi.errors import UsageError

SPEC = NetworkSpec("abmil", "corn", 12, 3)
BAGS = [toy_bag(5 + number, seed=number) for number in range(20)]
TARGETS = np.arange(20) % 3


def test_best_epoch_is_put_back_and_patience_counts_from_it():
    network = Network(SPEC)
    best = BestWeights(patience=2)
    for epoch, metric in enumerate((0.1, 0.5, 0.4, 0.5)):
        network.mean.fill_(float(epoch))
        assert not best.is_time
        best.see(epoch, Standing(metric, -1.0), network)
    assert best.is_time
    assert best.epoch == 1, "of equals the earlier one stays"
    best.put_back(network)
    assert network.mean[0] == 1


def test_state_of_the_best_goes_through_a_checkpoint():
    network = Network(SPEC)
    first, second = BestWeights(3), BestWeights(3)
    network.mean.fill_(7.0)
    first.see(0, Standing(0.5, -1.0), network)
    second.restore(first.state())
    network.mean.fill_(8.0)
    second.see(1, Standing(0.5, -2.0), network)
    second.put_back(network)
    assert (second.epoch, float(network.mean[0])) == (0, 7.0)


def test_set_apart_by_patient_with_labels_in_like_shares():
    patients = [f"p{number // 2}" for number in range(40)]
    targets = np.arange(40) // 2 % 2
    seen, watched = set_apart([None] * 40, targets, patients, 0.2, seed=1)
    assert sorted([*seen, *watched]) == list(range(40))
    assert len(watched) == 8
    assert targets[watched].mean() == 0.5
    assert not {patients[row] for row in seen} & {patients[row] for row in watched}
    again, other = (set_apart([None] * 40, targets, patients, 0.2, seed)[1] for seed in (1, 2))
    assert np.array_equal(watched, again)
    assert not np.array_equal(watched, other)


def test_few_patients():
    seen, watched = set_apart([None] * 3, np.array([0, 1, 0]), ["a", "b", "b"], 0.2, seed=0)
    assert len(seen) + len(watched) == 3
    assert len(watched) > 0 < len(seen)
    with pytest.raises(UsageError, match="3 slides of one patient cannot be parted"):
        set_apart([None] * 3, np.array([0, 1, 0]), ["a"] * 3, 0.2, seed=0)


def test_parts_hold_what_they_should():
    bags, targets, _ = parted(BAGS, TARGETS, [str(n) for n in range(20)], 0.25, 0, "grade")
    assert len(bags) == len(targets) == 15
    names = {bag.slide_id: target for bag, target in zip(BAGS, TARGETS, strict=True)}
    assert all(names[bags[number].slide_id] == targets[number] for number in range(15))


def test_watching_changes_nothing_in_a_training():
    torch.manual_seed(0)
    network = Network(SPEC).train()
    state = torch.get_rng_state()
    Watched(BAGS, TARGETS, "grade").standing(network, SPEC.build_loss())
    assert network.training
    assert torch.equal(torch.get_rng_state(), state)


def test_logits_are_those_of_predict():
    network = Network(SPEC).eval()
    expected = np.stack([predict(network, bag)[0] for bag in BAGS])
    np.testing.assert_allclose(logits_of(network, BAGS), expected, rtol=1e-6)
