import numpy as np
import pytest
import torch

from mil.bag import BagSubset
from mil.packing import Packing
from mil.sampling import BagsAtSites
from mil.testing import toy_bag
from wsi.errors import UsageError


def epoch(packing, bags, seed=0, number=0):
    return list(packing.epoch(bags, np.arange(len(bags)), seed, number))


def test_packing_keeps_its_budgets_and_loses_no_bag():
    bags = [toy_bag(tiles, seed=tiles) for tiles in (50, 10, 100, 300, 20, 30, 5)]
    batches = epoch(Packing(slides=3, tiles=120, bag_tiles=1000), bags)
    for batch in batches:
        assert len(batch) == 1 or (len(batch) <= 3 and len(batch.features) <= 120)
    assert sorted(torch.cat([batch.targets for batch in batches]).tolist()) == list(range(7))


def test_tiles_drawn_are_seeded_by_slide_and_not_by_its_neighbours():
    bags = [toy_bag(40, seed=n, name=f"S{n}") for n in range(4)]
    packing = Packing(slides=1, tile_dropout=0.5)

    def drawn(bags, seed, number):
        return {int(batch.targets): batch.features.numpy().tobytes() for batch in epoch(packing, bags, seed, number)}

    first = drawn(bags, 0, 0)
    assert first == drawn(bags, 0, 0)
    assert first[0] == drawn(bags[:2], 0, 0)[0]
    assert first[0] != drawn(bags, 0, 1)[0]
    assert first[0] != drawn(bags, 1, 0)[0]


def test_tile_dropout_and_cap():
    def sizes(packing, tiles):
        return [len(batch.features) for batch in epoch(packing, [toy_bag(tiles)])]

    assert sizes(Packing(tile_dropout=0.25), 40) == [30]
    assert sizes(Packing(tile_dropout=0.9), 1) == [1]
    assert sizes(Packing(bag_tiles=64), 1000) == [64]
    kept = epoch(Packing(tile_dropout=0.5), [toy_bag(40)])[0].features.numpy()
    everything = {row.tobytes() for row in toy_bag(40).features}
    assert len({row.tobytes() for row in kept} & everything) == 20


def rare(slides=20, rare=4):
    """Bags of two classes, the second rare; the first feature is the number of the slide."""
    bags = []
    for n in range(slides):
        bag = toy_bag(10 + n, seed=n, name=f"S{n}")
        bag.features[:, 0] = n
        bags.append(bag)
    return bags, (np.arange(slides) >= slides - rare).astype(np.int64)


def bags_of(batch):
    return [batch.features[a:b].numpy() for a, b in zip(batch.offsets[:-1], batch.offsets[1:], strict=True)]


def test_an_epoch_as_it_was_before_there_was_balance():
    """The order is the seeded permutation, so that models trained before are trained alike."""
    bags, targets = rare()
    order = [int(one[0, 0]) for batch in Packing().epoch(bags, targets, 5, 2) for one in bags_of(batch)]
    assert order == np.random.default_rng([5, 2]).permutation(20).tolist()


def test_balanced_classes_come_equally_often_with_other_tiles_each_time():
    bags, targets = rare()
    batches = list(Packing(class_balance=1.0, tile_dropout=0.5).epoch(bags, targets, 0, 0))
    assert torch.cat([batch.targets for batch in batches]).bincount().tolist() == [10, 10]
    seen = [one for batch in batches for one in bags_of(batch) if one[0, 0] >= 16]
    assert len(seen) == 10
    assert len({one.tobytes() for one in seen}) == 10


def test_sites_balance_through_a_subset():
    bags, targets = rare()
    sited = BagSubset(BagsAtSites(bags, ["A"] * 14 + ["B"] * 6), range(20))
    order = [
        int(one[0, 0]) for batch in Packing(site_balance=1.0).epoch(sited, targets, 0, 0) for one in bags_of(batch)
    ]
    found = np.array(order)
    assert (found < 14).sum() == 8
    assert ((found >= 14) & (found < 16)).sum() == 8
    assert (found >= 16).sum() == 4


def test_mixed_bags_keep_their_tiles_and_take_some_of_their_class():
    bags, targets = rare()
    packing = Packing(mixing=1.0)
    mixed = [one for batch in packing.epoch(bags, targets, 0, 0) for one in bags_of(batch)]
    for one in mixed:
        own = int(one[0, 0])
        np.testing.assert_array_equal(one[: 10 + own], bags[own].features)
        others = set(one[10 + own :, 0].astype(int))
        assert len(others) == 1
        assert others != {own}
        assert targets[others.pop()] == targets[own]
    assert len({len(one) - 10 - int(one[0, 0]) for one in mixed}) > 5
    again = [one for batch in packing.epoch(bags, targets, 0, 0) for one in bags_of(batch)]
    assert all(np.array_equal(one, two) for one, two in zip(mixed, again, strict=True))
    some = [one for batch in Packing(mixing=0.3).epoch(bags, targets, 0, 0) for one in bags_of(batch)]
    assert 0 < sum(len(one) > 10 + one[0, 0] for one in some) < 20


def test_a_bag_alone_in_its_class_stays_as_it_is():
    bags, targets = rare(rare=1)
    for packing in (Packing(mixing=1.0), Packing(class_balance=1.0, smote=True)):
        found = [one for batch in packing.epoch(bags, targets, 0, 0) for one in bags_of(batch) if one[0, 0] == 19]
        assert found
        assert all(np.array_equal(one, bags[19].features) for one in found)


def test_smote_makes_new_bags_only_of_those_that_come_again():
    bags, targets = rare()
    packing = Packing(class_balance=1.0, smote=True)
    found = [one for batch in packing.epoch(bags, targets, 0, 0) for one in bags_of(batch)]
    plain = {bag.features.tobytes() for bag in bags}
    made = [one for one in found if one.tobytes() not in plain]
    assert len(made) == 6  # ten of the rare class, of which there are four
    for one in made:
        own = len(one) - 10
        assert targets[own] == 1
        moved = one[:, 0] - own  # towards another slide of the class, all by the same share
        assert np.ptp(moved) < 1e-5
        assert 0 < abs(moved[0]) < 3


def test_budgets_hold_for_mixed_bags():
    bags = [toy_bag(60, seed=n, name=f"S{n}") for n in range(12)]
    packing = Packing(slides=4, tiles=200, bag_tiles=50, mixing=1.0)
    batches = list(packing.epoch(bags, np.zeros(12, np.int64), 0, 0))
    for batch in batches:
        assert len(batch) <= 4
        assert batch.tiles <= 200
        assert batch.offsets.diff().max() <= 100
    assert sum(map(len, batches)) == 12


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mixing": 1.5}, "mixing is 1.5; it lies between 0 and 1"),
        ({"class_balance": -1}, "class_balance is -1"),
        ({"smote": True}, "smote makes bags in place of those that balance repeats"),
    ],
)
def test_options_that_cannot_be_are_refused(options, said):
    with pytest.raises(UsageError, match=said):
        Packing(**options)


def test_balance_and_mixing_need_classes():
    bags, _ = rare()
    for packing, said in ((Packing(mixing=0.5), "mixing"), (Packing(class_balance=1), "balance")):
        with pytest.raises(UsageError, match=f"{said} needs the class of each bag"):
            next(packing.epoch(bags, np.zeros((20, 2), np.float32), 0, 0))
