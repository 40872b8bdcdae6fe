import numpy as np
import pytest
import torch

from mil.losses.ldam import LDAM
from wsi.errors import UsageError


def test_margins_fall_with_the_fourth_root_of_the_count():
    np.testing.assert_allclose(LDAM(3, [16, 1, 81]).margins, [1 / 2, 1, 1 / 3])
    np.testing.assert_allclose(LDAM(3, [16, 0, 81], max_margin=3).margins, [3, 3, 2])
    np.testing.assert_allclose(LDAM(2).margins, [1, 1])


def test_loss_by_hand():
    # Class 1 has the margin log 2: its odds against class 0 are halved, 3/2 instead of 3. Class 0 has half of it.
    loss = LDAM(2, [16, 1], max_margin=np.log(2))
    logits = torch.tensor([[0.0, np.log(3)]] * 2, dtype=torch.float64)
    odds = 2**-0.5 / 3
    expected = (np.log(1 + 2 / 3) + np.log(1 + 1 / odds)) / 2
    np.testing.assert_allclose(loss(logits, torch.tensor([1, 0])).item(), expected)


def test_second_stage_weighs_rare_classes():
    assert LDAM(2, [30, 10]).weights.tolist() == [1, 1]
    weights = LDAM(2, [30, 10], beta=1 - 1e-9).weights
    np.testing.assert_allclose(weights[1] / weights[0], 3, rtol=1e-6)


def test_negative_margin_is_refused():
    with pytest.raises(UsageError, match="max_margin is -1"):
        LDAM(2, max_margin=-1)
