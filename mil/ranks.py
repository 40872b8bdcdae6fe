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
    by_value = torch.argsort(values.detach(), dim=0, descending=True, stable=True)  # (sum N, K)
    order = by_value.gather(0, torch.argsort(ids[by_value], dim=0, stable=True))  # by bag, within it by value
    place = torch.arange(len(ids), device=ids.device) - offsets[ids]  # (sum N,)
    return torch.empty_like(order).scatter(0, order, place[:, None].expand_as(order))
