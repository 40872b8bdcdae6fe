"""Colour statistics against NumPy's own."""

from pathlib import Path

import numpy as np
import pytest

from mil.encoders import load_encoder
from mil.encoders.toy import PERCENTILES, colour_statistics
from wsi.errors import UsageError


@pytest.mark.parametrize("size", [(224, 224), (7, 13)])
def test_mean_spread_and_percentiles(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(4)
    tile = rng.normal([90, 130, 250], [30, 4, 20], (*size, 3)).clip(0, 255).astype(np.uint8)
    pixels = tile.reshape(-1, 3) / 255
    quantiles = np.percentile(pixels, PERCENTILES, axis=0, method="inverted_cdf")
    expected = np.vstack([pixels.mean(axis=0), pixels.std(axis=0), quantiles]).T.ravel()
    np.testing.assert_allclose(colour_statistics(tile[None])[0], expected, atol=1e-6)


def test_one_colour() -> None:
    tile = np.empty((2, 224, 224, 3), np.uint8)
    tile[:] = [51, 102, 255]
    expected = np.repeat([0.2, 0.4, 1.0], 7)
    expected[[1, 8, 15]] = 0
    np.testing.assert_allclose(load_encoder("toy").encode(tile), [expected, expected], atol=1e-7)


def test_knows_no_architecture() -> None:
    rng = np.random.default_rng(0)
    tile = rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)
    shuffled = rng.permutation(tile.reshape(-1, 3)).reshape(tile.shape)
    first, second = load_encoder("toy").encode(np.stack([tile, shuffled]))
    assert np.array_equal(first, second)


def test_card() -> None:
    card = load_encoder("toy", device="cuda").card
    assert (card.name, card.dim, card.tile_px, card.mpp, card.weights_sha256) == ("toy", 21, 224, 0.5, "none")


def test_has_no_weights(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").touch()
    with pytest.raises(UsageError, match="no weights"):
        load_encoder("toy", weights=tmp_path / "weights.pth")
