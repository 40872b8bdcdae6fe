"""Weights of vision transformers by the names that timm gives them, whichever program saved them.

Three layouts are in use for one architecture: timm's own; that of DINOv2's training code (`register_tokens`,
`mlp.w12`); and that of the transformers library (`encoder.layer.0.attention.attention.query`), in which queries, keys
and values lie apart. Numbers are moved and joined, and changed in one place alone: position embeddings that were learnt
on another grid are interpolated as the authors' code does it when it runs: bicubic, with antialiasing in timm and for
models with registers, and without it for DINOv2 as it first was.
"""

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wsi.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]

UNUSED = ("mask_token", "embeddings.mask_token", "pooler.", "head.", "fc.", "classifier.", "dino_head.", "ibot_head.")
"""Parts that training needs and features do not."""

PREFIXES = ("module.", "backbone.", "vit.", "dinov2.", "dinov2_with_registers.", "model.")

DINOV2_NAMES = (("register_tokens", "reg_token"), (".mlp.w12.", ".mlp.fc1."), (".mlp.w3.", ".mlp.fc2."))

TRANSFORMERS_NAMES = (
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.register_tokens", "reg_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("encoder.layer.", "blocks."),
    (".attention.output.dense.", ".attn.proj."),
    (".layernorm_before.", ".norm1."),
    (".layernorm_after.", ".norm2."),
    (".intermediate.dense.", ".mlp.fc1."),
    (".output.dense.", ".mlp.fc2."),
    (".mlp.weights_in.", ".mlp.fc1."),
    (".mlp.weights_out.", ".mlp.fc2."),
    (".layer_scale1.lambda1", ".ls1.gamma"),
    (".layer_scale2.lambda1", ".ls2.gamma"),
    ("layernorm.", "norm."),
)
"""In this order: the attention's own output before that of the layer."""

APART = re.compile(r"(blocks\.\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)")


def timm_state(state: Mapping[str, "Tensor"], model: Any, name: str) -> State:
    """Tensors by timm's names, with position embeddings for the model's grid.

    Parameters
    ----------
    state : mapping
        As it was saved, in one of the layouts.
    model : timm VisionTransformer
    name : str
        Of the encoder, for messages.

    Raises
    ------
    UsageError
        If a layer has queries without keys or values, or the position embeddings are of no square grid.
    """
    found = {_without_prefix(key): value for key, value in state.items()}
    found = {key: value for key, value in found.items() if not key.startswith(UNUSED)}
    antialias = True
    if any(key.startswith("encoder.layer.") for key in found):
        antialias = "embeddings.register_tokens" in found
        found = _joined(_renamed(found, TRANSFORMERS_NAMES), name)
    elif any(key in found for key in ("register_tokens", "blocks.0.mlp.w12.weight")):
        antialias = "register_tokens" in found
        found = _renamed(found, DINOV2_NAMES)
    if "pos_embed" in found and "cls_token" in found:
        _fit_positions(found, model, name, antialias)
    return found


def _without_prefix(key: str) -> str:
    for prefix in PREFIXES:
        key = key.removeprefix(prefix)
    return key


def _renamed(state: State, names: tuple[tuple[str, str], ...]) -> State:
    def new(key: str) -> str:
        for old, other in names:
            key = key.replace(old, other)
        return key

    return {new(key): value for key, value in state.items()}


def _joined(state: State, name: str) -> State:
    """Queries, keys and values (D, D) each as one (3 D, D)."""
    import torch

    whole, parts = {}, dict[tuple[str, str], dict[str, "Tensor"]]()
    for key, value in state.items():
        if apart := APART.fullmatch(key):
            layer, which, kind = apart.groups()
            parts.setdefault((layer, kind), {})[which] = value
        else:
            whole[key] = value
    for (layer, kind), three in parts.items():
        if set(three) != {"query", "key", "value"}:
            raise UsageError(f"these weights do not fit {name}: {layer} has {', '.join(sorted(three))} alone")
        whole[f"{layer}.attn.qkv.{kind}"] = torch.cat([three["query"], three["key"], three["value"]])
    return whole


def _fit_positions(state: State, model: Any, name: str, antialias: bool) -> None:
    """Positions of the model's grid, and of its prefix: some models give the class token its place beforehand."""
    positions = state["pos_embed"]  # (1, prefix + side^2, D)
    prefix = 0 if model.no_embed_class else model.num_prefix_tokens
    extra = positions.shape[1] - math.isqrt(positions.shape[1]) ** 2
    if prefix == 0 and extra == 1:
        state["cls_token"] = state["cls_token"] + positions[:, :1]
        positions = positions[:, 1:]
    side = math.isqrt(positions.shape[1] - prefix)
    if side * side != positions.shape[1] - prefix:
        raise UsageError(f"these weights do not fit {name}: {positions.shape[1]} positions are of no square grid")
    state["pos_embed"] = _resampled(positions, prefix, side, model.patch_embed.grid_size[0], antialias)


def _resampled(positions: "Tensor", prefix: int, side: int, wanted: int, antialias: bool) -> "Tensor":
    """(1, prefix + side^2, D) to (1, prefix + wanted^2, D) by bicubic interpolation."""
    import torch
    from torch.nn.functional import interpolate

    if side == wanted:
        return positions
    grid = positions[:, prefix:].reshape(1, side, side, -1).permute(0, 3, 1, 2)  # (1, D, side, side)
    grid = interpolate(grid.float(), (wanted, wanted), mode="bicubic", antialias=antialias)  # (1, D, wanted, wanted)
    patches = grid.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)  # (1, wanted^2, D)
    return torch.cat([positions[:, :prefix], patches], dim=1)
