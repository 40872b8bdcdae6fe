"""From a mark of known place on a slide to its cell in every map: pixels, tiles, raster, GeoJSON, OME-TIFF, picture."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from shapely import MultiPolygon, Point
from shapely.geometry import shape

from wsi.exports import EXPORTS
from wsi.heatmap import Channel, SlideMaps
from wsi.scales import attention_scale, evidence_scale
from wsi.slide import Slide, open_slide, thumbnail
from wsi.synthetic import Marker, write_slide
from wsi.tiles import TileReader, TileSpec, tile_grid
from wsi.tissue import find_tissue

SIZE_PX0 = (3000, 2600)
BOUNDS_PX0 = (531, 417, 2300, 2050)


def greenness(pixels: np.ndarray) -> np.ndarray:
    """Share of green pixels of each tile, (n,): H&E has none, the mark is green."""
    red, green, blue = (pixels[..., channel].astype(int) for channel in range(3))
    return ((green > red + 40) & (green > blue + 40)).mean(axis=(1, 2))


def maps_of(slide: Slide, spec: TileSpec) -> SlideMaps:
    """Maps whose attention is the tiles' greenness."""
    tissue = find_tissue(slide)
    grid = tile_grid(slide.info, tissue, spec)
    rows = np.arange(len(grid))
    score = greenness(TileReader(slide, grid).read(rows).pixels)
    evidence = Channel("mark", score, evidence_scale("mark", "probability"))
    return SlideMaps(
        info=slide.info,
        grid=grid,
        rows=rows,
        attention=Channel("attention", score / score.mean(), attention_scale()),
        evidence=(evidence, replace(evidence, name="none", scores=1 - score)),
        class_labels=("mark", "none"),
        predicted=0,
        tissue=MultiPolygon(tissue.polygons()),
        thumbnail=thumbnail(slide, 800),
    )


@pytest.mark.parametrize("reader", ["jpeg_tiff", "openslide"])
@pytest.mark.parametrize(
    ("mpp", "bounds_px0", "stride_px"),
    [(0.25, None, 224), (0.2457, None, 224), (0.2457, BOUNDS_PX0, 224), (0.2457, BOUNDS_PX0, 112), (0.5, None, 224)],
)
def test_a_marked_place_is_found_in_every_map(
    tmp_path: Path, reader: str, mpp: float, bounds_px0: tuple[int, int, int, int] | None, stride_px: int
) -> None:
    place = (1633.0, 1389.0)
    path = tmp_path / "marked.svs"
    write_slide(path, seed=3, size_px0=SIZE_PX0, mpp=mpp, tissue=0.8, marker=Marker(*place, radius_px0=40))
    with closing(open_slide(path, reader=reader)) as slide:
        if bounds_px0:
            slide.info = replace(slide.info, bounds_px0=bounds_px0)  # type: ignore[misc]
        maps = maps_of(slide, TileSpec(224, 0.5, stride_px, 0.3))
    side = np.array(maps.grid.side_px0)
    assert side[0] == pytest.approx(224 * 0.5 / mpp)

    best = int(np.argmax(maps.attention.scores))
    assert maps.attention.scores[best] > 5 * np.median(maps.attention.scores)
    corner = maps.grid.coords[best]
    assert (corner <= np.array(place) + 40).all()
    assert (np.array(place) - 40 <= corner + side).all()

    heatmap = maps.heatmap(maps.attention)
    raster = heatmap.raster()
    row, col = heatmap.locate(place)
    centre = (np.argwhere(raster == np.nanmax(raster)).mean(axis=0) + 0.5)[::-1] * heatmap.pitch_px0
    assert raster[row, col] > 5 * np.nanmedian(raster)
    assert (np.abs(centre - place) <= side).all()

    for export in EXPORTS.values():
        export.write(tmp_path, maps)
    found = json.loads((tmp_path / "tiles.geojson").read_text())["features"]
    tiles = [one for one in found if one["properties"].get("objectType") != "annotation"]
    tile = max(tiles, key=lambda one: one["properties"]["measurements"]["Evidence for mark"])
    assert shape(tile["geometry"]).distance(Point(place)) <= 40

    with tifffile.TiffFile(tmp_path / "heatmap.ome.tif") as tiff:
        pixels = tiff.series[0].asarray()[0]
        size_um = float(tiff.ome_metadata.split('PhysicalSizeX="')[1].split('"')[0])
    row, col = (int(place[axis] * mpp / size_um) for axis in (1, 0))
    assert pixels[row, col] == pytest.approx(raster[heatmap.locate(place)])

    x, y = (np.array(place) - maps.info.bounds_px0[:2]) / maps.thumbnail_pitch_px0
    assert greenness(maps.thumbnail[int(y) : int(y) + 1, int(x) : int(x) + 1][None])[0] == 1
