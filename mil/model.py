"""What an MIL model is: a batch of bags to `MILOutput`, and what it minimises while it is trained."""

from collections.abc import Iterable
from typing import Protocol

from torch import Tensor, nn

from mil.bag import BagBatch, MILOutput


class Criterion(Protocol):
    """The loss that a model is trained with, as its own objective may use it."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of any predictions: outputs (b, L) as a model gives them and targets (b, ...), to a scalar."""
        ...

    def marks(self, targets: Tensor) -> Tensor:
        """Which of the L outputs are high for a bag of its target: (b, ...) to (b, L) bool."""
        ...


class MILModel(nn.Module):
    """Base of the models: `Model(dim, n_outputs, **options)`.

    `forward` gives logits (B, L), attention (sum N,) and tile_logits (sum N, L). The latter are the logits of each tile
    as a bag of its own, also where a model lets tiles look at each other. A model whose paper minimises more than the
    loss of its logits says so in `objective`.
    """

    def forward(self, batch: BagBatch) -> MILOutput:
        raise NotImplementedError

    def prepare(self, batches: Iterable[BagBatch], criterion: Criterion) -> None:
        """Look at the training bags before the first step, for models that begin from them; others read none.

        Parameters
        ----------
        batches : iterable of BagBatch
            One bag each with its target, read as they are asked for, in as many passes as a model makes.
        """

    def objective(self, batch: BagBatch, criterion: Criterion) -> Tensor:
        """What one training step minimises, a scalar.

        Parameters
        ----------
        criterion : Criterion
            The loss behind its last layer.
        """
        return criterion(self.logits(batch), batch.targets)

    def logits(self, batch: BagBatch) -> Tensor:
        """Logits (B, L) alone; models for which the rest of `MILOutput` costs something have a shorter way."""
        output: MILOutput = self(batch)
        return output.logits
