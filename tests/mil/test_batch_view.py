from dataclasses import replace

import torch

from mil.bag import pack
from mil.batch_view import reordered, with_columns
from mil.testing import toy_bag


def scaled():
    return replace(pack([toy_bag(3), toy_bag(4)], [0, 1]), mean=torch.full((12,), 0.5), scale=torch.full((12,), 2.0))


def test_reordered_tiles_are_those_of_the_batch_without_a_copy():
    batch, order = scaled(), torch.tensor([6, 0, 3, 1, 2, 5, 4])
    view = reordered(batch, order, torch.tensor([0, 2, 5, 7]), torch.tensor([1, 0, 1]))
    assert view.stored.data_ptr() == batch.stored.data_ptr()
    assert (view.tiles, len(view)) == (7, 3)
    torch.testing.assert_close(view.features, batch.features[order])
    torch.testing.assert_close(view.tiles_of(slice(1, 4)).features, batch.features[order[1:4]])
    torch.testing.assert_close(view.tiles_of(torch.tensor([5, 0])).features, batch.features[[5, 6]])
    torch.testing.assert_close(view.coords_um, batch.coords_um[order])


def test_columns_go_with_their_tiles():
    batch = scaled()
    view = with_columns(batch, torch.arange(7)[:, None] % 2 == 0)
    torch.testing.assert_close(view.features, batch.features)
    assert view.tiles_of(slice(2, 5)).columns[:, 0].tolist() == [True, False, True]
    assert torch.equal(view.targets, batch.targets)
