"""Morphology with discs on masks whose pixels are bits: 64 of them at once, the same result as OpenCV's."""

from typing import Literal

import cv2
import numpy as np

Operation = Literal["dilate", "erode", "open", "close"]

STEPS: dict[Operation, tuple[bool, ...]] = {
    "dilate": (True,),
    "erode": (False,),
    "open": (False, True),
    "close": (True, False),
}
"""What an operation is made of: True grows, False shrinks."""


def morph(mask: np.ndarray, operation: Operation, radius_px: int) -> np.ndarray:
    """An operation with OpenCV's elliptic disc on a mask (H, W) bool that goes on beyond its edge."""
    if not mask.any():
        return np.zeros(mask.shape, bool)
    around = (radius_px, radius_px, radius_px, radius_px)
    padded = cv2.copyMakeBorder(mask.view(np.uint8), *around, cv2.BORDER_REPLICATE)
    height, width = padded.shape
    inside = _packed(np.ones((1, width), np.uint8))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius_px + 1, 2 * radius_px + 1))
    words = _packed(padded)
    # What shrinks is surrounded by what grows, and nothing comes in from outside of the picture in either case.
    for grows in STEPS[operation]:
        words = _grown(words, disc) & inside if grows else ~_grown(~words & inside, disc) & inside
    bits = np.unpackbits(words[radius_px : height - radius_px].view(np.uint8), axis=1, bitorder="little")
    return bits[:, radius_px : width - radius_px].view(bool)


def _packed(mask: np.ndarray) -> np.ndarray:
    """(H, W) uint8 as (H, W / 64, rounded up) uint64; the first pixel is the lowest bit."""
    packed = np.packbits(mask, axis=1, bitorder="little")
    words = np.zeros((len(mask), -(-packed.shape[1] // 8)), "<u8")
    words.view(np.uint8)[:, : packed.shape[1]] = packed
    return words


def _grown(words: np.ndarray, disc: np.ndarray) -> np.ndarray:
    """Dilated with a disc, row by row of it: every row is a run, and all runs of one length are got at once."""
    radius_px = len(disc) // 2
    half = disc.sum(axis=1) // 2
    grown = np.zeros_like(words)
    wide = words
    for reach in range(int(half.max()) + 1):
        if reach:
            wide = _widened(wide)
        for down in (np.flatnonzero(half == reach) - radius_px).tolist():
            if abs(down) < len(words):
                grown[max(0, down) : len(words) + min(0, down)] |= wide[max(0, -down) : len(words) - max(0, down)]
    return grown


def _widened(words: np.ndarray) -> np.ndarray:
    """Each bit and its neighbours to either side."""
    wide = words << np.uint64(1)
    wide |= words
    wide |= words >> np.uint64(1)
    wide[:, 1:] |= words[:, :-1] >> np.uint64(63)
    wide[:, :-1] |= words[:, 1:] << np.uint64(63)
    return wide
