"""Weights in three layouts, against the library that saves them so and against numbers moved by hand."""

from tempfile import TemporaryDirectory

import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.layers import SwiGLUPacked
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    ViTConfig,
    ViTModel,
)

from mil.encoders.layouts import timm_state
from mil.encoders.timm import load_weights
from wsi.errors import UsageError

SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3}
"""Of transformers: two layers, so that an order of layers would show."""


def network(size: int = 56, **options: object) -> torch.nn.Module:
    torch.manual_seed(1)
    return timm.models.VisionTransformer(
        img_size=size, patch_size=14, embed_dim=48, depth=2, num_heads=3, num_classes=0, **options
    ).eval()


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """No parameter keeps a value that means nothing, as zeros and ones do."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def stored(theirs: torch.nn.Module) -> dict[str, torch.Tensor]:
    """As the library writes its files, which is not how it names things in memory."""
    with TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        return load_file(f"{folder}/model.safetensors")


def same_tokens(theirs: torch.nn.Module, ours: torch.nn.Module, size: int = 56) -> None:
    load_weights(ours, timm_state(stored(theirs), ours, "x"), "x")
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected, found = theirs(pixels).last_hidden_state, ours.forward_features(pixels)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-5), float((found - expected).abs().max())


def test_vit_of_transformers() -> None:
    config = ViTConfig(**SMALL, intermediate_size=192, image_size=56, patch_size=14, layer_norm_eps=1e-6)
    same_tokens(randomised(ViTModel(config)), network())


@pytest.mark.parametrize("gated", [False, True])
def test_dinov2_of_transformers(gated: bool) -> None:
    theirs = Dinov2Model(Dinov2Config(**SMALL, image_size=56, patch_size=14, use_swiglu_ffn=gated))
    hidden = theirs.encoder.layer[0].mlp.down_proj.in_features if gated else 0
    options = {"mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU, "mlp_ratio": 2 * hidden / 48} if gated else {}
    same_tokens(randomised(theirs), network(init_values=1.0, **options))


def test_dinov2_with_registers_of_transformers() -> None:
    """Whose class token has a position, which timm's architecture adds beforehand."""
    config = Dinov2WithRegistersConfig(**SMALL, image_size=56, patch_size=14, num_register_tokens=4)
    ours = network(init_values=1.0, reg_tokens=4, no_embed_class=True)
    same_tokens(randomised(Dinov2WithRegistersModel(config)), ours)


def test_positions_of_a_larger_grid_are_interpolated_as_the_authors_do() -> None:
    theirs = randomised(Dinov2Model(Dinov2Config(**SMALL, image_size=518, patch_size=14)))
    same_tokens(theirs, network(size=224, init_values=1.0), size=224)
    config = Dinov2WithRegistersConfig(**SMALL, image_size=518, patch_size=14, num_register_tokens=4)
    ours = network(size=224, init_values=1.0, reg_tokens=4, no_embed_class=True)
    same_tokens(randomised(Dinov2WithRegistersModel(config)), ours, size=224)


def test_training_code_of_dinov2() -> None:
    ours = network(
        init_values=1.0, reg_tokens=4, no_embed_class=True, mlp_layer=SwiGLUPacked, act_layer=torch.nn.SiLU,
        mlp_ratio=16 / 3,
    )  # fmt: skip
    state = randomised(ours).state_dict()
    place = torch.randn(1, 1, 48)
    told = {
        key.replace("reg_token", "register_tokens").replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): value
        for key, value in state.items()
    }
    told["pos_embed"] = torch.cat([place, told["pos_embed"]], dim=1)
    told["mask_token"] = torch.zeros(1, 48)
    told["dino_head.mlp.0.weight"] = torch.zeros(2)
    found = timm_state({f"backbone.{key}": value for key, value in told.items()}, ours, "x")
    assert set(found) == set(state)
    assert torch.equal(found.pop("cls_token"), state.pop("cls_token") + place)
    assert all(torch.equal(found[key], value) for key, value in state.items())


def test_timm_keeps_its_own() -> None:
    ours = network()
    found = timm_state(ours.state_dict(), ours, "x")
    assert all(torch.equal(found[key], value) for key, value in ours.state_dict().items())


def test_layers_that_lack_a_part_are_refused() -> None:
    config = ViTConfig(**SMALL, intermediate_size=192, image_size=56, patch_size=14)
    state = stored(ViTModel(config))
    del state["encoder.layer.1.attention.attention.key.weight"]
    with pytest.raises(UsageError, match=r"do not fit x: blocks\.1 has query, value alone"):
        timm_state(state, network(), "x")


def test_positions_of_no_grid_are_refused() -> None:
    state = dict(network().state_dict())
    state["pos_embed"] = torch.zeros(1, 1 + 15, 48)
    with pytest.raises(UsageError, match="16 positions are of no square grid"):
        timm_state(state, network(), "x")
