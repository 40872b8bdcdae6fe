import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from mil.bag import Bag, pack
from mil.models.pooling import LogSumExpPooling, MaxPooling, MeanPooling
from mil.testing import toy_bag
from wsi.errors import UsageError


def embedded(model, bag):
    return model.embed(torch.from_numpy(bag.features))


def test_mean_is_the_mean():
    model = MeanPooling(12, 2).eval()
    bags = [toy_bag(5), toy_bag(1, seed=1)]
    output = model(pack(bags))
    for number, bag in enumerate(bags):
        expected = model.classify(embedded(model, bag).mean(dim=0))
        torch.testing.assert_close(output.logits[number], expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(output.attention, torch.tensor([0.2] * 5 + [1.0]))


def test_max_is_the_maximum_and_attention_counts_the_axes_won():
    torch.manual_seed(0)
    model = MaxPooling(12, 2, hidden=8).eval()
    bag = toy_bag(5)
    h = embedded(model, bag)
    output = model(pack([bag]))
    torch.testing.assert_close(output.logits[0], model.classify(h.amax(dim=0)), rtol=1e-5, atol=1e-6)
    expected = torch.zeros(5)
    for axis in range(8):
        winners = h[:, axis] == h[:, axis].max()
        expected[winners] += 1 / 8 / winners.sum()
    torch.testing.assert_close(output.attention, expected)


def test_equal_tiles_share_attention():
    model = MaxPooling(12, 2).eval()
    bag = toy_bag(1)
    same = bag.take(torch.zeros(4, dtype=torch.int64).numpy())
    torch.testing.assert_close(model(pack([same])).attention, torch.full((4,), 0.25))


@pytest.mark.parametrize("r", [0.3, 5.0])
def test_log_sum_exp_is_scipys(r):
    torch.manual_seed(0)
    model = LogSumExpPooling(12, 2, r=r).eval()
    bags = [toy_bag(5), toy_bag(1, seed=1), toy_bag(70, seed=2)]
    output = model(pack(bags))
    for number, bag in enumerate(bags):
        h = embedded(model, bag).detach().double().numpy()
        z = (logsumexp(r * h, axis=0) - np.log(len(bag))) / r
        expected = model.classify(torch.from_numpy(z).float())
        torch.testing.assert_close(output.logits[number], expected, rtol=1e-4, atol=1e-5)


def test_log_sum_exp_lies_between_mean_and_maximum():
    bag = pack([toy_bag(60)])
    found = []
    for model, options in (
        (MeanPooling, {}),
        *((LogSumExpPooling, {"r": r}) for r in (1e-3, 3, 1e4)),
        (MaxPooling, {}),
    ):
        torch.manual_seed(0)
        built = model(12, 1, **options).eval()
        torch.nn.init.ones_(built.classify.weight)
        found.append(built(bag).logits.item())
    mean, small, middle, large, highest = found
    assert small == pytest.approx(mean, rel=1e-3)
    assert mean + 0.1 < middle < highest - 0.1
    assert large == pytest.approx(highest, rel=1e-3)


def test_log_sum_exp_attention_is_the_gradients_share_also_for_huge_features():
    torch.manual_seed(0)
    model = LogSumExpPooling(12, 1, r=2.0).eval()
    torch.nn.init.ones_(model.classify.weight)
    bag = toy_bag(20)
    output = model(pack([bag]))
    h = embedded(model, bag).detach().requires_grad_()
    (torch.logsumexp(2.0 * h, dim=0) / 2.0).sum().backward()
    torch.testing.assert_close(output.attention, h.grad.mean(dim=1), rtol=1e-4, atol=1e-6)
    huge = Bag("huge", bag.features * 1e6, bag.coords_um, bag.rows)
    logits = model(pack([huge])).logits
    logits.sum().backward()
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(one.grad).all() for one in model.parameters())


def test_log_sum_exp_refuses_an_r_that_is_not_above_zero():
    for r in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="it must be above 0"):
            LogSumExpPooling(12, 1, r=r)
