"""Where the tissue is: `TissueMask` and `find_tissue()`."""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from shapely import affinity
from shapely.geometry import Polygon

from wsi.errors import UnsupportedStainError
from wsi.outline import mask_polygons
from wsi.overview import OVERVIEW_MPP, Overview, read_overview
from wsi.slide import Slide

TISSUE_MPP = OVERVIEW_MPP

SHADING_GRID = 12

SMALLEST_PIECE_UM2 = 12_544.0
"""Smaller pieces are dropped: not one default tile (224 px at 0.5 um/px) fits in, and dust and debris are this small."""

SMALLEST_HOLE_UM2 = 40_000.0
"""Smaller holes are filled: lumina, vessels and fat cells (to 150 um wide) belong to the tissue; larger ones are gaps."""


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
        return float(self.mask.sum()) * px_um

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
        integral = np.zeros((self.mask.shape[0] + 1, self.mask.shape[1] + 1))
        integral[1:, 1:] = self.mask.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
        left_top = (
            np.asarray(coords, dtype=np.float64) - self.origin_px0
        ) / self.downsample
        size = np.array(
            [side_px0[0] / self.downsample[0], side_px0[1] / self.downsample[1]]
        )
        (x0, y0), (x1, y1) = left_top.T, (left_top + size).T
        total = (
            _bilinear(integral, x1, y1)
            - _bilinear(integral, x0, y1)
            - _bilinear(integral, x1, y0)
            + _bilinear(integral, x0, y0)
        )
        return np.clip(total / size.prod(), 0, 1).astype(np.float32)


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
    overview = (
        source if isinstance(source, Overview) else read_overview(source, mpp=mpp)
    )
    density = optical_density(overview)
    ink = find_ink(density)
    colour = _coloured(density, ink)
    mask = _tidy(colour, ink, overview) & overview.readable
    return TissueMask(mask, overview.downsample, overview.origin_px0, overview.mpp)


def glass_colour(overview: Overview) -> tuple[float, float, float]:
    """RGB of the empty glass: the commonest grey level among the bright and nearly colourless pixels."""
    pixels = overview.pixels[overview.readable].astype(np.int16)
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    bright = (low >= 150) & (high - low <= 30)
    scanned = bright & (low < 254)
    # Scanners pad what they did not scan with pure white; it is glass only where there is no other.
    if scanned.sum() >= 0.005 * max(1, len(pixels)):
        bright = scanned
    if bright.sum() < 0.001 * len(pixels) or not bright.any():
        return 240.0, 240.0, 240.0
    level = low[bright]
    top = np.percentile(level, 98)
    counts = np.bincount(level[level >= top - 40], minlength=256)
    mode = int(np.convolve(counts, np.ones(5), mode="same").argmax())
    red, green, blue = np.median(pixels[bright][np.abs(level - mode) <= 4], axis=0)
    return float(red), float(green), float(blue)


def optical_density(overview: Overview) -> np.ndarray:
    """Optical density (H, W, 3) float32 relative to the glass, log10, 0 or above."""
    glass = np.array(glass_colour(overview))
    density = -np.log10((overview.pixels.astype(np.float32) + 1) / (glass + 1)).astype(
        np.float32
    )
    density -= _shading(density, overview.readable)
    return np.clip(density, 0, None)


def _shading(density: np.ndarray, readable: np.ndarray) -> np.ndarray:
    """Smooth unevenness of the glass (H, W, 3): a parabola through the medians of the glass on a grid."""
    height, width = density.shape[:2]
    rows, cols = (
        np.linspace(0, height, SHADING_GRID + 1, dtype=int),
        np.linspace(0, width, SHADING_GRID + 1, dtype=int),
    )
    field = np.zeros_like(density)
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    for _ in range(2):
        rest = density - field
        glass = (
            readable & (np.abs(rest).max(axis=2) < 0.06) & (np.ptp(rest, axis=2) < 0.02)
        )
        points, values = [], []
        for top, bottom in pairwise(rows):
            for left, right in pairwise(cols):
                here = glass[top:bottom, left:right]
                if here.sum() >= max(16, 0.1 * here.size):
                    points.append(
                        ((left + right) / width - 1, (top + bottom) / height - 1)
                    )
                    values.append(
                        np.median(density[top:bottom, left:right][here], axis=0)
                    )
        if len(points) < SHADING_GRID**2 / 4:
            return np.zeros_like(density)
        fit, *_ = np.linalg.lstsq(
            _parabola(*np.array(points).T), np.array(values), rcond=None
        )
        field = np.clip(np.round(_parabola(x, y) @ fit, 4), -0.1, 0.1).astype(
            np.float32
        )
    return field


def _parabola(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack(
        np.broadcast_arrays(np.ones_like(x), x, y, x * y, x * x, y * y), axis=-1
    )


def find_ink(density: np.ndarray) -> np.ndarray:
    """Where a pen has been, and black surround: (H, W) bool."""
    red, green, blue = (
        np.ascontiguousarray(density[..., channel]) for channel in range(3)
    )
    strength, spread = density.max(axis=2), np.ptp(density, axis=2)
    mean = density.mean(axis=2)
    hues = {
        "black": (spread < 0.25 * mean, 0.45),
        "blue": ((green < 0.75 * red) & (blue < 0.75 * red), 0.40),
        "green": (green < 0.75 * np.minimum(red, blue), 0.25),
        "red": ((red < 0.15 * green) & (blue > 0.75 * green), 0.40),
    }
    local = cv2.blur(strength, (5, 5))
    rough = np.sqrt(
        np.clip(cv2.blur(strength * strength, (5, 5)) - local * local, 0, None)
    )
    ink = np.zeros(strength.shape, bool)
    for hue, strong in hues.values():
        core = hue & (strength >= strong) & (rough < 0.15 * local)
        core = cv2.morphologyEx(
            core.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)
        )
        near = cv2.dilate(core, _disc(6)).astype(bool)
        ink |= core.astype(bool) | (near & hue)
    return ink


def _coloured(density: np.ndarray, ink: np.ndarray) -> np.ndarray:
    smooth = cv2.GaussianBlur(density, (0, 0), 1.0)
    spread, mean = np.ptp(smooth, axis=2), smooth.mean(axis=2)
    spread = np.where((spread > 0.2 * mean) & ~ink, spread, 0)
    weak, strong = spread > 0.02, spread > 0.035
    _, labels = cv2.connectedComponents(weak.astype(np.uint8), connectivity=8)
    return weak & np.isin(labels, np.unique(labels[strong]))


def _tidy(colour: np.ndarray, ink: np.ndarray, overview: Overview) -> np.ndarray:
    """Join broken walls, drop small pieces, fill small holes."""
    area_um2 = overview.px_um[0] * overview.px_um[1]
    mask = cv2.morphologyEx(colour.astype(np.uint8), cv2.MORPH_CLOSE, _disc(2)).astype(
        bool
    )
    mask = ~_drop_small(~mask, SMALLEST_HOLE_UM2 / area_um2)
    mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, _disc(1)).astype(
        bool
    )
    return _drop_small(mask, SMALLEST_PIECE_UM2 / area_um2)


def _drop_small(mask: np.ndarray, least_px: float) -> np.ndarray:
    """Without the 4-connected pieces of fewer than `least_px` pixels."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    keep = stats[:, cv2.CC_STAT_AREA] >= least_px
    keep[0] = False
    return keep[labels]


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(
        cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)
    )


def check_brightfield(source: Slide | Overview) -> None:
    """Refuse fluorescence on black before it is graded as if it were H&E.

    Light that passes through a slide only loses: empty glass is the brightest and colourless. In fluorescence there
    is no glass; the ground is dark, or colours that no brightfield stain has (green above red and blue, or one
    channel alone) take much of the field.

    Raises
    ------
    UnsupportedStainError
        With what was found.
    """
    overview = source if isinstance(source, Overview) else read_overview(source)
    pixels = overview.pixels[overview.readable].astype(np.float32)
    if not len(pixels):
        return
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    dark = high < 60
    glass = (low >= 190) & (high - low <= 30)
    if glass.mean() >= 0.02:
        return
    green = pixels[:, 1] > 1.05 * np.maximum(pixels[:, 0], pixels[:, 2]) + 3
    single = (low < 0.15 * high) & ~dark
    shares = {
        "dark": float(dark.mean()),
        "green": float(green.mean()),
        "single": float(single.mean()),
    }
    if shares["dark"] > 0.5 or shares["green"] > 0.05 or shares["single"] > 0.1:
        median = float(np.median(pixels @ np.array([0.299, 0.587, 0.114], np.float32)))
        raise UnsupportedStainError(
            f"not a brightfield slide: median luminance {median:.0f} of 255, {shares['dark']:.0%} dark background, "
            f"{float(glass.mean()):.0%} empty glass, {shares['green'] + shares['single']:.0%} in colours of emitted light; "
            "fluorescence cannot be graded"
        )


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
