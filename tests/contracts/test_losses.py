import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from mil.links import softmax
from mil.losses import LOSSES
from mil.testing import check_loss


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_loss_keeps_the_contract(name, n_classes):
    check_loss(LOSSES[name], n_classes)


class WrongWay:
    """Rewards the wrong class."""

    def __init__(self, n_classes):
        self.n_classes = self.n_outputs = n_classes

    def layer(self):
        return nn.Identity()

    def __call__(self, logits, targets):
        return functional.cross_entropy(-logits, targets)

    def marks(self, targets):
        return targets[:, None] == torch.arange(self.n_classes)

    def probabilities(self, logits):
        return softmax(logits)


class Short(WrongWay):
    """Forgets a class."""

    def probabilities(self, logits):
        return np.asarray(softmax(logits))[..., 1:]


def test_contract_finds_faults():
    with pytest.raises(AssertionError, match="does not find the targets"):
        check_loss(WrongWay)
    with pytest.raises(AssertionError, match="probabilities are"):
        check_loss(Short)
