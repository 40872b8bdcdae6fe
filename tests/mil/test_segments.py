import numpy as np
import pytest
import torch

from mil.segments import (
    segment_ids,
    segment_max,
    segment_mean,
    segment_ranks,
    segment_softmax,
    segment_sum,
    segment_topk,
    segment_weighted,
)

LENGTHS = (1, 5, 2, 1, 37)


@pytest.fixture
def values():
    return torch.randn(sum(LENGTHS), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def offsets():
    return torch.tensor(np.concatenate([[0], np.cumsum(LENGTHS)]))


@pytest.mark.parametrize("long", [1, 1 << 30])
@pytest.mark.parametrize("lengths", [LENGTHS, (46,)])
def test_weighted_sums_with_gradients_by_products_and_tile_by_tile(values, lengths, long, monkeypatch):
    monkeypatch.setattr("mil.segments.LONG", long)
    weights = torch.rand(len(values), 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ends = torch.tensor(np.concatenate([[0], np.cumsum(lengths)]))
    leaves = [weights.requires_grad_(), values.requires_grad_()]
    found = segment_weighted(*leaves, ends)
    parts = zip(weights.split(lengths), values.split(lengths), strict=True)
    expected = torch.stack([torch.einsum("nk,nh->kh", *part) for part in parts])
    torch.testing.assert_close(found, expected)
    slopes = [torch.autograd.grad(one.sin().sum(), leaves) for one in (found, expected)]
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other)


def test_ids(offsets):
    assert segment_ids(offsets).tolist() == [bag for bag, length in enumerate(LENGTHS) for _ in range(length)]


@pytest.mark.parametrize(
    ("operation", "one"),
    [
        (segment_sum, lambda x: x.sum(0)),
        (segment_mean, lambda x: x.mean(0)),
        (segment_max, lambda x: x.amax(0)),
        (segment_softmax, lambda x: torch.softmax(x, 0)),
    ],
)
def test_against_a_loop_over_bags(operation, one, values, offsets):
    expected = [one(part) for part in values.split(LENGTHS)]
    expected = torch.cat(expected) if operation is segment_softmax else torch.stack(expected)
    torch.testing.assert_close(operation(values, offsets), expected, rtol=1e-12, atol=1e-12)
    one_column = operation(values[:, 0], offsets)
    torch.testing.assert_close(one_column, expected[:, 0], rtol=1e-12, atol=1e-12)


def test_softmax_of_huge_scores_and_single_tiles(offsets):
    scores = torch.full((sum(LENGTHS),), 1e30)
    weights = segment_softmax(scores, offsets)
    lengths = torch.tensor(LENGTHS, dtype=torch.float32)
    torch.testing.assert_close(weights, 1 / lengths.repeat_interleave(torch.tensor(LENGTHS)))
    lowered = segment_softmax(torch.cat([-scores[:1], scores[1:]]), offsets)
    assert lowered[0] == 1  # alone in its bag


def test_softmax_is_at_least_float32(offsets):
    assert segment_softmax(torch.zeros(sum(LENGTHS), dtype=torch.bfloat16), offsets).dtype == torch.float32


def test_gradients(values, offsets):
    values = values[:10].requires_grad_()
    short = torch.tensor([0, 1, 6, 8, 10])
    for operation in (segment_sum, segment_mean, segment_max, segment_softmax):
        assert torch.autograd.gradcheck(lambda x, op=operation: op(x, short), values)


@pytest.mark.parametrize("k", [1, 2, 5, 100])
def test_topk_against_sorting_each_bag(k, values, offsets):
    chosen = segment_topk(values, offsets, k)
    for part, here in zip(values.split(LENGTHS), chosen.split(LENGTHS), strict=True):
        for column in range(3):
            expected = set(np.argsort(-part[:, column].numpy())[:k].tolist())
            assert set(torch.nonzero(here[:, column])[:, 0].tolist()) == expected


def test_topk_of_ties_takes_exactly_k(offsets):
    chosen = segment_topk(torch.zeros(sum(LENGTHS), 1), offsets, 3)
    assert [int(part.sum()) for part in chosen.split(LENGTHS)] == [1, 3, 2, 1, 3]
    assert chosen.split(LENGTHS)[4][:3].all()


def test_sum_does_not_depend_on_what_it_is_packed_with(values, offsets):
    packed = segment_sum(values.float(), offsets)
    alone = segment_sum(values[8:9].float(), torch.tensor([0, 1]))
    last = segment_sum(values[9:].float(), torch.tensor([0, 37]))
    assert torch.equal(packed[3:], torch.cat([alone, last]))


def test_ranks_count_from_the_highest_of_each_bag():
    values = torch.tensor([[3.0, 0.0], [1.0, 9.0], [2.0, 9.0], [5.0, -1.0], [5.0, -2.0]])
    found = segment_ranks(values, torch.tensor([0, 3, 5]))
    assert found.tolist() == [[0, 2], [2, 0], [1, 1], [0, 0], [1, 1]]  # of equal values the first counts as higher
