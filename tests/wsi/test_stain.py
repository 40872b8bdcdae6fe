"""Expected values by hand from the definition, and what light, amount and paleness must not change."""

from pathlib import Path

import numpy as np
import pytest

from wsi.glass import learn_glass
from wsi.overview import read_overview
from wsi.qc import find_tissue_with_qc
from wsi.slide import open_slide
from wsi.stain import LEAST_DENSITY, stain_of, stain_of_density
from wsi.tissue import find_tissue


def test_one_colour_by_hand() -> None:
    stain = stain_of_density(np.tile([0.2, 0.6, 0.1], (7, 1)))
    assert stain is not None
    assert stain.density == pytest.approx(0.3)
    assert (stain.x, stain.y) == pytest.approx((0.2 / 0.3 - 1, 0.5 / (3**0.5 * 0.3)))
    assert stain.spread == pytest.approx(0, abs=1e-12)


def test_two_colours_are_weighted_by_density() -> None:
    red, blue = np.array([0.0, 0.3, 0.3]), np.array([0.6, 0.6, 0.0])  # D 0.2 and 0.4; x -1 and 0.5; y 0 and 1.5/sqrt(3)
    stain = stain_of_density(np.stack([red, blue]))
    assert stain is not None
    assert stain.density == pytest.approx(0.3)
    assert (stain.x, stain.y) == pytest.approx((0.0, 2 / 3 * 1.5 / 3**0.5))
    # Variances: x 1/3 + 2/3 / 4; y (0.75) * (1/3 * 4/9 + 2/3 * 1/9).
    assert stain.spread == pytest.approx((0.5 + 0.75 * 2 / 9) ** 0.5)


def test_more_of_the_same_stain_changes_the_density_alone() -> None:
    density = np.random.default_rng(0).uniform(0.1, 0.5, (200, 3))
    once, twice = stain_of_density(density), stain_of_density(2 * density)
    assert once is not None
    assert twice is not None
    assert twice.density == pytest.approx(2 * once.density)
    assert (twice.x, twice.y, twice.spread) == pytest.approx((once.x, once.y, once.spread))


def test_pale_pixels_do_not_count_and_nothing_is_no_stain() -> None:
    assert stain_of_density(np.full((5, 3), 0.9 * LEAST_DENSITY)) is None
    assert stain_of_density(np.empty((0, 3))) is None
    both = stain_of_density(np.array([[0.2, 0.6, 0.1], [0.0, 0.0, 0.02]]))
    assert both is not None
    assert both.density == pytest.approx(0.3)


@pytest.mark.parametrize("lamp", [1.0, 0.9])
def test_a_slide_has_the_stain_that_it_was_given_under_any_lamp(tmp_path: Path, lamp: float) -> None:
    glass = lamp * np.array([250.0, 246.0, 248.0])
    pixels = np.full((800, 800, 3), glass.round(), np.uint8)
    amount = 0.3 + 0.1 * (np.random.default_rng(0).normal(size=(400, 400, 1)) > 0)
    pixels[200:600, 200:600] = (glass * 10 ** -(amount * np.array([0.6, 1.8, 0.6]))).round()
    np.save(tmp_path / "slide.npy", pixels)
    slide = open_slide(tmp_path / "slide.npy", mpp=(8.0, 8.0))
    overview = read_overview(slide)
    stain = stain_of(overview, learn_glass(overview), find_tissue(slide))
    assert stain is not None
    assert (stain.x, stain.y) == pytest.approx((-0.4, 1.2 / 3**0.5), abs=0.03)
    report = find_tissue_with_qc(slide)[1]
    assert report.stain_x == stain.x
    assert report.to_dict()["stain_density"] == pytest.approx(stain.density, abs=1e-4)
