"""Where the tissue is: `TissueMask` and `find_tissue()`."""

from dataclasses import dataclass

import numpy as np

from wsi.slide import Slide

TISSUE_MPP = 8.0
"""Scale of the mask in um/px: a gland is a few pixels wide, a whole slide a few megapixels."""


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
        left_top = (np.asarray(coords, dtype=np.float64) - self.origin_px0) / self.downsample
        size = np.array([side_px0[0] / self.downsample[0], side_px0[1] / self.downsample[1]])
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


def find_tissue(slide: Slide, *, mpp: float = TISSUE_MPP) -> TissueMask:
    """Find the tissue of a slide."""
    raise NotImplementedError
