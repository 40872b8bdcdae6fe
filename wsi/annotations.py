"""Regions that somebody drew (GeoJSON, level-0 pixels), lesions, and how much of each tile they cover."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry import shape

from wsi.errors import UsageError
from wsi.tiles import TileGrid, tile_polygons

BENIGN = frozenset({"benign", "normal", "tissue"})
"""Classes of regions that are not findings."""

LESION_GAP_UM = 75.0
"""Five tumour cells side by side: what is drawn closer together is one lesion to a pathologist."""


@dataclass(frozen=True, slots=True)
class Region:
    """A polygon in level-0 pixels and its class."""

    name: str
    polygon: shapely.Geometry


def read_regions(path: str | Path) -> list[Region]:
    """Read GeoJSON as QuPath writes it: `properties.classification.name` is the class.

    Newer versions write a FeatureCollection, older ones a bare list of features.

    Raises
    ------
    UsageError
        If the file cannot be read, or a feature has no class or no geometry.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_bytes())
        features = content if isinstance(content, list) and content else content["features"]
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
    union = _findings(regions, benign)
    if union.is_empty:
        return np.zeros(len(grid))
    shapely.prepare(union)
    tiles = shapely.polygons(tile_polygons(grid))
    return np.asarray(shapely.area(shapely.intersection(tiles, union)) / shapely.area(tiles))


def lesions(
    regions: Collection[Region], mpp: tuple[float, float], *, benign: Collection[str] = BENIGN
) -> list[shapely.Geometry]:
    """Findings as lesions, level-0 px: pieces less than `LESION_GAP_UM` apart are one, as in CAMELYON16.

    Parameters
    ----------
    mpp : (x, y)
        um per level-0 pixel.
    benign : collection of str
        Classes that do not count.
    """
    pieces = [part for part in shapely.get_parts(_findings(regions, benign)) if part.area > 0]
    if not pieces:
        return []
    scaled = shapely.transform(np.array(pieces), lambda points: points * mpp)
    near = shapely.STRtree(scaled).query(scaled, predicate="dwithin", distance=np.nextafter(LESION_GAP_UM, 0))
    leader = np.arange(len(pieces))
    while (lowest := _lowest_neighbour(leader, near)).tolist() != leader.tolist():
        leader = lowest
    return [shapely.union_all([pieces[row] for row in np.flatnonzero(leader == one)]) for one in np.unique(leader)]


def tile_lesions(grid: TileGrid, found: Sequence[shapely.Geometry]) -> np.ndarray:
    """Number of the lesion that covers most of each tile, (N,) int64; -1 for tiles that lie in none."""
    number, most = np.full(len(grid), -1, dtype=np.int64), np.zeros(len(grid))
    if not found:
        return number
    tiles = shapely.polygons(tile_polygons(grid))
    tile, lesion = shapely.STRtree(found).query(tiles, predicate="intersects")
    area = shapely.area(shapely.intersection(tiles[tile], np.array(found)[lesion]))
    for place in np.lexsort((lesion, tile)).tolist():
        if area[place] > most[tile[place]]:
            number[tile[place]], most[tile[place]] = lesion[place], area[place]
    return number


def _findings(regions: Collection[Region], benign: Collection[str]) -> shapely.Geometry:
    return shapely.union_all([region.polygon for region in regions if region.name.lower() not in benign])


def _lowest_neighbour(leader: np.ndarray, near: np.ndarray) -> np.ndarray:
    """For each piece the lowest leader among itself and those near it."""
    lowest = leader.copy()
    np.minimum.at(lowest, near[0], leader[near[1]])
    return lowest
