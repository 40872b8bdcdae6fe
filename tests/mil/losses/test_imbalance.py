import numpy as np
import pytest
import torch
from torch.nn import functional

from mil.losses.imbalance import ClassBalanced, CrossEntropy
from mil.losses.reference import Reference
from wsi.errors import UsageError


def test_two_classes_are_logistic_regression():
    evidence = torch.tensor([[0.7]])
    probability = CrossEntropy(2).probabilities(Reference()(evidence).numpy())[0, 1]
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-0.7)), rtol=1e-6)


def test_weights_are_inverse_to_frequency():
    np.testing.assert_allclose(CrossEntropy(2, [30, 10]).weights, [40 / 60, 40 / 20])
    np.testing.assert_allclose(CrossEntropy(3).weights, 1)
    np.testing.assert_allclose(CrossEntropy(3, [10, 0, 10]).weights, [2 / 3, 1, 2 / 3])


def test_loss_by_hand():
    # Weights 2/3 and 2; p of the truth 3/4 and 1/4.
    logits = torch.tensor([[np.log(3.0), 0.0], [np.log(3.0), 0.0]])
    expected = (2 / 3 * -np.log(3 / 4) + 2 * -np.log(1 / 4)) / (2 / 3 + 2)
    found = CrossEntropy(2, [30, 10])(logits, torch.tensor([0, 1])).item()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_probabilities_take_the_weights_back():
    """A constant that minimises the weighted loss stands for the cohort's own shares."""
    targets = torch.tensor([0] * 30 + [1] * 10)
    loss = CrossEntropy(2, [30, 10])
    logits = torch.zeros(2, requires_grad=True)
    for _ in range(200):
        (gradient,) = torch.autograd.grad(loss(logits.expand(40, 2), targets), logits)
        logits = (logits - 2 * gradient).detach().requires_grad_()
    np.testing.assert_allclose(logits.detach().numpy(), 0, atol=1e-5)
    np.testing.assert_allclose(loss.probabilities(logits.detach().numpy()), [0.75, 0.25], atol=1e-5)


def test_smoothing_without_counts_is_that_of_torch():
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    expected = functional.cross_entropy(logits, targets, label_smoothing=0.2)
    torch.testing.assert_close(CrossEntropy(3, label_smoothing=0.2)(logits, targets), expected)


def test_smoothing_goes_towards_the_shares_of_the_classes():
    """Truth of class 1 of 30 and 10: (1 - .2) of it and .2 x (3/4, 1/4), each with its class's weight, 2/3 and 2."""
    logits = torch.tensor([[np.log(3.0), 0.0]])  # p = 3/4, 1/4
    truth = np.array([0.2 * 3 / 4, 0.8 + 0.2 / 4]) * [2 / 3, 2]
    expected = -(truth @ np.log([3 / 4, 1 / 4])) / 2
    found = CrossEntropy(2, [30, 10], label_smoothing=0.2)(logits, torch.tensor([1])).item()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_effective_numbers_by_hand():
    # beta 1/2: E = (1 - 1/2) / (1/2) = 1 for one slide, (1 - 1/4) / (1/2) = 3/2 for two; weights 1 : 2/3, sum 2.
    np.testing.assert_allclose(ClassBalanced(2, [1, 2], beta=0.5).weights, [1.2, 0.8])
    np.testing.assert_allclose(ClassBalanced(2, [1, 200], beta=0.0).weights, [1, 1])
    near = ClassBalanced(2, [30, 10], beta=1 - 1e-9).weights
    np.testing.assert_allclose(near[1] / near[0], 3, rtol=1e-6)


def test_options_out_of_range_are_refused():
    with pytest.raises(UsageError, match=r"beta is 1.0; it lies in \[0, 1\)"):
        ClassBalanced(2, [3, 4], beta=1.0)
    with pytest.raises(UsageError, match="label_smoothing is 1"):
        CrossEntropy(2, label_smoothing=1)
