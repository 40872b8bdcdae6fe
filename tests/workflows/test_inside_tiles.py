"""Insides of the most-attended tiles: made through encoder and model, kept in the run, drawn in the report."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mil.bag import Bag
from mil.encoders import load_encoder
from mil.model_folder import GradingModel, ModelCard
from mil.network import Network, NetworkSpec
from workflows.inside_tiles import check_encoder, with_insides
from workflows.pages import write_report
from workflows.results import TopTile, load_slide
from wsi.errors import UsageError
from wsi.slide import open_slide
from wsi.tiles import TileGrid, TileSpec

SIDE = 224


@pytest.fixture(scope="module")
def lite0():
    return load_encoder("lite0", device="cpu")


def test_top_tiles_get_a_map_each_whatever_their_order(tmp_path, lite0):
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE, 3 * SIDE, 3), dtype=np.uint8)
    pixels[:, SIDE : 2 * SIDE] = 230
    np.save(tmp_path / "s.npy", pixels)
    slide = open_slide(tmp_path / "s.npy", mpp=(0.5, 0.5))
    coords = np.array([[0, 0], [SIDE, 0], [2 * SIDE, 0]], np.int32)
    grid = TileGrid(TileSpec(SIDE, 0.5, SIDE), coords, np.ones(3, np.float32), (float(SIDE), float(SIDE)))
    features = lite0.encode(np.stack([pixels[:, x : x + SIDE] for x in (0, SIDE, 2 * SIDE)]))
    bag = Bag("s", features, coords.astype(np.float32), np.arange(3))
    torch.manual_seed(0)
    spec = NetworkSpec("abmil", "cross_entropy", 1280, 2).complete()
    card = ModelCard("class", ("benign", "tumour"), spec, lite0.card.to_dict(), {}, None, {})
    model = GradingModel("m", card, (Network(spec).eval(), Network(spec).eval()))
    tops = [TopTile(row, pixels[:4, :4]) for row in (2, 0, 1)]
    found = with_insides(model, lite0, bag, slide, grid, tops, "tumour")
    assert [top.row for top in found] == [2, 0, 1]
    assert all(top.inside.shape == (7, 7) for top in found)
    (alone,) = with_insides(model, lite0, bag, slide, grid, tops[1:2], "tumour")
    np.testing.assert_allclose(alone.inside, found[1].inside, atol=1e-5)
    against = with_insides(model, lite0, bag, slide, grid, tops, "benign")
    # of two classes what speaks for one speaks against the other: no place is in both maps
    assert not (found[0].inside * against[0].inside).any()
    assert found[0].inside.any() or against[0].inside.any()
    assert with_insides(model, lite0, bag, slide, grid, [], "tumour") == ()


def test_an_encoder_without_layers_is_refused():
    with pytest.raises(UsageError, match="toy has no layers to look into; leave --inside-tiles out"):
        check_encoder(load_encoder("toy", device="cpu"))


def test_the_run_keeps_them_and_the_report_shows_them(tmp_path, graded, make_run):
    inside = np.zeros((2, 7, 7), np.float32)
    inside[0, 0, 0] = 1
    tops = tuple(replace(top, inside=one) for top, one in zip(graded.top_tiles, inside, strict=True))
    run = make_run(tmp_path / "run", [replace(graded, top_tiles=tops)])
    kept = load_slide(run, "slide-1").top_tiles
    np.testing.assert_array_equal(np.stack([top.inside for top in kept]), inside)
    write_report(run)
    page = (run / "report" / "slides" / "slide-1.html").read_text(encoding="utf-8")
    assert "slide-1/tile_01_inside.jpg" in page
    assert (run / "report" / "slides" / "slide-1" / "tile_02_inside.jpg").is_file()
    assert "Below each: where in it" in page


def test_without_them_nothing_is_said(run):
    write_report(run)
    page = (run / "report" / "slides" / "mild.html").read_text(encoding="utf-8")
    assert "inside.jpg" not in page
    assert "Below each" not in page
    assert load_slide(run, "mild").top_tiles[0].inside is None
