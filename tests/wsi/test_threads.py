"""Many things on some threads: in order, few in memory, errors in their place."""

import threading
from collections.abc import Iterator

import pytest

from wsi.threads import WAITING_A_THREAD, in_order


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    assert list(in_order(lambda number: number * number, range(200), threads)) == [n * n for n in range(200)]
    assert list(in_order(abs, [], threads)) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_is_raised_in_its_place(threads: int) -> None:
    found = in_order(lambda number: 6 // number, [1, 2, 0, 3], threads)
    assert [next(found), next(found)] == [6, 3]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_several_work_at_once() -> None:
    both = threading.Barrier(2, timeout=30)
    assert sorted(in_order(lambda _: both.wait(), range(4), 2)) == [0, 0, 1, 1]


def test_few_are_taken_ahead_of_the_one_that_is_awaited() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    found = in_order(str, items(), 3)
    next(found)
    assert len(taken) <= 3 * WAITING_A_THREAD + 1
    assert len(list(found)) == 999
