"""Which tiles of a bag stand out: scores of all tiles without gradients, and the place of each among its bag's."""

from collections.abc import Callable

import torch
from torch import Tensor

from mil.bag import BagBatch
from mil.blockwise import BLOCK
from mil.segments import segment_ids


def tile_scores(make: Callable[[Tensor], Tensor], batch: BagBatch, block: int = BLOCK) -> Tensor:
    """What `make` says of each tile, without gradients and in the memory of a block.

    Parameters
    ----------
    make : callable
        From scaled features (n, D) to scores (n, K), tile by tile.

    Returns
    -------
    Tensor (sum N, K)
    """
    with torch.no_grad():
        return torch.cat(
            [make(batch.features_of(slice(start, start + block))) for start in range(0, batch.tiles, block)]
        )


def segment_ranks(values: Tensor, offsets: Tensor) -> Tensor:
    """Place of each tile in its bag by falling value, per column: 0 for the highest.

    Parameters
    ----------
    values : Tensor (sum N, K)
        Of equal values the first tile counts as higher.

    Returns
    -------
    Tensor (sum N, K) int64
    """
    ids = segment_ids(offsets)
    place = torch.arange(len(ids), device=ids.device) - offsets[ids]  # (sum N,)
    # column by column: positions are int64, and of a long bag five columns at once take more than its scores
    return torch.stack([_column_ranks(one, ids, place) for one in values.detach().unbind(dim=1)], dim=1)


def _column_ranks(column: Tensor, ids: Tensor, place: Tensor) -> Tensor:
    by_value = torch.argsort(column, descending=True, stable=True)  # (sum N,)
    order = by_value[torch.argsort(ids[by_value], stable=True)]  # by bag, within it by value
    return torch.empty_like(order).scatter(0, order, place)
