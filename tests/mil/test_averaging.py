from copy import deepcopy

import numpy as np
import torch
from torch import nn

from mil.averaging import WeightAverage


def test_mean_of_the_weights_by_hand():
    """w = 1, 2, 3 from 0: with d = 2/11, 3/12, 4/13 (below the decay of 0.9)."""
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(0.0)
    average = WeightAverage(network, 0.9)
    expected = 0.0
    for step, weight in enumerate((1.0, 2.0, 3.0), start=1):
        network.weight.data.fill_(weight)
        average.update()
        decay = (1 + step) / (10 + step)
        expected = decay * expected + (1 - decay) * weight
    with average.in_place():
        assert float(network.weight.detach()) == np.float32(expected)
    assert float(network.weight.detach()) == 3
    average.settle()
    assert float(network.weight.detach()) == np.float32(expected)


def test_late_steps_decay_as_asked():
    """After 1,000 steps at 1, ten steps at 0 leave 0.9^10."""
    network = nn.Linear(1, 1, bias=False)
    average = WeightAverage(network, 0.9)
    for step in range(1010):
        network.weight.data.fill_(float(step < 1000))
        average.update()
    average.settle()
    np.testing.assert_allclose(float(network.weight.detach()), 0.9**10, rtol=1e-4)


def test_goes_on_from_a_state():
    torch.manual_seed(0)
    network, other = nn.Linear(3, 2), nn.Linear(3, 2)
    first, second = WeightAverage(network, 0.99), WeightAverage(other, 0.99)
    for _ in range(5):
        network.weight.data.add_(1.0)
        first.update()
    second.restore(deepcopy(first.state()))
    other.load_state_dict(network.state_dict())
    for average, module in ((first, network), (second, other)):
        module.weight.data.mul_(2.0)
        average.update()
        average.settle()
    assert torch.equal(network.weight, other.weight)
