"""Any timm architecture with local weights, against timm's own forward pass."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from mil.encoders import load_encoder
from mil.encoders.timm import pick_device
from wsi.errors import UsageError

NAME = "timm:resnet18"


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    """resnet18 with its head, random weights, and statistics as if it had been trained."""
    torch.manual_seed(0)
    built = timm.create_model("resnet18", pretrained=False).eval()
    for module in built.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return built


@pytest.fixture(scope="module")
def safetensors(model: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(model.state_dict(), path)
    return path


def as_pth(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def tiles() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def expected(model: torch.nn.Module, tiles: np.ndarray) -> np.ndarray:
    """Pooled features of timm's model, normalised as ImageNet's authors do it."""
    pixels = torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.inference_mode():
        return model.forward_head(model.forward_features((pixels - mean) / std), pre_logits=True).numpy()


def test_features_are_those_of_timm(safetensors: Path, tiles: np.ndarray, expected: np.ndarray) -> None:
    found = load_encoder(NAME, weights=safetensors, device="cpu").encode(tiles)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_card(safetensors: Path) -> None:
    card = load_encoder(NAME, weights=safetensors, device="cpu").card
    assert (card.name, card.dim, card.tile_px, card.mpp) == ("resnet18", 512, 224, 0.5)
    assert card.mean == (0.485, 0.456, 0.406)
    assert card.std == (0.229, 0.224, 0.225)
    assert card.weights_sha256 == sha256(safetensors.read_bytes()).hexdigest()


@pytest.mark.parametrize("wrapping", ["plain", "state_dict", "module", "headless"])
def test_other_files_of_the_same_weights(
    model: torch.nn.Module, tmp_path: Path, tiles: np.ndarray, expected: np.ndarray, wrapping: str
) -> None:
    state = dict(model.state_dict())
    content = {
        "plain": state,
        "state_dict": {"state_dict": state, "epoch": 3},
        "module": {f"module.{key}": value for key, value in state.items()},
        "headless": {key: value for key, value in state.items() if not key.startswith("fc.")},
    }[wrapping]
    encoder = load_encoder(NAME, weights=as_pth(content, tmp_path / "weights.pth"), device="cpu")
    np.testing.assert_allclose(encoder.encode(tiles[:1]), expected[:1], rtol=1e-5, atol=1e-5)


def refusal(name: str, weights: Path | None) -> str:
    with pytest.raises(UsageError) as refused:
        load_encoder(name, weights=weights, device="cpu")
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_weights_that_do_not_fit(model: torch.nn.Module, tmp_path: Path) -> None:
    state = dict(model.state_dict())
    path = tmp_path / "weights.pth"
    lacking = {key: value for key, value in state.items() if key != "layer1.0.conv1.weight"}
    assert "lack layer1.0.conv1.weight (1 in all)" in refusal(NAME, as_pth(lacking, path))
    extra = state | {"layer9.weight": torch.zeros(1)}
    assert "too many layer9.weight (1 in all)" in refusal(NAME, as_pth(extra, path))
    other = state | {"conv1.weight": torch.zeros(64, 4, 7, 7)}
    assert "other shapes in conv1.weight (1 in all)" in refusal(NAME, as_pth(other, path))


def test_files_that_hold_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    assert "holds no tensors by name" in refusal(NAME, as_pth([1, 2], path))
    assert "holds no tensors by name" in refusal(NAME, as_pth({"a": 1}, path))
    for name in ("weights.pth", "weights.safetensors"):
        (tmp_path / name).write_bytes(b"not weights at all\n" * 10)
        assert f"{name}: cannot be read as weights" in refusal(NAME, tmp_path / name)


class Payload:
    """Runs code when it is unpickled in good faith."""

    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("harm"),))


def test_no_code_out_of_a_file_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "cannot be read as weights" in refusal(NAME, as_pth({"a": Payload()}, tmp_path / "weights.pth"))
    assert not (tmp_path / "harm").exists()


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    assert "--weights FILE" in refusal(NAME, None)
    assert "absent.pth: no such file" in refusal(NAME, tmp_path / "absent.pth")
    assert "close to it: resnet18," in refusal("timm:resnet_18", None)
    assert "no encoder is called 'unix'" in refusal("unix", None)


def test_device() -> None:
    assert pick_device("cpu") == "cpu"
    with pytest.raises(UsageError, match="--device is auto"):
        pick_device("gpu")
    if not torch.cuda.is_available():
        assert pick_device("auto") == "cpu"
        with pytest.raises(UsageError, match="no GPU"):
            pick_device("cuda:0")
