"""The map that a run shows: which, on what scale, and what the pages say of it."""

from dataclasses import replace

import numpy as np
import pytest

from workflows.assurances import NO_MAPS
from workflows.gradings import load_model, save_model
from workflows.heatmaps import render_run
from workflows.pages import write_report
from workflows.results import load_slide
from workflows.shown_map import own_map, with_map
from wsi.errors import UsageError


def figures(limit=2.5, failed=True, low=0.1):
    number = {"estimate": 0.3, "low": low, "high": 0.4}
    known = dict.fromkeys(("deletion", "gain", "control_gain", "stability"), number)
    return known | {"control_failed": failed, "limit": limit}


def measured(chosen, **changes):
    maps = {name: figures() for name in ("evidence", "attention", "gradient")} | changes
    return {"chosen": chosen, "reason": f"Shown is {chosen}.", "maps": maps}


@pytest.mark.parametrize(
    ("chosen", "kind", "limit", "own"),
    [
        ("gradient", "signed", 2.5, "gradient"),
        ("attention", "probability", 1.0, None),
        ("evidence", "probability", 1.0, None),
        (None, "probability", 1.0, None),
    ],
)
def test_summary_of_a_measured_model(tmp_path, model, chosen, kind, limit, own):
    found = with_map(model, measured(chosen))
    assert (found.shown_map, found.evidence, found.evidence_limit) == (chosen or "", kind, limit)
    assert own_map(found) == own
    assert [one.name for one in found.map_table] == ["evidence", "attention", "gradient"]
    save_model(tmp_path, found)
    assert load_model(tmp_path) == found


def test_a_model_that_was_not_measured_says_so(model, run):
    assert with_map(model, None) is model
    assert model.maps == NO_MAPS
    write_report(run)
    page = (run / "report" / "slides" / "mild.html").read_text(encoding="utf-8")
    assert "maps not measured" in page
    assert NO_MAPS in page


def test_maps_without_interval_are_not_in_the_table(model):
    found = with_map(model, measured("attention", gradient=figures(low=None)))
    assert [one.name for one in found.map_table] == ["evidence", "attention"]


def with_gradient(make_slide, name="one", **changes):
    values = np.zeros((5, 6))
    values[:, 3] = [-9.0, 2.0, 0.5, 0.0, -0.5]
    return make_slide(name, shown=values, shown_name="gradient", **changes)


def test_a_run_keeps_the_map_and_shows_it_first_on_one_scale(tmp_path, make_slide, make_run, model):
    summary = with_map(model, measured("gradient"))
    slides = [with_gradient(make_slide), with_gradient(make_slide, "two", predicted=1)]
    run = make_run(tmp_path / "run", slides, summary)
    kept = load_slide(run, "one")
    np.testing.assert_array_equal(kept.shown, slides[0].shown)
    maps = kept.maps(summary)
    assert maps.first is maps.evidence[3]
    assert maps.first.scores.tolist() == [-9.0, 2.0, 0.5, 0.0, -0.5]
    other = load_slide(run, "two").maps(summary)
    assert maps.first.scale.unit == "gradient x input, against to for, in logits"
    scales = [(one.scale.low, one.scale.high) for found in (maps, other) for one in found.evidence]
    assert set(scales) == {(-2.5, 2.5)}
    # what the run held before is there as before
    plain = kept.maps(summary, "evidence")
    np.testing.assert_array_equal(plain.first.scores, kept.evidence[:, 3])
    assert (plain.first.scale.low, plain.first.scale.high) == (0, 1)
    assert kept.maps(summary, "attention").first.scale.title == "Attention"
    with pytest.raises(UsageError, match="holds no map 'left_out'; it holds: attention, evidence, gradient"):
        kept.maps(summary, "left_out")


def test_files_and_pages_of_a_run_show_it(tmp_path, make_slide, make_run, model):
    tifffile = pytest.importorskip("tifffile")
    summary = with_map(model, measured("gradient", gradient=figures(failed=False)))
    run = make_run(tmp_path / "run", [with_gradient(make_slide)], summary)
    assert render_run(run) == []
    first = {path.name: path.read_bytes() for path in (run / "heatmaps" / "one").iterdir()}
    raster = tifffile.imread(run / "heatmaps" / "one" / "heatmap.ome.tif")
    assert np.nanmin(raster[1 + 3]) == -9
    assert '"Evidence for Grade group 3": -9.0' in first["tiles.geojson"].decode()
    assert render_run(run, wanted="evidence") == []
    second = {path.name: path.read_bytes() for path in (run / "heatmaps" / "one").iterdir()}
    assert first["evidence.png"] != second["evidence.png"]
    assert first["attention.png"] == second["attention.png"]
    (failure,) = render_run(run, wanted="left_out")
    assert "holds no map 'left_out'" in failure.message
    write_report(run)
    page = (run / "report" / "slides" / "one.html").read_text(encoding="utf-8")
    assert 'value="4" data-src="one/evidence_3.png" checked' in page
    assert 'id="layer" src="one/evidence_3.png"' in page
    assert "did NOT fail" in page
    assert "Shown is gradient." in page
    assert "evidence +2.00 for Grade group 3" in page.replace("\u00a0", " ")
    index = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert '<th scope="col">Evidence</th>' in index
    assert "map measured" in index


def test_where_attention_is_the_best_it_is_first(tmp_path, graded, model):
    assert graded.maps(with_map(model, measured("attention"))).leading == 0
    assert graded.maps(with_map(model, measured("evidence"))).leading == 4
    assert graded.maps(model).leading == 0


def test_a_map_has_a_name_and_a_number_for_each_tile_and_class(graded):
    with pytest.raises(UsageError, match="a map and its name come together"):
        replace(graded, shown=np.zeros((5, 6)))
    with pytest.raises(UsageError, match=r"expected a map \(5, 6\), found \(5, 2\)"):
        replace(graded, shown=np.zeros((5, 2)), shown_name="gradient")
