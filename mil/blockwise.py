"""Attention pooling of bags that do not fit into memory with everything that is made of them.

The attention weights of a bag need the sum over all its scores, but neither the tile embeddings nor what lies between
must be kept: a first pass over blocks of tiles keeps running sums (Milakov 2018), a second, in the backward pass, makes
each block anew and lets its gradient flow into the parameters. Only numbers per tile are held.

With a_i = softmax_i(s_i) over a bag and z = sum_i a_i h_i, given gradients dz of z and da of a:

    dL/dh_i = a_i dz,    dL/ds_i = a_i (g_i - sum_j a_j g_j),    g_i = dz . h_i + da_i
    sum_j a_j g_j = dz . z + a . da
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mil.bag import BagBatch, StoredTiles
from mil.segments import segment_ids, segment_softmax, segment_sum, segment_weighted

BLOCK = 4096
"""Tiles at a time: what lies between features and scores then stays in the cache of a core."""

WHOLE = 32_768
"""Up to so many tiles a batch is made at once: keeping what lies between, 100 MB, costs less than making it twice."""


class TileParts(NamedTuple):
    """What a model makes of n tiles, each for itself.

    Attributes
    ----------
    values : Tensor (n, H)
    scores : Tensor (n, K)
        Of K attentions over the same values.
    outputs : Tensor (n, L)
        For each tile, not pooled.
    """

    values: Tensor
    scores: Tensor
    outputs: Tensor


class Pooled(NamedTuple):
    """
    Attributes
    ----------
    values : Tensor (B, K, H) float32
    attention : Tensor (sum N, K) float32
        Sums to 1 within a bag.
    outputs : Tensor (sum N, L)
    """

    values: Tensor
    attention: Tensor
    outputs: Tensor


def attention_pool(
    module: nn.Module,
    make: Callable[[StoredTiles], TileParts],
    batch: BagBatch,
    block: int = BLOCK,
    whole: int = WHOLE,
) -> Pooled:
    """Weighted sums of tile values over each bag, with softmax weights; exact for every bag, whatever its length.

    Parameters
    ----------
    module : nn.Module
        Whose parameters `make` uses.
    make : callable
        From n stored tiles to `TileParts`, each for itself; random numbers (dropout) are torch's own.
    block : int
        Tiles at a time in a batch of more than `whole` tiles; a batch whose features want a gradient is made at once.
    """
    if batch.tiles <= whole or batch.stored.requires_grad:
        parts = make(batch.tiles_of(slice(None)))
        attention = segment_softmax(parts.scores, batch.offsets)  # (sum N, K)
        return Pooled(segment_weighted(attention, parts.values, batch.offsets), attention, parts.outputs)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return Pooled(*_BlockwisePool.apply(make, batch, block, *parameters))


def tile_scores(make: Callable[[StoredTiles], Tensor], batch: BagBatch, block: int = BLOCK) -> Tensor:
    """What `make` says of each tile, without gradients and in the memory of a block.

    Parameters
    ----------
    make : callable
        From n stored tiles to scores (n, K), each for itself.

    Returns
    -------
    Tensor (sum N, K)
    """
    with torch.no_grad():
        return torch.cat([make(batch.tiles_of(slice(start, start + block))) for start in range(0, batch.tiles, block)])


class _BlockwisePool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, make: Callable[[StoredTiles], TileParts], batch: BagBatch, block: int, *parameters: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.make, ctx.batch, ctx.parameters = make, batch, parameters
        ctx.settings = _Settings(batch.stored.device)
        ctx.blocks = _blocks(batch, block)
        scores, outputs, ctx.random = [], [], []
        sums = _RunningSums(len(batch))
        for one in ctx.blocks:
            ctx.random.append(ctx.settings.random_state())
            parts = make(batch.tiles_of(one.rows))
            scores.append(_wide(parts.scores))
            outputs.append(parts.outputs)
            sums.add(_wide(parts.values), scores[-1], one)
        ids = segment_ids(batch.offsets)
        pooled = sums.weighted / sums.total[..., None]  # (B, K, H)
        attention = torch.exp(torch.cat(scores) - sums.top[ids]) / sums.total[ids]  # (sum N, K)
        ctx.save_for_backward(pooled, attention)
        return pooled, attention, torch.cat(outputs)

    @staticmethod
    def backward(
        ctx: Any, d_pooled: Tensor | None, d_attention: Tensor | None, d_outputs: Tensor | None
    ) -> tuple[Any, ...]:
        pooled, attention = ctx.saved_tensors
        batch: BagBatch = ctx.batch
        d_pooled = torch.zeros_like(pooled) if d_pooled is None else d_pooled
        mean = (d_pooled * pooled).sum(dim=2)  # (B, K)
        if d_attention is not None:
            mean = mean + segment_sum(attention * d_attention, batch.offsets)
        totals: list[Tensor | None] = [None] * len(ctx.parameters)
        with ctx.settings.replayed():
            for one, state in zip(ctx.blocks, ctx.random, strict=True):
                ctx.settings.set_random_state(state)
                with torch.enable_grad():
                    parts = ctx.make(batch.tiles_of(one.rows))
                weights = attention[one.rows]  # (n, K)
                d_values, slope = one.slopes(weights, parts.values.detach(), d_pooled, mean)
                if d_attention is not None:
                    slope = slope + d_attention[one.rows]
                flows = [
                    (parts.values, d_values),
                    (parts.scores, weights * slope),
                    (parts.outputs, None if d_outputs is None else d_outputs[one.rows]),
                ]
                used = [(part, flow.to(part.dtype)) for part, flow in flows if flow is not None and part.requires_grad]
                grads = torch.autograd.grad(
                    [part for part, _ in used], ctx.parameters, [flow for _, flow in used], allow_unused=True
                )
                for place, grad in enumerate(grads):
                    if grad is not None:
                        total = totals[place]
                        totals[place] = grad if total is None else total.add_(grad)
        return (None, None, None, *totals)


class _Block(NamedTuple):
    """Tiles of one stretch of a batch, and whose they are: one bag's, or each its own."""

    rows: slice
    bag: int | None
    ids: Tensor

    def slopes(self, weights: Tensor, values: Tensor, d_pooled: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of values (n, H) and, before their weights, of scores (n, K)."""
        if self.bag is not None:
            of_bag = d_pooled[self.bag]  # (K, H)
            return weights.to(of_bag.dtype) @ of_bag, values.to(of_bag.dtype) @ of_bag.T - mean[self.bag]
        d_bag = d_pooled[self.ids]  # (n, K, H)
        d_values = (weights[..., None] * d_bag).sum(dim=1)
        return d_values, (d_bag * values[:, None]).sum(dim=2) - mean[self.ids]


class _RunningSums:
    """Sums of exp(s_i) h_i and of exp(s_i) over bags, less the highest score so far.

    Milakov, Gimelshein: Online normalizer calculation for softmax, 2018, algorithm 3. https://arxiv.org/abs/1805.02867
    """

    def __init__(self, bags: int):
        self._bags = bags
        self.top = self.total = self.weighted = torch.empty(0)

    def add(self, values: Tensor, scores: Tensor, block: _Block) -> None:
        """One block: (n, H) and (n, K)."""
        heads = scores.shape[1]
        if not len(self.top):
            self.top = scores.new_full((self._bags, heads), -torch.inf)
            self.total = scores.new_zeros((self._bags, heads))
            self.weighted = values.new_zeros((self._bags, heads, values.shape[1]))
        if block.bag is None:
            self._add_of_many(values, scores, block.ids)
        else:
            self._add_of_one(values, scores, block.bag)

    def _add_of_one(self, values: Tensor, scores: Tensor, bag: int) -> None:
        top = torch.maximum(self.top[bag], scores.amax(dim=0))  # (K,)
        shrink = torch.exp(self.top[bag] - top)
        weights = torch.exp(scores - top)  # (n, K)
        self.top[bag] = top
        self.total[bag] = self.total[bag] * shrink + weights.sum(dim=0)
        self.weighted[bag] = self.weighted[bag] * shrink[:, None] + weights.to(values.dtype).T @ values

    def _add_of_many(self, values: Tensor, scores: Tensor, ids: Tensor) -> None:
        top = self.top.scatter_reduce(0, ids[:, None].expand_as(scores), scores, "amax")  # (B, K)
        shrink = torch.where(torch.isinf(self.top), 0.0, torch.exp(self.top - top))
        weights = torch.exp(scores - top[ids])  # (n, K)
        self.top = top
        self.total = (self.total * shrink).index_add_(0, ids, weights)
        self.weighted *= shrink[..., None]
        for head, one in enumerate(weights.unbind(1)):
            self.weighted[:, head].index_add_(0, ids, one[:, None] * values)


class _Settings:
    """Random state and autocast, so that a block comes out the second time as it did the first."""

    def __init__(self, device: torch.device):
        self._device = device
        self._autocast = torch.is_autocast_enabled(device.type)
        self._dtype = torch.get_autocast_dtype(device.type)

    def random_state(self) -> Tensor:
        """The generator's state; 5 KB on a CPU."""
        return torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else torch.get_rng_state()

    def set_random_state(self, state: Tensor) -> None:
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state, self._device)
        else:
            torch.set_rng_state(state)

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """The forward pass's autocast, and random numbers that leave those of the run as they were."""
        before = self.random_state()
        try:
            with torch.autocast(self._device.type, self._dtype, enabled=self._autocast):
                yield
        finally:
            self.set_random_state(before)


def _blocks(batch: BagBatch, block: int) -> list[_Block]:
    ids = segment_ids(batch.offsets)
    found = []
    for start in range(0, batch.tiles, block):
        rows = slice(start, min(start + block, batch.tiles))
        first, last = int(ids[rows.start]), int(ids[rows.stop - 1])
        found.append(_Block(rows, first if first == last else None, ids[rows]))
    return found


def _wide(values: Tensor) -> Tensor:
    """float32 at least."""
    return values if values.dtype == torch.float64 else values.float()
