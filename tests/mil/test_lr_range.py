import numpy as np
import pytest

from mil.lr_range import STEPS, LrRange, has_exploded, ramp


def test_ramp_is_geometric():
    rates = [ramp(step) for step in range(STEPS)]
    assert rates[0] == pytest.approx(1e-6)
    assert rates[-1] == pytest.approx(1.0)
    np.testing.assert_allclose(np.diff(np.log(rates)), np.log(1e6) / (STEPS - 1), rtol=1e-9)


def test_a_tenth_of_where_the_loss_turns():
    """A parabola in log(lr) around 1e-2 with noise: the running mean lags by less than a third of a decade."""
    rates = np.log10([ramp(step) for step in range(STEPS)])
    noise = 0.02 * np.random.default_rng(0).normal(size=STEPS)
    found = LrRange(tuple(0.3 + (rates + 2) ** 2 / 10 + noise)).chosen()
    assert -3.1 < np.log10(found) < -2.5


def test_smoothing_leaves_a_level_alone():
    np.testing.assert_allclose(LrRange((0.7,) * 30).smoothed(), 0.7)


def test_when_the_ramp_is_left():
    assert not has_exploded([1.0, 0.9, 0.8])
    assert has_exploded([1.0, float("nan")])
    assert has_exploded([1.0, 1.0, 1.0, 1e6])
