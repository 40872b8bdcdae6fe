"""Tiles of a map against a raster made pixel by pixel, and against the slide's own geometry."""

import io
from itertools import product

import numpy as np
import pytest
from PIL import Image

from wsi.heat_tiles import heat_png, heat_values
from wsi.heatmap import Heatmap
from wsi.scales import attention_scale, evidence_scale
from wsi.testing import example_maps
from wsi.tile_pyramid import PyramidTile, TilePyramid
from wsi.tiles import TileSpec


def brute(heatmap: Heatmap, pyramid: TilePyramid, tile: PyramidTile) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the tiles under each pixel by covered area, and by how much the pixel's centre is inside of one (px0)."""
    x0, y0, _, _ = pyramid.rect_px0(tile)
    _, _, w, h = pyramid.tile_rect(tile)
    factor = pyramid.factor(tile.level)
    values, inside = np.full((h, w), np.nan), np.full((h, w), -np.inf)
    for row, column in product(range(h), range(w)):
        left, top = x0 + column * factor, y0 + row * factor
        total = weight = 0.0
        for (x, y), score in zip(heatmap.coords.tolist(), heatmap.scores.tolist(), strict=True):
            right, bottom = x + heatmap.side_px0[0], y + heatmap.side_px0[1]
            area = max(0, min(right, left + factor) - max(x, left)) * max(0, min(bottom, top + factor) - max(y, top))
            total, weight = total + area * score, weight + area
            cx, cy = left + factor / 2, top + factor / 2
            inside[row, column] = max(inside[row, column], min(cx - x, right - cx, cy - y, bottom - cy))
        if weight:
            values[row, column] = total / weight
    return values, inside


@pytest.fixture(scope="module")
def fractional() -> Heatmap:
    """Tiles of 21.4 x 20.8 px0 on an offset grid, overlapping by a third, with random scores."""
    rng = np.random.default_rng(3)
    places = np.array([(37 + round(14.3 * i), 53 + round(13.9 * j)) for j in range(4) for i in range(5)], np.int32)
    return Heatmap(places, (21.4, 20.8), rng.random(20), (203, 151), (0.2457, 0.2501))


@pytest.mark.parametrize("level", range(4))
def test_a_map_is_the_raster_made_pixel_by_pixel(fractional: Heatmap, level: int) -> None:
    pyramid = TilePyramid((203, 151), 32)
    assert pyramid.levels == 4
    width, height = pyramid.size_px(level)
    seen = 0
    for row, column in product(range(-(-height // 32)), range(-(-width // 32))):
        tile = PyramidTile(level, column, row)
        found = heat_values(fractional, pyramid, tile)
        expected, inside = brute(fractional, pyramid, tile)
        assert not np.isnan(found[inside > 0.51]).any()
        assert np.isnan(found[inside < -0.51]).all()
        shown = ~np.isnan(found)
        np.testing.assert_allclose(found[shown], expected[shown], rtol=1e-5)
        seen += shown.sum()
    assert seen > 20


def test_a_map_equals_the_heatmaps_own_raster_at_every_level(fractional: Heatmap) -> None:
    many = np.array([(x, y) for y in range(0, 900, 9) for x in range(0, 900, 9)], np.int32)
    fine = Heatmap(many, (9.2, 9.2), np.random.default_rng(0).random(len(many)), (911, 917), (0.25, 0.25))
    for heatmap in (fractional, fine):
        pyramid = TilePyramid(heatmap.size_px0, 128)
        for level in range(pyramid.levels):
            tile, factor = PyramidTile(level, 0, 0), pyramid.factor(level)
            x, y, w, h = pyramid.tile_rect(tile)
            expected = heatmap.window((x, y), (factor, factor), (w, h))
            np.testing.assert_allclose(heat_values(heatmap, pyramid, tile), expected, rtol=1e-5)


def test_a_marked_cell_lies_on_the_pixels_of_the_slide_that_it_was_cut_from() -> None:
    maps = example_maps(spec=TileSpec(64, 0.5, 64), marked_px0=(2345.0, 1234.0))
    heatmap, pyramid = maps.heatmap(maps.evidence[1]), TilePyramid(maps.info.size_px0, 256)
    (x, y), (w, h) = maps.grid.coords[int(maps.evidence[1].scores.argmax())], maps.grid.side_px0
    assert not float(w).is_integer()
    for level in range(2, pyramid.levels):
        factor = pyramid.factor(level)
        tile = PyramidTile(level, int(x / factor) // 256, int(y / factor) // 256)
        left, top, _, _ = pyramid.rect_px0(tile)
        rows, columns = np.nonzero(heat_values(heatmap, pyramid, tile) > 0.5)
        for found, start, side, origin in ((columns, x, w, left), (rows, y, h, top)):
            edges = np.array([found.min(), found.max() + 1]) * factor + origin
            whole = origin + 256 * factor
            np.testing.assert_allclose(edges, [start, min(start + side, whole)], atol=0.5 * factor + 0.51)


def test_a_png_has_the_place_on_the_scale_and_is_clear_where_no_score_is(fractional: Heatmap) -> None:
    pyramid, tile = TilePyramid((203, 151), 128), PyramidTile(1, 0, 0)
    values = heat_values(fractional, pyramid, tile)
    for scale in (attention_scale(), evidence_scale("tumour", "signed", 2.0)):
        with Image.open(io.BytesIO(heat_png(fractional, scale, pyramid, tile))) as picture:
            picture.load()
            assert picture.mode == "LA"
            grey, alpha = np.moveaxis(np.asarray(picture), 2, 0)
        np.testing.assert_array_equal(alpha, np.where(np.isnan(values), 0, 255))
        position = scale.position(values[~np.isnan(values)])
        np.testing.assert_array_equal(grey[alpha == 255], np.rint(position * 255))
        assert (grey[alpha == 0] == 0).all()
