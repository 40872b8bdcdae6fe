"""Resampling kernels: which input pixels make up an output pixel along one axis, and with what weight.

`area` is the default: every output pixel is the mean of the input it covers, with fractional weights at its borders.
It is the only kernel here that neither aliases nor rings at any factor, averaging is what a scanner's coarser
objective does, and between levels it agrees with the pyramids that scanners write. Enlarging uses linear interpolation.

`bilinear` (a triangle), `bicubic` (Keys 1981, doi:10.1109/TASSP.1981.1163711, a = -0.5) and `lanczos` (Duchon 1979,
doi:10.1175/1520-0450(1979)018<1016:LFIOAT>2.0.CO;2, three lobes) are there for encoders whose authors cut their tiles
with them. They are the antialiased forms, by the convention of Pillow, which torchvision's `antialias=True` shares: the
kernel stands at the output pixel's centre, is stretched by the factor where the picture gets smaller, and is cut off at
the border of the level and weighed up again. Bilinear without antialiasing, OpenCV's default, is not offered: at half
the scale it already skips pixels.
"""

import math
from typing import Literal

import numpy as np

Kernel = Literal["area", "bilinear", "bicubic", "lanczos"]
KERNELS: tuple[Kernel, ...] = ("area", "bilinear", "bicubic", "lanczos")

_HALF_WIDTH = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}
"""How far from its centre a kernel is not zero, in pixels of the coarser of input and output."""


def reach(start: float, length: float, size: int, kernel: Kernel) -> float:
    """How far outside of an interval input pixels count towards its output pixels, in input pixels.

    `area` stays within the interval, and so does a copy: every kernel is zero at whole distances from its centre.

    Parameters
    ----------
    start, length, size, kernel
        As for `axis_weights`.
    """
    step = length / size
    copies = abs(length - size) < 1e-6 and abs(start - round(start)) < 1e-6
    if kernel == "area" or copies:
        return 0.0
    return _HALF_WIDTH[kernel] * max(step, 1.0) - step / 2


def axis_weights(
    start: float, length: float, size: int, limit: int, kernel: Kernel = "area"
) -> tuple[np.ndarray, np.ndarray]:
    """Which input pixels make up each output pixel along one axis, and with what weight.

    Parameters
    ----------
    start, length : float
        The interval [start, start + length) of the input, in its pixels.
    size : int
        Number of output pixels.
    limit : int
        Number of input pixels; indices are clamped to it.
    kernel : str
        One of `KERNELS`.

    Returns
    -------
    index : ndarray (size, K) int64
    weight : ndarray (size, K) float64
        Rows sum to 1.
    """
    step = length / size
    if kernel != "area":
        index, weight = _stretched(start, step, size, limit, kernel)
    elif step < 1:
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


def _stretched(start: float, step: float, size: int, limit: int, kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """Indices and weights of a kernel that is stretched when reducing and cut off at the input's borders."""
    stretch = max(step, 1.0)
    half = _HALF_WIDTH[kernel] * stretch
    # a level may end within the last output pixel; past its border the negative lobes would have no centre to outweigh
    centre = np.clip(start + (np.arange(size) + 0.5) * step, 0, limit)
    first = np.floor(centre - half + 0.5).astype(np.int64)
    index = first[:, None] + np.arange(math.ceil(2 * half) + 1)
    weight = _curve(kernel, np.abs(index + 0.5 - centre[:, None]) / stretch)
    weight[(index < 0) | (index >= limit)] = 0
    return index, weight


def _curve(kernel: Kernel, x: np.ndarray) -> np.ndarray:
    """A kernel at distances `x` >= 0 from its centre, float64."""
    if kernel == "bilinear":
        return np.clip(1 - x, 0, None)
    if kernel == "bicubic":
        near = (1.5 * x - 2.5) * x * x + 1
        far = ((-0.5 * x + 2.5) * x - 4) * x + 2
        return np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return np.where(x < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


__all__ = ["KERNELS", "Kernel", "axis_weights", "reach"]
