"""The encoders of `mil.encoders.published`, from a local file of their weights."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil.encoders.card import EncoderCard
from mil.encoders.layouts import timm_state
from mil.encoders.published import PUBLISHED, UNAVAILABLE, Published
from mil.encoders.timm import (
    TimmEncoder,
    file_sha256,
    import_timm,
    import_torch,
    load_weights,
    pick_device,
    read_weights,
)
from mil.encoders.weights_folder import weights_file
from wsi.errors import UsageError

if TYPE_CHECKING:
    from torch import nn


def load_published(name: str, weights: Path | None, device: str) -> TimmEncoder:
    """A published encoder.

    Parameters
    ----------
    weights : Path, optional
        By default what `histograde encoders fetch NAME` has brought.

    Raises
    ------
    UsageError
        If there is no such encoder, its weights are not here, or they do not fit.
    """
    if name in UNAVAILABLE:
        raise UsageError(UNAVAILABLE[name])
    told = PUBLISHED[name]
    weights = weights or weights_file(name)
    if weights is None:
        raise UsageError(
            f"{name} needs its weights: `histograde encoders fetch {name}` brings them where there is a network, "
            "--weights FILE takes them from a file"
        )
    model = build(told)
    load_weights(model, timm_state(read_weights(weights), model, name), name)
    return TimmEncoder(pooled(model, told), card_of(told, file_sha256(weights)), pick_device(device))


def card_of(told: Published, weights_sha256: str) -> EncoderCard:
    """What a store keeps of a published encoder."""
    return EncoderCard(
        told.name, told.dim, told.tile_px, told.mpp, told.mean, told.std, told.licence, weights_sha256, told.kernel,
        source=f"{told.hub_id}; {told.paper}",
    )  # fmt: skip


def build(told: Published, **changes: Any) -> Any:
    """The architecture with random weights, without a head; `changes` are of timm's arguments."""
    arguments = {**_resolved(told.arguments), **changes}
    return import_timm().create_model(
        told.architecture, pretrained=False, num_classes=0, img_size=told.tile_px, **arguments
    )


def pooled(model: Any, told: Published) -> "nn.Module":
    """Pixels (n, 3, H, W) to features (n, D), pooled as the authors do."""
    from mil.encoders.token_pooling import TokenPooling

    return TokenPooling(model, told.pooling)


def _resolved(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Words of the table as the classes that timm wants."""
    torch = import_torch()
    from timm.layers.mlp import SwiGLUPacked

    parts = {
        "swiglu": SwiGLUPacked,
        "silu": torch.nn.SiLU,
        "layer_norm_1e-12": partial(torch.nn.LayerNorm, eps=1e-12),
    }
    return {name: parts[value] if isinstance(value, str) else value for name, value in arguments.items()}
