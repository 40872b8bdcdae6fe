"""What is taken of the tokens of a vision transformer as the feature of a tile."""

from typing import Any

import torch
from torch import Tensor, nn

from mil.encoders.published import Pooling


class TokenPooling(nn.Module):
    """A backbone with the pooling of its authors.

    Parameters
    ----------
    backbone : timm VisionTransformer
        Its tokens are the class token, registers if it has any, and one a patch, after the last layer norm.
    pooling : str
        "class": the class token (n, D). "mean": the mean of the patch tokens (n, D). "class+mean": both (n, 2 D).
    """

    def __init__(self, backbone: Any, pooling: Pooling):
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, 3, H, W) to (n, D) or (n, 2 D)."""
        tokens: Tensor = self.backbone.forward_features(pixels)  # (n, prefix + patches, D)
        own = tokens[:, 0]  # (n, D)
        if self.pooling == "class":
            return own
        mean = tokens[:, self.backbone.num_prefix_tokens :].mean(dim=1)  # (n, D)
        return mean if self.pooling == "mean" else torch.cat([own, mean], dim=1)
