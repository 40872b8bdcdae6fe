import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as oracle

from mil import regression_metrics as metrics

EXACT = {"rtol": 1e-12, "atol": 1e-12}


@pytest.mark.parametrize("decimals", [0, 8])
@pytest.mark.parametrize("seed", range(3))
def test_against_scikit_learn_and_scipy(decimals: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = np.round(rng.normal(3, 2, 80), decimals)
    k = np.round(y + rng.normal(size=80), decimals)
    np.testing.assert_allclose(metrics.mean_absolute_error(y, k), oracle.mean_absolute_error(y, k), **EXACT)
    np.testing.assert_allclose(metrics.root_mean_squared_error(y, k), oracle.root_mean_squared_error(y, k), **EXACT)
    np.testing.assert_allclose(metrics.r_squared(y, k), oracle.r2_score(y, k), **EXACT)
    np.testing.assert_allclose(metrics.pearson(y, k), stats.pearsonr(y, k).statistic, **EXACT)
    np.testing.assert_allclose(metrics.spearman(y, k), stats.spearmanr(y, k).statistic, **EXACT)


def test_by_hand() -> None:
    y, k = [1.0, 2.0, 6.0], [2.0, 2.0, 3.0]  # errors 1, 0, 3; mean 3, squares around it 4 + 1 + 9
    assert metrics.mean_absolute_error(y, k) == pytest.approx(4 / 3)
    assert metrics.root_mean_squared_error(y, k) == pytest.approx((10 / 3) ** 0.5)
    assert metrics.r_squared(y, k) == pytest.approx(1 - 10 / 14)


def test_worse_than_the_mean_is_below_zero() -> None:
    assert metrics.r_squared([0.0, 1.0], [1.0, 0.0]) == -3


def test_a_missing_target_is_left_out() -> None:
    y, k = np.array([1.0, np.nan, 2.0, 4.0]), np.array([1.5, 9.0, 2.0, 3.0])
    known = ~np.isnan(y)
    for name in ("mean_absolute_error", "root_mean_squared_error", "r_squared", "pearson", "spearman"):
        metric = getattr(metrics, name)
        assert metric(y, k) == metric(y[known], k[known])


@pytest.mark.parametrize("name", ["pearson", "spearman", "r_squared"])
@pytest.mark.parametrize(("y", "k"), [([], []), ([1.0], [2.0]), ([2.0, 2.0], [1.0, 3.0])])
def test_not_defined_is_nan(name: str, y: list[float], k: list[float]) -> None:
    assert np.isnan(getattr(metrics, name)(y, k))


def test_a_constant_prediction_has_no_correlation() -> None:
    assert np.isnan(metrics.pearson([1.0, 2.0, 3.0], [5.0, 5.0, 5.0]))
    assert np.isnan(metrics.mean_absolute_error([np.nan], [1.0]))
