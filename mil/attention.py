"""Softmax self-attention of the tiles of a bag among themselves, over packed bags: exact, without padding or masks.

Vaswani et al.: Attention is all you need, NeurIPS 2017, equation 1. https://arxiv.org/abs/1706.03762
In blocks, with memory linear in tiles: Dao et al.: FlashAttention, NeurIPS 2022. https://arxiv.org/abs/2205.14135

    o_i = sum_j a_ij v_j,    a_ij = softmax_j( q_i . k_j / sqrt(d) ),    i and j in the same bag

Bags of the same length go through torch's kernel together, so that there is a call for each length and none for each
bag. On a CPU that kernel never holds a bag's N x N scores either, forward or backward (20,000 tiles, 4 x 32: 78 MB in
all where the scores of one head are 1.5 GB). On one core, forward and backward, against a call for each bag: 256 bags
of 2 to 13 tiles 3 to 5 times as fast, 4,096 bags of two tiles 14 times, 32 bags of 16 to 200 and 8 of 100 to 2,000 the
same. Padding took 1.3 to 5 times as long as a call for each bag, nested tensors up to 70 times.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def self_attention(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor) -> Tensor:
    """What each tile reads from the tiles of its bag.

    Parameters
    ----------
    q, k, v : Tensor (sum N, heads, d)
        Queries, keys and values of the tiles; d may be another for values.
    offsets : Tensor (B+1,) int64
        Bag b is the tiles `offsets[b]:offsets[b + 1]`; none is empty.

    Returns
    -------
    Tensor (sum N, heads, d)
    """
    if q.is_cuda and q.dtype in (torch.bfloat16, torch.float16):
        return _varlen(q, k, v, offsets)
    return _by_length(q, k, v, offsets)


def _varlen(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor) -> Tensor:
    """One call for all bags: the flash kernel of a card takes packed bags as they are, in half precision only."""
    q, k, v = (torch.nested.nested_tensor_from_jagged(part, offsets).transpose(1, 2) for part in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).values()  # (sum N, heads, d)


def _by_length(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor) -> Tensor:
    lengths, bags = torch.sort(offsets.diff(), stable=True)
    sorted_already = bool((bags.diff() > 0).all())
    if not sorted_already:
        there = _tiles_of(bags, lengths, offsets)  # (sum N,)
        back = torch.argsort(there)
        q, k, v = (_Rearranged.apply(part, there, back) for part in (q, k, v))
    each, counts = torch.unique_consecutive(lengths, return_counts=True)
    sizes = (each * counts).tolist()
    parts = zip(*(torch.split(part, sizes) for part in (q, k, v)), each.tolist(), strict=True)
    read = torch.cat([_of_one_length(*part) for part in parts])  # (sum N, heads, d)
    return read if sorted_already else _Rearranged.apply(read, back, there)


def _of_one_length(q: Tensor, k: Tensor, v: Tensor, length: int) -> Tensor:
    """(g * length, heads, d) of g bags to the same."""
    q, k, v = (part.reshape(-1, length, *part.shape[1:]).transpose(1, 2) for part in (q, k, v))  # (g, heads, length, d)
    read = functional.scaled_dot_product_attention(q, k, v)  # (g, heads, length, d)
    return read.transpose(1, 2).flatten(0, 1)


def _tiles_of(bags: Tensor, lengths: Tensor, offsets: Tensor) -> Tensor:
    """Positions of the tiles of `bags`, one bag after the other: (B,) and their lengths to (sum N,)."""
    moved = offsets[bags] - (lengths.cumsum(0) - lengths)  # (B,)
    return torch.arange(int(lengths.sum()), device=bags.device) + torch.repeat_interleave(moved, lengths)


class _Rearranged(torch.autograd.Function):
    """Rows in another order. The gradient is gathered back, where torch would add it up row by row."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, there: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(there, back)
        return rows.index_select(0, there)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        there, back = ctx.saved_tensors
        return _Rearranged.apply(gradient, back, there), None, None
