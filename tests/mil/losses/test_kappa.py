import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score
from torch.nn import functional

from mil.losses.kappa import QuadraticKappa
from wsi.errors import UsageError


def test_of_sure_answers_it_is_the_kappa_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth, said = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    said = np.where(rng.random(200) < 0.6, truth, said)
    logits = 1e3 * functional.one_hot(torch.from_numpy(said), 5).double()
    found = QuadraticKappa(5, cross_entropy=0)(logits, torch.from_numpy(truth)).item()
    np.testing.assert_allclose(1 - np.exp(found), cohen_kappa_score(truth, said, weights="quadratic"), atol=1e-5)


def test_unsure_answers_count_by_their_probability():
    # Truth 0, 1 and p = (3/4, 1/4), (1/4, 3/4): missed (1/4 + 1/4) / 2; by chance P(0, 1) + P(1, 0) = 1/4 + 1/4.
    logits = torch.tensor([[np.log(3), 0], [0, np.log(3)]], dtype=torch.float64)
    found = QuadraticKappa(2, cross_entropy=0)(logits, torch.tensor([0, 1])).item()
    np.testing.assert_allclose(np.exp(found), 0.5, rtol=1e-5)
    both = QuadraticKappa(2, cross_entropy=2)(logits, torch.tensor([0, 1])).item()
    np.testing.assert_allclose(both - found, 2 * np.log(4 / 3))


def test_of_one_grade_kappa_says_nothing():
    torch.manual_seed(0)
    logits = torch.randn(6, 4, requires_grad=True)
    value = QuadraticKappa(4, cross_entropy=0)(logits, torch.full((6,), 2))
    (gradient,) = torch.autograd.grad(value, logits)
    assert abs(value.item()) < 1e-5
    assert gradient.abs().max() < 1e-5


def test_negative_share_is_refused():
    with pytest.raises(UsageError, match="cross_entropy is -1"):
        QuadraticKappa(3, cross_entropy=-1)
