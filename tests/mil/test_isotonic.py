import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from mil.isotonic import IsotonicCurve, falling, pool_adjacent
from wsi.errors import UsageError


def test_pools_by_hand():
    assert pool_adjacent([1, 2, 3], [1, 1, 1]).tolist() == [1, 2, 3]
    assert pool_adjacent([3, 2, 1], [1, 1, 1]).tolist() == [2, 2, 2]
    assert pool_adjacent([1, 3, 2, 4], [1, 1, 3, 1]).tolist() == [1, 2.25, 2.25, 4]
    assert pool_adjacent([], []).tolist() == []


@pytest.mark.parametrize("decimals", [1, 8])
@pytest.mark.parametrize("seed", range(3))
def test_curve_is_that_of_scikit_learn(decimals, seed):
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(size=200), decimals)  # with ties, and without
    y = (rng.random(200) < 1 / (1 + np.exp(-x))).astype(float)
    asked = np.concatenate([x, rng.normal(size=50) * 3])
    expected = IsotonicRegression(out_of_bounds="clip").fit(x, y).predict(asked)
    np.testing.assert_allclose(IsotonicCurve().fit(x, y)(asked), expected, atol=1e-12)


def test_order_of_points_does_not_matter():
    rng = np.random.default_rng(1)
    x, y, other = rng.integers(0, 9, 60), rng.random(60), rng.permutation(60)
    np.testing.assert_allclose(IsotonicCurve().fit(x, y).y_, IsotonicCurve().fit(x[other], y[other]).y_, atol=1e-14)


@pytest.mark.parametrize("x", [[], [0.0, np.nan]])
def test_no_points_and_nan_are_refused(x):
    with pytest.raises(UsageError, match="needs finite points"):
        IsotonicCurve().fit(np.array(x), np.zeros(len(x)))


def test_falling_rows_are_those_of_scikit_learn():
    rows = np.random.default_rng(2).random((5, 40, 4))
    regression = IsotonicRegression(increasing=False)
    expected = [[regression.fit_transform(np.arange(4), row) for row in block] for block in rows]
    np.testing.assert_allclose(falling(rows), expected, atol=1e-12)


def test_rows_in_order_keep_their_bits():
    rows = -np.sort(-np.random.default_rng(3).random((100, 5)), axis=1)
    np.testing.assert_array_equal(falling(rows), rows)
    assert falling(np.array([[0.3]])).tolist() == [[0.3]]
