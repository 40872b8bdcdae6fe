import numpy as np
import pytest
import torch

from mil.bag import pack
from mil.models.autopool import AutoPool
from mil.testing import toy_bag


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.5])
def test_equals_the_equation_written_out(alpha):
    torch.manual_seed(0)
    model = AutoPool(12, 2, alpha=alpha).eval()
    output = model(pack([toy_bag(3), toy_bag(9, seed=1)]))
    scores = output.tile_logits[3:].detach().numpy().astype(np.float64)
    weights = np.exp(alpha * scores) / np.exp(alpha * scores).sum(axis=0)
    np.testing.assert_allclose(output.logits[1].detach().numpy(), (weights * scores).sum(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(output.attention[3:].detach().numpy(), weights.mean(axis=1), rtol=1e-4)


def test_lies_between_mean_and_maximum():
    torch.manual_seed(0)
    bag = pack([toy_bag(40)])
    logits = []
    for alpha in (0.0, 1.0, 1000.0):
        torch.manual_seed(0)
        output = AutoPool(12, 1, alpha=alpha).eval()(bag)
        logits.append(output.logits.item())
    scores = output.tile_logits
    np.testing.assert_allclose(logits[0], scores.mean().item(), rtol=1e-4, atol=1e-6)
    assert logits[0] < logits[1] < logits[2]
    np.testing.assert_allclose(logits[2], scores.max().item(), rtol=1e-4)
