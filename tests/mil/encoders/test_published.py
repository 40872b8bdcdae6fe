"""Every published encoder without its weights: sizes against what is published, and the real way from a file."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mil.encoders import load_encoder
from mil.encoders.card import EncoderCard
from mil.encoders.foundation import build, card_of, pooled
from mil.encoders.published import PUBLISHED, UNAVAILABLE, Published
from mil.testing import check_encoder
from wsi.errors import UsageError
from wsi.kernels import KERNELS

ONE_BLOCK = {"depth": 1}
TILES = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)


@pytest.mark.parametrize("told", PUBLISHED.values(), ids=lambda told: told.name)
def test_architecture_has_the_published_size_and_gives_the_published_feature(told: Published) -> None:
    """On the meta device: shapes are worked out, nothing is computed."""
    with torch.device("meta"):
        model = build(told)
        features = pooled(model, told)(torch.empty(3, 3, told.tile_px, told.tile_px))
    assert features.shape == (3, told.dim)
    counted = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert counted == pytest.approx(told.parameters_m, abs=0.06)


@pytest.mark.parametrize("told", PUBLISHED.values(), ids=lambda told: told.name)
def test_what_a_card_says_can_be(told: Published) -> None:
    card = card_of(told, "0" * 64)
    assert EncoderCard(**card.to_dict() | {"mean": told.mean, "std": told.std}) == card
    assert told.hub_id in card.source
    assert card.kernel in KERNELS
    assert card.licence
    assert all(0 < value < 1 for value in (*told.mean, *told.std))
    assert told.name == told.name.lower()
    assert told.name not in UNAVAILABLE


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Giants of one block, so that their weights fit into a test."""
    for name, told in list(PUBLISHED.items()):
        monkeypatch.setitem(PUBLISHED, name, replace(told, arguments={**told.arguments, **ONE_BLOCK}))  # type: ignore[arg-type]


def saved(told: Published, path, seed: int = 0) -> torch.nn.Module:
    """Random weights in a file, and the network that they are of."""
    torch.manual_seed(seed)
    model = build(told).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.05)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return model


@pytest.mark.parametrize("name", ["uni", "uni2-h", "virchow2", "h0-mini", "prov-gigapath", "phikon", "kaiko-vitl14"])
def test_weights_from_a_file_give_the_features_of_the_architecture(name, shallow, tmp_path) -> None:
    told = PUBLISHED[name]
    model = saved(told, tmp_path / "w.safetensors")
    encoder = load_encoder(name, weights=tmp_path / "w.safetensors", device="cpu")
    assert (encoder.card.dim, encoder.card.licence, len(encoder.card.weights_sha256)) == (told.dim, told.licence, 64)
    pixels = torch.from_numpy(TILES).permute(0, 3, 1, 2) / 255
    pixels = (pixels - torch.tensor(told.mean)[:, None, None]) / torch.tensor(told.std)[:, None, None]
    with torch.inference_mode():
        tokens = model.forward_features(pixels)
    registers = dict(told.arguments).get("reg_tokens", 4 if "reg4" in told.architecture else 0)
    expected = tokens[:, 0]
    if told.pooling == "class+mean":
        expected = torch.cat([expected, tokens[:, 1 + registers :].mean(dim=1)], dim=1)
    assert np.allclose(encoder.encode(TILES), expected.numpy(), atol=1e-4 * float(expected.abs().max()))


def test_a_published_encoder_keeps_the_contract(shallow, tmp_path) -> None:
    saved(PUBLISHED["lunit-vits16"], tmp_path / "w.safetensors")
    check_encoder(load_encoder("lunit-vits16", weights=tmp_path / "w.safetensors", device="cpu"))


def test_weights_that_were_fetched_are_found(shallow, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HISTOGRADE_WEIGHTS", str(tmp_path))
    with pytest.raises(UsageError, match="`histograde encoders fetch lunit-vits16` brings them"):
        load_encoder("lunit-vits16", device="cpu")
    saved(PUBLISHED["lunit-vits16"], tmp_path / "lunit-vits16.safetensors")
    assert load_encoder("lunit-vits16", device="cpu").card.name == "lunit-vits16"


def test_what_cannot_be_had_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="`histograde import` takes the features"):
        load_encoder("conch", device="cpu")


def test_weights_of_another_encoder_are_refused(shallow, tmp_path) -> None:
    saved(PUBLISHED["lunit-vits16"], tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match="these weights do not fit uni: they"):
        load_encoder("uni", weights=tmp_path / "w.safetensors", device="cpu")
