import numpy as np
import pytest
import torch
from scipy.special import huber

from mil.losses.huber import Huber
from wsi.errors import UsageError


def test_loss_is_that_of_scipy():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(20, 2)), rng.normal(5, 10, size=(20, 2))
    loss = Huber(center=[4, 6], scale=[10, 5], n_values=2, delta=0.8)
    expected = huber(0.8, (targets - [4, 6]) / [10, 5] - logits).mean()
    found = loss(torch.from_numpy(logits), torch.from_numpy(targets)).item()
    np.testing.assert_allclose(found, expected)


def test_values_are_in_the_units_of_the_targets():
    loss = Huber(center=40, scale=20)
    np.testing.assert_allclose(loss.values(np.array([[0.0], [-1.0]])), [[40], [20]])
    assert loss.marks(torch.tensor([[50.0], [30.0]])).tolist() == [[True], [False]]


def test_a_wild_value_does_not_decide():
    targets = torch.tensor([[0.0]] * 9 + [[1e6]])
    logits = torch.zeros(10, 1, requires_grad=True)
    (gradient,) = torch.autograd.grad(Huber()(logits, targets), logits)
    assert gradient[-1].item() == pytest.approx(-1.345 / 10)


def test_values_that_are_not_known_are_left_out_one_by_one():
    logits = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    loss = Huber(n_values=2, delta=100)
    value = loss(logits, torch.tensor([[torch.nan, 0.0], [0.0, torch.nan]]))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == pytest.approx((2**2 + 3**2) / 2 / 2)
    assert gradient.tolist() == [[0, 1.0], [1.5, 0]]


def test_targets_without_a_column_are_taken_and_wrong_ones_refused():
    assert Huber()(torch.zeros(3, 1), torch.tensor([1.0, 1.0, 1.0])).item() == 0.5
    with pytest.raises(UsageError, match=r"expected \(B, 2\)"):
        Huber(n_values=2)(torch.zeros(3, 2), torch.zeros(3))
    with pytest.raises(UsageError, match="scale and delta must be above 0"):
        Huber(scale=0)
