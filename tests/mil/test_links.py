import numpy as np
import pytest
import torch

from mil.links import conditional, cumulative, one_slide_more, sigmoid, softmax


def test_softmax_and_sigmoid_against_torch():
    logits = np.random.default_rng(0).normal(size=(7, 4)) * 5
    np.testing.assert_allclose(softmax(logits), torch.softmax(torch.tensor(logits), -1).numpy(), rtol=1e-12)
    np.testing.assert_allclose(sigmoid(logits), torch.sigmoid(torch.tensor(logits)).numpy(), rtol=1e-12)


def test_conditional_by_hand():
    # P(y>0) = 3/4, P(y>1 | y>0) = 2/3: P(y>1) = 1/2.
    np.testing.assert_allclose(conditional(np.log([3.0, 2.0])), [1 / 4, 1 / 4, 1 / 2])


def test_cumulative_by_hand():
    # P(y>0) = 3/4, P(y>1) = 1/3.
    np.testing.assert_allclose(cumulative(np.log([3.0, 0.5])), [1 / 4, 3 / 4 - 1 / 3, 1 / 3])


@pytest.mark.parametrize("link", [softmax, conditional, cumulative])
def test_huge_logits(link):
    logits = -np.sort(-np.random.default_rng(0).normal(size=(5, 3)), axis=1) * 1e6
    found = link(logits)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=-1), 1)
    assert (found >= 0).all()


def test_one_slide_more_by_hand():
    np.testing.assert_allclose(one_slide_more(np.array([1.0, 0.0]), 9), [0.95, 0.05])
    np.testing.assert_allclose(one_slide_more(np.eye(4), 0), 0.25)
