"""GeoJSON that QuPath opens: a detection for each tile, an annotation for the tissue.

A tile has the class for which its evidence is highest; tiles without a score are classified "Not scored".

Coordinates are level-0 pixels, as QuPath wants them, with the fractions that a tile's side has. QuPath's
measurement maps colour the tiles by any measurement. Written tile by tile, so that memory does not grow with the
slide. See https://qupath.readthedocs.io/en/stable/docs/advanced/exporting_annotations.html and RFC 7946 for the
shape of the file (only the shape: RFC 7946 would want degrees).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from shapely.geometry import mapping

from wsi.exports import Export, staged
from wsi.heatmap import SlideMaps
from wsi.scales import CLASS_COLOURS
from wsi.tiles import tile_polygons

FILE_NAME = "tiles.geojson"
TISSUE_COLOUR = (128, 128, 128)
UNSCORED = "Not scored"


def write_geojson(folder: Path, maps: SlideMaps) -> None:
    """Write `tiles.geojson`: the tissue first, then the scored tiles, then the others, in the order of the grid."""
    with staged(folder / FILE_NAME) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as handle:
        handle.write('{"type": "FeatureCollection", "features": [\n')
        for number, feature in enumerate(features(maps)):
            handle.write(",\n" if number else "")
            json.dump(feature, handle, allow_nan=False)
        handle.write("\n]}\n")


def features(maps: SlideMaps) -> Iterator[dict[str, Any]]:
    """The features one by one, as plain values."""
    if not maps.tissue.is_empty:
        yield _feature(maps, "tissue", "annotation", mapping(maps.tissue), "Tissue", TISSUE_COLOUR, {})
    corners = tile_polygons(maps.grid)
    evidence = np.stack([channel.scores for channel in maps.evidence], axis=1)
    best = evidence.argmax(axis=1)
    for tile, row in enumerate(maps.rows.tolist()):
        values = zip(maps.class_labels, evidence[tile].tolist(), strict=True)
        measurements = {
            f"{maps.attention.scale.title} ({maps.attention.scale.unit})": _rounded(maps.attention.scores[tile]),
            **{f"Evidence for {label}": _rounded(value) for label, value in values},
            "Tissue fraction": _rounded(maps.grid.tissue_fraction[row]),
            "Tile": row,
        }
        label = maps.class_labels[best[tile]]
        colour = CLASS_COLOURS[int(best[tile]) % len(CLASS_COLOURS)]
        yield _feature(maps, f"tile {row}", "detection", _polygon(corners[row]), label, colour, measurements)
    for row in np.setdiff1d(np.arange(len(maps.grid)), maps.rows).tolist():
        yield _feature(maps, f"tile {row}", "detection", _polygon(corners[row]), UNSCORED, TISSUE_COLOUR, {"Tile": row})


def _polygon(corners: np.ndarray) -> dict[str, Any]:
    ring = corners.tolist()
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


def _feature(
    maps: SlideMaps,
    name: str,
    kind: str,
    geometry: dict[str, Any],
    label: str,
    colour: tuple[int, int, int],
    measurements: dict[str, float],
) -> dict[str, Any]:
    return {
        "type": "Feature",
        "id": str(uuid5(NAMESPACE_URL, f"histograde:{maps.info.content_hash}:{maps.grid.spec}:{name}")),
        "geometry": geometry,
        "properties": {
            "objectType": kind,
            "classification": {"name": label, "color": list(colour)},
            **({"measurements": measurements} if measurements else {"isLocked": True}),
        },
    }


def _rounded(value: float) -> float:
    """Six significant digits: what a float32 score holds."""
    return float(f"{float(value):.6g}")


EXPORT = Export((FILE_NAME,), write_geojson)

__all__ = ["EXPORT", "features", "write_geojson"]
