"""The pyramid's geometry by hand, and its pixels against plain means of level 0."""

from pathlib import Path

import numpy as np
import pytest

from tests.hostile.makers import damage_tile, tissue_pixels, write_svs
from wsi.errors import TileReadError, UsageError
from wsi.slide import Slide, open_slide
from wsi.tile_pyramid import PyramidTile, TilePyramid, pyramid_of, read_tile


def means(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Block means of level 0 as they are by definition; the far edge repeats its last pixel."""
    height, width = (-(-side // factor) * factor for side in pixels.shape[:2])
    rows, columns = height - pixels.shape[0], width - pixels.shape[1]
    whole = np.pad(pixels, ((0, rows), (0, columns), (0, 0)), mode="edge").astype(np.float64)
    return whole.reshape(height // factor, factor, width // factor, factor, 3).mean(axis=(1, 3))


def whole_level(slide: Slide, pyramid: TilePyramid, level: int) -> np.ndarray:
    """A level put together out of its tiles."""
    width, height = pyramid.size_px(level)
    side = pyramid.tile_px
    level_pixels = np.zeros((height, width, 3), np.uint8)
    for row in range(-(-height // side)):
        for column in range(-(-width // side)):
            tile = PyramidTile(level, column, row)
            x, y, w, h = pyramid.tile_rect(tile)
            level_pixels[y : y + h, x : x + w] = read_tile(slide, pyramid, tile)
    return level_pixels


def test_levels_halve_down_to_one_tile() -> None:
    pyramid = TilePyramid((1000, 600), 256)
    assert [pyramid.size_px(level) for level in range(pyramid.levels)] == [(250, 150), (500, 300), (1000, 600)]
    assert [pyramid.factor(level) for level in range(3)] == [4, 2, 1]
    assert TilePyramid((256, 256), 256).levels == 1
    assert TilePyramid((257, 1), 256).levels == 2


def test_an_odd_size_is_rounded_up_and_stays_in_place() -> None:
    pyramid = TilePyramid((1001, 603), 256)
    assert pyramid.size_px(0) == (251, 151)
    last = PyramidTile(1, 1, 1)
    assert pyramid.tile_rect(last) == (256, 256, 245, 46)
    assert pyramid.rect_px0(last) == (512, 512, 490, 92)


@pytest.mark.parametrize("tile", [(3, 0, 0), (-1, 0, 0), (0, 1, 0), (2, 4, 0), (2, 0, 3), (2, -1, 0), (999, 0, 0)])
def test_a_tile_that_is_not_there_is_refused(tile: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError, match=r"no level|has no tile"):
        TilePyramid((1000, 600), 256).tile_rect(PyramidTile(*tile))


def test_every_level_is_the_area_mean_of_level_0(tmp_path: Path) -> None:
    pixels = tissue_pixels(1500, 1404)
    slide = open_slide(write_svs(tmp_path / "exact.svs", pixels, compression="deflate"))
    try:
        pyramid = pyramid_of(slide)
        for level in range(pyramid.levels):
            factor = pyramid.factor(level)
            off = np.abs(whole_level(slide, pyramid, level) - means(pixels, factor))
            assert off.max() <= {1: 0, 2: 0.51, 4: 0.51, 8: 1.01}[factor], f"level {level}"  # 1/8 is of rounded pixels
    finally:
        slide.close()


def test_levels_that_the_file_lacks_are_decoded_small_and_near_the_mean(small_svs: Path) -> None:
    slide = open_slide(small_svs)
    try:
        pyramid = pyramid_of(slide)
        stored = {4: 1, 1: 0}
        for level in range(pyramid.levels):
            factor = pyramid.factor(level)
            nearest = max(scale for scale in stored if scale <= factor)
            size_px = slide.info.level_sizes_px[stored[nearest]]
            expected = means(slide.read_region((0, 0), stored[nearest], size_px), factor // nearest)
            off = whole_level(slide, pyramid, level) - expected
            assert 10 * np.log10(255**2 / max((off**2).mean(), 1e-9)) > 38, f"level {level}"
            assert np.abs(off[:, -1]).max() < 60, f"level {level}: what is not of the slide shows at its far edge"
    finally:
        slide.close()


@pytest.mark.parametrize(("stored", "expected"), [(240, 240), (512, 512), (64, 256), (1536, 256)])
def test_the_grid_is_the_files_own_where_that_is_of_use(tmp_path: Path, stored: int, expected: int) -> None:
    path = write_svs(tmp_path / "slide.svs", tissue_pixels(700, 600), factors=(), tile_px=stored)
    slide = open_slide(path)
    try:
        assert pyramid_of(slide).tile_px == expected
    finally:
        slide.close()


def test_a_damaged_tile_is_an_error_and_its_neighbours_are_not(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "damaged.svs", tissue_pixels(1500, 1400))
    damage_tile(path, 0, 2, 1)
    slide = open_slide(path)
    try:
        pyramid = pyramid_of(slide)
        finest = pyramid.levels - 1
        with pytest.raises(TileReadError, match="column 2, row 1"):
            read_tile(slide, pyramid, PyramidTile(finest, 2, 1))
        with pytest.raises(TileReadError, match="column 2, row 1"):
            read_tile(slide, pyramid, PyramidTile(finest - 1, 1, 0))
        assert read_tile(slide, pyramid, PyramidTile(finest, 1, 1)).shape == (256, 256, 3)
        assert read_tile(slide, pyramid, PyramidTile(finest - 2, 0, 0)).shape == (256, 256, 3)
    finally:
        slide.close()


def test_a_slide_keeps_no_decoded_tiles_of_a_pyramid(small_svs: Path) -> None:
    """Many slides are open at once: what each kept for neighbours would add up."""
    slide = open_slide(small_svs)
    try:
        pyramid = pyramid_of(slide)
        for level in range(pyramid.levels):
            whole_level(slide, pyramid, level)
        assert slide._cached_bytes == 0  # type: ignore[attr-defined]
    finally:
        slide.close()
