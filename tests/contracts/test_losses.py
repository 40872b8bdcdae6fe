import functools
import inspect

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn
from torch.nn import functional

from mil.links import softmax
from mil.losses import LOSSES, VALUE_LOSSES
from mil.testing import check_loss, check_value_loss
from wsi.errors import UsageError

TIMES = torch.tensor([[3.0, 1], [5, 0], [5, 1], [8, 1], [9, 0], [2, 1], [8, 1]])
EXAMPLES = {
    "cox": [({}, TIMES), ({"stratified": True}, torch.cat([TIMES, torch.arange(7.0)[:, None] % 2], dim=1))],
    "discrete_time": [({"cuts": [4.0, 8.0]}, TIMES), ({"cuts": [6.0], "censored": "end", "alpha": 0.5}, TIMES)],
    "huber": [
        ({"center": 4, "scale": 2}, TIMES[:, :1]),
        ({"center": [4, 1], "scale": [3, 1], "n_values": 2}, TIMES),
    ],
    "several": [
        (
            {
                "targets": {
                    "grade": {"loss": "coral", "n_classes": 4},
                    "mutated": {"loss": "cross_entropy", "n_classes": 2, "weight": 0.5},
                    "survival": {"loss": "cox"},
                }
            },
            torch.cat([torch.arange(7.0)[:, None] % 4, torch.arange(7.0)[:, None] % 2, TIMES], dim=1),
        )
    ],
}
"""Options and targets for each value loss; a loss without an example fails."""
IMPROPER = {"kappa"}
"""Losses whose probabilities are said not to mean anything before they are calibrated."""


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_loss_keeps_the_contract(name, n_classes):
    check_loss(LOSSES[name], n_classes)


@pytest.mark.parametrize("name", VALUE_LOSSES)
def test_value_loss_keeps_the_contract(name):
    for options, targets in EXAMPLES[name]:
        check_value_loss(VALUE_LOSSES[name], targets, **options)


def test_a_name_is_of_one_kind():
    assert not set(LOSSES) & set(VALUE_LOSSES)


def counts_of(name, counts):
    takes = "class_counts" in inspect.signature(LOSSES[name]).parameters
    return {"class_counts": counts} if takes else {}


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in IMPROPER])
@pytest.mark.parametrize("counts", [[30, 10], [24, 6, 30], [12, 40, 2, 26]])
def test_probabilities_are_of_the_cohorts_own_mixture(name, counts):
    """A model that sees nothing says the shares of the classes, whatever the loss does to make rare ones count."""
    loss = LOSSES[name](len(counts), **counts_of(name, counts))
    targets = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    layer = loss.layer().double()
    outputs = nn.Parameter(torch.zeros(1, loss.n_outputs, dtype=torch.float64))
    parameters = [outputs, *layer.parameters()]

    def value(flat):
        nn.utils.vector_to_parameters(torch.from_numpy(flat), parameters)
        found = loss(layer(outputs).expand(len(targets), -1), targets)
        slopes = torch.autograd.grad(found, parameters)
        return found.item(), nn.utils.parameters_to_vector(slopes).numpy()

    start = nn.utils.parameters_to_vector(parameters).detach().numpy()
    best = minimize(value, start, jac=True, method="BFGS", options={"gtol": 1e-9})
    value(best.x)
    found = loss.probabilities(layer(outputs).detach().numpy())[0]
    np.testing.assert_allclose(found, np.array(counts) / sum(counts), atol=1e-5)


@pytest.mark.parametrize("name", [name for name in LOSSES if counts_of(name, [1])])
def test_a_class_without_slides_does_no_harm(name):
    check_loss(functools.partial(LOSSES[name], class_counts=[5, 0, 9, 1]), 4)
    with pytest.raises(UsageError, match="expected 3 numbers of slides"):
        LOSSES[name](3, [4, 5])


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


class Mean(VALUE_LOSSES["huber"]):
    """Takes a target that is not known for 0."""

    def __call__(self, logits, targets):
        return super().__call__(logits, targets.nan_to_num())


class Away(VALUE_LOSSES["huber"]):
    """Its gradient leads away."""

    def __call__(self, logits, targets):
        value = super().__call__(logits, targets)
        return 2 * value.detach() - value


def test_contract_of_value_losses_finds_faults():
    with pytest.raises(AssertionError, match="without a target has a gradient"):
        check_value_loss(Mean, TIMES[:, :1])
    with pytest.raises(AssertionError, match="does not lower it"):
        check_value_loss(Away, TIMES[:, :1])
