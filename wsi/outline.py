"""Outlines of a mask as polygons that run along the edges of its pixels."""

import numpy as np
import shapely
from shapely.geometry import Polygon

AREA_TOLERANCE = 0.005
"""A simplified outline may change the area of its piece by this share; else it is simplified less."""

_STEP = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])


def mask_polygons(mask: np.ndarray, *, tolerance_px: float = 1.0) -> list[Polygon]:
    """One valid polygon with holes for each 4-connected piece of a mask, largest first.

    The exact outline follows the edges between pixels, so that its area is the number of pixels; OpenCV's contours
    run through the centres and lose half a pixel all around. It is then simplified.

    Parameters
    ----------
    mask : ndarray (H, W) bool
    tolerance_px : float
        Largest distance of the simplified outline from the exact one, pixels of the mask; 0 keeps every corner.

    Returns
    -------
    list of Polygon
        In pixels of the mask, (0, 0) being the outer corner of its first pixel.
    """
    shells: list[np.ndarray] = []
    holes: list[np.ndarray] = []
    for ring in _rings(np.asarray(mask, bool)):
        (shells if _signed_area(ring) > 0 else holes).append(ring)
    polygons = [Polygon(shell) for shell in shells]
    inside: list[list[np.ndarray]] = [[] for _ in shells]
    if holes:
        tree = shapely.STRtree(polygons)
        areas = np.array([polygon.area for polygon in polygons])
        for hole in holes:
            around = tree.query(Polygon(hole), predicate="covered_by")
            inside[int(around[areas[around].argmin()])].append(hole)
    whole = [Polygon(shell, rings) for shell, rings in zip(shells, inside, strict=True)]
    return sorted(
        (_simplified(polygon, tolerance_px) for polygon in whole),
        key=lambda polygon: -polygon.area,
    )


def _rings(mask: np.ndarray) -> list[np.ndarray]:
    """Simple closed rings (n, 2) of (x, y) corners; clockwise on the screen around pieces, the other way in holes."""
    padded = np.pad(mask, 1)
    here, above, left = padded[1:, 1:], padded[:-1, 1:], padded[1:, :-1]
    width = here.shape[1]
    # out[d] at a corner: an edge leaves it in direction d (right, down, left, up) with the piece on its right hand.
    out = np.zeros((4, *here.shape), bool)
    out[0] = here & ~above
    out[1] = left & ~here
    out[2][:, 1:] = (above & ~here)[:, :-1]
    out[3][1:] = (here & ~left)[:-1]
    direction, y, x = np.nonzero(out)
    if not len(direction):
        return []
    end_x, end_y = x + _STEP[direction, 0], y + _STEP[direction, 1]
    follow = (direction + 3) % 4
    for turn in (
        0,
        1,
    ):  # a right turn, tried last, wins: it stays with the same pixel where two meet at a corner
        candidate = (direction + turn) % 4
        follow = np.where(out[candidate, end_y, end_x], candidate, follow)
    places = np.ravel_multi_index((direction, y, x), out.shape)  # ascending
    following = np.searchsorted(places, np.ravel_multi_index((follow, end_y, end_x), out.shape)).tolist()
    corner = (follow != direction).tolist()
    vertices = (end_y * width + end_x).tolist()
    rings = []
    seen = bytearray(len(following))
    for first in range(len(following)):
        path: list[int] = []
        edge = first
        while not seen[edge]:
            seen[edge] = 1
            if corner[edge]:
                path.append(vertices[edge])
            edge = following[edge]
        rings += _simple(path)
    return [np.stack([np.array(ring) % width, np.array(ring) // width], axis=1).astype(np.float64) for ring in rings]


def _simple(path: list[int]) -> list[list[int]]:
    """Cut a ring wherever it comes back to a corner, which happens where pixels touch diagonally."""
    rings: list[list[int]] = []
    stack: list[int] = []
    place: dict[int, int] = {}
    for vertex in path:
        if vertex in place:
            start = place[vertex]
            rings.append(stack[start:])
            for dropped in stack[start + 1 :]:
                del place[dropped]
            del stack[start + 1 :]
        else:
            place[vertex] = len(stack)
            stack.append(vertex)
    if stack:
        rings.append(stack)
    return rings


def _signed_area(ring: np.ndarray) -> float:
    x, y = ring.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def _simplified(polygon: Polygon, tolerance_px: float) -> Polygon:
    while tolerance_px > 0.1:
        simpler = polygon.simplify(tolerance_px, preserve_topology=True)
        same = abs(simpler.area - polygon.area) <= AREA_TOLERANCE * polygon.area
        if same and simpler.is_valid and isinstance(simpler, Polygon) and not simpler.is_empty:
            return simpler
        tolerance_px /= 2
    return polygon
