"""Packed attention against the equation written out with a mask, in float64."""

import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from mil.attention import _varlen, self_attention
from mil.segments import segment_ids

LENGTHS = {
    "mixed": (5, 1, 40, 7, 1, 300, 5, 2),
    "rising": (1, 2, 2, 9),
    "single tiles": (1, 1, 1, 1),
    "one bag": (70,),
}


def packed(lengths, heads=3, d=4, dtype=torch.float64):
    generator = torch.Generator().manual_seed(len(lengths))
    parts = torch.randn(3, sum(lengths), heads, d, generator=generator, dtype=dtype)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return [part.clone().requires_grad_() for part in parts], offsets


def written_out(q, k, v, offsets):
    ids = segment_ids(offsets)
    scores = torch.einsum("ihd,jhd->hij", q, k) / q.shape[2] ** 0.5
    scores = scores.masked_fill(ids[:, None] != ids[None], -torch.inf)
    weights = torch.exp(scores - scores.amax(dim=2, keepdim=True))
    return torch.einsum("hij,jhd->ihd", weights / weights.sum(dim=2, keepdim=True), v)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_equals_masked_softmax_attention_with_its_gradients(lengths):
    parts, offsets = packed(lengths)
    weigh = torch.randn(sum(lengths), 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = written_out(*parts, offsets)
    expected_grads = torch.autograd.grad((expected * weigh).sum(), parts)
    found = self_attention(*parts, offsets)
    grads = torch.autograd.grad((found * weigh).sum(), parts)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    for one, other in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_a_tile_alone_reads_itself():
    (q, k, v), offsets = packed((1, 1, 1))
    torch.testing.assert_close(self_attention(q, k, v, offsets), v)


def test_a_bag_is_the_same_bits_whatever_it_is_packed_with():
    (q, k, v), offsets = packed(LENGTHS["mixed"], dtype=torch.float32)
    together = self_attention(q, k, v, offsets)
    for start, stop in pairwise(offsets):
        alone = self_attention(q[start:stop], k[start:stop], v[start:stop], torch.tensor([0, stop - start]))
        assert torch.equal(alone, together[start:stop])


def test_huge_scores_choose_the_highest():
    (q, k, v), offsets = packed((6, 3), heads=1)
    read = self_attention(1e15 * q, 1e15 * k, v, offsets)
    best = [0 if row < 6 else 6 for row in range(9)]
    for row, start in enumerate(best):
        scores = (q[row] * k[start : 6 if start == 0 else 9]).sum(dim=(1, 2))
        torch.testing.assert_close(read[row], v[start + int(scores.argmax())])


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space")
def test_20_000_tiles_need_no_square_of_scores():
    """The scores alone would be 1.6 GB, and the plain computation keeps them twice."""
    import resource

    (q, k, v), offsets = packed((20_000,), heads=1, d=8, dtype=torch.float32)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (256 << 20), before[1]))
    try:
        with pytest.raises(RuntimeError, match="allocate memory"):
            written_out(q, k, v, offsets)
        found = self_attention(q, k, v, offsets)
        found.square().sum().backward()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    row = torch.softmax(q[7, 0] @ k[:, 0].T / 8**0.5, dim=0) @ v[:, 0]
    torch.testing.assert_close(found[7, 0], row, rtol=1e-4, atol=1e-5)
    assert all(part.grad.isfinite().all() for part in (q, k, v))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_packed_kernel_of_a_card():
    parts, offsets = packed(LENGTHS["mixed"], d=32)
    expected = written_out(*parts, offsets)
    half = [part.detach().cuda().bfloat16().requires_grad_() for part in parts]
    found = _varlen(*half, offsets.cuda())
    torch.testing.assert_close(found.double().cpu(), expected, rtol=2e-2, atol=2e-2)
    expected_grads = torch.autograd.grad(expected.square().sum(), parts)
    grads = torch.autograd.grad(found.square().sum(), half)
    for one, other in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(one.double().cpu(), other, rtol=5e-2, atol=5e-2)
