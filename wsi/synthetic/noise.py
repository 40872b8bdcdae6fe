"""Randomness that depends on the place only, so that any part of a slide can be drawn on its own.

`numpy.random` hands out numbers in the order of asking. A slide that is drawn in blocks needs numbers that depend on
where they are used, so that two neighbouring blocks agree on the gland that lies across their border: a hash of lattice
coordinates (the finaliser of MurmurHash3) gives them, and cubic B-splines over such a lattice give smooth fields.
"""

import zlib
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

# OpenCV's stubs do not tell dtypes, so these aliases cannot; what they hold is said here.
Field = NDArray[Any]  # (h, w) or (n,) float32
Pixels = NDArray[Any]  # (h, w) or (h, w, 3) uint8

_UNIT_VARIANCE = 3.6  # a uniform (-1, 1) lattice under a cubic B-spline has a standard deviation of about 0.28


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of lattice or grid cells: top-left `(x, y)` and size `(w, h)`; the whole slide's grid starts at 0."""

    x: int
    y: int
    w: int
    h: int


def key_of(seed: int, *names: str | int) -> int:
    """A 32-bit key for one use of randomness, the same on every machine."""
    return zlib.crc32(":".join(str(part) for part in (seed, *names)).encode())


def rounded(field: Field, steps: int = 256) -> Field:
    """Values on a grid of 1 / `steps`.

    Processors differ in the last bit of a fused multiply-add. With few bits in the values and powers of two in the
    weights nothing is rounded, and every machine gives the same bytes.
    """
    return np.rint(field * np.float32(steps)) * np.float32(1 / steps)


def enlarged(field: Field, factor: int, steps: int = 256) -> Field:
    """Linear enlargement by a power of two, the same on every machine."""
    size = (field.shape[1] * factor, field.shape[0] * factor)
    return np.asarray(cv2.resize(rounded(field, steps), size, interpolation=cv2.INTER_LINEAR))


def softened(field: Field, taps: Literal[3, 5] = 5) -> Field:
    """Binomial blur (standard deviation 0.7 or 1 pixel), the same on every machine."""
    kernel = np.array([1, 2, 1] if taps == 3 else [1, 4, 6, 4, 1], np.float32) / (4 if taps == 3 else 16)
    return np.asarray(cv2.sepFilter2D(rounded(field), -1, kernel, kernel))


def _mixed(keys: NDArray[np.uint32]) -> NDArray[np.uint32]:
    values: NDArray[np.uint32] = (keys ^ (keys >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    values ^= values >> 13
    values *= np.uint32(0xC2B2AE35)
    values ^= values >> 16
    return values


def lattice(key: int, window: Window) -> Field:
    """Uniform numbers in [0, 1), one per lattice point of `window`.

    Returns
    -------
    ndarray (h, w) float32
        The number at a lattice point is the same whatever window it is asked in.
    """
    xs = (np.arange(window.x, window.x + window.w) & 0xFFFFFFFF).astype(np.uint32)
    ys = (np.arange(window.y, window.y + window.h) & 0xFFFFFFFF).astype(np.uint32)
    column = _mixed(xs * np.uint32(0x9E3779B1) ^ np.uint32(key & 0xFFFFFFFF))
    grid = _mixed(column[None, :] ^ (ys * np.uint32(0x27D4EB2F))[:, None])
    return (grid >> 8).astype(np.float32) * np.float32(2.0**-24)


def _taps(start: int, count: int, step: int, cell: float) -> tuple[int, NDArray[np.intp], Field]:
    """First node, index of the first of four nodes (n,), and B-spline weights (4, n), at every `step`-th grid cell."""
    place = (start + (np.arange(count) + 0.5) * step) / cell
    node = np.floor(place).astype(np.intp)
    t = (place - node).astype(np.float32)
    s = 1 - t
    square, cube = t * t, t * t * t
    weights = np.stack([s * s * s, 3 * cube - 6 * square + 4, 3 * (square - cube + t) + 1, cube]) / np.float32(6)
    first = int(node[0]) - 1
    return first, node - 1 - first, weights.astype(np.float32)


def smooth(key: int, cell: float, window: Window) -> Field:
    """A smooth random field of mean 0 and standard deviation about 1, with features of about `cell` grid cells.

    Parameters
    ----------
    window : Window
        The part of the slide's grid wanted; its `x`, `y`, `w`, `h` are multiples of 8.

    Returns
    -------
    ndarray (h, w) float32
    """
    step = next((s for s in (8, 4, 2) if cell >= 4 * s), 1)
    nx, ny = window.w // step + 2, window.h // step + 2
    x_first, ix, wx = _taps(window.x - step, nx, step, cell)
    y_first, iy, wy = _taps(window.y - step, ny, step, cell)
    nodes = lattice(key, Window(x_first, y_first, int(ix[-1]) + 4, int(iy[-1]) + 4)) * 2 - 1
    wide = sum(nodes[:, ix + k] * wx[k] for k in range(4))
    field = sum(wide[iy + k] * wy[k][:, None] for k in range(4)) * np.float32(_UNIT_VARIANCE)
    if step > 1:
        field = enlarged(field, step, 4096)
    return field[step : step + window.h, step : step + window.w]
