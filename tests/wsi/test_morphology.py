"""Morphology on packed bits against OpenCV's own, on masks of all widths."""

import cv2
import numpy as np
import pytest

from wsi.morphology import Operation, morph

OPENCV: dict[Operation, int] = {
    "dilate": cv2.MORPH_DILATE,
    "erode": cv2.MORPH_ERODE,
    "open": cv2.MORPH_OPEN,
    "close": cv2.MORPH_CLOSE,
}


@pytest.mark.parametrize("operation", OPENCV)
@pytest.mark.parametrize("radius_px", [0, 1, 2, 5, 8])
def test_is_what_opencv_does_beyond_a_replicated_edge(operation: Operation, radius_px: int) -> None:
    rng = np.random.default_rng(radius_px)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius_px + 1, 2 * radius_px + 1))
    for height, width in [(1, 1), (3, 200), (70, 63), (65, 64), (40, 65), (90, 130)]:
        for density in (0.02, 0.5, 0.98):
            mask = rng.random((height, width)) < density
            padded = np.pad(mask.astype(np.uint8), radius_px, mode="edge")
            done = cv2.morphologyEx(padded, OPENCV[operation], disc).astype(bool)
            expected = done[radius_px : radius_px + height, radius_px : radius_px + width]
            np.testing.assert_array_equal(morph(mask, operation, radius_px), expected)
