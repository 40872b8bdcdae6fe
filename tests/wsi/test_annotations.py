"""Drawn regions, and the share of tiles that they cover, against areas reckoned by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import shapely

from wsi.annotations import Region, lesions, read_regions, tile_coverage, tile_lesions
from wsi.errors import UsageError
from wsi.tiles import TileGrid, TileSpec

CORNERS = [(0, 0), (100, 0), (0, 100), (100, 100)]


@pytest.fixture
def grid() -> TileGrid:
    """Four tiles of 100 x 100 px0 that fill (0, 0) to (200, 200)."""
    spec = TileSpec(50, 0.5, 50)
    return TileGrid(spec, np.array(CORNERS, np.int32), np.ones(4, np.float32), (100.0, 100.0))


def feature(name: str, geometry: object) -> dict:
    return {"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": name}}}


def write(path: Path, *features: dict) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return path


def square(x: float, y: float, side: float) -> dict:
    ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    return {"type": "Polygon", "coordinates": [ring]}


def test_regions_are_read(tmp_path: Path) -> None:
    found = read_regions(
        write(tmp_path / "s.geojson", feature("Tumor", square(1, 2, 3)), feature("pin", square(0, 0, 1)))
    )
    assert [region.name for region in found] == ["Tumor", "pin"]
    assert found[0].polygon.equals(shapely.box(1, 2, 4, 5))


def test_a_bare_list_of_features_is_read(tmp_path: Path) -> None:
    path = tmp_path / "s.geojson"
    path.write_text(json.dumps([feature("Tumor", square(1, 2, 3))]), encoding="utf-8")
    assert [region.name for region in read_regions(path)] == ["Tumor"]


def test_a_ring_that_crosses_itself_is_mended(tmp_path: Path) -> None:
    bow = {"type": "Polygon", "coordinates": [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]}
    (found,) = read_regions(write(tmp_path / "s.geojson", feature("tumour", bow)))
    assert found.polygon.is_valid
    assert found.polygon.area == pytest.approx(50)  # two triangles with base 10 and height 5


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"features": [{}]}',
        b'{"features": [{"properties": {}, "geometry": null}]}',
        b'{"features": [{"properties": {"classification": {"name": "a"}}, "geometry": null}]}',
        b'{"features": [{"properties": {"classification": {"name": "a"}}, "geometry": {"type": "Blob"}}]}',
        b'{"features": [{"properties": {"classification": null}, "geometry": {"type": "Point"}}]}',
    ],
)
def test_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.geojson").write_bytes(content)
    with pytest.raises(UsageError, match=r"s\.geojson: cannot be read as GeoJSON"):
        read_regions(tmp_path / "s.geojson")


def test_absent(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.geojson"):
        read_regions(tmp_path / "absent.geojson")


def test_shares(grid: TileGrid) -> None:
    box = Region("tumour", shapely.box(50, 0, 125, 150))
    np.testing.assert_allclose(tile_coverage(grid, [box]), [0.5, 0.25, 0.25, 0.125])


def test_triangle(grid: TileGrid) -> None:
    half = Region("tumour", shapely.Polygon([(0, 0), (200, 0), (0, 200)]))
    np.testing.assert_allclose(tile_coverage(grid, [half]), [1, 0.5, 0.5, 0])


def test_overlap_counts_once_and_a_hole_not_at_all(grid: TileGrid) -> None:
    twice = [Region("pattern 3", shapely.box(0, 0, 60, 100)), Region("pattern 4", shapely.box(40, 0, 80, 100))]
    np.testing.assert_allclose(tile_coverage(grid, twice), [0.8, 0, 0, 0])
    ring = shapely.box(0, 0, 100, 100) - shapely.box(25, 25, 75, 75)
    np.testing.assert_allclose(tile_coverage(grid, [Region("tumour", ring)]), [0.75, 0, 0, 0])


def test_what_is_no_finding_does_not_count(grid: TileGrid) -> None:
    regions = [Region("Benign", shapely.box(0, 0, 100, 100)), Region("stroma", shapely.box(100, 0, 150, 100))]
    np.testing.assert_allclose(tile_coverage(grid, regions), [0, 0.5, 0, 0])
    np.testing.assert_allclose(tile_coverage(grid, regions, benign={"stroma"}), [1, 0, 0, 0])
    assert tile_coverage(grid, []).tolist() == [0, 0, 0, 0]


def boxes(*corners: tuple[float, float, float, float], name: str = "tumour") -> list[Region]:
    return [Region(name, shapely.box(*one)) for one in corners]


def test_lesions_nearer_than_75_um_are_one() -> None:
    apart_px0 = 300  # 75 um at 0.25 um/px: no longer nearer
    near = boxes((0, 0, 100, 100), (399, 0, 500, 100))
    far = boxes((0, 0, 100, 100), (100 + apart_px0, 0, 500, 100))
    assert len(lesions(near, (0.25, 0.25))) == 1
    assert len(lesions(far, (0.25, 0.25))) == 2
    assert len(lesions(far, (0.24, 0.25))) == 1  # the pixels are narrower
    assert lesions(near, (0.25, 0.25))[0].area == pytest.approx(100 * 100 + 101 * 100)


def test_a_chain_of_pieces_is_one_lesion() -> None:
    chain = boxes(*((x, 0, x + 100, 100) for x in range(0, 3000, 350)))
    assert len(lesions(chain[::-1], (0.25, 0.25))) == 1
    assert len(lesions(chain[:3] + chain[5:], (0.25, 0.25))) == 2


def test_what_is_benign_or_has_no_area_is_no_lesion() -> None:
    line = Region("tumour", shapely.LineString([(0, 0), (50, 50)]))
    assert lesions([line, *boxes((0, 0, 9, 9), name="Normal")], (0.25, 0.25)) == []
    assert lesions([], (0.25, 0.25)) == []


def test_a_tile_is_of_the_lesion_that_covers_most_of_it(grid: TileGrid) -> None:
    found = lesions(boxes((60, 0, 110, 40), (90, 60, 160, 200)), (9.0, 9.0))  # far apart at 9 um/px
    assert len(found) == 2
    number = tile_lesions(grid, found)
    first, second = (next(k for k, one in enumerate(found) if one.bounds[1] == y) for y in (0, 60))
    # tile 0: 40 x 40 of the first, 10 x 40 of the second; tile 1: 10 x 40 and 60 x 40; tiles 2 and 3: the second only
    assert number.tolist() == [first, second, second, second]


def test_a_tile_that_only_touches_is_of_no_lesion(grid: TileGrid) -> None:
    assert tile_lesions(grid, lesions(boxes((0, 0, 100, 100)), (0.25, 0.25))).tolist() == [0, -1, -1, -1]
    assert tile_lesions(grid, []).tolist() == [-1] * 4
