import pytest
import torch

from mil.bag import pack
from mil.ranks import segment_ranks, tile_scores
from mil.segments import segment_topk
from mil.testing import toy_bag


def test_ranks_count_from_the_highest_of_each_bag():
    values = torch.tensor([[3.0, 0.0], [1.0, 9.0], [2.0, 9.0], [5.0, -1.0], [5.0, -2.0]])
    found = segment_ranks(values, torch.tensor([0, 3, 5]))
    assert found.tolist() == [[0, 2], [2, 0], [1, 1], [0, 0], [1, 1]]  # of equal values the first counts as higher


@pytest.mark.parametrize("k", [1, 4, 50])
def test_ranks_below_k_are_the_k_highest(k):
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 9, (48, 3), generator=generator).float()  # with ties
    offsets = torch.tensor([0, 1, 31, 48])
    assert torch.equal(segment_ranks(values, offsets) < k, segment_topk(values, offsets, k))


def test_scores_are_made_block_by_block_and_carry_no_gradient():
    layer, batch = torch.nn.Linear(12, 3), pack([toy_bag(5), toy_bag(9)])
    sizes = []

    def make(features):
        sizes.append(len(features))
        return layer(features)

    found = tile_scores(make, batch, block=4)
    assert sizes == [4, 4, 4, 2]
    assert not found.requires_grad
    torch.testing.assert_close(found, layer(batch.features).detach())
