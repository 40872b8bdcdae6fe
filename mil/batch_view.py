"""A batch seen otherwise, without a copy of its features: its tiles in another order, or with numbers of a model's own.

What a model finds out of all tiles before it pools them (which pseudo-bag a tile is in, whether attention may see it)
so reaches the function that makes one block of tiles, and a bag of any length needs no more memory than before.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mil.bag import BagBatch


@dataclass(frozen=True, slots=True)
class BatchView(BagBatch):
    """Made by `reordered` and `with_columns`. Its features are had through `features` and `features_of`, not `stored`.

    Attributes
    ----------
    order : Tensor (sum N,) int64, optional
        Tile i is `stored[order[i]]`; all else is in the order of the view.
    columns : Tensor (sum N, E), optional
        Numbers of each tile that follow its features.
    """

    order: Tensor | None = None
    columns: Tensor | None = None

    def features_of(self, tiles: slice | Tensor) -> Tensor:
        """Scaled features and columns of some tiles, (n, D + E)."""
        features = BagBatch.features_of(self, tiles if self.order is None else self.order[tiles])  # (n, D)
        if self.columns is None:
            return features
        return torch.cat([features, self.columns[tiles].to(features.dtype)], dim=1)


def reordered(batch: BagBatch, order: Tensor, offsets: Tensor, targets: Tensor) -> BatchView:
    """The tiles of a batch in another order and in other bags.

    Parameters
    ----------
    order : Tensor (sum N,) int64
        A permutation of all tiles.
    offsets, targets : Tensor (P+1,), (P, ...)
        Of the new bags.
    """
    return BatchView(batch.stored, offsets, batch.coords_um[order], targets, batch.mean, batch.scale, order=order)


def with_columns(batch: BagBatch, columns: Tensor) -> BatchView:
    """The same bags; the features of each tile are followed by `columns` (sum N, E)."""
    return BatchView(
        batch.stored, batch.offsets, batch.coords_um, batch.targets, batch.mean, batch.scale, columns=columns
    )
