"""The contract of an encoder, shipped for authors of plug-ins: `check_encoder`."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mil.encoders import Encoder
from mil.encoders.card import EncoderCard
from wsi.resample import KERNELS


def check_encoder(load: Callable[[Path | None, str], Encoder], weights: Path | None = None) -> None:
    """Load an encoder on the CPU, and raise `AssertionError` where it breaks its contract.

    The card is complete; features are finite in the stored dtype and differ between different tiles; a tile's feature
    is the same to the last bit in any batch, from any thread, and after loading again.

    Parameters
    ----------
    load : callable
        As in `mil.encoders.ENCODERS`: takes a file of weights or None, and a device.
    weights : Path, optional
        Handed to `load`.
    """
    encoder = load(weights, "cpu")
    card = encoder.card
    _check_card(card)
    assert encoder.device == "cpu", f"runs on {encoder.device}, asked for was cpu"
    tiles = example_tiles(11, card.tile_px)
    before = tiles.copy()
    tiles.flags.writeable = False
    features = encoder.encode(tiles)
    assert features.shape == (11, card.dim), f"features {features.shape}, the card says (11, {card.dim})"
    assert features.dtype == np.float32, f"features are {features.dtype}, expected float32"
    assert np.isfinite(features.astype(card.dtype)).all(), f"features are not finite in {card.dtype}"
    assert len(np.unique(features, axis=0)) == 11, "different tiles have the same feature"
    assert np.array_equal(tiles, before), "the tiles were changed"
    empty = encoder.encode(tiles[:0])
    assert empty.shape == (0, card.dim), f"no tiles give {empty.shape}, expected (0, {card.dim})"
    for start, stop in ((0, 1), (3, 4), (2, 9), (10, 11)):
        part = encoder.encode(tiles[start:stop])
        assert np.array_equal(part, features[start:stop]), f"tiles {start} to {stop} alone have other features"
    with ThreadPoolExecutor(3) as pool:
        again = list(pool.map(encoder.encode, [tiles[:4]] * 6))
    assert all(np.array_equal(one, features[:4]) for one in again), "features depend on the thread"
    assert np.array_equal(load(weights, "cpu").encode(tiles[:4]), features[:4]), "loaded again, features differ"


def example_tiles(count: int, side_px: int) -> np.ndarray:
    """Seeded tiles (count, side_px, side_px, 3) uint8 of blurred noise in pink and purple, of growing coarseness."""
    rng = np.random.default_rng(0)
    grain = rng.standard_normal((count, side_px, side_px, 1))
    for number in range(count):
        for _ in range(number):
            grain[number] += np.roll(grain[number], 1 + number, axis=0) + np.roll(grain[number], 1 + number, axis=1)
            grain[number] /= 2
    pixels = np.array([190, 130, 170]) + grain * np.array([40, 50, 25])
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _check_card(card: EncoderCard) -> None:
    assert re.fullmatch(r"[\w][\w.+-]*", card.name), f"{card.name!r} cannot be the name of a folder"
    assert card.dim > 0, f"dim {card.dim}"
    assert 16 <= card.tile_px <= 8192, f"tile_px {card.tile_px}"
    assert 0.05 <= card.mpp <= 20, f"mpp {card.mpp}"
    assert len(card.mean) == len(card.std) == 3, "mean and std are of R, G and B"
    assert min(card.std) > 0, f"std {card.std}"
    assert card.kernel in KERNELS, f"kernel {card.kernel!r}"
    assert card.dtype in ("float16", "float32"), f"dtype {card.dtype!r}"
    assert card.weights_sha256 == "none" or re.fullmatch("[0-9a-f]{64}", card.weights_sha256), (
        "no SHA-256 of the weights"
    )
    assert card.licence, "no licence of the weights"
