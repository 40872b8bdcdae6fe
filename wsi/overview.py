"""One small picture of a whole slide, read once: the ground for tissue, quality and the brightfield check."""

from dataclasses import dataclass

import numpy as np

from wsi.errors import TileReadError, TooManyBadTilesError
from wsi.resample import read_scaled
from wsi.slide import Slide

OVERVIEW_MPP = 8.0
"""Scale in um/px: a gland is a few pixels wide, a whole slide a few megapixels."""

MAX_OVERVIEW_PX = 1 << 25
"""A whole glass of 26 x 76 mm at 8 um/px. What claims to be larger is reduced further, so that memory stays bounded."""

BLOCK_PX = 128
"""Side of the blocks that are read singly once the whole cannot be decoded; about 1 mm."""

SMALLEST_BLOCK_PX = 16
"""A block that fails is quartered down to this side, so that a damaged spot costs about 130 um around it."""


@dataclass(frozen=True, slots=True)
class Overview:
    """The scanned bounds of a slide, reduced.

    Attributes
    ----------
    slide_id : str
        The slide it shows.
    pixels : ndarray (H, W, 3) uint8
        RGB; white where nothing could be decoded.
    readable : ndarray (H, W) bool
        False where nothing could be decoded.
    downsample : (x, y)
        Level-0 pixels per pixel of the overview, exact and fractional.
    origin_px0 : (x, y)
        Level-0 pixel of its top-left corner.
    mpp : (x, y)
        um per level-0 pixel.
    """

    slide_id: str
    pixels: np.ndarray
    readable: np.ndarray
    downsample: tuple[float, float]
    origin_px0: tuple[int, int]
    mpp: tuple[float, float]

    @property
    def px_um(self) -> tuple[float, float]:
        """Width and height of a pixel of the overview in um."""
        return self.downsample[0] * self.mpp[0], self.downsample[1] * self.mpp[1]

    @property
    def side_um(self) -> float:
        """Mean side of a pixel of the overview in um."""
        return (self.px_um[0] * self.px_um[1]) ** 0.5

    @property
    def unreadable_share(self) -> float:
        """Share of the scanned bounds that cannot be decoded, 0 to 1."""
        return 1 - np.count_nonzero(self.readable) / self.readable.size


def read_overview(slide: Slide, *, mpp: float = OVERVIEW_MPP) -> Overview:
    """Reduce the scanned bounds of a slide to about `mpp`, and get by with what can be decoded.

    The size is rounded to whole pixels and the downsample follows from it. What is damaged in the best level is
    taken from the other levels, coarser ones first.

    Parameters
    ----------
    mpp : float
        Scale wanted in um/px; never finer than level 0.

    Raises
    ------
    MissingMppError, ImplausibleMppError
        If the slide has no believable pixel size.
    """
    mpp_x, mpp_y = slide.info.require_mpp()
    x, y, w, h = slide.info.bounds_px0
    mpp *= max(1.0, (w * mpp_x / mpp * h * mpp_y / mpp / MAX_OVERVIEW_PX) ** 0.5)
    size_px = (
        min(w, max(1, round(w * mpp_x / mpp))),
        min(h, max(1, round(h * mpp_y / mpp))),
    )
    pixels = np.full((size_px[1], size_px[0], 3), 255, np.uint8)
    readable = np.zeros((size_px[1], size_px[0]), bool)
    for level in _levels(slide, min(w / size_px[0], h / size_px[1])):
        _fill(slide, level, pixels, readable)
        if readable.all():
            break
    downsample = (w / size_px[0], h / size_px[1])
    return Overview(slide.info.slide_id, pixels, readable, downsample, (x, y), (mpp_x, mpp_y))


def check_readable(overview: Overview, max_share: float) -> None:
    """Refuse a slide of which more than a share cannot be decoded: what is left does not stand for it.

    Raises
    ------
    TooManyBadTilesError
    """
    if overview.unreadable_share > max_share:
        raise TooManyBadTilesError(
            f"{overview.unreadable_share:.0%} of the slide cannot be read, at most {max_share:.0%} is borne"
        )


def _levels(slide: Slide, downsample: float) -> list[int]:
    """The best level, then the coarser ones, then the finer ones from the nearest."""
    best = slide.info.best_level(downsample)
    return [
        best,
        *range(best + 1, len(slide.info.downsamples)),
        *range(best - 1, -1, -1),
    ]


def _fill(slide: Slide, level: int, pixels: np.ndarray, readable: np.ndarray) -> None:
    """Read from one level what is not readable yet, in place: the whole at once, or else what can be in blocks."""
    height, width = readable.shape
    if not readable.any() and _read_block(slide, level, (0, 0, max(width, height)), pixels, readable):
        return
    blocks = [(left, top, BLOCK_PX) for top in range(0, height, BLOCK_PX) for left in range(0, width, BLOCK_PX)]
    while blocks:
        failed = [block for block in blocks if not _read_block(slide, level, block, pixels, readable)]
        if len(blocks) > 1 and not readable.any():
            return
        blocks = [part for block in failed if block[2] > SMALLEST_BLOCK_PX for part in _quarters(block)]


def _read_block(
    slide: Slide, level: int, block: tuple[int, int, int], pixels: np.ndarray, readable: np.ndarray
) -> bool:
    """Read a block (left, top, side) unless that is done; False where it has to be tried in smaller parts."""
    left, top, side = block
    part = (slice(top, top + side), slice(left, left + side))
    h, w = readable[part].shape
    if readable[part].all():
        return True
    if readable[part].any() and side > SMALLEST_BLOCK_PX:
        return False
    x, y, bounds_w, bounds_h = slide.info.bounds_px0
    dx, dy = bounds_w / readable.shape[1], bounds_h / readable.shape[0]
    try:
        pixels[part] = read_scaled(slide, (x + left * dx, y + top * dy, w * dx, h * dy), (w, h), level=level)
    except TileReadError:
        return False
    readable[part] = True
    return True


def _quarters(block: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    left, top, side = block
    half = side // 2
    return [(left + dx, top + dy, half) for dy in (0, half) for dx in (0, half)]
