"""Weighted sums of rows and columns, the same to the last bit on every machine.

Weights become whole numbers of a power of two, so small that each product and each sum is a whole number below
2^24 (single precision) or 2^53 (double): nothing is ever rounded inside the sums, and neither their order nor the
processor's fused operations can change a result. So a BLAS may compute them, in blocks of the band matrix that the
weights are, each below the size at which a BLAS would start threads of its own.
"""

import math
import threading
from dataclasses import dataclass

import cv2
import numpy as np

SINGLE_BITS, DOUBLE_BITS = 24, 53
"""Whole numbers that a float holds exactly (IEEE 754)."""

PIXEL_BITS = 8
MIDDLE_BITS = 12
"""What is kept of a pixel between the two axes in single precision: steps of 1/16 grey level."""

MANY_TAPS = 8
"""From so many weights, or where kernels overshoot, the second axis is computed in double precision: single weights
would be too coarse."""

BLOCK_ROWS = 16
BLAS_THREADS_FROM = 1 << 18
"""Multiply-adds from which OpenBLAS uses threads; they would be in the way of those that read and encode."""

KEPT_BYTES = 32 << 20
"""Largest buffer that a thread keeps for the next call: fresh memory costs more than the sums."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some outputs and the inputs they are made of: out[start:start + n] = weight (n, m) @ input[first:first + m]."""

    start: int
    first: int
    weight: np.ndarray


@dataclass(frozen=True, slots=True)
class Axis:
    """Weights along one axis, ready for use.

    Attributes
    ----------
    size : int
        Number of outputs.
    taps : int
        Most inputs that one output has.
    index : ndarray (size, K) int64
    weight : ndarray (size, K) float64
    """

    index: np.ndarray
    weight: np.ndarray

    @property
    def size(self) -> int:
        return len(self.index)

    @property
    def taps(self) -> int:
        return self.index.shape[1]

    @property
    def reach(self) -> tuple[int, int]:
        """First input used, and the one after the last."""
        return int(self.index.min()), int(self.index.max()) + 1

    def blocks(self, bits: int, dtype: type[np.floating], first: int) -> list[Block]:
        """Band matrix in pieces; weights in whole steps of 2^-bits that add up exactly, places counted from `first`."""
        steps = np.rint(np.cumsum(self.weight, axis=1) * 2.0**bits)
        whole = np.diff(steps, axis=1, prepend=0.0)
        index = self.index - first
        per_block = max(1, round(BLOCK_ROWS * self.size / max(1, np.ptp(self.index))))
        found = []
        for start in range(0, self.size, min(per_block, BLOCK_ROWS)):
            part = index[start : start + min(per_block, BLOCK_ROWS)]
            low, high = int(part.min()), int(part.max()) + 1
            weight = np.zeros((len(part), high - low), dtype)
            np.add.at(weight, (np.arange(len(part))[:, None], part - low), whole[start : start + len(part)])
            found.append(Block(start, low, weight))
        return found


class Plan:
    """Both axes of a resampling, ready to be applied to any number of images.

    Parameters
    ----------
    rows, columns : Axis
        Weights of the output's rows and columns.
    """

    def __init__(self, rows: Axis, columns: Axis):
        self.rows, self.columns = rows.reach, columns.reach
        self.size = rows.size, columns.size
        largest = max(float(np.abs(axis.weight).sum(1).max()) for axis in (rows, columns))
        gain = max(0, math.ceil(math.log2(largest) - 1e-6))
        self._signed = bool((rows.weight < 0).any() or (columns.weight < 0).any())
        self._single = columns.taps < MANY_TAPS and not gain
        row_bits = SINGLE_BITS - PIXEL_BITS - gain
        self._row_blocks = rows.blocks(row_bits, np.float32, self.rows[0])
        if self._single:
            self._shift, middle_bits, bits = row_bits - (MIDDLE_BITS - PIXEL_BITS), MIDDLE_BITS, SINGLE_BITS
        else:
            self._shift, middle_bits, bits = 0, SINGLE_BITS, DOUBLE_BITS
        column_bits = bits - middle_bits - 2 * gain
        self._dtype: type[np.floating] = np.float32 if self._single else np.float64
        self._column_blocks = columns.blocks(column_bits, self._dtype, self.columns[0])
        self._scale = 2.0 ** (self._shift - row_bits - column_bits)

    def apply(self, image: np.ndarray, out: np.ndarray) -> None:
        """Resample.

        Parameters
        ----------
        image : ndarray (H, W, 3) uint8
        out : ndarray (size_y, size_x, 3) uint8
        """
        part = image[slice(*self.rows), slice(*self.columns)]
        wide = part.shape[1]
        rows, columns = self.size
        middle = _buffer("middle", (rows, wide * 3), np.float32)
        for block in self._row_blocks:
            # converted piece by piece, so that it is still in the processor's cache when it is multiplied
            source = _buffer("source", (block.weight.shape[1], wide, 3), np.float32)
            np.copyto(source, part[block.first : block.first + len(source)])
            _multiply(block.weight, source.reshape(-1, wide * 3), middle[block.start : block.start + len(block.weight)])
        if self._single:
            middle *= np.float32(2.0**-self._shift)
            np.rint(middle, out=middle)
        turned = _buffer("turned", (wide, rows, 3), self._dtype)
        if self._single:
            cv2.transpose(middle.reshape(rows, wide, 3), dst=turned)
        else:
            np.copyto(turned, cv2.transpose(middle.reshape(rows, wide, 3)))
        total = _buffer("total", (columns, rows * 3), self._dtype)
        flat = turned.reshape(wide, rows * 3)
        for block in self._column_blocks:
            count, taps = block.weight.shape
            inputs = flat[block.first : block.first + taps]
            _multiply(block.weight, inputs, total[block.start : block.start + count])
        if self._signed:
            np.maximum(total, 0, out=total)
        narrow = _buffer("narrow", (columns, rows, 3), np.uint8)
        cv2.convertScaleAbs(total.reshape(columns, rows, 3), dst=narrow, alpha=self._scale)
        if out.flags.c_contiguous:
            cv2.transpose(narrow, dst=out)
        else:
            out[...] = narrow.transpose(1, 0, 2)


def _multiply(weight: np.ndarray, inputs: np.ndarray, out: np.ndarray) -> None:
    """weight @ inputs, in pieces that a BLAS computes on the thread that calls."""
    step = max(1, BLAS_THREADS_FROM // weight.size)
    for left in range(0, inputs.shape[1], step):
        np.matmul(weight, inputs[:, left : left + step], out=out[:, left : left + step])


_kept = threading.local()


def _buffer(name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    """Memory of this thread under a name, used again by the next call; its content is whatever was in it."""
    count = math.prod(shape) * np.dtype(dtype).itemsize
    kept: np.ndarray | None = getattr(_kept, name, None)
    if kept is None or kept.nbytes < count:
        kept = np.empty(count, np.uint8)
        if count <= KEPT_BYTES:
            setattr(_kept, name, kept)
    return kept[:count].view(dtype).reshape(shape)
