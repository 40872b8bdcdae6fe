import numpy as np
import pytest

from mil.bootstrap import Interval
from mil.reliability import reliability
from workflows.drawings import Row, forest, nice_ticks, number_text, p_text, reliability_curve


def between(estimate, low, high):
    return Interval(estimate, low, high, 0.95, 30, "made up")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.51, 0.98, [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-0.07, 0.62, [-0.2, 0.0, 0.2, 0.4, 0.6, 0.8]),
        (3.0, 41.0, [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert nice_ticks(low, high) == expected


@pytest.mark.parametrize("seed", range(30))
def test_ticks_hold_what_they_are_for(seed):
    low, width = np.random.default_rng(seed).normal(size=2) * 10.0 ** np.random.default_rng(seed).integers(-3, 4)
    ticks = nice_ticks(low, low + abs(width))
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= low + abs(width) - 1e-9
    assert 2 <= len(ticks) <= 6
    assert len(nice_ticks(low, low)) >= 2


def test_places_of_a_forest():
    drawn = forest([Row("A", between(0.75, 0.6, 0.9)), Row("B", between(0.5, 0.5, 1.0), "worse")], [(0.5, "zero")])
    first, second = drawn["rows"]
    assert (first["x0"], first["x"], first["x1"]) == (20.0, 50.0, 80.0)
    assert (second["value"], second["reach"], second["note"]) == ("0.500", "0.500 – 1.000", "worse")
    assert drawn["axis"]["lines"] == [(0.0, "zero")]
    assert drawn["axis"]["level"] == "95 %"


def test_what_is_not_known_is_not_drawn():
    nothing = float("nan")
    (row,) = forest([Row("A", between(0.7, nothing, nothing))])["rows"]
    assert not row["drawn"]
    assert row["reach"] == "not known"
    assert forest([])["rows"] == []


def test_reliability_is_drawn_from_the_lower_left():
    found = reliability(np.array([0.25] * 8), np.array([1, 0] * 4, dtype=bool), bins=1)
    curve = reliability_curve(found, "said", "seen")
    assert (curve["points"][0]["x"], curve["points"][0]["y"]) == (80.0, 160.0)
    assert curve["points"][0]["low"] > 160 > curve["points"][0]["high"]
    assert curve["points"][0]["text"].startswith("0.25 said, 0.50 seen")


def test_figures_for_people():
    assert number_text(-0.0514) == "\u22120.051"
    assert number_text(None) == number_text(float("nan")) == "not defined"
    assert [p_text(p) for p in (0.0004, 0.0123, 0.456, float("nan"))] == ["<0.001", "0.012", "0.46", "not tested"]
