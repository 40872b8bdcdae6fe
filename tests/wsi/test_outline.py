"""Outlines of masks: exact areas, holes, diagonal touches, and the rings of a mask known on paper."""

import numpy as np
import pytest
from scipy import ndimage

from wsi.outline import mask_polygons


@pytest.mark.parametrize("seed", range(4))
def test_exact_outlines_have_the_area_and_the_number_of_the_pieces(seed: int) -> None:
    mask = ndimage.gaussian_filter(np.random.default_rng(seed).random((90, 130)), 2) > 0.5
    polygons = mask_polygons(mask, tolerance_px=0)
    labels, count = ndimage.label(mask)  # 4-connected
    assert len(polygons) == count
    assert sorted(round(polygon.area) for polygon in polygons) == sorted(np.bincount(labels.ravel())[1:].tolist())
    assert all(polygon.is_valid for polygon in polygons)


def test_a_frame_with_a_spot_in_it() -> None:
    mask = np.zeros((7, 8), bool)
    mask[1:6, 1:7] = True
    mask[2:5, 2:6] = False
    mask[3, 3] = True
    frame, spot = mask_polygons(mask, tolerance_px=0)
    assert (frame.area, len(frame.interiors), spot.area) == (30 - 12, 1, 1)
    assert frame.bounds == (1, 1, 7, 6)
    assert sorted(spot.exterior.coords[:-1]) == [(3, 3), (3, 4), (4, 3), (4, 4)]


def test_pixels_that_touch_at_a_corner_are_two_pieces() -> None:
    assert [polygon.area for polygon in mask_polygons(np.eye(2, dtype=bool), tolerance_px=0)] == [1, 1]


def test_nothing_has_no_outline() -> None:
    assert mask_polygons(np.zeros((3, 4), bool)) == []
