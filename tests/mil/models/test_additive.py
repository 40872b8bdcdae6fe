import numpy as np
import pytest
import torch

from mil.bag import Bag, pack
from mil.models.additive import AdditiveMIL
from mil.testing import toy_bag


def built(n_outputs=3):
    torch.manual_seed(0)
    return AdditiveMIL(12, n_outputs).eval()


def test_logits_are_the_sum_of_psi_of_attended_tiles():
    """psi(a_i h_i), as the paper has it: attention goes into psi, and not around it."""
    model, bag = built(), toy_bag(9)
    h = torch.relu(torch.from_numpy(bag.features) @ model.embed[0].weight.T + model.embed[0].bias)
    gate = torch.tanh(h @ model.attend.v.weight.T + model.attend.v.bias)
    gate = gate / (1 + torch.exp(-(h @ model.attend.u.weight.T + model.attend.u.bias)))
    scores = torch.exp((gate @ model.attend.w.weight.T)[:, 0])
    attended = (scores / scores.sum())[:, None] * h
    psi = torch.relu(attended @ model.inner.weight.T) @ model.outer.weight.T
    output = model(pack([toy_bag(4, seed=1), bag]))
    torch.testing.assert_close(output.logits[1], psi.sum(dim=0) + model.outer.bias, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tiles", [1, 2, 300])
def test_contributions_of_the_tiles_sum_to_the_logits(tiles):
    output = built()(pack([toy_bag(tiles)]))
    contributions = output.attention[:, None] * output.tile_logits
    torch.testing.assert_close(contributions.sum(dim=0), output.logits[0], rtol=1e-5, atol=1e-5)


def test_the_same_tissue_scanned_twice_has_the_same_logits():
    """With biases in psi each tile would add a constant, and twice the tiles twice as much."""
    model, bag = built(), toy_bag(50)
    twice = Bag("twice", np.tile(bag.features, (2, 1)), np.tile(bag.coords_um, (2, 1)), np.arange(100))
    torch.testing.assert_close(model(pack([bag])).logits, model(pack([twice])).logits, rtol=1e-5, atol=1e-5)
