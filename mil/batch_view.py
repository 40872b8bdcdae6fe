"""A batch seen otherwise, without a copy of its features: its tiles in another order, or with numbers of a model's own.

What a model finds out of all tiles before it pools them (which pseudo-bag a tile is in, whether attention may see it)
so reaches the function that makes one block of tiles, and a bag of any length needs no more memory than before.
"""

from dataclasses import dataclass, replace

from torch import Tensor

from mil.bag import BagBatch, StoredTiles


@dataclass(frozen=True, slots=True)
class BatchView(BagBatch):
    """Made by `reordered` and `with_columns`. Its tiles are had through `features` and `tiles_of`, not `stored`.

    Attributes
    ----------
    order : Tensor (sum N,) int64, optional
        Tile i is `stored[order[i]]`; all else is in the order of the view.
    columns : Tensor (sum N, E), optional
        Numbers of each tile that go with its features.
    """

    order: Tensor | None = None
    columns: Tensor | None = None

    def tiles_of(self, rows: slice | Tensor) -> StoredTiles:
        """Some tiles of the view, with their columns."""
        chosen = BagBatch.tiles_of(self, rows if self.order is None else self.order[rows])
        return chosen if self.columns is None else replace(chosen, columns=self.columns[rows])


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
    """The same bags; with each tile go its `columns` (sum N, E)."""
    return BatchView(
        batch.stored, batch.offsets, batch.coords_um, batch.targets, batch.mean, batch.scale, columns=columns
    )
