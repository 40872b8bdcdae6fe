"""Places, lengths and colours are derived on paper from the small graded slide of conftest."""

import re
from dataclasses import replace

import numpy as np
import pytest
from shapely import MultiPolygon, Polygon

from workflows.figures import legend, length_text, outline_path, probability_bars, slide_drawing, spread
from workflows.results import GradedSlide
from wsi.scales import attention_scale, evidence_scale


def test_marks_are_counted_from_the_corner_of_the_bounds(graded: GradedSlide) -> None:
    drawing = slide_drawing(graded)
    assert (drawing.width, drawing.height) == (160, 120)
    assert [(mark.number, mark.x, mark.y, mark.w, mark.h) for mark in drawing.markers] == [
        (1, 40, 0, 40, 40),  # (140, 50) from (100, 50)
        (2, 0, 0, 40, 40),
    ]
    assert drawing.bad == "M80 40h40.0v40.0h-40.0z"  # (180, 90)
    assert (drawing.bar_label, drawing.bar_percent) == ("20 µm", 25.0)  # 160 px0 are 80 um, a quarter is 20


def test_the_outline_has_its_holes(graded: GradedSlide) -> None:
    ring = Polygon([(110, 60), (210, 60), (210, 160), (110, 160)], [[(150, 100), (170, 100), (170, 120), (150, 120)]])
    path = outline_path(replace(graded, tissue=MultiPolygon([ring])), 0.1)
    numbers = [[int(n) for n in re.findall(r"-?\d+", part)] for part in path.split("M")[1:]]
    assert path.count("z") == 2
    assert sorted(zip(numbers[0][::2], numbers[0][1::2], strict=True)) == [(10, 10), (10, 110), (110, 10), (110, 110)]
    assert min(numbers[1][::2]) == 50


def test_a_slide_without_tiles_or_tissue_can_be_drawn(graded: GradedSlide) -> None:
    bare = slide_drawing(replace(graded, top_tiles=(), bad=(), tissue=MultiPolygon()))
    assert (bare.outline, bare.bad, bare.markers) == ("", "", ())


def test_numbers_stand_off_their_tiles_and_each_other() -> None:
    points = np.array([[50.0, 50], [52, 50], [50, 52], [50, 50], [90, 60]])
    placed = spread(points, 6, 8, (5, 5, 95, 95))
    apart = np.hypot(*(placed[:, None] - placed[None]).transpose(2, 0, 1)) + 1e9 * np.eye(5)
    assert apart.min() > 5.5
    assert np.hypot(*(placed[:, None] - points[None]).transpose(2, 0, 1)).min() > 7.3
    assert placed.min() >= 5
    assert placed.max() <= 95
    np.testing.assert_array_equal(spread(points, 6, 8, (5, 5, 95, 95)), placed)
    assert np.hypot(*(spread(points[:1], 6, 8, (0, 0, 100, 100)) - points[:1]).T) == pytest.approx(8)


def test_a_legend_says_where_values_are_cut() -> None:
    shown = legend(attention_scale())
    assert [text for _, text in shown.ticks] == ["≤ 0.1", "0.3", "1", "3", "≥ 10"]
    assert [at for at, _ in shown.ticks][::2] == pytest.approx([0, 50, 100])
    assert shown.gradient.startswith("linear-gradient(to right, rgb(68 1 84 / 0.149) 0.0%")
    assert [text for _, text in legend(evidence_scale("x", "probability")).ticks][-1] == "1"


def test_bars() -> None:
    bars = probability_bars(("a", "b"), (0.25, 0.75), "b")
    assert [(bar["x"], bar["w"], bar["h"], bar["chosen"]) for bar in bars] == [(6, 38, 25, False), (56, 38, 75, True)]


@pytest.mark.parametrize(("um", "text"), [(5, "5 µm"), (500, "500 µm"), (1000, "1 mm"), (20000, "20 mm")])
def test_lengths(um: float, text: str) -> None:
    assert length_text(um) == text
