"""From bags to risks: what a trained network says of slides whose hazard is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.survival import DIM, concordance, simulated
from mil.lit import FitConfig, fit_fold
from mil.losses.discrete_time import event_quantiles
from mil.network import NetworkSpec, predict
from mil.packing import Packing

FIT = FitConfig(epochs=8, lr=3e-3, packing=Packing(slides=32, tiles=8192), device="cpu")


def logits_of(network, bags):
    return np.stack([predict(network, bag)[0] for bag in bags])


@pytest.mark.parametrize("loss", ["cox", "discrete_time"])
def test_risks_of_new_slides_rank_them_nearly_as_the_hazard_itself(loss):
    bags, targets, _ = simulated(160, seed=0)
    new, wanted, log_hazard = simulated(300, seed=1)
    options = {"cuts": event_quantiles(*targets.T)} if loss == "discrete_time" else {}
    spec = NetworkSpec("mean", loss, DIM, 0, {}, options)
    network = fit_fold(spec, bags, targets, FIT, seed=0)
    risk = spec.build_value_loss().risk(logits_of(network, new))
    best = concordance(wanted, log_hazard)
    assert best > 0.7
    assert concordance(wanted, risk) > best - 0.05


def test_several_targets_are_learnt_from_slides_that_have_one_or_the_other():
    """Half of the slides have a class, the others a measurement; both follow from the same tiles."""
    bags, _, log_hazard = simulated(160, seed=2)
    share = log_hazard / 4
    targets = np.stack([share > 0.5, 100 * share], axis=1).astype(np.float32)
    targets[::2, 0] = np.nan
    targets[1::2, 1] = np.nan
    said = {
        "high": {"loss": "cross_entropy", "n_classes": 2},
        "percent": {"loss": "huber", "options": {"center": 50, "scale": 30}},
    }
    spec = NetworkSpec("mean", "several", DIM, 0, {}, {"targets": said}).complete()
    network = fit_fold(spec, bags, targets, replace(FIT, packing=Packing(slides=8)), seed=0)
    new, _, log_hazard = simulated(100, seed=3)
    share = log_hazard / 4
    answers = spec.build_value_loss().answers(logits_of(network, new))
    assert (answers["high"].argmax(axis=1) == (share > 0.5)).mean() > 0.85
    assert np.abs(answers["percent"][:, 0] - 100 * share).mean() < 10  # 25 for who says 50 of all


def test_the_same_seed_gives_the_same_weights():
    bags, targets, _ = simulated(24, seed=4)
    spec = NetworkSpec("mean", "cox", DIM, 0)
    fit = FitConfig(epochs=2, packing=Packing(slides=8), device="cpu")
    one, two = (fit_fold(spec, bags, targets, fit, seed=5).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
