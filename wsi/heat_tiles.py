"""A heatmap as tiles of a slide's pyramid: values to be coloured by whoever shows them, nothing where no score is.

A pixel of level `k` from the finest is exactly the `2**k` level-0 px under the slide's own pixel there, so map and
slide coincide at every zoom, whatever the scanned bounds and however fractional a tile's side. Values are those of
`Heatmap.window`.
"""

import numpy as np

from wsi.heatmap import ROUNDING_PX0, Heatmap
from wsi.pictures import encode_grey
from wsi.scales import Scale
from wsi.tile_pyramid import PyramidTile, TilePyramid

DENSE_TILES = 400
"""Up to so many scored tiles under a window, sums over them are products of two matrices."""


def heat_values(heatmap: Heatmap, pyramid: TilePyramid, tile: PyramidTile) -> np.ndarray:
    """Scores under a tile of a pyramid, (h, w) float32, NaN where none is.

    Raises
    ------
    UsageError
        If there is no such tile.
    """
    (x, y, _, _), (_, _, w, h) = pyramid.rect_px0(tile), pyramid.tile_rect(tile)
    factor = pyramid.factor(tile.level)
    start = (heatmap.coords - np.array((x, y))) / factor
    side = np.array(heatmap.side_px0) / factor
    here = np.flatnonzero(((start < (w, h)) & (start + side > 0)).all(axis=1))
    if len(here) > DENSE_TILES or (side < 1).any():
        return heatmap.window((x, y), (factor, factor), (w, h))
    along_x, inside_x = _covered(start[here, 0], side[0], w, ROUNDING_PX0 / factor)
    along_y, inside_y = _covered(start[here, 1], side[1], h, ROUNDING_PX0 / factor)
    weight = along_y.T @ along_x  # (h, w)
    total = (along_y * heatmap.scores[here, None]).T @ along_x  # (h, w)
    shown = (inside_y.T @ inside_x > 0) & (weight > 0)
    values = np.full((h, w), np.nan, np.float32)
    values[shown] = total[shown] / weight[shown]
    return values


def _covered(start: np.ndarray, side: float, size: int, rounding: float) -> tuple[np.ndarray, np.ndarray]:
    """Of intervals [start, start + side): the length covered of each pixel, and whether its centre is, (n, size)."""
    left, right, pixel = start[:, None], start[:, None] + side, np.arange(size)
    length = np.clip(np.minimum(pixel + 1, right) - np.maximum(pixel, left), 0, None)
    centre = pixel + 0.5
    return length, ((centre >= left - rounding) & (centre < right + rounding)).astype(np.float64)


def heat_png(heatmap: Heatmap, scale: Scale, pyramid: TilePyramid, tile: PyramidTile) -> bytes:
    """A tile as PNG: grey is the place on the scale, 0 (low) to 255 (high), and clear is where no score is."""
    values = heat_values(heatmap, pyramid, tile)
    return encode_grey(scale.index(values), np.isfinite(values))


__all__ = ["heat_png", "heat_values"]
