"""Several targets at once: one model, a loss for each, over the slides of which the target is known.

loss = sum_t w_t (B_t / B) loss_t( the B_t of the B bags whose target t is known )
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mil.loss import ClassLoss, ValueLoss
from mil.losses import LOSSES, VALUE_LOSSES
from wsi.errors import UsageError

SAID = ("loss", "n_classes", "weight", "options")


class Several:
    """For targets that lean on the same tissue (grade, a mutation, survival), each known of some of the slides.

    It pays where one target has few slides and another many. Where all have many, a network for each is as good, and
    simpler.

    A loss counts by the share of bags that it concerns, so that each answer known counts alike, whichever batch it is
    in. A target that few slides have needs a larger weight to be heard.

    The targets of a batch are (B, n_targets) float32: for each target in order the number of a class, or the columns of
    its value loss. NaN says that it is not known, for a class -1 does too.

    Parameters
    ----------
    targets : mapping of str to mapping
        Name to ``{"loss": "corn", "n_classes": 4, "weight": 1.0, "options": {...}}``. n_classes is for class losses;
        weight and options may be left out.
    """

    def __init__(self, targets: Mapping[str, Mapping[str, Any]]):
        if not targets:
            raise UsageError("several has no target; expected one or more, each with its loss")
        self.losses = {name: _built(name, said) for name, said in targets.items()}
        self.weights = {name: float(said.get("weight", 1.0)) for name, said in targets.items()}
        self.n_outputs = sum(loss.n_outputs for loss in self.losses.values())
        self.n_targets = sum(loss.n_targets for loss in self.losses.values())
        self._widths = [_width(loss) for loss in self.losses.values()]

    def layer(self) -> nn.Module:
        """The layers of the losses side by side."""
        return _SideBySide([(loss.layer(), loss.n_outputs) for loss in self.losses.values()])

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Weighted sum of the losses: logits (B, sum of theirs), targets (B, n_targets), to a scalar."""
        total = logits.sum() * 0  # so that a batch of which nothing is known has a gradient, too
        split = torch.split(logits, self._widths, dim=1)
        for (name, loss, wanted), own in zip(self._columns(targets), split, strict=True):
            known = loss.known(wanted)
            if known.any():
                total = total + self.weights[name] * known.float().mean() * loss(own[known], wanted[known])
        return total

    def known(self, targets: Tensor) -> Tensor:
        """Bags of which any target is known, (B,) bool."""
        return torch.stack([loss.known(wanted) for _, loss, wanted in self._columns(targets)]).any(dim=0)

    def marks(self, targets: Tensor) -> Tensor:
        """The marks of each loss; none where its target is not known."""
        marks = [loss.marks(wanted) & loss.known(wanted)[:, None] for _, loss, wanted in self._columns(targets)]
        return torch.cat(marks, dim=1)  # (B, L)

    def values(self, logits: np.ndarray) -> np.ndarray:
        """All answers side by side, (..., V)."""
        return np.concatenate(list(self.answers(logits).values()), axis=-1)

    def answers(self, logits: np.ndarray) -> dict[str, np.ndarray]:
        """For each target its class probabilities (..., C) or values (..., V)."""
        split = np.split(np.asarray(logits, dtype=np.float64), np.cumsum(self._widths)[:-1], axis=-1)
        return {name: loss.values(own) for (name, loss), own in zip(self.losses.items(), split, strict=True)}

    def _columns(self, targets: Tensor) -> Iterator[tuple[str, ValueLoss, Tensor]]:
        if targets.ndim != 2 or targets.shape[1] != self.n_targets:
            raise UsageError(f"targets of several are {tuple(targets.shape)}; expected (B, {self.n_targets})")
        split = torch.split(targets, [loss.n_targets for loss in self.losses.values()], dim=1)
        for (name, loss), wanted in zip(self.losses.items(), split, strict=True):
            yield name, loss, wanted


class _Classes:
    """A class loss as a value loss: its target a column of class numbers, its values the probabilities."""

    n_targets = 1

    def __init__(self, loss: ClassLoss):
        self._loss = loss
        self.n_outputs = loss.n_outputs
        self.layer, self.values = loss.layer, loss.probabilities

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self._loss(logits, targets[:, 0].long())

    def known(self, targets: Tensor) -> Tensor:
        return targets[:, 0] >= 0  # NaN is not

    def marks(self, targets: Tensor) -> Tensor:
        return self._loss.marks(targets[:, 0].nan_to_num().long())


class _SideBySide(nn.Module):
    """A layer for each stretch of the outputs."""

    def __init__(self, parts: list[tuple[nn.Module, int]]):
        super().__init__()
        self.layers = nn.ModuleList([layer for layer, _ in parts])
        self._sizes = [size for _, size in parts]

    def forward(self, outputs: Tensor) -> Tensor:
        split = torch.split(outputs, self._sizes, dim=-1)
        return torch.cat([layer(own) for layer, own in zip(self.layers, split, strict=True)], dim=-1)


def _built(name: str, said: Mapping[str, Any]) -> ValueLoss:
    if unknown := sorted(set(said) - set(SAID)):
        raise UsageError(f"target {name} says {unknown[0]!r}; it can say: {', '.join(SAID)}")
    loss: str = said.get("loss", "")
    options = said.get("options", {})
    if loss in VALUE_LOSSES:
        built: ValueLoss = VALUE_LOSSES[loss](**options)
        return built
    if loss not in LOSSES:
        raise UsageError(f"target {name} has the loss {loss!r}; there are: {', '.join([*LOSSES, *VALUE_LOSSES])}")
    if "n_classes" not in said:
        raise UsageError(f"target {name} says no n_classes, which its loss {loss} needs")
    return _Classes(LOSSES[loss](said["n_classes"], **options))


def _width(loss: ValueLoss) -> int:
    """Numbers that the loss's layer gives for a bag."""
    with torch.no_grad():
        width: int = loss.layer()(torch.zeros(1, loss.n_outputs)).shape[1]
    return width
