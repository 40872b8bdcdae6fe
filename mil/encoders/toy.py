"""Colour statistics of a tile: for tests, and as the control that a real encoder has to beat by far."""

from pathlib import Path

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
        features = np.empty((len(tiles), CARD.dim), np.float32)
        for row, tile in enumerate(tiles):
            features[row] = colour_statistics(tile)
        return features


def colour_statistics(tile: np.ndarray) -> np.ndarray:
    """Statistics of one (H, W, 3) uint8 tile, (21,) float32, from its exact histogram."""
    values = np.arange(256)
    parts = []
    for channel in range(3):
        counts = np.bincount(tile[..., channel].ravel(), minlength=256)
        total = counts.sum()
        mean = (counts * values).sum() / total
        spread = np.sqrt((counts * (values - mean) ** 2).sum() / total)
        ranks = np.searchsorted(np.cumsum(counts), np.array(PERCENTILES) / 100 * total)
        parts.append(np.concatenate([[mean, spread], ranks]))
    return (np.concatenate(parts) / 255).astype(np.float32)


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
