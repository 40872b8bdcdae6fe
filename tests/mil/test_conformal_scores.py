import numpy as np
import pytest

from mil.conformal_scores import SCORES, aps, growing_order, lac, ordinal, slide_uniforms

P = np.array([0.1, 0.4, 0.2, 0.3])
HALF = np.array(0.5)


def test_scores_by_hand():
    np.testing.assert_allclose(lac(P, HALF), [0.9, 0.6, 0.8, 0.7])
    np.testing.assert_allclose(aps(P, HALF), [0.95, 0.2, 0.8, 0.55])  # 1, 3, 2, 0
    np.testing.assert_allclose(ordinal(P, HALF), [0.95, 0.2, 0.5, 0.75])  # 1, 2, 3, 0: 3 waits for 2


@pytest.mark.parametrize("name", SCORES)
def test_rows_do_not_depend_on_each_other(name):
    p = np.random.default_rng(0).dirichlet(np.ones(5), (6, 3))
    u = np.random.default_rng(1).random((6, 3))
    every = SCORES[name](p, u)
    assert every.shape == (6, 3, 5)
    for row in np.ndindex(6, 3):
        np.testing.assert_array_equal(SCORES[name](p[row], u[row]), every[row])


def test_beginnings_of_the_order_are_intervals_towards_the_more_probable_side():
    p = np.random.default_rng(2).dirichlet(np.ones(6) / 2, 200)
    for row, order in zip(p, growing_order(p), strict=True):
        low = high = int(row.argmax())
        for grade in order[1:]:  # grown one by one, without arrays
            left = row[low - 1] if low else -1
            right = row[high + 1] if high < 5 else -1
            low, high = (low - 1, high) if left >= right else (low, high + 1)
            assert grade == (low if left >= right else high)
        assert (low, high) == (0, 5)


def test_ties_and_certainty():
    assert growing_order(np.array([0.25] * 4)).tolist() == [0, 1, 2, 3]
    assert growing_order(np.array([0.2, 0.2, 0.4, 0.2])).tolist() == [2, 1, 0, 3]
    assert growing_order(np.array([0.0, 0.0, 1.0])).tolist() == [2, 1, 0]
    np.testing.assert_allclose(aps(np.array([0.0, 1.0]), np.array(0.3)), [1, 0.3])


def test_uniforms_are_of_the_slide_and_the_seed():
    names = [f"slide-{k}" for k in range(4000)]
    found = slide_uniforms(names, 3)
    np.testing.assert_array_equal(slide_uniforms(names[::-1], 3), found[::-1])
    assert (slide_uniforms(names, 4) != found).all()
    assert (found >= 0).all()
    assert (found < 1).all()
    # Even over ten boxes: chi-square with 9 degrees of freedom is below 27.9 with probability .999.
    count = np.histogram(found, np.linspace(0, 1, 11))[0]
    assert ((count - 400) ** 2 / 400).sum() < 27.9
