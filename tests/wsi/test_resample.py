"""Resampling against box integration in float64: whole and fractional places and factors."""

import numpy as np
import pytest

from tests.hostile.makers import write_svs
from wsi import resample
from wsi.resample import LevelView, best_reduction, read_scaled, resize_rect
from wsi.slide import open_slide

EXACT_TO = 0.1
"""Grey levels: weights are whole steps of 2^-12 where sums are taken in single precision."""


def integral(image: np.ndarray, start: float, stop: float) -> np.ndarray:
    """Mean over rows [start, stop) of float64 (H, ...): a pixel is a box of constant value."""
    total = np.zeros(image.shape[1:])
    for row in range(int(np.floor(start)), int(np.ceil(stop))):
        total += image[min(max(row, 0), len(image) - 1)] * (min(stop, row + 1) - max(start, row))
    return total / (stop - start)


def box_average(image: np.ndarray, rect: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    """The definition, pixel by pixel: (h, w, 3) float64."""
    x, y, w, h = rect
    image = image.astype(np.float64)
    rows = [integral(image, y + h * row / size[1], y + h * (row + 1) / size[1]) for row in range(size[1])]
    turned = np.stack(rows).transpose(1, 0, 2)
    columns = [integral(turned, x + w * col / size[0], x + w * (col + 1) / size[0]) for col in range(size[0])]
    return np.stack(columns).transpose(1, 0, 2)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (90, 110, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("rect", "size"),
    [
        ((0, 0, 110, 90), (55, 45)),
        ((3, 5, 60, 60), (20, 20)),
        ((3.25, 5.75, 60, 60), (20, 20)),
        ((0, 0, 110, 90), (54, 44)),
        ((10.125, 7.5, 45.37, 45.37), (23, 23)),
        ((1, 1, 33.01, 33.01), (32, 32)),
        ((0.4, 0.6, 100.3, 80.9), (7, 3)),
        ((12, 9, 32, 32), (32, 32)),
        ((12.5, 9.25, 32, 32), (32, 32)),
    ],
)
def test_every_pixel_is_the_mean_of_what_it_covers(image, rect, size):
    expected = box_average(image, rect, size)
    assert np.abs(resize_rect(image, rect, size) - expected).max() <= 0.5 + EXACT_TO


def test_a_whole_copy_is_the_pixels_themselves(image):
    np.testing.assert_array_equal(resize_rect(image, (12, 9, 32, 24), (32, 24)), image[9:33, 12:44])


def test_enlarging_a_ramp_keeps_it_a_ramp():
    ramp = np.repeat(np.repeat(np.arange(0, 250, 10, dtype=np.uint8)[None, :, None], 25, axis=0), 3, axis=2)
    larger = resize_rect(ramp, (5, 5, 10, 10), (40, 40))[0, :, 0]
    centres = 5 + (np.arange(40) + 0.5) / 4 - 0.5
    assert np.abs(larger - 10 * centres).max() <= 0.5


def test_bands_make_no_seam(tmp_path, monkeypatch):
    pixels = np.random.default_rng(1).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    slide = open_slide(tmp_path / "a.npy")
    whole = read_scaled(slide, (0.0, 0.0, 200.0, 300.0), (31, 47))
    monkeypatch.setattr(resample, "MAX_BAND_PX", 3000)
    np.testing.assert_array_equal(read_scaled(slide, (0.0, 0.0, 200.0, 300.0), (31, 47)), whole)
    assert np.abs(whole - box_average(pixels, (0, 0, 200, 300), (31, 47))).max() <= 0.5 + EXACT_TO


def test_no_window_is_larger_than_a_band_even_where_one_row_would_be(small_svs, monkeypatch):
    slide = open_slide(small_svs)
    rect = (3.0, 5.0, 1490.0, 1390.0)
    whole = read_scaled(slide, rect, (12, 7), level=0)
    areas_px = []
    read = resample.read_window

    def spy(slide, level, left, top, width, height, reduce=1, **said):
        areas_px.append(width * height)
        return read(slide, level, left, top, width, height, reduce, **said)

    monkeypatch.setattr(resample, "MAX_BAND_PX", 2000)
    monkeypatch.setattr(resample, "read_window", spy)
    cut = read_scaled(slide, rect, (12, 7), level=0)
    slide.close()
    assert len(areas_px) > 7
    assert max(areas_px) < 1.2 * 2000
    assert np.abs(cut.astype(int) - whole).max() <= 1


@pytest.mark.parametrize("reader", ["openslide", "tiffslide"])
def test_a_coarser_level_is_read_where_it_lies_up_to_the_far_edge(tmp_path, reader):
    # 1000 x 530 is no multiple of 4, let alone 16: the sizes' ratios are 1.0000 and 1.0038 times the true scale
    x, y = np.meshgrid(np.arange(1000), np.arange(530))
    ramp = np.stack([x / 4, y / 4, (x + y) / 8], axis=2).astype(np.uint8)
    slide = open_slide(write_svs(tmp_path / "a.svs", ramp, factors=(4, 16), compression="deflate"), reader=reader)
    for level, factor in ((1, 4), (2, 16)):
        assert slide.info.level_downsample(level) == (factor, factor)
        for left, top in ((0, 0), (200, 100), (1000 - 10 * factor, 528 - 8 * factor)):
            found = read_scaled(slide, (left, top, 8 * factor, 6 * factor), (8, 6), level=level)
            expected_x = (left + factor * np.arange(8)) / 4 + (factor - 1) / 8
            expected_y = (top + factor * np.arange(6)) / 4 + (factor - 1) / 8
            assert np.abs(found[3, :, 0] - expected_x).max() <= 1.5
            assert np.abs(found[:, 4, 1] - expected_y).max() <= 1.5
    slide.close()


def test_a_window_covers_its_rectangle_and_no_more(small_svs):
    slide = open_slide(small_svs)
    window = LevelView(slide.info, 1).window((401.0, 403.0, 10.0, 5.0))
    assert (window.left, window.top, window.width, window.height) == (100, 100, 3, 2)
    assert window.rect == (0.25, 0.75, 2.5, 1.25)
    slide.close()


def test_a_window_has_what_the_kernel_reaches_for_up_to_the_levels_borders(small_svs):
    slide = open_slide(small_svs)  # 1500 x 1400 px, a level of 375 x 350
    # 10 level-0 px to 5: bicubic reaches 2 * 2 px from each centre, that is 3 px beyond the first and the last edge
    window = LevelView(slide.info, 0).window((401.0, 300.5, 10.0, 10.0), kernel="bicubic", size_px=(5, 5))
    assert (window.left, window.top, window.width, window.height) == (398, 297, 16, 17)
    assert window.rect == (3.0, 3.5, 10.0, 10.0)
    window = LevelView(slide.info, 0).window((0.0, 1390.0, 10.0, 10.0), kernel="bicubic", size_px=(5, 5))
    assert (window.left, window.top, window.width, window.height) == (0, 1387, 13, 13)
    # pixels that are only copied need no neighbours, whose damage would be theirs
    for left, width in ((400.0, 5), (401.0, 9)):
        window = LevelView(slide.info, 1).window((left, 400.0, 20.0, 20.0), kernel="bicubic", size_px=(5, 5))
        assert (window.width, window.height) == (width, 5)
    assert LevelView(slide.info, 0).window((401.0, 300.0, 10.0, 10.0), size_px=(5, 5)).width == 10
    slide.close()


@pytest.mark.parametrize(
    ("starts", "side_px0", "level", "factor"),
    [
        ([[0, 0], [448, 896]], 448.0, 0, 2),
        ([[0, 0], [448, 897]], 448.0, 0, 1),  # between the blocks
        ([[0, 0], [896, 896]], 896.0, 0, 4),
        ([[0, 0], [898, 896]], 896.0, 0, 2),
        ([[0, 0]], 224 * 2.0001, 0, 2),
        ([[0, 0]], 224 * 2.004, 0, 1),  # what is left is 1.002: nearly every pixel would be averaged twice
        ([[0, 0]], 224 * 3.0, 0, 1),
        ([[0, 0]], 224 * 6.0, 0, 2),
        ([[0, 0]], 224 * 7.9, 0, 1),
        ([[3, 5]], 224 * 8.1, 0, 2),  # from four blocks on it does not matter where they begin
        ([[0, 0]], 224 * 40.0, 0, 8),
        ([[0, 0], [1792, 0]], 1792.0, 1, 2),
    ],
)
def test_a_reduction_is_used_where_it_gives_the_same_means(small_svs, starts, side_px0, level, factor):
    slide = open_slide(small_svs, reader="jpeg_tiff")
    assert best_reduction(slide, level, np.array(starts), (side_px0, side_px0), (224, 224)) == factor
    slide.close()
