"""Logits of classes against the first one: what the losses with a softmax share."""

import torch
from torch import Tensor, nn


class Reference(nn.Module):
    """A logit of zero for the first class before those of the others."""

    def forward(self, outputs: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(outputs[..., :1]), outputs], dim=-1)  # (..., C-1) to (..., C)


class AgainstReference:
    """Base of losses with a softmax over C classes, of which a model gives C-1 numbers.

    The first class is the reference, what a slide is when nothing speaks for another class (benign, say): the model
    gives the evidence for each other class. So a model that picks tiles by their evidence looks for what is to be
    found, and not for the tiles that look most benign.
    """

    def __init__(self, n_classes: int):
        self.n_classes = n_classes
        self.n_outputs = n_classes - 1

    def layer(self) -> nn.Module:
        """The reference class's logit."""
        return Reference()

    def marks(self, targets: Tensor) -> Tensor:
        """Each class but the reference has an output of its own."""
        return targets[:, None] == torch.arange(1, self.n_classes, device=targets.device)  # (B, C-1)
