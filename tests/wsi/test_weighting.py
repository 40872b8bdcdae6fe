"""Weighted sums against whole-number arithmetic: nothing in them may be rounded on the way."""

from fractions import Fraction

import numpy as np
import pytest

from wsi import weighting
from wsi.resample import axis_weights
from wsi.weighting import Axis, Plan


def axis(start: float, length: float, size: int, limit: int) -> Axis:
    return Axis(*axis_weights(start, length, size, limit))


def exact(image: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """The weighted sums in double precision, pixel by pixel."""
    middle = np.einsum("ok,okwc->owc", rows.weight, image[rows.index].astype(np.float64))
    return np.einsum("ok,hokc->hoc", columns.weight, middle[:, columns.index])


IMAGE = np.random.default_rng(2).integers(0, 256, (300, 260, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("length", "size"), [(100.0, 98), (101.3, 56), (250.2, 31), (244.4, 8), (40.0, 71), (33.0, 33), (200.0, 1)]
)
def test_sums_are_right_to_a_tenth_of_a_grey_level(length, size):
    rows, columns = axis(1.37, length, size, 300), axis(2.9, length, size, 260)
    out = np.empty((size, size, 3), np.uint8)
    Plan(rows, columns).apply(IMAGE, out)
    assert np.abs(out - exact(IMAGE, rows, columns)).max() <= 0.6


@pytest.mark.parametrize("value", [0, 1, 254, 255])
@pytest.mark.parametrize(("length", "size"), [(101.3, 99), (101.3, 7), (50.0, 99)])
def test_one_colour_remains_itself(length, size, value):
    image = np.full((300, 260, 3), value, np.uint8)
    out = np.empty((size, size, 3), np.uint8)
    Plan(axis(0.3, length, size, 300), axis(0.7, length, size, 260)).apply(image, out)
    assert (out == value).all()


@pytest.mark.parametrize(("length", "size"), [(101.3, 99), (250.0, 21)])
def test_neither_order_nor_blocks_change_a_bit(length, size, monkeypatch):
    plan = Plan(axis(0.3, length, size, 300), axis(0.7, length, size, 260))
    first = np.empty((size, size, 3), np.uint8)
    plan.apply(IMAGE, first)

    def backwards(weight, inputs, out):
        """Sums taken from the other end and one term at a time, as no BLAS does."""
        out[...] = 0
        for tap in reversed(range(weight.shape[1])):
            out += weight[:, tap, None] * inputs[tap]

    monkeypatch.setattr(weighting, "_multiply", backwards)
    other = np.empty_like(first)
    plan.apply(IMAGE, other)
    np.testing.assert_array_equal(other, first)
    monkeypatch.undo()
    monkeypatch.setattr(weighting, "BLAS_THREADS_FROM", 300)
    plan.apply(IMAGE, other)
    np.testing.assert_array_equal(other, first)


@pytest.mark.parametrize("bits", [12, 16, 20])
def test_weights_are_whole_steps_that_add_up(bits):
    one = axis(0.123, 77.7, 33, 100)
    total = np.zeros(33)
    for block in one.blocks(bits, np.float64, 0):
        assert np.array_equal(block.weight, np.rint(block.weight))
        total[block.start : block.start + len(block.weight)] = block.weight.sum(axis=1)
    assert total.tolist() == [2**bits] * 33
    assert Fraction(int(total[0]), 2**bits) == 1


def test_buffers_serve_any_size_and_any_stride():
    small, large = np.empty((10, 10, 3), np.uint8), np.empty((90, 2, 90, 3), np.uint8)
    rows = axis(0.3, 101.0, 90, 300)
    plan = Plan(rows, axis(0.7, 101.0, 90, 260))
    plan.apply(IMAGE, large[:, 0])
    Plan(axis(0.3, 30.0, 10, 300), axis(0.7, 30.0, 10, 260)).apply(IMAGE, small)
    plan.apply(IMAGE, large[:, 1])
    np.testing.assert_array_equal(large[:, 0], large[:, 1])
