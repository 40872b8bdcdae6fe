import numpy as np
import pytest
from scipy import stats

from mil.resampling import group_numbers, resamples, swaps, t_quantile

GROUPS = np.array(["b", "a", "b", "c", "a", "b"])


def test_groups_are_drawn_whole() -> None:
    for rows in resamples(GROUPS, 50, 0):
        count = np.bincount(rows, minlength=6)
        assert np.ptp(count[[0, 2, 5]]) == 0
        assert count[1] == count[4]
        assert count[0] + count[1] + count[3] == 3  # three groups each time


def test_each_group_is_drawn_as_often() -> None:
    total = sum(np.bincount(rows, minlength=6) for rows in resamples(GROUPS, 3000, 1))
    np.testing.assert_allclose(total / 3000, 1, atol=0.06)


def test_the_seed_decides_and_the_order_of_rows_does_not() -> None:
    first = [GROUPS[rows].tolist() for rows in resamples(GROUPS, 5, 3)]
    mixed = GROUPS[[5, 3, 1, 0, 4, 2]]
    assert first == [mixed[rows].tolist() for rows in resamples(mixed, 5, 3)]
    assert first != [GROUPS[rows].tolist() for rows in resamples(GROUPS, 5, 4)]


def test_few_groups_are_swapped_in_every_way() -> None:
    count, every, masks = swaps(GROUPS, 8, 0)
    ways = {tuple(mask.tolist()) for mask in masks}
    assert (count, every, len(ways)) == (8, True, 8)
    group = group_numbers(GROUPS)
    assert all(len(set(np.array(way)[group == g])) == 1 for way in ways for g in range(3))


def test_many_groups_are_swapped_at_random() -> None:
    count, every, masks = swaps(np.arange(100), 500, 0)
    drawn = np.array(list(masks))
    assert (count, every, drawn.shape) == (500, False, (500, 100))
    assert abs(drawn.mean() - 0.5) < 0.01


@pytest.mark.parametrize("share", [0.9, 0.95, 0.975, 0.995])
@pytest.mark.parametrize("freedom", [4, 5, 10, 40, 1000])
def test_students_t_against_scipy(share: float, freedom: int) -> None:
    assert t_quantile(share, freedom) == pytest.approx(stats.t.ppf(share, freedom), rel=0.01)
