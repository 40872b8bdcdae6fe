"""Regions that somebody drew (GeoJSON, level-0 pixels), and how much of each tile they cover."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry import shape

from wsi.errors import UsageError
from wsi.tiles import TileGrid, tile_polygons

BENIGN = frozenset({"benign", "normal", "tissue"})
"""Classes of regions that are not findings."""


@dataclass(frozen=True, slots=True)
class Region:
    """A polygon in level-0 pixels and its class."""

    name: str
    polygon: shapely.Geometry


def read_regions(path: str | Path) -> list[Region]:
    """Read a GeoJSON FeatureCollection as QuPath writes it: `properties.classification.name` is the class.

    Raises
    ------
    UsageError
        If the file cannot be read, or a feature has no class or no geometry.
    """
    path = Path(path)
    try:
        features = json.loads(path.read_bytes())["features"]
        regions = [
            Region(str(one["properties"]["classification"]["name"]), shapely.make_valid(shape(one["geometry"])))
            for one in features
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, shapely.errors.ShapelyError) as error:
        raise UsageError(
            f"{path.name}: cannot be read as GeoJSON regions with a classification ({type(error).__name__}: {error})"
        ) from error
    return regions


def tile_coverage(grid: TileGrid, regions: Collection[Region], *, benign: Collection[str] = BENIGN) -> np.ndarray:
    """Share of each tile that lies in regions which are findings.

    Parameters
    ----------
    benign : collection of str
        Classes that do not count.

    Returns
    -------
    ndarray (N,) float64
        0 to 1, by exact area; overlapping regions count once.
    """
    findings = [region.polygon for region in regions if region.name.lower() not in benign]
    if not findings:
        return np.zeros(len(grid))
    union = shapely.union_all(findings)
    shapely.prepare(union)
    tiles = shapely.polygons(tile_polygons(grid))
    return np.asarray(shapely.area(shapely.intersection(tiles, union)) / shapely.area(tiles))
