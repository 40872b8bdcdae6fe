"""Attention pooling of bags that do not fit into memory with everything that is made of them.

The attention weights of a bag need the sum over all its scores, but neither the tile embeddings nor what lies between
must be kept: a first pass over blocks of tiles keeps running sums (Milakov 2018), a second, in the backward pass, makes
each block anew and lets its gradient flow into the parameters. Only numbers per tile are held.

With a_i = softmax_i(s_i) over a bag and z = sum_i a_i h_i, given gradients dz of z and da of a:

    dL/dh_i = a_i dz,    dL/ds_i = a_i (g_i - sum_j a_j g_j),    g_i = dz . h_i + da_i
    sum_j a_j g_j = dz . z + a . da
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mil.bag import BagBatch
from mil.segments import segment_ids, segment_softmax, segment_sum

BLOCK = 4096
"""Tiles at a time: what lies between features and scores then stays in the cache of a core."""

WHOLE = 32_768
"""Up to so many tiles a batch is made at once: keeping what lies between costs less than making it twice."""


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
    module: nn.Module, make: Callable[[Tensor], TileParts], batch: BagBatch, block: int = BLOCK, whole: int = WHOLE
) -> Pooled:
    """Weighted sums of tile values over each bag, with softmax weights; exact for every bag, whatever its length.

    Parameters
    ----------
    module : nn.Module
        Whose parameters `make` uses.
    make : callable
        From scaled features (n, D) to `TileParts`, tile by tile; random numbers (dropout) are torch's own.
    block : int
        Tiles at a time in a batch of more than `whole` tiles.
    """
    if batch.tiles <= whole:
        parts = make(batch.features)
        attention = segment_softmax(parts.scores, batch.offsets)  # (sum N, K)
        return Pooled(_weighted(attention, parts.values, batch.offsets), attention, parts.outputs)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return Pooled(*_BlockwisePool.apply(make, batch, block, *parameters))


def _weighted(attention: Tensor, values: Tensor, offsets: Tensor) -> Tensor:
    """(n, K) and (n, H) to sums over bags (B, K, H)."""
    sums = [segment_sum(one[:, None] * values, offsets) for one in attention.unbind(1)]
    return torch.stack(sums, dim=1)


class _BlockwisePool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, make: Callable[[Tensor], TileParts], batch: BagBatch, block: int, *parameters: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.make, ctx.batch, ctx.parameters, ctx.block = make, batch, parameters, block
        ctx.settings = _Settings(batch.stored.device)
        ids = segment_ids(batch.offsets)
        scores, outputs, ctx.random = [], [], []
        sums = _RunningSums(len(batch))
        for rows in _blocks(batch.tiles, block):
            ctx.random.append(ctx.settings.random_state())
            parts = make(batch.features_of(rows))
            scores.append(_wide(parts.scores))
            outputs.append(parts.outputs)
            sums.add(_wide(parts.values), scores[-1], ids[rows])
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
        ids = segment_ids(batch.offsets)
        d_pooled = torch.zeros_like(pooled) if d_pooled is None else d_pooled
        mean = (d_pooled * pooled).sum(dim=2)  # (B, K)
        if d_attention is not None:
            mean = mean + segment_sum(attention * d_attention, batch.offsets)
        totals = [torch.zeros_like(parameter) for parameter in ctx.parameters]
        with ctx.settings.replayed():
            for rows, state in zip(_blocks(batch.tiles, ctx.block), ctx.random, strict=True):
                ctx.settings.set_random_state(state)
                with torch.enable_grad():
                    parts = ctx.make(batch.features_of(rows))
                weights = attention[rows]  # (n, K)
                d_bag = d_pooled[ids[rows]]  # (n, K, H)
                slope = (d_bag * parts.values.detach()[:, None]).sum(dim=2) - mean[ids[rows]]  # (n, K)
                if d_attention is not None:
                    slope = slope + d_attention[rows]
                flows = [
                    (parts.values, (weights[..., None] * d_bag).sum(dim=1)),
                    (parts.scores, weights * slope),
                    (parts.outputs, None if d_outputs is None else d_outputs[rows]),
                ]
                used = [(one, grad.to(one.dtype)) for one, grad in flows if grad is not None and one.requires_grad]
                grads = torch.autograd.grad(
                    [one for one, _ in used], ctx.parameters, [grad for _, grad in used], allow_unused=True
                )
                for total, grad in zip(totals, grads, strict=True):
                    if grad is not None:
                        total += grad
        return (None, None, None, *totals)


class _RunningSums:
    """Sums of exp(s_i) h_i and of exp(s_i) over bags, less the highest score so far.

    Milakov, Gimelshein: Online normalizer calculation for softmax, 2018, algorithm 3. https://arxiv.org/abs/1805.02867
    """

    def __init__(self, bags: int):
        self._bags = bags
        self.top = self.total = self.weighted = torch.empty(0)

    def add(self, values: Tensor, scores: Tensor, ids: Tensor) -> None:
        """One block: (n, H), (n, K), and the bag of each tile."""
        heads = scores.shape[1]
        if not len(self.top):
            self.top = scores.new_full((self._bags, heads), -torch.inf)
            self.total = scores.new_zeros((self._bags, heads))
            self.weighted = values.new_zeros((self._bags, heads, values.shape[1]))
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


def _blocks(tiles: int, block: int) -> Sequence[slice]:
    return [slice(start, min(start + block, tiles)) for start in range(0, tiles, block)]


def _wide(values: Tensor) -> Tensor:
    """float32 at least."""
    return values if values.dtype == torch.float64 else values.float()
