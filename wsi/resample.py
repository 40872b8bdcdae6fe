"""Exact area resampling from a pyramid level to a stated scale.

The kernel is `area`: every output pixel is the mean of the input it covers, with fractional weights at its
borders. It is the default because it is the only kernel here that neither aliases nor rings at any factor, and
because averaging is what a scanner's coarser objective does. Between levels it agrees with the pyramids that
scanners write, which are area-averaged too. Enlarging uses linear interpolation.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np

from wsi.slide import ReducingSlide, Slide, SlideInfo
from wsi.weighting import Axis, Plan

Kernel = Literal["area"]
KERNELS: tuple[Kernel, ...] = ("area",)

MAX_BAND_PX = 1 << 22
"""Pixels decoded at once when a large region is reduced (12 MiB of RGB, 48 MiB while it is weighed)."""


def axis_weights(start: float, length: float, size: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Which input pixels make up each output pixel along one axis, and with what weight.

    Parameters
    ----------
    start, length : float
        The interval [start, start + length) of the input, in its pixels.
    size : int
        Number of output pixels.
    limit : int
        Number of input pixels; indices are clamped to it.

    Returns
    -------
    index : ndarray (size, K) int64
    weight : ndarray (size, K) float64
        Rows sum to 1.
    """
    step = length / size
    if step < 1:
        centre = start + (np.arange(size) + 0.5) * step - 0.5
        low = np.floor(centre)
        index = low[:, None].astype(np.int64) + np.arange(2)
        weight = np.stack([1 - (centre - low), centre - low], axis=1)
    else:
        edges = start + np.arange(size + 1) * step
        first = np.floor(edges[:-1] + 1e-9).astype(np.int64)
        taps = int((np.ceil(edges[1:] - 1e-9) - first).max())
        index = first[:, None] + np.arange(taps)
        overlap = np.minimum(index + 1, edges[1:, None]) - np.maximum(index, edges[:-1, None])
        weight = np.clip(overlap, 0, None) / step
    weight /= weight.sum(axis=1, keepdims=True)
    return np.clip(index, 0, limit - 1), weight


def resize_rect(
    image: np.ndarray,
    rect: tuple[float, float, float, float],
    size_px: tuple[int, int],
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Resample a rectangle with fractional borders out of an image, to a tenth of a grey level before rounding.

    Parameters
    ----------
    image : ndarray (H, W, 3) uint8
    rect : (x, y, w, h)
        In pixels of `image`, fractional.
    size_px : (w, h)
        Size of the result.
    out : ndarray (h, w, 3) uint8, optional
        Where to put it.

    Returns
    -------
    ndarray (h, w, 3) uint8
        `out`, if given.
    """
    out = np.empty((size_px[1], size_px[0], 3), np.uint8) if out is None else out
    x, y, w, h = rect
    out_w, out_h = size_px
    whole = all(abs(value - round(value)) < 1e-6 for value in rect)
    inside = x >= 0 and y >= 0 and x + w <= image.shape[1] + 1e-6 and y + h <= image.shape[0] + 1e-6
    if whole and inside and round(w) % out_w == 0 and round(h) % out_h == 0:
        crop = image[round(y) : round(y + h), round(x) : round(x + w)]
        if crop.shape[:2] == (out_h, out_w):
            out[...] = crop
        else:
            cv2.resize(crop, size_px, dst=out, interpolation=cv2.INTER_AREA)
        return out
    _plan(round(x, 6), w, out_w, image.shape[1], round(y, 6), h, out_h, image.shape[0]).apply(image, out)
    return out


@lru_cache(maxsize=256)
def _plan(x: float, w: float, out_w: int, image_w: int, y: float, h: float, out_h: int, image_h: int) -> Plan:
    """Weights for a rectangle; tiles of a grid share a few places between pixels, so they are kept."""
    return Plan(Axis(*axis_weights(y, h, out_h, image_h)), Axis(*axis_weights(x, w, out_w, image_w)))


@dataclass(frozen=True, slots=True)
class LevelWindow:
    """The whole pixels of a level that cover a rectangle.

    Attributes
    ----------
    left, top, width, height : int
        In pixels of the level.
    rect : (x, y, w, h)
        The rectangle in pixels of the window, fractional.
    """

    left: int
    top: int
    width: int
    height: int
    rect: tuple[float, float, float, float]


def best_scale(slide: Slide, downsample: float) -> tuple[int, int]:
    """The cheapest (level, reduction) to read for a downsample: the coarsest that still has its resolution.

    A level may fall short by 1 %, a reduction by 0.1 %, since stated scales are rounded.
    """
    level = slide.info.best_level(downsample)
    return level, best_reduction(slide, level, downsample)


def best_reduction(slide: Slide, level: int, downsample: float) -> int:
    """The largest factor by which a level can be reduced while it is decoded and still suffice; 1 where it cannot."""
    if not isinstance(slide, ReducingSlide):
        return 1
    whole = min(slide.info.level_downsample(level))
    return max(factor for factor in slide.reductions(level) if factor == 1 or factor * whole <= downsample * 1.001)


def level_window(
    info: SlideInfo, rect_px0: tuple[float, float, float, float], level: int, reduce: int = 1
) -> LevelWindow:
    """The pixels of a level, reduced, to read for a rectangle in level-0 pixels."""
    x, y, w, h = rect_px0
    dx, dy = (factor * reduce for factor in info.level_downsample(level))
    left, top = math.floor(x / dx + 1e-6), math.floor(y / dy + 1e-6)
    right, bottom = math.ceil((x + w) / dx - 1e-6), math.ceil((y + h) / dy - 1e-6)
    level_w, level_h = (-(-size // reduce) for size in info.level_sizes_px[level])
    right, bottom = min(right, max(level_w, left + 1)), min(bottom, max(level_h, top + 1))
    return LevelWindow(left, top, right - left, bottom - top, (x / dx - left, y / dy - top, w / dx, h / dy))


def read_window(slide: Slide, level: int, left: int, top: int, width: int, height: int, reduce: int = 1) -> np.ndarray:
    """Whole pixels of a level, reduced, (height, width, 3) uint8; raises `TileReadError` as `read_region` does."""
    if isinstance(slide, ReducingSlide):
        return slide.read_reduced(level, reduce, (left, top), (width, height))
    return slide.read_region(slide.info.level_location(level, (left, top)), level, (width, height))


def read_scaled(
    slide: Slide, rect_px0: tuple[float, float, float, float], size_px: tuple[int, int], *, level: int | None = None
) -> np.ndarray:
    """Read a level-0 rectangle at any scale, area-averaged from the best level, in bounded memory.

    Parameters
    ----------
    rect_px0 : (x, y, w, h)
        Fractional level-0 pixels.
    size_px : (w, h)
        Size of the result.

    Returns
    -------
    ndarray (h, w, 3) uint8
        RGB.

    Raises
    ------
    TileReadError
        If pixels in the rectangle cannot be decoded.
    """
    x, y, w, h = rect_px0
    downsample = min(w / size_px[0], h / size_px[1])
    if level is None:
        level = slide.info.best_level(downsample)
    reduce = best_reduction(slide, level, downsample)
    dx, dy = (factor * reduce for factor in slide.info.level_downsample(level))
    per_row = max(1.0, (w / dx) * (h / dy) / size_px[1])
    rows = max(1, int(MAX_BAND_PX / per_row))
    bands = []
    for top in range(0, size_px[1], rows):
        count = min(rows, size_px[1] - top)
        band = (x, y + h * top / size_px[1], w, h * count / size_px[1])
        window = level_window(slide.info, band, level, reduce)
        pixels = read_window(slide, level, window.left, window.top, window.width, window.height, reduce)
        bands.append(resize_rect(pixels, window.rect, (size_px[0], count)))
    return bands[0] if len(bands) == 1 else np.concatenate(bands)
