"""Resampling from a pyramid level to a stated scale, with one of the kernels of `wsi.kernels`."""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import cv2
import numpy as np

from wsi.errors import TileReadError
from wsi.kernels import Kernel, axis_weights, reach
from wsi.slide import ReducingSlide, Slide, SlideInfo
from wsi.weighting import Axis, Plan

MAX_BAND_PX = 1 << 22
"""Pixels decoded at once when a large region is reduced (12 MiB of RGB, 48 MiB while it is weighed)."""


def resize_rect(
    image: np.ndarray,
    rect: tuple[float, float, float, float],
    size_px: tuple[int, int],
    out: np.ndarray | None = None,
    kernel: Kernel = "area",
) -> np.ndarray:
    """Resample a rectangle with fractional borders out of an image, to a tenth of a grey level before rounding.

    Parameters
    ----------
    image : ndarray (H, W, 3) uint8
        A kernel that reaches past the rectangle (`wsi.kernels.reach`) is cut off at its borders.
    rect : (x, y, w, h)
        In pixels of `image`, fractional.
    size_px : (w, h)
        Size of the result.
    out : ndarray (h, w, 3) uint8, optional
        Where to put it.
    kernel : str
        One of `wsi.kernels.KERNELS`.

    Returns
    -------
    ndarray (h, w, 3) uint8
        `out`, if given. What a kernel overshoots is clipped to 0..255, once, at the end.
    """
    out = np.empty((size_px[1], size_px[0], 3), np.uint8) if out is None else out
    x, y, w, h = rect
    out_w, out_h = size_px
    whole = all(abs(value - round(value)) < 1e-6 for value in rect)
    inside = x >= 0 and y >= 0 and x + w <= image.shape[1] + 1e-6 and y + h <= image.shape[0] + 1e-6
    same_size = (round(w), round(h)) == size_px
    if whole and inside and (same_size or (kernel == "area" and round(w) % out_w == 0 and round(h) % out_h == 0)):
        crop = image[round(y) : round(y + h), round(x) : round(x + w)]
        if same_size:
            out[...] = crop
        else:
            cv2.resize(crop, size_px, dst=out, interpolation=cv2.INTER_AREA)
        return out
    _plan(round(x, 6), w, out_w, image.shape[1], round(y, 6), h, out_h, image.shape[0], kernel).apply(image, out)
    return out


@lru_cache(maxsize=256)
def _plan(
    x: float, w: float, out_w: int, image_w: int, y: float, h: float, out_h: int, image_h: int, kernel: Kernel
) -> Plan:
    """Weights for a rectangle; tiles of a grid share a few places between pixels, so they are kept."""
    return Plan(Axis(*axis_weights(y, h, out_h, image_h, kernel)), Axis(*axis_weights(x, w, out_w, image_w, kernel)))


NOTHING_KEPT = 1 << 40
"""A row below any slide."""

REST_ENOUGH = 4.0
"""Reduced pixels in an output pixel from which on it does not matter where they begin."""

MISALIGNED_PX = 0.02
"""Reduced pixels by which a tile may be off the blocks of a reduction, at either end."""


@dataclass(frozen=True, slots=True)
class LevelWindow:
    """The whole pixels of a level that cover a rectangle, and as many around it as a kernel reaches for.

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


def best_reduction(
    slide: Slide, level: int, starts_px0: np.ndarray, side_px0: tuple[float, float], size_px: tuple[int, int]
) -> int:
    """The largest factor by which a level can be reduced while it is decoded and give the same area means.

    A decoder's reduction is a mean over whole blocks. Where tiles are made of whole blocks nothing is lost. Where they
    are not, averaging a second time blurs: at what is left of 1 to 3 it costs more than the kernels differ (33 to 42 dB
    against the area mean on real slides, `lite0` features at a cosine of 0.98), from `REST_ENOUGH` on it does not show.

    Parameters
    ----------
    starts_px0 : ndarray (N, 2)
        Top-left (x, y) of the rectangles, level-0 pixels.
    side_px0 : (w, h)
        Their size, level-0 pixels, fractional.
    size_px : (w, h)
        What they are resampled to.

    Returns
    -------
    int
        1 where the slide cannot be reduced while decoding.
    """
    if not isinstance(slide, ReducingSlide):
        return 1
    scale = np.array(slide.info.level_downsample(level))
    starts, steps = starts_px0 / scale, np.array(side_px0) / size_px / scale

    def suits(factor: int) -> bool:
        rest, off = steps / factor, starts / factor
        if (rest >= REST_ENOUGH).all():
            return True
        drift_px = np.abs(rest - np.rint(rest)) * size_px
        aligned = (np.abs(off - np.rint(off)) <= MISALIGNED_PX).all()
        return bool((np.rint(rest) >= 1).all() and (drift_px <= MISALIGNED_PX).all() and aligned)

    return max(factor for factor in slide.reductions(level) if factor == 1 or suits(factor))


class LevelView:
    """A level as seen at a reduction: which of its pixels to read for rectangles in level-0 pixels.

    Parameters
    ----------
    level, reduce : int
        The level, and how many times smaller it is decoded.
    whole : bool
        Leave out reduced pixels that the level fills in part only; those beside them stand in.
    """

    def __init__(self, info: SlideInfo, level: int, reduce: int = 1, *, whole: bool = False):
        dx, dy = info.level_downsample(level)
        self.scale = dx * reduce, dy * reduce
        up = 0 if whole else reduce - 1
        self._size_px = tuple(max(1, (size + up) // reduce) for size in info.level_sizes_px[level])

    def window(
        self,
        rect_px0: tuple[float, float, float, float],
        kernel: Kernel = "area",
        size_px: tuple[int, int] | None = None,
    ) -> LevelWindow:
        """The pixels to read for a rectangle (x, y, w, h), level-0 pixels.

        Parameters
        ----------
        kernel, size_px
            With the (w, h) to which the rectangle will be resampled, also what the kernel reaches for around it.
        """
        x, y, w, h = rect_px0
        size_w, size_h = (0, 0) if size_px is None else size_px
        left, width, start_x, length_x = _span(x, w, self.scale[0], size_w, kernel, self._size_px[0])
        top, height, start_y, length_y = _span(y, h, self.scale[1], size_h, kernel, self._size_px[1])
        return LevelWindow(left, top, width, height, (start_x, start_y, length_x, length_y))


@lru_cache(maxsize=1 << 13)
def _span(
    start_px0: float, length_px0: float, scale: float, size: int, kernel: Kernel, limit: int
) -> tuple[int, int, float, float]:
    """First pixel and number of pixels to read along one axis, and the interval within them; rows of tiles share it."""
    start, stop, length = start_px0 / scale, (start_px0 + length_px0) / scale, length_px0 / scale
    first, last = _whole_pixels(start, stop, reach(start, length, size, kernel) if size else 0.0, limit)
    return first, last - first, start - first, length


def _whole_pixels(start: float, stop: float, around: float, limit: int) -> tuple[int, int]:
    """The pixels [first, last) that cover an interval and what is around it inside of [0, limit)."""
    first, last = math.floor(start - around + 1e-6), math.ceil(stop + around - 1e-6)
    if start >= 0:
        first = max(first, 0)
    return first, min(last, max(limit, first + 1))


def read_window(
    slide: Slide, level: int, left: int, top: int, width: int, height: int, reduce: int = 1, *, keep: bool = True
) -> np.ndarray:
    """Whole pixels of a level, reduced, (height, width, 3) uint8; raises `TileReadError` as `read_region` does.

    Without `keep` the slide is told that what lies under the window will not be asked for again.
    """
    if isinstance(slide, ReducingSlide):
        if keep:
            return slide.read_reduced(level, reduce, (left, top), (width, height))
        region = np.empty((height, width, 3), np.uint8)
        (reason,) = slide.read_windows(level, reduce, [(left, top, width, height)], [region], done_above=NOTHING_KEPT)
        if reason is not None:
            raise TileReadError(reason)
        return region
    return slide.read_region(slide.info.level_location(level, (left, top)), level, (width, height))


def read_scaled(
    slide: Slide,
    rect_px0: tuple[float, float, float, float],
    size_px: tuple[int, int],
    *,
    level: int | None = None,
    shown: bool = False,
) -> np.ndarray:
    """Read a level-0 rectangle at any scale, area-averaged from the best level, in bounded memory.

    Parameters
    ----------
    rect_px0 : (x, y, w, h)
        Fractional level-0 pixels.
    size_px : (w, h)
        Size of the result.
    shown : bool
        For people who look at it, and may soon look elsewhere: nothing is kept for neighbours, and at the far edges no
        pixel is taken that a reduction makes half of what is not of the slide.

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
    reduce = best_reduction(slide, level, np.array([[x, y]]), (w, h), size_px)
    view = LevelView(slide.info, level, reduce, whole=shown)
    dx, dy = view.scale
    per_row = max(1.0, (w / dx) * (h / dy) / size_px[1])
    rows = max(1, int(MAX_BAND_PX / per_row))
    columns = max(1, min(size_px[0], int(size_px[0] * MAX_BAND_PX / per_row)))
    out = np.empty((size_px[1], size_px[0], 3), np.uint8)
    for top, left in product(range(0, size_px[1], rows), range(0, size_px[0], columns)):
        part = out[top : top + rows, left : left + columns]
        height, width = part.shape[:2]
        band = (x + w * left / size_px[0], y + h * top / size_px[1], w * width / size_px[0], h * height / size_px[1])
        window = view.window(band)
        pixels = read_window(slide, level, window.left, window.top, window.width, window.height, reduce, keep=not shown)
        part[...] = resize_rect(pixels, window.rect, (width, height))
    return out
