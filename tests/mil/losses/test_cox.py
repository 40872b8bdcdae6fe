from itertools import pairwise

import numpy as np
import pytest
import torch
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.linear_model.coxph import CoxPHOptimizer

from mil.losses.cox import Cox
from wsi.errors import UsageError


def tied_cohort(slides=60, seed=0):
    """Log hazards and targets (time, event): a third censored, many ties, also of events with censored slides."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=slides)
    time = np.ceil(rng.exponential(np.exp(-x)) * 4)
    event = rng.random(slides) < 0.66
    assert len(np.unique(time[event])) < event.sum() / 2, "not enough ties"
    return x, np.stack([time, event], axis=1)


@pytest.mark.parametrize("seed", range(3))
def test_loss_and_gradient_are_those_of_scikit_survival(seed):
    """Its optimiser has the likelihood of a linear model; with one feature, and the coefficient w, x = w f."""
    f, targets = tied_cohort(seed=seed)
    for w in (-1.5, 0.0, 0.7, 20.0):
        theirs = CoxPHOptimizer(f[:, None], targets[:, 1] > 0, targets[:, 0], alpha=np.zeros(1), ties="efron")
        theirs.update(np.array([w]))
        leaf = torch.tensor(w, dtype=torch.float64, requires_grad=True)
        value = Cox()((leaf * torch.from_numpy(f))[:, None], torch.from_numpy(targets))
        (gradient,) = torch.autograd.grad(value, leaf)
        np.testing.assert_allclose(value.item(), theirs.nlog_likelihood(np.array([w])), rtol=1e-10)
        np.testing.assert_allclose(gradient.item(), theirs.gradient[0], rtol=1e-9, atol=1e-12)


def test_gradient_vanishes_at_the_fit_of_scikit_survival():
    rng = np.random.default_rng(1)
    f = rng.normal(size=(80, 3))
    time, event = np.ceil(rng.exponential(np.exp(f @ [1.0, -0.5, 0.0])) * 5), rng.random(80) < 0.7
    outcome = np.array(list(zip(event, time, strict=True)), dtype=[("event", bool), ("time", float)])
    fit = CoxPHSurvivalAnalysis(ties="efron", tol=1e-12).fit(f, outcome)
    w = torch.tensor(fit.coef_, requires_grad=True)
    value = Cox()((torch.from_numpy(f) @ w)[:, None], torch.from_numpy(np.stack([time, event], axis=1)))
    (gradient,) = torch.autograd.grad(value, w)
    assert gradient.abs().max() < 1e-7


def test_ties_by_hand():
    # Two events at time 1, one slide censored then (still at risk), one event later; all hazards 1.
    targets = torch.tensor([[1.0, 1], [1, 1], [1, 0], [2, 1]])
    found = Cox()(torch.zeros(4, 1, dtype=torch.float64), targets).item()
    np.testing.assert_allclose(found, (np.log(4) + np.log(4 - 1 / 2 * 2) + np.log(1)) / 4)


def test_strata_are_compared_only_within():
    x, targets = tied_cohort()
    logits, targets = torch.from_numpy(x)[:, None], torch.from_numpy(targets)
    stratum = torch.arange(len(x), dtype=torch.float64)[:, None] % 3
    together = Cox(stratified=True)(logits, torch.cat([targets, stratum], dim=1))
    alone = [Cox()(logits[k::3], targets[k::3]) * len(logits[k::3]) for k in range(3)]
    torch.testing.assert_close(together, sum(alone) / len(x))
    moved = Cox(stratified=True)(logits + 5 * stratum, torch.cat([targets, stratum], dim=1))
    torch.testing.assert_close(together, moved)


def test_without_an_event_nothing_is_learnt():
    logits = torch.randn(5, 1, requires_grad=True)
    value = Cox()(logits, torch.tensor([[float(time), 0] for time in range(5)]))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == 0
    assert not gradient.any()


def test_who_has_the_event_first_has_the_highest_risk():
    targets = torch.tensor([[float(time), 1] for time in (3, 1, 4, 2)])
    logits = torch.zeros(4, 1, requires_grad=True)
    for _ in range(50):
        (gradient,) = torch.autograd.grad(Cox()(logits, targets), logits)
        logits = (logits - gradient).detach().requires_grad_()
    risk = Cox().risk(logits.detach().numpy())
    assert risk.shape == (4,)
    assert all(sooner > later for sooner, later in pairwise(risk[targets[:, 0].argsort().numpy()]))


def test_targets_of_another_shape_are_refused():
    with pytest.raises(UsageError, match=r"targets of cox are \(4,\); expected \(B, 2\)"):
        Cox()(torch.zeros(4, 1), torch.zeros(4))
    with pytest.raises(UsageError, match=r"expected \(B, 3\)"):
        Cox(stratified=True)(torch.zeros(4, 1), torch.zeros(4, 2))
