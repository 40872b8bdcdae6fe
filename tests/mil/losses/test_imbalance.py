import numpy as np
import torch

from mil.losses.imbalance import CrossEntropy, Reference


def test_first_class_is_the_reference():
    logits = Reference()(torch.tensor([[2.0, -1.0]]))
    assert logits.tolist() == [[0.0, 2.0, -1.0]]
    assert CrossEntropy(3).n_outputs == 2
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
