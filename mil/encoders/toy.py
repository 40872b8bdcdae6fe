"""Colour statistics of a tile: for tests, and as the control that a real encoder has to beat by far."""

from pathlib import Path

import cv2
import numpy as np

from mil.encoders.card import EncoderCard
from wsi.errors import UsageError

PERCENTILES = (5, 25, 50, 75, 95)

CARD = EncoderCard(
    name="toy",
    dim=3 * (2 + len(PERCENTILES)),
    tile_px=224,
    mpp=0.5,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    licence="Apache-2.0",
    weights_sha256="none",
    source="mean, standard deviation and percentiles of R, G and B",
)


class ToyEncoder:
    """Per channel: mean, standard deviation and five percentiles, each in 0..1. Knows colour, not architecture."""

    card = CARD
    device = "cpu"

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        side = CARD.tile_px
        if tiles.shape[1:] != (side, side, 3) or tiles.dtype != np.uint8:
            raise ValueError(f"toy takes (n, {side}, {side}, 3) uint8, found {tiles.shape} {tiles.dtype}")
        return colour_statistics(tiles)


def colour_statistics(tiles: np.ndarray) -> np.ndarray:
    """Statistics of (n, H, W, 3) uint8 tiles, (n, 21) float32, from their exact histograms."""
    counts = np.empty((len(tiles), 3, 256))
    for tile, histograms in zip(tiles, counts, strict=True):
        for channel in range(3):
            histograms[channel] = cv2.calcHist([tile], [channel], None, [256], [0, 256]).ravel()
    values = np.arange(256)
    total = counts.sum(axis=2, keepdims=True)
    mean = (counts * values).sum(axis=2, keepdims=True) / total
    spread = np.sqrt((counts * (values - mean) ** 2).sum(axis=2, keepdims=True) / total)
    wanted = np.array(PERCENTILES) / 100 * total
    ranks = (np.cumsum(counts, axis=2)[..., None, :] < wanted[..., None]).sum(axis=3)
    return (np.concatenate([mean, spread, ranks], axis=2) / 255).astype(np.float32).reshape(len(tiles), -1)


def load(weights: Path | None, device: str) -> ToyEncoder:
    """The toy encoder; it has no weights and runs on the CPU, whatever the device.

    Raises
    ------
    UsageError
        If weights are given.
    """
    if weights is not None:
        raise UsageError(f"the toy encoder has no weights; leave out --weights {weights}")
    return ToyEncoder()
