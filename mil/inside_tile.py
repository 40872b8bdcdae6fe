"""Where inside a tile the evidence lies: through the encoder and the MIL model, down to the tile's own grid.

The MIL model says how its answer changes with a tile's feature f: the slope g = dS_c / df of the log odds of the class.
The encoder is then asked where in the tile f . g comes from; by the chain rule this is the gradient of S_c itself.

Convolutional encoders, over the last feature maps A (Grad-CAM, equations 1 and 2):

    map = relu( sum_k alpha_k A_k ),    alpha_k = mean over the places of d(f . g) / dA_k

Transformers, over the attention P_b of each block b (gradient-weighted rollout, equations 5 and 6):

    R <- R + mean over heads of relu( dP_b * P_b ) R,    from R = 1;    the map is the row of the token that is pooled

Selvaraju et al.: Grad-CAM, ICCV 2017. https://arxiv.org/abs/1610.02391
Abnar, Zuidema: Quantifying Attention Flow in Transformers, ACL 2020 (rollout). https://arxiv.org/abs/2005.00928
Chefer, Gur, Wolf: Generic Attention-model Explainability, ICCV 2021 (for a class). https://arxiv.org/abs/2103.15679
Adebayo et al.: Sanity Checks for Saliency Maps, NeurIPS 2018 (random weights must destroy the map).
https://arxiv.org/abs/1810.03292
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mil.bag import Bag
from mil.encoders.timm import TimmEncoder
from mil.explanations import Explained, Link, log_odds_slope
from mil.network import Network
from wsi.errors import UsageError

_attention_lock = Lock()
"""A transformer's blocks are changed for a moment, and workers share the encoder."""


def feature_slopes(network: Network, link: Link, bag: Bag, tiles: np.ndarray, chosen: int) -> np.ndarray:
    """How the log odds of a class change with the stored feature of some tiles, (k, D) float32.

    Parameters
    ----------
    tiles : ndarray (k,) int
        By position in the bag.
    chosen : int
        The class.
    """
    asked = Explained.of(network, link, bag)
    logits, slopes = asked.feature_slopes(tiles)  # (L,), (k, L, D)
    by_logit = log_odds_slope(link, logits)[:, chosen]  # (L,)
    scaled = np.einsum("kld,l->kd", slopes, by_logit)  # (k, D)
    return np.asarray(scaled * network.scale.numpy(), np.float32)


def inside_tile(encoder: TimmEncoder, pixels: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Where in a tile the evidence for the class lies, on the encoder's own grid.

    Parameters
    ----------
    pixels : ndarray (tile_px, tile_px, 3) uint8
    slope : ndarray (D,)
        Of the class with respect to the tile's feature (`feature_slopes`).

    Returns
    -------
    ndarray (h, w) float32
        0 to 1, relative to the highest place of the tile; all 0 where nothing speaks for the class.

    Raises
    ------
    UsageError
        If the encoder is neither convolutional nor a plain transformer.
    """
    pushed = torch.from_numpy(np.asarray(slope, np.float32)).to(encoder.device)
    with torch.enable_grad():
        inputs = encoder.prepared(pixels[None])
        found = (
            _rollout(encoder, inputs, pushed) if _is_transformer(encoder.backbone) else _cam(encoder, inputs, pushed)
        )
    found = found.clamp(min=0)
    top = float(found.max())
    return np.asarray((found / top if top > 0 else torch.zeros_like(found)).cpu().numpy(), np.float32)


def can_look_inside(encoder: object) -> bool:
    """Whether `inside_tile` knows this encoder."""
    return isinstance(encoder, TimmEncoder) and hasattr(encoder.backbone, "forward_features")


def _is_transformer(backbone: Any) -> bool:
    blocks = getattr(backbone, "blocks", None)
    return blocks is not None and len(blocks) > 0 and hasattr(blocks[-1], "attn")


def _cam(encoder: TimmEncoder, inputs: Tensor, slope: Tensor) -> Tensor:
    with torch.no_grad():
        made = encoder.backbone.forward_features(inputs)  # (1, K, h, w)
    if made.ndim != 4:
        raise UsageError(f"{encoder.card.name}: its last feature maps are {made.ndim}-dimensional, expected 4")
    maps = made.detach().requires_grad_()
    score = (encoder.backbone.forward_head(maps)[0] * slope).sum()
    (flow,) = torch.autograd.grad(score, maps)
    return (flow.mean(dim=(2, 3), keepdim=True) * maps.detach()).sum(dim=1)[0]  # (h, w)


def _rollout(encoder: TimmEncoder, inputs: Tensor, slope: Tensor) -> Tensor:
    backbone = encoder.backbone
    with _attention_lock, _kept_attention(backbone) as kept:
        feature = backbone(inputs.requires_grad_())[0]  # (D,)
        flows = torch.autograd.grad((feature * slope).sum(), kept)
        attentions = [attention.detach() for attention in kept]
    tokens = attentions[0].shape[-1]
    found = torch.eye(tokens, device=inputs.device)  # (T, T)
    for attention, flow in zip(attentions, flows, strict=True):
        found = found + (attention * flow).clamp(min=0)[0].mean(dim=0) @ found  # (T, T)
    prefix = int(getattr(backbone, "num_prefix_tokens", 0))
    pooled = found[prefix:].mean(dim=0) if backbone.global_pool == "avg" or not prefix else found[0]  # (T,)
    height, width = backbone.patch_embed.grid_size
    return pooled[prefix:].reshape(height, width)


@contextmanager
def _kept_attention(backbone: Any) -> Iterator[list[Tensor]]:
    """Attention (1, heads, T, T) of each block as it is computed; fused kernels, which keep none, are off meanwhile."""
    kept: list[Tensor] = []
    before = [block.attn.fused_attn for block in backbone.blocks]
    hooks = [
        block.attn.attn_drop.register_forward_hook(lambda _, __, out: kept.append(out)) for block in backbone.blocks
    ]
    try:
        for block in backbone.blocks:
            block.attn.fused_attn = False
        yield kept
    finally:
        for hook in hooks:
            hook.remove()
        for block, fused in zip(backbone.blocks, before, strict=True):
            block.attn.fused_attn = fused
