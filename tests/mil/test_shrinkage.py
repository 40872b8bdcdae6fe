"""Against scikit-learn's Ledoit-Wolf, and against rows that are really left out."""

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from mil.shrinkage import distances_left_out, shrinkage

SHAPES = [(40, 5), (12, 60), (3, 20)]


def rows_of(shape: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(shape[0])
    return rng.normal(size=shape) * rng.uniform(0.2, 3, shape[1]) + 5


@pytest.mark.parametrize("shape", SHAPES)
def test_the_weight_is_that_of_ledoit_and_wolf(shape: tuple[int, int]) -> None:
    rows = rows_of(shape)
    centred = rows - rows.mean(axis=0)
    weight, mu = shrinkage(centred @ centred.T, shape[1])
    assert weight == pytest.approx(ledoit_wolf(rows)[1], abs=1e-10)
    assert mu == pytest.approx(rows.var(axis=0).mean())


@pytest.mark.parametrize("shape", SHAPES)
def test_distances_are_those_by_a_covariance_without_the_row(shape: tuple[int, int]) -> None:
    rows = rows_of(shape)
    centred = rows - rows.mean(axis=0)
    weight, mu = ledoit_wolf(rows)[1], rows.var(axis=0).mean()
    expected = []
    for k in range(len(rows)):
        others = np.delete(centred, k, axis=0)
        covariance = (1 - weight) * others.T @ others / len(rows) + weight * mu * np.eye(shape[1])
        expected.append(np.sqrt(centred[k] @ np.linalg.solve(covariance, centred[k])))
    np.testing.assert_allclose(distances_left_out(rows), expected, rtol=1e-8)


def test_the_order_of_rows_changes_nothing() -> None:
    rows, order = rows_of((30, 50)), np.random.default_rng(1).permutation(30)
    np.testing.assert_allclose(distances_left_out(rows[order]), distances_left_out(rows)[order], rtol=1e-9)


def test_equal_rows_and_single_rows_have_no_distance() -> None:
    assert not distances_left_out(np.ones((6, 4))).any()
    assert not distances_left_out(np.ones((1, 4))).any()


def test_one_row_that_lies_apart_is_the_farthest_also_where_columns_outnumber_rows() -> None:
    rows = rows_of((20, 400))
    rows[7] += 3 * rows.std(axis=0)
    found = distances_left_out(rows)
    assert found.argmax() == 7
    assert found[7] > 1.5 * np.sort(found)[-2]
