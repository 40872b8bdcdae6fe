"""Pictures are checked by their pixels: what is untouched, what has which colour, how long the scale bar is."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shapely import MultiPolygon, box

from wsi.exports.png import (
    INK,
    draw_heatmap,
    draw_outline,
    draw_unscored,
    layer,
    overlay,
    scale_bar,
    shortened,
    write_png,
)
from wsi.scales import colour_table
from wsi.testing import example_maps


def test_pixels_without_a_tile_are_untouched() -> None:
    maps = example_maps()
    values = maps.on_thumbnail(maps.attention)
    mixed = overlay(maps, maps.attention)
    assert (mixed[np.isnan(values)] == 230).all()
    assert (mixed[np.isfinite(values)] != 230).any(axis=1).all()


def test_the_layer_has_the_colours_of_the_map_and_is_clear_elsewhere() -> None:
    maps = example_maps()
    channel = maps.evidence[1]
    values = maps.on_thumbnail(channel)
    picture = Image.open(io.BytesIO(layer(maps, channel)))
    rgba = np.asarray(picture.convert("RGBA"))
    assert rgba.shape == (*values.shape, 4)
    assert (rgba[np.isnan(values), 3] == 0).all()
    assert (rgba[values == 0] == channel.scale.table[0]).all()
    np.testing.assert_allclose(rgba[values == 1][0, :3].astype(int), colour_table("viridis")[255], atol=4)


def test_a_marked_tile_stands_where_its_place_is() -> None:
    maps = example_maps(marked_px0=(2345, 1234))
    x, y, w, h = maps.info.bounds_px0
    height, width = maps.thumbnail.shape[:2]
    pixel = overlay(maps, maps.evidence[1])[int((1234 - y) / h * height), int((2345 - x) / w * width)].astype(int)
    assert pixel[1] > pixel[2] + 60  # yellow: the top of the scale


def test_the_scale_bar_is_as_long_as_it_says() -> None:
    maps = example_maps()  # 8 level-0 pixels of 0.2457 um to a pixel of the thumbnail, about
    um_per_px = 0.2457 * 4500 / maps.thumbnail.shape[1]
    length, text = scale_bar(maps, 200)
    assert text == "0.2 mm"  # 200 px are 393 um
    assert length == pytest.approx(200 / um_per_px)
    picture = draw_heatmap(maps, maps.attention)
    bar = (picture[-70:-50] == INK).all(axis=2)
    longest = max(int(row.sum()) for row in bar)
    drawn_length, _ = scale_bar(maps, maps.thumbnail.shape[1] / 4)
    assert longest == round(drawn_length)


def test_tiles_without_a_score_are_crossed_out() -> None:
    maps = example_maps(unscored=3)
    pixels = maps.thumbnail.copy()
    assert draw_unscored(pixels, maps) == 3
    changed = np.argwhere((pixels != maps.thumbnail).any(axis=2))[:, ::-1]
    pitch = maps.thumbnail_pitch_px0
    corners = (maps.grid.coords[-3:] - maps.info.bounds_px0[:2]) / pitch
    np.testing.assert_allclose(changed.min(axis=0), corners.min(axis=0), atol=2.5)
    np.testing.assert_allclose(
        changed.max(axis=0), (corners + np.divide(maps.grid.side_px0, pitch)).max(axis=0), atol=2.5
    )
    assert draw_unscored(maps.thumbnail.copy(), example_maps(unscored=0)) == 0


def test_the_outline_runs_along_the_tissue() -> None:
    maps = example_maps()
    x, y, _, _ = maps.info.bounds_px0
    maps = replace(maps, tissue=MultiPolygon([box(x + 800, y + 400, x + 1600, y + 2000)]))
    pixels = maps.thumbnail.copy()
    draw_outline(pixels, maps)
    changed = np.argwhere((pixels != maps.thumbnail).any(axis=2))[:, ::-1]
    np.testing.assert_allclose(changed.min(axis=0), (100, 50), atol=2.5)  # 8 level-0 px to a pixel, about
    np.testing.assert_allclose(changed.max(axis=0), (200, 250), atol=2.5)


def test_evidence_is_that_for_the_predicted_class(tmp_path: Path) -> None:
    maps = example_maps()
    write_png(tmp_path, maps)
    expected = draw_heatmap(maps, maps.evidence[maps.predicted])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "evidence.png")), expected)


def test_long_names_lose_their_middle() -> None:
    assert shortened("short", 10) == "short"
    assert shortened("a" * 20 + "b" * 20, 10) == "aaaaa\u2026bbbb"
