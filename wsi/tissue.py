"""Where the tissue is: `TissueMask` and `find_tissue()`."""

from dataclasses import dataclass

import cv2
import numpy as np
from shapely import affinity
from shapely.geometry import Polygon

from wsi.appearance import Appearance, appearance
from wsi.artefacts import find_ink, holding, pieces
from wsi.bands import bands
from wsi.glass import check_brightfield, learn_glass
from wsi.morphology import morph
from wsi.outline import mask_polygons
from wsi.overview import OVERVIEW_MPP, Overview, read_overview
from wsi.slide import Slide

TISSUE_MPP = OVERVIEW_MPP

TISSUE_METHOD = "optical-density-1"
"""Names the method in every store's recipe; raise the number when masks change, so that stores are not mixed."""

SMALLEST_PIECE_UM2 = 12_544.0
"""Smaller pieces are dropped: not one default tile (224 px at 0.5 um/px) fits in; dust and debris are this small."""

SMALLEST_HOLE_UM2 = 12_544.0
"""Smaller holes are filled: lumina, vessels and fat cells (to 120 um wide) belong to the tissue. A hole in which a
default tile fits is a gap."""

SMOOTHING_UM = 8.0
"""Standard deviation of the smoothing before the threshold: JPEG noise goes, a fat cell's wall stays."""

LOWEST_COLOUR = (0.01, 0.03)
"""Range of the threshold, optical density between channels; in it, the noise of the glass decides. 0.01 is 2 % of the
light, which the eye hardly sees; at 0.03 the palest tissue that can be graded would be lost."""

INK_FRINGE_UM = 40.0
"""Colour within this distance of ink that is less than twice as wide belongs to the ink."""

WALL_UM = 24.0
"""Half the width of the thickest wall between fat cells; what is thicker is solid tissue and is not closed."""

PLACES_AT_ONCE = 1 << 16
"""Rectangles whose share of tissue is worked out at once."""

MEDIAN_SAMPLE_PX = 1 << 16
"""Pixels that tell about where a median is."""

FAT_CELL_UM = 130.0
"""Widest gap between walls that is closed; fat cells are 50 to 120 um wide."""


@dataclass(frozen=True, slots=True)
class TissueMask:
    """Tissue of one slide.

    Attributes
    ----------
    mask : ndarray (H, W) bool
        True on tissue.
    downsample : (x, y)
        Level-0 pixels per pixel of the mask, exact and fractional.
    origin_px0 : (x, y)
        Level-0 pixel of the mask's top-left corner.
    mpp : (x, y)
        um per level-0 pixel.
    """

    mask: np.ndarray
    downsample: tuple[float, float]
    origin_px0: tuple[int, int]
    mpp: tuple[float, float]

    @property
    def area_um2(self) -> float:
        """Area of the tissue in square micrometres."""
        px_um = self.downsample[0] * self.mpp[0] * self.downsample[1] * self.mpp[1]
        return np.count_nonzero(self.mask) * px_um

    def polygons(self) -> list[Polygon]:
        """Outlines with holes in level-0 px; see `tissue_polygons`."""
        return tissue_polygons(self)

    def fraction(self, coords: np.ndarray, side_px0: tuple[float, float]) -> np.ndarray:
        """Share of tissue in each of some rectangles, by exact area.

        Parameters
        ----------
        coords : ndarray (N, 2)
            Top-left (x, y), level-0 px.
        side_px0 : (w, h)
            Their size in level-0 pixels.

        Returns
        -------
        ndarray (N,) float32
            0 to 1; what hangs over the mask's edge counts as no tissue.
        """
        integral = cv2.integral(np.ascontiguousarray(self.mask).view(np.uint8), sdepth=cv2.CV_32S)
        places = np.asarray(coords)
        share = np.empty(len(places), np.float32)
        for start in range(0, len(places), PLACES_AT_ONCE):
            some = slice(start, start + PLACES_AT_ONCE)
            share[some] = self._fraction(integral, places[some], side_px0)
        return share

    def _fraction(self, integral: np.ndarray, coords: np.ndarray, side_px0: tuple[float, float]) -> np.ndarray:
        left_top = (coords.astype(np.float64) - self.origin_px0) / self.downsample
        size = np.array([side_px0[0] / self.downsample[0], side_px0[1] / self.downsample[1]])
        (x0, y0), (x1, y1) = left_top.T, (left_top + size).T
        total = (
            _bilinear(integral, x1, y1)
            - _bilinear(integral, x0, y1)
            - _bilinear(integral, x1, y0)
            + _bilinear(integral, x0, y0)
        )
        return np.clip(total / size.prod(), 0, 1)


def _bilinear(grid: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, grid.shape[1] - 1)
    y = np.clip(y, 0, grid.shape[0] - 1)
    left = np.minimum(x.astype(np.int64), grid.shape[1] - 2)
    top = np.minimum(y.astype(np.int64), grid.shape[0] - 2)
    fx, fy = x - left, y - top
    upper = grid[top, left] * (1 - fx) + grid[top, left + 1] * fx
    lower = grid[top + 1, left] * (1 - fx) + grid[top + 1, left + 1] * fx
    return upper * (1 - fy) + lower * fy


def find_tissue(source: Slide | Overview, *, mpp: float = TISSUE_MPP) -> TissueMask:
    """Find the tissue of a brightfield slide.

    Tissue is what has colour: optical density relative to the slide's own glass that differs between the channels.
    Shadows, glass edges, dust and black surround darken all channels alike; ink has a hue that no stain has.
    Fat counts as tissue: the gaps between its thin walls are closed.

    Parameters
    ----------
    source : Slide or Overview
        An overview that was read before is not read again.
    mpp : float
        Scale of the mask in um/px; an overview keeps its own.

    Returns
    -------
    TissueMask
        Empty if the slide holds no tissue.

    Raises
    ------
    MissingMppError, ImplausibleMppError
        If the slide has no believable pixel size.
    """
    overview = source if isinstance(source, Overview) else read_overview(source, mpp=mpp)
    seen = appearance(overview, learn_glass(overview))
    pen, surround = find_ink(seen.ink, overview.side_um)
    return tissue_of_appearance(overview, seen, pen | surround)


def tissue_of_appearance(overview: Overview, seen: Appearance, ink: np.ndarray) -> TissueMask:
    """`find_tissue` where the appearance and the ink (H, W) bool are known already; uses the former up."""
    area_um2 = overview.px_um[0] * overview.px_um[1]
    side_um = overview.side_um
    colour, glass = seen.colour, seen.empty
    off = ink | ~overview.readable
    if off.any():
        colour[off] = 0
    mask = _coloured(colour, glass, side_um)
    fringe = _ink_fringe(mask, ink, side_um)
    if fringe.any():
        mask &= ~fringe
        colour[fringe] = 0
    mask |= _fat(colour, glass, mask, side_um)
    mask = _trimmed(mask, colour)
    mask = ~_without_small(~mask, SMALLEST_HOLE_UM2 / area_um2) & overview.readable
    # The coloured fringe of a glass edge is long and thin; a thin strand of tissue hangs on something thicker.
    mask = holding(mask, morph(mask, "open", 1))
    mask = _without_small(mask, SMALLEST_PIECE_UM2 / area_um2)
    return TissueMask(mask, overview.downsample, overview.origin_px0, overview.mpp)


def _coloured(colour: np.ndarray, glass: np.ndarray, side_um: float) -> np.ndarray:
    """Pixels (H, W) bool whose colour stands out of the glass's noise, where some of the piece does so clearly."""
    smooth = cv2.GaussianBlur(colour, (0, 0), SMOOTHING_UM / side_um)
    weak = _threshold(smooth, glass)
    coloured, clearly = smooth > weak, smooth > 2 * weak
    del smooth
    return holding(coloured, clearly)


def _ink_fringe(coloured: np.ndarray, ink: np.ndarray, side_um: float) -> np.ndarray:
    """Narrow colour beside ink (H, W) bool: where a stroke fades out or two mix, ink has the hue of a stain."""
    if not ink.any():
        return ink
    reach = round(INK_FRINGE_UM / side_um)
    return coloured & morph(ink, "dilate", reach) & ~morph(coloured, "open", reach)


def _threshold(colour: np.ndarray, glass: np.ndarray) -> float:
    """Least colour that is no noise: some times the median of the glass, within `LOWEST_COLOUR`."""
    if not glass.any():
        return sum(LOWEST_COLOUR) / 2
    return float(np.clip(6 * _median(colour, glass), *LOWEST_COLOUR))


def _median(values: np.ndarray, where: np.ndarray) -> np.float32:
    """Median of (H, W) float32 in some places: a sample says about where it is, and only what is there is sorted."""
    step = max(1, round((values.size / MEDIAN_SAMPLE_PX) ** 0.5))
    sample = values[::step, ::step][where[::step, ::step]]
    low, high = np.quantile(sample, (0.45, 0.55), method="nearest") if sample.size else (0, 0)
    count = below = 0
    near = []
    for rows, _, _ in bands(values.shape):
        here = values[rows][where[rows]]
        count += here.size
        below += int(np.count_nonzero(here < low))
        near.append(here[(here >= low) & (here <= high)])
    middle = np.concatenate(near)
    ranks = [(count - 1) // 2 - below, count // 2 - below]
    if not 0 <= ranks[0] <= ranks[1] < len(middle):
        return np.float32(np.median(values[where]))
    middle.partition(ranks)
    return np.mean(middle[ranks])


def _fat(colour: np.ndarray, glass: np.ndarray, coloured: np.ndarray, side_um: float) -> np.ndarray:
    """Fat cells between thin walls (H, W) bool.

    Walls are a fraction of a pixel wide and pale, so they are sought before smoothing, as chains of pixels. A closing
    joins them; what it makes of a single strand is too narrow for the opening that follows. Solid tissue takes part
    beside fat only, else the closing would bridge its clefts.
    """
    thin = colour > 1.2 * _threshold(colour, glass)
    solid = morph(coloured, "open", round(WALL_UM / side_um))
    walls = _without_small(thin & ~morph(solid, "dilate", 1), WALL_UM * 2 / side_um, connectivity=8)
    reach = round(FAT_CELL_UM / 2 / side_um)
    cells = morph(walls, "close", reach)
    cells = morph(cells, "open", round(FAT_CELL_UM / 3 / side_um))
    return morph(cells | coloured, "close", reach) & morph(cells, "dilate", reach)


def _trimmed(mask: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Without the pixels at the rim that have less than half the colour of the tissue inside of them.

    Smoothing and a low threshold push the outline outwards by about a pixel, which for a small piece is much.
    """
    whole_core = morph(mask, "erode", 2)
    trimmed = mask.copy()
    for rows, around, inner in bands(mask.shape, 3):
        if not mask[rows].any():
            continue
        core = whole_core[around].astype(np.float32)
        share = cv2.blur(core, (7, 7))
        inside = cv2.blur(core * colour[around], (7, 7)) / np.maximum(share, np.float32(1e-6))
        pale = (core == 0) & (share > 0.05) & (cv2.GaussianBlur(colour[around], (0, 0), 0.5) < 0.5 * inside)
        trimmed[rows] &= ~pale[inner]
    return trimmed


def _without_small(mask: np.ndarray, least_px: float, *, connectivity: int = 4) -> np.ndarray:
    """Without the connected pieces of fewer than `least_px` pixels."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=connectivity)
    keep = stats[:, cv2.CC_STAT_AREA] >= least_px
    keep[0] = False
    return pieces(keep, labels)


def tissue_polygons(tissue: TissueMask, *, tolerance_px: float = 1.0) -> list[Polygon]:
    """Outlines of the tissue with its holes, one valid polygon for each piece, largest first.

    Parameters
    ----------
    tolerance_px : float
        Simplification, pixels of the mask; the area of a piece stays within half a per cent.

    Returns
    -------
    list of Polygon
        Level-0 px.
    """
    dx, dy = tissue.downsample
    x, y = tissue.origin_px0
    return [
        affinity.affine_transform(polygon, [dx, 0, 0, dy, x, y])
        for polygon in mask_polygons(tissue.mask, tolerance_px=tolerance_px)
    ]


__all__ = ["TISSUE_MPP", "TissueMask", "check_brightfield", "find_tissue", "tissue_of_appearance", "tissue_polygons"]
