import numpy as np
import pytest
import torch

from mil.losses.discrete_time import DiscreteTime, event_quantiles
from wsi.errors import UsageError

CUTS = [2.0, 4.0, 8.0]
HAZARDS = np.array([0.1, 0.2, 0.4, 0.7])
LOGITS = torch.from_numpy(np.log(HAZARDS / (1 - HAZARDS)))[None]
PASSED = np.log(1 - HAZARDS)


def loss(time, event, **options):
    built = DiscreteTime(CUTS, **options)
    return built(LOGITS[:, : built.n_outputs], torch.tensor([[time, event]], dtype=torch.float64)).item()


@pytest.mark.parametrize(("time", "interval"), [(0.0, 0), (1.9, 0), (2.0, 1), (3.9, 1), (4.0, 2), (8.0, 3), (1e6, 3)])
def test_event_by_hand(time, interval):
    expected = -np.log(HAZARDS[interval]) - PASSED[:interval].sum()
    np.testing.assert_allclose(loss(time, 1, censored="end"), expected)
    np.testing.assert_allclose(loss(time, 1), expected if interval < 3 else -PASSED[:3].sum())


@pytest.mark.parametrize(
    ("time", "whole", "half"),
    [(0.9, 1, 0), (1.0, 1, 1), (2.0, 2, 1), (2.9, 2, 1), (3.0, 2, 2), (6.5, 3, 3), (8.0, 4, 3), (1e6, 4, 3)],
)
def test_censored_by_hand(time, whole, half):
    """Intervals survived: the one of censoring with Patch-GCN and MCAT always, else past its middle."""
    np.testing.assert_allclose(loss(time, 0, censored="end"), -PASSED[:whole].sum())
    np.testing.assert_allclose(loss(time, 0), -PASSED[:half].sum(), atol=1e-12)


def test_alpha_takes_weight_from_censored_slides_alone():
    np.testing.assert_allclose(loss(6.5, 0, alpha=0.25), 0.75 * loss(6.5, 0))
    np.testing.assert_allclose(loss(6.5, 1, alpha=0.25), loss(6.5, 1))


def test_survival_and_risk():
    survival = np.cumprod(1 - HAZARDS)
    for censored, outputs in (("middle", 3), ("end", 4)):
        built, logits = DiscreteTime(CUTS, censored), LOGITS[:, :outputs].numpy()
        np.testing.assert_allclose(built.values(logits)[0], survival[:3])
        np.testing.assert_allclose(built.risk(logits), [-survival[:outputs].sum()])
        assert built.risk(logits + 1) > built.risk(logits)


def test_outputs_of_nothing_are_the_hazards_of_intervals_with_equally_many_events():
    # Of four intervals 1/4, then 1/3 of those left, then 1/2.
    for censored, hazards in (("middle", [1 / 4, 1 / 3, 1 / 2]), ("end", [1 / 4, 1 / 3, 1 / 2, 1 / 2])):
        built = DiscreteTime(CUTS, censored)
        layer = built.layer()
        np.testing.assert_allclose(torch.sigmoid(layer(torch.zeros(1, built.n_outputs)))[0], hazards, rtol=1e-6)
        assert not layer.state_dict()


def test_least_at_the_life_table():
    """Events 3 of 10 in the first interval, then 2 of the 6 left after a censoring, at constant outputs."""
    told = [(1, 1)] * 3 + [(1.5, 0)] + [(3, 1)] * 2 + [(20, 1)] * 4
    targets, built = torch.tensor(told, dtype=torch.float64), DiscreteTime([2.0, 4.0], censored="end")
    logits = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    for _ in range(500):
        (gradient,) = torch.autograd.grad(built(logits.expand(10, 3), targets), logits)
        logits = (logits - 8 * gradient).detach().requires_grad_()
    survival = built.values(logits.detach().numpy())[0]
    np.testing.assert_allclose(survival, [7 / 10, 7 / 10 * 4 / 6], atol=1e-4)


def test_marks_are_the_interval_of_the_event():
    marks = DiscreteTime(CUTS).marks(torch.tensor([[3.0, 1], [3.0, 0], [torch.nan, torch.nan]]))
    assert marks.tolist() == [[False, True, False], [False] * 3, [False] * 3]


def test_cuts_hold_equally_many_events():
    time = np.arange(1, 13)
    cuts = event_quantiles(np.append(time, [100, 200]), np.append(np.ones(12), [0, 0]), 4)
    assert np.histogram(time, [0, *cuts, np.inf])[0].tolist() == [3, 3, 3, 3]
    assert event_quantiles(np.array([1, 1, 1, 1, 5, 6]), np.ones(6), 3) == pytest.approx([7 / 3])
    with pytest.raises(UsageError, match="3 events cannot be cut into 4"):
        event_quantiles(np.array([1, 2, 3, 4]), np.array([1, 1, 1, 0]), 4)


@pytest.mark.parametrize("cuts", [[], [2, 2], [3, 1], [0, 1], [1, np.inf]])
def test_cuts_that_do_not_rise_are_refused(cuts):
    with pytest.raises(UsageError, match="cuts are"):
        DiscreteTime(cuts)


def test_other_options_are_refused():
    with pytest.raises(UsageError, match="censored is 'start'"):
        DiscreteTime(CUTS, censored="start")
    with pytest.raises(UsageError, match="alpha is 2"):
        DiscreteTime(CUTS, alpha=2)
