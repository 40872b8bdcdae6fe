import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from mil.losses.focal import Focal
from mil.losses.reference import Reference
from wsi.errors import UsageError


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_two_classes_are_those_of_torchvision(gamma):
    torch.manual_seed(0)
    evidence, targets = 3 * torch.randn(20, dtype=torch.float64), torch.arange(20) % 2
    expected = sigmoid_focal_loss(evidence, targets.double(), alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(Focal(2, gamma=gamma)(Reference()(evidence[:, None]), targets), expected)


def test_three_classes_with_weights_by_hand():
    # q = 1/2, 1/4, 1/4; classes 0 and 2; weights 24 / (3 x 12) = 2/3 and 24 / (3 x 4) = 2; (1 - q)^2 = 1/4 and 9/16.
    logits = torch.log(torch.tensor([[2.0, 1.0, 1.0]] * 2, dtype=torch.float64))
    expected = (2 / 3 / 4 * np.log(2) + 2 * 9 / 16 * np.log(4)) / (2 / 3 + 2)
    found = Focal(3, [12, 8, 4])(logits, torch.tensor([0, 2])).item()
    np.testing.assert_allclose(found, expected)


def test_gamma_of_nothing_is_cross_entropy():
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 0])
    torch.testing.assert_close(Focal(3, gamma=0)(logits, targets), functional.cross_entropy(logits, targets))
    np.testing.assert_allclose(Focal(3, gamma=0).probabilities(logits.numpy()), torch.softmax(logits, dim=1).numpy())


def test_a_slide_that_is_right_for_sure_gives_neither_nan_nor_gradient():
    for gamma in (0.5, 1.0, 2.0):
        logits = torch.tensor([[0.0, 200.0, 0.0]], requires_grad=True)
        (gradient,) = torch.autograd.grad(Focal(3, gamma=gamma)(logits, torch.tensor([1])), logits)
        assert gradient.tolist() == [[0, 0, 0]]


def test_probabilities_are_surer_than_the_softmax_and_keep_its_order():
    logits = np.random.default_rng(0).normal(size=(50, 4)) * 2
    plain, found = Focal(4, gamma=0).probabilities(logits), Focal(4).probabilities(logits)
    np.testing.assert_array_equal(plain.argsort(axis=1), found.argsort(axis=1))
    assert (found.max(axis=1) > plain.max(axis=1)).all()


def test_negative_gamma_is_refused():
    with pytest.raises(UsageError, match="gamma is -1"):
        Focal(2, gamma=-1)
