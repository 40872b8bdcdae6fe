"""The empty glass of a slide: its colour, optical density relative to it, and whether there is any (brightfield)."""

from itertools import pairwise

import cv2
import numpy as np

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


def most(image: np.ndarray) -> np.ndarray:
    """Largest of the three channels of (..., 3); many times faster than `max` over so short an axis."""
    return np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2])


def least(image: np.ndarray) -> np.ndarray:
    """Smallest of the three channels of (..., 3)."""
    return np.minimum(np.minimum(image[..., 0], image[..., 1]), image[..., 2])


def spread(image: np.ndarray) -> np.ndarray:
    """Difference of the largest and the smallest channel of (..., 3): what is not grey."""
    return most(image) - least(image)


def mean(image: np.ndarray) -> np.ndarray:
    """Mean of the three channels of (..., 3)."""
    return (image[..., 0] + image[..., 1] + image[..., 2]) / 3


def glass_colour(overview: Overview) -> tuple[float, float, float]:
    """RGB of the empty glass: the commonest of the bright and nearly colourless pixels.

    Scanners pad what they did not scan with pure white. That counts as glass only where there is no other, since the
    real glass would be tissue beside it.
    """
    step = _sampling(overview.readable)
    pixels = overview.pixels[::step, ::step][overview.readable[::step, ::step]].astype(np.int16)
    low, high = least(pixels), most(pixels)
    bright = (low >= GLASS_RANGE) & (high - low <= GLASS_TINT)
    scanned = bright & (low < 254)
    if scanned.sum() >= 0.005 * len(pixels):
        bright = scanned
    if bright.sum() <= 0.001 * len(pixels):
        return UNKNOWN_GLASS
    level = low[bright]
    # Pale tissue may outnumber the glass, but never outshines it: the mode is sought near the top only.
    top = int(np.percentile(level, 98))
    counts = np.bincount(level[level >= top - 25], minlength=256)
    mode = int(np.convolve(counts, np.ones(5), mode="same").argmax())
    red, green, blue = np.median(pixels[bright][np.abs(level - mode) <= 4], axis=0)
    return float(red), float(green), float(blue)


def optical_density(overview: Overview) -> np.ndarray:
    """Optical density (H, W, 3) float32, log10, relative to the glass and its shading; never below 0."""
    glass = np.array(glass_colour(overview))
    table = np.log10((glass + 1) / (np.arange(256)[:, None] + 1)).astype(np.float32)
    density = np.stack([table[:, channel][overview.pixels[..., channel]] for channel in range(3)], axis=2)
    density -= _shading(density, overview.readable)
    return np.clip(density, 0, None, out=density)


def _shading(density: np.ndarray, readable: np.ndarray) -> np.ndarray:
    """Smooth unevenness of the glass (H, W, 3): a paraboloid through the medians of the glass on a grid.

    Zero where too little glass is in view to tell. Medians on a grid keep the fit small, so that it does not depend
    on how a machine splits a large sum.
    """
    whole = density.shape[:2]
    step = _sampling(readable)
    density, readable = density[::step, ::step], readable[::step, ::step]
    flat = readable & _flat(density)
    field = np.zeros((1, 1, 3), np.float32)
    for _ in range(2):
        rest = density - field
        points, values = _glass_samples(density, flat & (most(np.abs(rest)) < 0.06) & (spread(rest) < 0.02))
        if len(points) < SHADING_GRID**2 / 4:
            return np.zeros((1, 1, 3), np.float32)
        x, y = points.T
        terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=1)
        fit, *_ = np.linalg.lstsq(terms, values, rcond=None)
        coefficients = np.array(np.round(fit, 5), np.float32)
        field = _paraboloid(coefficients, density.shape[:2])
    return field if step == 1 else _paraboloid(coefficients, whole)


def _sampling(picture: np.ndarray) -> int:
    """Take every how manieth row and column, so that about `ENOUGH_PX` pixels tell of the glass."""
    return max(1, round((picture.shape[0] * picture.shape[1] / ENOUGH_PX) ** 0.5))


def _paraboloid(fit: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The surface (H, W, 3) of coefficients (6, 3) of 1, x, y, xy, xx, yy, with both axes from -1 to 1."""
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :]
    field = np.empty((*shape, 3), np.float32)
    for channel, (one, by_x, by_y, by_xy, by_xx, by_yy) in enumerate(fit.T):
        surface = (one + by_x * x + by_xx * x * x) + (by_y * y + by_yy * y * y) + by_xy * y * x
        np.clip(surface, -LARGEST_SHADING, LARGEST_SHADING, out=field[..., channel])
    return field


def empty_glass(density: np.ndarray) -> np.ndarray:
    """Where there is nothing at all (H, W) bool: hardly any density or colour, and no texture."""
    return _flat(density) & (most(density) < 0.06) & (spread(density) < 0.02)


def _flat(density: np.ndarray) -> np.ndarray:
    """Where no texture is (H, W) bool; tissue so pale that it passes for glass by its colour still has nuclei."""
    green = np.ascontiguousarray(density[..., 1])
    local = cv2.blur(green, (5, 5))
    return cv2.blur(green * green, (5, 5)) - local * local < LARGEST_TEXTURE**2


def _glass_samples(density: np.ndarray, glass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 2), each axis -1 to 1, and median density (n, 3) of the grid cells with enough glass."""
    height, width = glass.shape
    rows, cols = (np.linspace(0, side, SHADING_GRID + 1, dtype=int) for side in (height, width))
    points, values = [], []
    for top, bottom in pairwise(rows):
        for left, right in pairwise(cols):
            here = glass[top:bottom, left:right]
            if here.sum() >= max(16, 0.1 * here.size):
                points.append(((left + right) / width - 1, (top + bottom) / height - 1))
                values.append(np.median(density[top:bottom, left:right][here], axis=0))
    return np.array(points).reshape(-1, 2), np.array(values).reshape(-1, 3)


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
    pixels = overview.pixels[overview.readable].astype(np.float32)
    if not len(pixels):
        return
    low, high = least(pixels), most(pixels)
    glass = (low >= 190) & (high - low <= GLASS_TINT)
    if glass.mean() >= 0.02:
        return
    dark = high < 60
    green = pixels[:, 1] > 1.05 * np.maximum(pixels[:, 0], pixels[:, 2]) + 3
    emitted = ~dark & (green | (low < 0.15 * high))
    if dark.mean() > 0.5 or emitted.mean() > 0.05:
        luminance = float(np.median(pixels @ np.array([0.299, 0.587, 0.114], np.float32)))
        raise UnsupportedStainError(
            f"not a brightfield slide: median luminance {luminance:.0f} of 255, {dark.mean():.0%} dark background, "
            f"{glass.mean():.0%} empty glass, {emitted.mean():.0%} in colours of emitted light; "
            "fluorescence cannot be graded"
        )
