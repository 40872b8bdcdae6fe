"""Weights against values derived by hand, and resampled pictures against Pillow's in floating point."""

import numpy as np
import pytest
from PIL import Image

from wsi.kernels import KERNELS, axis_weights, reach
from wsi.resample import resize_rect

REACHING = ("bilinear", "bicubic", "lanczos")
RECTS = [
    ((0, 0, 110, 90), (55, 45)),
    ((0, 0, 110, 90), (54, 44)),
    ((20, 30, 48, 36), (24, 18)),
    ((20.25, 30.75, 48, 36), (24, 18)),
    ((10.125, 7.5, 45.375, 45.375), (23, 23)),
    ((1, 1, 33.0625, 33.0625), (32, 32)),
    ((0.375, 0.625, 100.25, 80.875), (7, 3)),
    ((12.5, 9.25, 32, 32), (32, 32)),
    ((0, 0, 20, 20), (61, 47)),
    ((97.5, 78.25, 12.5, 11.75), (40, 40)),
    ((30, 20, 16, 40), (40, 16)),
]


def pillow(
    image: np.ndarray, rect: tuple[float, float, float, float], size: tuple[int, int], kernel: str
) -> np.ndarray:
    """(h, w, 3) float64 within 0..255: Pillow resamples each channel without rounding between the axes."""
    x, y, w, h = rect
    channels = [
        Image.fromarray(image[..., channel].astype(np.float32)).resize(
            size, Image.Resampling[kernel.upper()], box=(x, y, x + w, y + h)
        )
        for channel in range(3)
    ]
    return np.clip(np.stack([np.asarray(one, np.float64) for one in channels], axis=-1), 0, 255)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (90, 110, 3), dtype=np.uint8)


@pytest.mark.parametrize("kernel", REACHING)
@pytest.mark.parametrize(("rect", "size"), RECTS)
def test_pictures_are_those_of_pillow(image, rect, size, kernel):
    found = resize_rect(image, rect, size, kernel=kernel)
    assert found.shape == (size[1], size[0], 3)
    assert np.abs(found - pillow(image, rect, size, kernel)).max() <= 0.6


@pytest.mark.parametrize("kernel", REACHING)
def test_kernels_differ_by_more_than_rounding(image, kernel):
    """So that agreeing with Pillow means something."""
    found = resize_rect(image, (20, 30, 48, 36), (24, 18), kernel=kernel).astype(int)
    for other in KERNELS:
        off = np.abs(found - resize_rect(image, (20, 30, 48, 36), (24, 18), kernel=other)).mean()
        assert off == 0 if other == kernel else off > 2


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_copy_is_the_pixels_themselves(image, kernel):
    np.testing.assert_array_equal(resize_rect(image, (12, 9, 32, 24), (32, 24), kernel=kernel), image[9:33, 12:44])
    index, weight = axis_weights(12, 32, 32, 110, kernel)
    np.testing.assert_allclose(np.where(index == np.arange(12, 44)[:, None], weight, 0).sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_weights_of_a_pixel_sum_to_one_and_stay_inside(kernel):
    for start, length, size in [(0.0, 10.0, 3), (2.5, 7.3, 5), (0.0, 3.0, 9), (-1.0, 12.0, 4), (8.9, 1.9, 2)]:
        index, weight = axis_weights(start, length, size, 10, kernel)
        np.testing.assert_allclose(weight.sum(axis=1), 1, atol=1e-6)
        assert np.abs(weight).sum(axis=1).max() < 2
        assert index.min() >= 0
        assert index.max() <= 9


def weights_at(kernel: str, start: float, length: float, size: int, output: int) -> dict[int, float]:
    index, weight = axis_weights(start, length, size, 1000, kernel)
    return {int(i): float(w) for i, w in zip(index[output], weight[output], strict=True) if abs(w) > 1e-7}


def test_bilinear_at_half_the_scale_is_a_triangle_of_four():
    assert weights_at("bilinear", 100, 20, 10, 3) == pytest.approx({105: 1 / 8, 106: 3 / 8, 107: 3 / 8, 108: 1 / 8})


def test_bicubic_twice_as_large_has_keys_weights():
    # the paper's cubic with a = -1/2 at distances 1.25, 0.25, 0.75 and 1.75
    expected = {103: -9 / 128, 104: 111 / 128, 105: 29 / 128, 106: -3 / 128}
    assert weights_at("bicubic", 100, 10, 20, 9) == pytest.approx(expected)


def test_lanczos_between_two_pixels_is_symmetric_and_has_three_lobes():
    def lobes(x):
        return np.sin(np.pi * x) * np.sin(np.pi * x / 3) * 3 / (np.pi * x) ** 2

    halves = np.array([2.5, 1.5, 0.5])
    half = lobes(halves) / (2 * lobes(halves).sum())
    found = weights_at("lanczos", 100.5, 10, 10, 4)
    assert list(found) == [102, 103, 104, 105, 106, 107]
    np.testing.assert_allclose(list(found.values()), [*half, *half[::-1]], atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("start", "length", "size"), [(100.0, 40.0, 20), (100.25, 33.3, 20), (100.5, 20.0, 20), (100.0, 20.0, 20)]
)
def test_all_that_counts_is_within_reach(kernel, start, length, size):
    index, weight = axis_weights(start, length, size, 1000, kernel)
    used = index[np.abs(weight) > 1e-7]
    around = reach(start, length, size, kernel)
    assert used.min() >= np.floor(start - around)
    assert used.max() < np.ceil(start + length + around)
