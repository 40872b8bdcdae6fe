"""The file is read back with json and shapely; places are compared with the grid's own rectangles."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from shapely.geometry import Point, shape

from wsi.exports.geojson import write_geojson
from wsi.heatmap import SlideMaps
from wsi.testing import example_maps
from wsi.tiles import TileSpec, tile_polygons


def written(folder: Path, maps: SlideMaps) -> list[dict[str, Any]]:
    write_geojson(folder, maps)
    collection = json.loads((folder / "tiles.geojson").read_text())
    assert collection["type"] == "FeatureCollection"
    return list(collection["features"])


def test_tissue_is_an_annotation_and_tiles_are_detections(tmp_path: Path) -> None:
    maps = example_maps(unscored=2)
    features = written(tmp_path, maps)
    kinds = [feature["properties"]["objectType"] for feature in features]
    assert kinds == ["annotation"] + ["detection"] * len(maps.grid)
    assert shape(features[0]["geometry"]).area == 4500 * 3200
    names = [feature["properties"]["classification"]["name"] for feature in features]
    assert names[0] == "Tissue"
    assert names[-2:] == ["Not scored"] * 2
    assert set(names[1:-2]) == {"benign", "tumour"}


def test_features_have_what_qupath_reads(tmp_path: Path) -> None:
    features = written(tmp_path, example_maps())
    assert len({feature["id"] for feature in features}) == len(features)
    for feature in features:
        assert feature["type"] == "Feature"
        UUID(feature["id"])
        assert shape(feature["geometry"]).is_valid
        colour = feature["properties"]["classification"]["color"]
        assert len(colour) == 3
        assert all(isinstance(part, int) and 0 <= part <= 255 for part in colour)


def test_polygons_are_the_exact_rectangles(tmp_path: Path) -> None:
    maps = example_maps(unscored=0)
    assert maps.grid.side_px0[0] != int(maps.grid.side_px0[0])
    rings = [feature["geometry"]["coordinates"][0] for feature in written(tmp_path, maps)[1:]]
    assert all(ring[0] == ring[-1] for ring in rings)
    np.testing.assert_array_equal(np.array(rings)[:, :4], tile_polygons(maps.grid))


@pytest.mark.parametrize("mpp", [0.2457, 0.5])
@pytest.mark.parametrize("bounds", [(0, 0, 6000, 4000), (713, 291, 4501, 3203)])
def test_the_marked_place_lies_in_the_polygon_with_the_evidence(tmp_path: Path, mpp: float, bounds: Any) -> None:
    maps = example_maps(mpp=(mpp, mpp), bounds_px0=bounds, marked_px0=(2345, 1234))
    high = [
        feature
        for feature in written(tmp_path, maps)[1:]
        if feature["properties"]["measurements"].get("Evidence for tumour") == 1
    ]
    assert len(high) == 1
    polygon = shape(high[0]["geometry"])
    assert polygon.covers(Point(2345, 1234))
    assert polygon.area == pytest.approx((64 * 0.5 / mpp) ** 2)
    assert high[0]["properties"]["classification"]["name"] == "tumour"


def test_attention_is_relative_to_the_mean_tile(tmp_path: Path) -> None:
    features = written(tmp_path, example_maps(spec=TileSpec(128, 0.5, 128)))
    name = "Attention (times the mean tile)"
    values = [f["properties"]["measurements"][name] for f in features[1:-1]]
    assert np.mean(values) == pytest.approx(1, abs=1e-4)
    assert max(values) / min(values) == pytest.approx(10, rel=1e-4)
