import numpy as np
import torch
from scipy.stats import energy_distance

from mil.losses.emd import SquaredEMD


def test_loss_is_half_the_squared_energy_distance():
    """Between two distributions on grades Cramer's distance is half of it (Szekely 2002)."""
    torch.manual_seed(0)
    logits = torch.randn(4, 5, dtype=torch.float64)
    p = torch.softmax(logits, dim=1).numpy()
    targets = torch.tensor([0, 4, 2, 1])
    grades = np.arange(5)
    expected = np.mean([energy_distance(grades, [y], row) ** 2 / 2 for row, y in zip(p, targets.tolist(), strict=True)])
    np.testing.assert_allclose(SquaredEMD(5)(logits, targets).item(), expected)


def test_a_miss_by_two_costs_twice_a_miss_by_one_when_sure():
    sure = 100.0 * torch.eye(4)
    costs = [SquaredEMD(4)(sure[:1], torch.tensor([grade])).item() for grade in range(4)]
    np.testing.assert_allclose(costs, [0, 1, 2, 3], atol=1e-6)
