from collections import Counter

import numpy as np
import pytest

from mil.bag import BagSubset
from mil.sampling import BagsAtSites, balanced_order, check_classes, sites_of
from mil.testing import toy_bag
from wsi.errors import UsageError

CLASSES = np.repeat([0, 1, 2], [90, 9, 1])


def taken(classes, sites=None, class_balance=0.0, site_balance=0.0, seed=0):
    order = balanced_order(classes, sites, class_balance, site_balance, np.random.default_rng(seed))
    assert len(order) == len(classes)
    return order


def test_classes_come_equally_often_or_by_the_root_of_their_counts():
    even = np.bincount(CLASSES[taken(CLASSES, class_balance=1.0)])
    assert sorted(even) == [33, 33, 34]
    # Square roots 9.49 : 3 : 1 of 100.
    rooted = np.bincount(CLASSES[taken(CLASSES, class_balance=0.5)])
    np.testing.assert_allclose(rooted, 100 * np.sqrt([90, 9, 1]) / np.sqrt([90, 9, 1]).sum(), atol=1)


def test_without_balance_every_bag_comes_once():
    assert sorted(taken(CLASSES)) == list(range(100))
    sites = [str(number % 7) for number in range(100)]
    assert sorted(taken(CLASSES, sites)) == list(range(100))


def test_within_a_class_no_bag_comes_twice_before_all_have_come():
    for seed in range(20):
        counts = Counter(taken(CLASSES, class_balance=1.0, seed=seed).tolist())
        assert {counts[number] for number in range(90)} == {0, 1}
        assert {counts[number] for number in range(90, 99)} <= {3, 4}


def test_over_epochs_every_bag_of_a_class_comes_alike():
    counts = np.zeros(100)
    for seed in range(600):
        np.add.at(counts, taken(CLASSES, class_balance=1.0, seed=seed), 1)
    expected = 600 * np.repeat([100 / 3 / 90, 100 / 3 / 9, 100 / 3], [90, 9, 1])
    # A bag of the first class is a draw of 0.37 an epoch: a standard deviation of 12 in 600.
    np.testing.assert_allclose(counts, expected, atol=5 * 12)
    assert abs(counts[:90].sum() - expected[:90].sum()) < 300


def test_sites_come_equally_often_within_each_class_and_classes_stay():
    classes = np.repeat([0, 1], [60, 40])
    sites = ["A"] * 50 + ["B"] * 10 + ["A"] * 4 + ["B"] * 36
    order = taken(classes, sites, site_balance=1.0)
    found = Counter(zip(classes[order].tolist(), np.array(sites)[order].tolist(), strict=True))
    assert found == {(0, "A"): 30, (0, "B"): 30, (1, "A"): 20, (1, "B"): 20}
    both = taken(classes, sites, class_balance=1.0, site_balance=1.0)
    assert set(Counter(zip(classes[both].tolist(), np.array(sites)[both].tolist(), strict=True)).values()) == {25}


def test_a_site_without_a_class_takes_nothing_from_the_others():
    classes, sites = np.repeat([0, 1], [30, 10]), ["A"] * 20 + ["B"] * 10 + ["A"] * 10
    order = taken(classes, sites, site_balance=1.0)
    found = Counter(zip(classes[order].tolist(), np.array(sites)[order].tolist(), strict=True))
    assert found == {(0, "A"): 15, (0, "B"): 15, (1, "A"): 10}


def test_sites_are_those_of_the_subset():
    bags = BagsAtSites([toy_bag(5, seed=n, name=f"S{n}") for n in range(4)], ["A", "B", "", "A"])
    assert sites_of(BagSubset(BagSubset(bags, [3, 2, 1]), [0, 2])) == ("A", "B")
    assert sites_of(BagSubset([toy_bag(5)], [0])) is None
    assert bags[2].slide_id == "S2"
    assert len(bags.draw(1, lambda slide_id, tiles: np.arange(2))) == 2
    with pytest.raises(UsageError, match="4 bags have 1 sites"):
        BagsAtSites(bags, ["A"])


def test_what_is_missing_is_said():
    with pytest.raises(UsageError, match="site_balance needs the site of each bag"):
        taken(CLASSES, site_balance=0.5)
    with pytest.raises(UsageError, match=r"mixing needs the class of each bag; found targets \(3, 2\) of float32"):
        check_classes(np.zeros((3, 2), np.float32), "mixing")
