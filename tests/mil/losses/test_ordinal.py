import numpy as np
import torch

from mil.losses.ordinal import Coral, Corn, RankBias


def test_corn_by_hand():
    # Three classes, two questions. Slide of class 0: asked "y>0" only (no). Class 1: "y>0" (yes), "y>1" (no).
    # Class 2: both (yes, yes). Logits are log 3 (p = 3/4) for the first question and 0 (p = 1/2) for the second.
    logits = torch.tensor([[np.log(3.0), 0.0]] * 3)
    expected = (-np.log(1 / 4) - np.log(3 / 4) - np.log(1 / 2) - np.log(3 / 4) - np.log(1 / 2)) / 5
    np.testing.assert_allclose(Corn(3)(logits, torch.tensor([0, 1, 2])).item(), expected, rtol=1e-6)


def test_corn_of_the_lowest_class_ignores_later_questions():
    logits = torch.zeros(2, 4, requires_grad=True)
    Corn(5)(logits, torch.tensor([0, 0])).backward()
    assert logits.grad[:, 1:].abs().max() == 0
    assert (logits.grad[:, 0] > 0).all()


def test_coral_by_hand():
    # Class 1 of three: "y>0" yes (3/4), "y>1" no (1 - 1/3).
    logits = torch.tensor([[np.log(3.0), np.log(0.5)]])
    expected = -np.log(3 / 4) - np.log(2 / 3)
    np.testing.assert_allclose(Coral(3)(logits, torch.tensor([1])).item(), expected, rtol=1e-6)


def test_rank_bias_falls_whatever_its_parameters():
    layer = RankBias(6)
    with torch.no_grad():
        layer.steps.copy_(torch.tensor([-20.0, 5.0, 0.0, -3.0]))
        layer.first.fill_(2.0)
    logits = layer(torch.tensor([[0.0], [7.0]]))
    assert logits.shape == (2, 5)
    assert logits[0, 0] == 2
    assert (logits.diff(dim=1) <= 0).all()
    torch.testing.assert_close(logits[1] - logits[0], torch.full((5,), 7.0))


def test_two_classes_are_logistic_regression():
    logits, targets = torch.tensor([[0.3], [-2.0], [1.0]]), torch.tensor([1, 0, 0])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], targets.float())
    for loss in (Corn(2), Coral(2)):
        torch.testing.assert_close(loss(logits, targets), expected)
        np.testing.assert_allclose(loss.probabilities(logits.numpy())[:, 1], torch.sigmoid(logits[:, 0]), rtol=1e-6)
    assert RankBias(2)(torch.zeros(3, 1)).shape == (3, 1)
