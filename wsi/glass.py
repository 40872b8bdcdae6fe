"""The empty glass of a slide: its colour, optical density relative to it, and whether there is any (brightfield)."""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from wsi.bands import bands
from wsi.errors import UnsupportedStainError
from wsi.overview import Overview, read_overview
from wsi.slide import Slide

UNKNOWN_GLASS = (240.0, 240.0, 240.0)
"""Assumed where no glass is in view: what scanners are commonly balanced to."""

GLASS_RANGE = 150
"""Least brightness of glass (0-255) in its darkest channel."""

GLASS_TINT = 30
"""Largest difference of its channels (0-255); pale eosin is beyond."""

SHADING_GRID = 12
"""Cells a side in which the glass is sampled for its unevenness."""

LARGEST_SHADING = 0.1
"""Optical density that uneven light may take away (a fifth of the light); more is a shadow."""

ENOUGH_PX = 1 << 20
"""Pixels that are looked at to learn the glass; larger overviews are thinned out."""

LARGEST_TEXTURE = 0.003
"""Standard deviation of optical density over 5 x 5 pixels of empty glass. Measured: glass 0.001 to 0.0026, tissue
so pale that the eye hardly finds it 0.004."""

TEXTURE_REACH_PX = 2
"""How far texture is looked for around a pixel."""

_GREEN_ABOVE = np.floor(1.05 * np.arange(256, dtype=np.float32) + 3).clip(0, 255).astype(np.uint8)
"""Above this, green outshines the stronger of red and blue, by that one's value (0-255)."""

_SINGLE_BELOW = np.ceil(0.15 * np.arange(256, dtype=np.float32)).astype(np.uint8)
"""Below this, the weakest channel is next to nothing, by the strongest one's value (0-255)."""


Planes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Red, green and blue, (H, W) each: many times faster to work on than (H, W, 3)."""


def most(planes: Planes) -> np.ndarray:
    """Largest of the three channels (H, W)."""
    return np.maximum(np.maximum(planes[0], planes[1]), planes[2])


def least(planes: Planes) -> np.ndarray:
    """Smallest of the three channels (H, W)."""
    return np.minimum(np.minimum(planes[0], planes[1]), planes[2])


def mean(planes: Planes) -> np.ndarray:
    """Mean of the three channels (H, W)."""
    return (planes[0] + planes[1] + planes[2]) / 3


def channels(pixels: np.ndarray) -> Planes:
    """The channels of (H, W, 3), contiguous each."""
    red, green, blue = (cv2.extractChannel(pixels, channel) for channel in range(3))
    return red, green, blue


@dataclass(frozen=True, slots=True)
class Glass:
    """The empty glass of a slide.

    Attributes
    ----------
    rgb : (r, g, b)
        Its colour, 0 to 255.
    shading : ndarray (6, 3) float32
        Smooth unevenness of its density: coefficients of 1, x, y, xy, xx, yy, with both axes from -1 to 1.
    """

    rgb: tuple[float, float, float]
    shading: np.ndarray

    def density(self, overview: Overview, rows: slice) -> Planes:
        """Optical density of some rows, float32, log10, relative to the glass and its shading; never below 0."""
        red, green, blue = (
            np.maximum(density - field, np.float32(0))
            for density, field in zip(
                _relative(overview.pixels[rows], self.rgb),
                _paraboloid(self.shading, overview.readable.shape, rows),
                strict=True,
            )
        )
        return red, green, blue


def learn_glass(overview: Overview) -> Glass:
    """Colour and shading of the empty glass."""
    step = _sampling(overview.readable)
    planes, readable = (
        channels(np.ascontiguousarray(overview.pixels[::step, ::step])),
        overview.readable[::step, ::step],
    )
    rgb = _colour(planes, readable)
    return Glass(rgb, _shading(planes, readable, rgb))


def _colour(planes: Planes, readable: np.ndarray) -> tuple[float, float, float]:
    """RGB of the empty glass: the commonest of the bright and nearly colourless pixels.

    Scanners pad what they did not scan with pure white. That counts as glass only where there is no other, since the
    real glass would be tissue beside it.
    """
    low = least(planes)
    looked_at = np.count_nonzero(readable)
    bright = readable & (low >= GLASS_RANGE) & (most(planes) - low <= GLASS_TINT)
    scanned = bright & (low < 254)
    if np.count_nonzero(scanned) >= 0.005 * looked_at:
        bright = scanned
    levels = _histogram(low, bright)
    if levels.sum() <= 0.001 * looked_at:
        return UNKNOWN_GLASS
    # Pale tissue may outnumber the glass, but never outshines it: the mode is sought near the top only.
    levels[: max(0, _percentile_98(levels) - 25)] = 0
    mode = int(np.convolve(levels, np.ones(5), mode="same").argmax())
    bright &= (low >= mode - 4) & (low <= mode + 4)
    red, green, blue = (sum(_middle(_histogram(plane, bright))) / 2 for plane in planes)
    return red, green, blue


def _histogram(plane: np.ndarray, where: np.ndarray) -> np.ndarray:
    """How often each value of a plane (H, W) uint8 occurs, (256,) int64."""
    counts = cv2.calcHist([plane], [0], where.view(np.uint8), [256], [0, 256])
    return counts.ravel().astype(np.int64)


def _middle(counts: np.ndarray) -> tuple[int, int]:
    """The two values in the middle of a histogram, whose mean is the median."""
    total = counts.cumsum()
    low, high = np.searchsorted(total, [(total[-1] - 1) // 2, total[-1] // 2], side="right").tolist()
    return low, high


def _percentile_98(counts: np.ndarray) -> int:
    """What `np.percentile` says of the values of a histogram, rounded down."""
    total = counts.cumsum()
    place, share = divmod(0.98 * float(total[-1] - 1), 1)
    low, high = np.searchsorted(total, [int(place), min(int(place) + 1, total[-1] - 1)], side="right").tolist()
    return int(low + share * (high - low))


def _relative(pixels: np.ndarray, rgb: tuple[float, float, float]) -> Planes:
    """Optical density of pixels (H, W, 3) uint8 relative to a colour, float32; below 0 where they are brighter."""
    red, green, blue = (cv2.LUT(plane, table) for plane, table in zip(channels(pixels), _tables(rgb), strict=True))
    return red, green, blue


def _tables(rgb: tuple[float, float, float]) -> np.ndarray:
    """Optical density (3, 256) float32 of each value of each channel."""
    table = np.log10((np.array(rgb) + 1) / (np.arange(256)[:, None] + 1)).astype(np.float32)
    return np.ascontiguousarray(table.T)


def _shading(planes: Planes, readable: np.ndarray, rgb: tuple[float, float, float]) -> np.ndarray:
    """Coefficients (6, 3) float32 of a paraboloid through the medians of the glass on a grid.

    Zero where too little glass is in view to tell. Medians on a grid keep the fit small, so that it does not depend
    on how a machine splits a large sum.
    """
    flat = readable.copy()
    green = _tables(rgb)[1]
    for rows, around, inner in bands(flat.shape, TEXTURE_REACH_PX):
        flat[rows] &= is_flat(cv2.LUT(planes[1][around], green))[inner]
    fit = np.zeros((6, 3), np.float32)
    for _ in range(2):
        points, values = _glass_samples(planes, flat, rgb, fit)
        if len(points) < SHADING_GRID**2 / 4:
            return np.zeros((6, 3), np.float32)
        x, y = points.T
        terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=1)
        exact, *_ = np.linalg.lstsq(terms, values, rcond=None)
        fit = np.array(np.round(exact, 5), np.float32)
    return fit


def _sampling(picture: np.ndarray) -> int:
    """Take every how manieth row and column, so that about `ENOUGH_PX` pixels tell of the glass."""
    return max(1, round((picture.shape[0] * picture.shape[1] / ENOUGH_PX) ** 0.5))


def _paraboloid(fit: np.ndarray, shape: tuple[int, ...], rows: slice) -> Planes:
    """Some rows of the surface of coefficients (6, 3) of 1, x, y, xy, xx, yy, with both axes from -1 to 1."""
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[rows, None]
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :]
    most_shading = np.float32(LARGEST_SHADING)
    planes = []
    for one, by_x, by_y, by_xy, by_xx, by_yy in fit.T:
        surface = (one + by_x * x + by_xx * x * x) + (by_y * y + by_yy * y * y)
        surface += by_xy * y * x
        planes.append(np.clip(surface, -most_shading, most_shading, out=surface))
    red, green, blue = planes
    return red, green, blue


def is_plain(strongest: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Where glass may be (H, W) bool: hardly any density (of the strongest channel) or colour (between channels)."""
    return (strongest < 0.06) & (spread < 0.02)


def is_flat(green: np.ndarray) -> np.ndarray:
    """Where no texture is (H, W) bool; tissue so pale that it passes for glass by its colour still has nuclei."""
    side = 2 * TEXTURE_REACH_PX + 1
    local = cv2.blur(green, (side, side))
    return cv2.blur(green * green, (side, side)) - local * local < LARGEST_TEXTURE**2


def _glass_samples(
    planes: Planes, flat: np.ndarray, rgb: tuple[float, float, float], fit: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 2), each axis -1 to 1, and median density (n, 3) of the grid cells with enough glass.

    Glass is what is `flat` and plain once the shading found so far, `fit`, is taken away.
    """
    height, width = flat.shape
    tables = _tables(rgb)
    columns = np.linspace(0, width, SHADING_GRID + 1, dtype=int)
    points, values = [], []
    for top, bottom in pairwise(np.linspace(0, height, SHADING_GRID + 1, dtype=int)):
        if bottom == top:
            continue
        rows = slice(top, bottom)
        rest = [cv2.LUT(plane[rows], table) for plane, table in zip(planes, tables, strict=True)]
        if fit.any():
            rest = [density - field for density, field in zip(rest, _paraboloid(fit, flat.shape, rows), strict=True)]
        red, green, blue = rest
        high, low = most((red, green, blue)), least((red, green, blue))
        glass = flat[rows] & is_plain(np.maximum(high, -low), high - low)
        for left, right in pairwise(columns):
            here = np.ascontiguousarray(glass[:, left:right])
            if np.count_nonzero(here) >= max(16, 0.1 * here.size):
                points.append(((left + right) / width - 1, (top + bottom) / height - 1))
                middle = [_middle(_histogram(np.ascontiguousarray(plane[rows, left:right]), here)) for plane in planes]
                values.append([table[list(pair)].sum() / 2 for table, pair in zip(tables, middle, strict=True)])
    return np.array(points).reshape(-1, 2), np.array(values, np.float32).reshape(-1, 3)


def check_brightfield(source: Slide | Overview) -> None:
    """Refuse fluorescence before it is graded as if it were H&E.

    Light that passes through a slide only loses: empty glass is its brightest part and nearly colourless, and 2 % of
    it settle the matter. Without glass (tissue fills the field) a slide is refused if most of it is dark, or if colours
    are common that emitted light has and stained tissue has not: green above red and blue, or one channel alone.

    Raises
    ------
    UnsupportedStainError
        With what was found.
    """
    overview = source if isinstance(source, Overview) else read_overview(source)
    seen = glass = dark = emitted = 0
    for rows, _, _ in bands(overview.readable.shape):
        planes, readable = channels(overview.pixels[rows]), overview.readable[rows]
        low, high = least(planes), most(planes)
        seen += int(np.count_nonzero(readable))
        glass += int(np.count_nonzero(readable & (low >= 190) & (high - low <= GLASS_TINT)))
    if seen == 0 or glass / seen >= 0.02:
        return
    for rows, _, _ in bands(overview.readable.shape):
        planes, readable = channels(overview.pixels[rows]), overview.readable[rows]
        low, high = least(planes), most(planes)
        black = high < 60
        green = planes[1] > cv2.LUT(np.maximum(planes[0], planes[2]), _GREEN_ABOVE)
        dark += int(np.count_nonzero(readable & black))
        emitted += int(np.count_nonzero(readable & ~black & (green | (low < cv2.LUT(high, _SINGLE_BELOW)))))
    if dark / seen > 0.5 or emitted / seen > 0.05:
        step = _sampling(overview.readable)
        pixels = overview.pixels[::step, ::step][overview.readable[::step, ::step]].astype(np.float32)
        luminance = float(np.median(pixels @ np.array([0.299, 0.587, 0.114], np.float32)))
        raise UnsupportedStainError(
            f"not a brightfield slide: median luminance {luminance:.0f} of 255, {dark / seen:.0%} dark background, "
            f"{glass / seen:.0%} empty glass, {emitted / seen:.0%} in colours of emitted light; "
            "fluorescence cannot be graded"
        )
