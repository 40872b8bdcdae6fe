import numpy as np
import pytest
from scipy.stats import binomtest

from mil.shares import share_interval, wilson, worth


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (3, 17), (10, 10), (400, 1000)])
def test_wilson_is_that_of_scipy(hits, n):
    expected = binomtest(hits, n).proportion_ci(0.9, method="wilson")
    low, high = wilson(hits / n, n, 0.9)
    np.testing.assert_allclose([low, high], [expected.low, expected.high], atol=1e-12)


def test_worth_by_hand():
    right = np.array([1, 0, 1, 0], dtype=bool)
    assert worth(right) == 4
    assert worth(right, ["a", "b", "c", "d"]) == 4
    assert worth(right, ["a", "b", "a", "b"]) == 2  # slides of a patient agree
    assert worth(right, ["a", "a", "b", "b"]) == 4  # and here they make up for each other
    assert worth(np.ones(4, bool), ["a", "b", "a", "b"]) == 2
    assert worth(np.ones(4, bool), ["a"] * 4) == 1


def test_interval_says_whose_it_is():
    found = share_interval(np.array([True] * 19 + [False]), [f"P{k // 2}" for k in range(20)], 0.9)
    assert (found.estimate, found.level, found.n_groups, found.method) == (0.95, 0.9, 10, "Wilson by patient")
    assert found.low < 0.95 < found.high < 1
    assert np.isnan(share_interval(np.zeros(0, bool)).estimate)


def test_interval_covers_where_patients_have_unequally_many_slides():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(500):
        who = np.repeat(np.arange(80), rng.integers(1, 6, 80))
        found = share_interval((rng.random(80) < 0.85)[who], who)
        held += found.low <= 0.85 <= found.high
    assert 0.92 <= held / 500 <= 0.98
