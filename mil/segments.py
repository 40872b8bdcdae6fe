"""Sums, softmax and ranks over the bags of a packed batch: exact for every bag length, no padding, no loop over bags.

A segment is the stretch `offsets[b]:offsets[b + 1]` of the tile axis. Sums run in the order of the tiles, so that a
bag gives the same bits whatever it is packed with.
"""

import torch
from torch import Tensor

LONG = 128
"""Tiles in a bag, on the average of a pack, from which on a matrix product is worth its call."""


def segment_ids(offsets: Tensor) -> Tensor:
    """Number of the bag of each tile, (sum N,) int64, from offsets (B+1,)."""
    lengths = offsets.diff()
    return torch.repeat_interleave(torch.arange(len(lengths), device=offsets.device), lengths)


def segment_sum(values: Tensor, offsets: Tensor) -> Tensor:
    """Sum over each bag: values (sum N, ...) to (B, ...)."""
    total = values.new_zeros((len(offsets) - 1, *values.shape[1:]))  # (B, ...)
    return total.index_add(0, segment_ids(offsets), values)


def segment_weighted(weights: Tensor, values: Tensor, offsets: Tensor) -> Tensor:
    """Weighted sums over each bag: weights (sum N, K) and values (sum N, H) to (B, K, H).

    On a CPU long bags are a matrix product each, which is several times as quick as adding tile by tile.
    """
    if values.device.type == "cpu" and len(values) >= LONG * (len(offsets) - 1):
        weights = weights.to(values.dtype)
        if len(offsets) == 2:
            return (weights.T @ values)[None]
        lengths = offsets.diff().tolist()
        parts = zip(torch.split(weights, lengths), torch.split(values, lengths), strict=True)
        return torch.stack([one.T @ other for one, other in parts])
    return torch.stack([segment_sum(one[:, None] * values, offsets) for one in weights.unbind(1)], dim=1)


def segment_mean(values: Tensor, offsets: Tensor) -> Tensor:
    """Mean over each bag: values (sum N, ...) to (B, ...)."""
    lengths = offsets.diff().to(values.dtype)  # (B,)
    return segment_sum(values, offsets) / lengths.reshape(-1, *[1] * (values.ndim - 1))


def segment_max(values: Tensor, offsets: Tensor) -> Tensor:
    """Maximum over each bag: values (sum N, ...) to (B, ...)."""
    shape = (len(offsets) - 1, *values.shape[1:])
    index = segment_ids(offsets).reshape(-1, *[1] * (values.ndim - 1)).expand_as(values)
    return values.new_full(shape, -torch.inf).scatter_reduce(0, index, values, "amax")


def segment_softmax(scores: Tensor, offsets: Tensor) -> Tensor:
    """Softmax over each bag, in float32 at least: scores (sum N, ...) to weights that sum to 1 within a bag."""
    scores = scores if scores.dtype == torch.float64 else scores.float()
    ids = segment_ids(offsets)
    top = segment_max(scores.detach(), offsets)  # (B, ...)
    weights = torch.exp(scores - top[ids])  # (sum N, ...)
    return weights / segment_sum(weights, offsets)[ids]


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


def segment_topk(values: Tensor, offsets: Tensor, k: int) -> Tensor:
    """Which tiles are among the `k` highest of their bag, per column: (sum N, L) bool.

    Parameters
    ----------
    values : Tensor (sum N, L)
    k : int
        Bags with fewer tiles take all they have. Of equal values the first tile counts as higher.
    """
    return segment_ranks(values, offsets) < k
