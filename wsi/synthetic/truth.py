"""What is true of a synthetic slide: its grade, where each pattern lies, where the tissue is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon, box
from shapely.geometry import GeometryCollection

GLEASON = (3, 4, 5)
_LEAST_SECONDARY = 0.05  # of the tumour's area; less of a second pattern does not count
_COLOURS = {
    "benign": (90, 160, 90),
    "pattern 3": (240, 200, 60),
    "pattern 4": (240, 130, 40),
    "pattern 5": (210, 40, 60),
}


def isup_grade(primary: int | None, secondary: int | None) -> int:
    """ISUP 2014 grade group of a Gleason score `primary + secondary`; 0 where there is no cancer.

    Raises
    ------
    ValueError
        If a pattern is not 3, 4 or 5, or only one of the two is given.

    References
    ----------
    Epstein et al., The 2014 ISUP Consensus Conference on Gleason Grading of Prostatic Carcinoma, Am J Surg Pathol 2016.
    """
    if primary is None and secondary is None:
        return 0
    if primary not in GLEASON or secondary not in GLEASON:
        raise ValueError(f"Gleason patterns {primary}+{secondary}: each must be 3, 4 or 5, or both None")
    total = primary + secondary
    if total == 7:
        return 2 if primary == 3 else 3
    return {6: 1, 8: 4}.get(total, 5)


def patterns_of(area: Mapping[str, float]) -> tuple[int | None, int | None]:
    """Primary and secondary Gleason pattern from the area of each region name (`"pattern 3"` ...; others are ignored).

    The largest is primary, the next one secondary if it has at least 5 % of the tumour, else the primary counts twice.
    """
    tumour = sorted(((area.get(f"pattern {p}", 0.0), p) for p in GLEASON), reverse=True)
    (first, primary), (second, other), _ = tumour
    if first <= 0:
        return None, None
    return primary, other if second >= _LEAST_SECONDARY * sum(a for a, _ in tumour) else primary


@dataclass(frozen=True, slots=True)
class SlideTruth:
    """The truth of one synthetic slide.

    Attributes
    ----------
    grade : int
        ISUP grade group, 0 (benign) to 5.
    primary, secondary : int or None
        Gleason patterns, None where benign.
    pattern_fraction : dict
        Share of the tissue area of each region name: `"benign"`, `"pattern 3"`, `"pattern 4"`, `"pattern 5"`.
    regions : tuple of (str, ndarray (K, 2) float64)
        Region name and closed outline, (x, y) in level-0 px, without holes: a region with a hole is in several pieces.
    tissue_mask : ndarray (H, W) bool
        Tissue with its lumens; pen, shadow and glass edges are not tissue. Pixel (i, j) covers the level-0 square from
        `j * mask_downsample, i * mask_downsample`.
    mask_downsample : float
        Level-0 px per mask px (about 8 um).
    mpp : float
        um per level-0 px.
    size_px0 : tuple of int
        Width and height, level-0 px.
    """

    slide_id: str
    grade: int
    primary: int | None
    secondary: int | None
    pattern_fraction: dict[str, float]
    regions: tuple[tuple[str, NDArray[np.float64]], ...]
    tissue_mask: NDArray[np.bool_]
    mask_downsample: float
    mpp: float
    size_px0: tuple[int, int]

    def to_geojson(self) -> dict[str, Any]:
        """A FeatureCollection that QuPath opens: one polygon per region, named in `properties.classification`."""
        return {"type": "FeatureCollection", "features": [_feature(name, ring) for name, ring in self.regions]}


def _feature(name: str, ring: NDArray[np.float64]) -> dict[str, Any]:
    colour = _COLOURS.get(name, (128, 128, 128))
    return {
        "type": "Feature",
        "properties": {"objectType": "annotation", "classification": {"name": name, "color": list(colour)}},
        "geometry": {"type": "Polygon", "coordinates": [[[round(float(x), 2), round(float(y), 2)] for x, y in ring]]},
    }


def outlines(mask: NDArray[np.bool_], downsample: int, size_px0: tuple[int, int]) -> list[NDArray[np.float64]]:
    """Closed outlines (K, 2) in level-0 px of the areas of `mask`, exact to a mask pixel; pieces without holes."""
    contours, tree = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    frame = box(0, 0, *size_px0)
    pieces: list[NDArray[np.float64]] = []
    for index, contour in enumerate(contours):
        child, parent = tree[0][index][2:]
        if parent >= 0 or len(contour) < 4:
            continue
        holes = []
        while child >= 0:
            if len(contours[child]) > 3:
                holes.append(_ring(contours[child], downsample))
            child = tree[0][child][0]
        # A contour joins the centres of border pixels: half a pixel more is the border itself.
        shape = Polygon(_ring(contour, downsample), holes).buffer(0).buffer(downsample / 2, join_style="mitre")
        for part in _polygons(shape.simplify(downsample * 0.6).intersection(frame)):
            pieces += [np.asarray(p.exterior.coords, np.float64) for p in _without_holes(part)]
    return pieces


def _ring(contour: NDArray[Any], downsample: int) -> NDArray[np.float64]:
    return np.asarray(contour[:, 0, :] + 0.5, np.float64) * downsample


def _polygons(shape: Polygon | MultiPolygon | GeometryCollection) -> list[Polygon]:
    parts = getattr(shape, "geoms", [shape])
    return [p for p in parts if isinstance(p, Polygon) and p.area > 0]


def _without_holes(shape: Polygon) -> list[Polygon]:
    """Cut through the middle of a hole, until there is none."""
    if not shape.interiors:
        return [shape]
    x = shape.interiors[0].centroid.x
    left, low, right, high = shape.bounds
    halves = (box(left, low, x, high), box(x, low, right, high))
    return [q for half in halves for p in _polygons(shape.intersection(half)) for q in _without_holes(p)]
