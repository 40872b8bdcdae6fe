"""Folded normalisation against the model as its authors compute it."""

import copy

import pytest
import timm
import torch
from torch import nn

from mil.encoders.folding import fold_batch_norm


def unsettled(model: nn.Module) -> nn.Module:
    """Statistics and weights as after training, where none is 0 or 1."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.3, 3)
            nn.init.uniform_(module.weight, 0.4, 1.6)
            nn.init.uniform_(module.bias, -0.4, 0.4)
    return model.eval().requires_grad_(False)


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "resnet18", "efficientnet_lite0", "regnety_002"])
def test_features_remain_what_they_are(name):
    torch.manual_seed(3)
    model = unsettled(timm.create_model(name, pretrained=False, num_classes=0))
    pixels = torch.randn(2, 3, 96, 96)
    expected, count = model(pixels), norms(model)
    assert fold_batch_norm(model) == count > 0
    assert norms(model) == 0
    torch.testing.assert_close(model(pixels), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


class Branch(nn.Module):
    """The output of its convolution goes two ways, and one normalisation serves twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.norm, self.twice = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        first = self.conv(pixels)
        return self.norm(first) + first + self.twice(self.twice(self.other(pixels)))


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(pixels)) if float(pixels.sum()) > 0 else pixels


@pytest.mark.parametrize("kind", [Branch, Untraceable, lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())])
def test_what_cannot_be_folded_is_left_alone(kind):
    model = unsettled(kind())
    before, pixels = copy.deepcopy(model), torch.rand(1, 3, 8, 8)
    assert fold_batch_norm(model) == 0
    torch.testing.assert_close(model(pixels), before(pixels), rtol=0, atol=0)
