import numpy as np
import torch

from mil.losses.logit_adjusted import LogitAdjusted


def test_loss_by_hand():
    # Shares 3/4 and 1/4, equal logits: what is compared is the shares.
    logits, targets = torch.zeros(2, 2, dtype=torch.float64), torch.tensor([0, 1])
    loss = LogitAdjusted(2, [30, 10])
    np.testing.assert_allclose(loss(logits, targets).item(), (np.log(4 / 3) + np.log(4)) / 2)
    np.testing.assert_allclose(loss.probabilities(logits.numpy())[0], [3 / 4, 1 / 4])


def test_tau_favours_the_rare_class_further():
    # 9/16 against 1/16.
    found = LogitAdjusted(2, [30, 10], tau=2.0).probabilities(np.zeros((1, 2)))
    np.testing.assert_allclose(found, [[0.9, 0.1]])


def test_without_counts_it_is_cross_entropy():
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    torch.testing.assert_close(LogitAdjusted(3)(logits, targets), torch.nn.functional.cross_entropy(logits, targets))
