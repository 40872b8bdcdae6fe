import os
import random
from itertools import pairwise

import numpy as np
import pytest
import torch

from mil.lit import Epochs, FitConfig, MILTask, fit_fold
from mil.network import Network, NetworkSpec, predict
from mil.packing import Packing
from mil.testing import toy_bag

QUICK = FitConfig(epochs=8, lr=5e-3, device="cpu")


def cohort(slides=24, signal=3.0):
    bags = [toy_bag(20 + number, seed=number, signal=signal * (number % 2)) for number in range(slides)]
    return bags, np.arange(slides) % 2


def weights(network):
    return torch.cat([value.flatten() for value in network.state_dict().values()])


@pytest.mark.parametrize("model", ["abmil", "topk"])
def test_learns_a_separable_cohort_and_finds_its_tiles(model):
    bags, targets = cohort()
    network = fit_fold(NetworkSpec(model, "corn", 12, 2), bags, targets, FitConfig(epochs=30, lr=5e-3), seed=0)
    new = [toy_bag(30, seed=100 + number, signal=3.0 * (number % 2)) for number in range(10)]
    for number, bag in enumerate(new):
        logits, attention, tile_logits = predict(network, bag)
        assert (logits[0] > 0) == number % 2
        assert abs(attention.sum() - 1) < 1e-5
        if number % 2:
            assert tile_logits[:3, 0].mean() > tile_logits[3:, 0].mean()


def test_same_bits_whatever_the_threads_and_the_global_seed():
    bags, targets = cohort()
    spec = NetworkSpec("abmil", "corn", 12, 2)
    found = []
    before = torch.get_num_threads()
    try:
        for threads, noise in ((1, 1), (4, 2)):
            torch.set_num_threads(threads)
            torch.manual_seed(noise)
            np.random.seed(noise)  # noqa: NPY002
            random.seed(noise)
            found.append(weights(fit_fold(spec, bags, targets, QUICK, seed=3)))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)
    assert not torch.equal(found[0], weights(fit_fold(spec, bags, targets, QUICK, seed=4)))


def test_leaves_no_trace(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    bags, targets = cohort(4)
    torch.manual_seed(11)
    state = torch.random.get_rng_state()
    network = fit_fold(NetworkSpec("mean", "corn", 12, 2), bags, targets, QUICK, seed=0)
    assert os.listdir(tmp_path) == []
    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not network.training


def test_every_epoch_sees_other_tiles():
    bags, targets = cohort(6)
    epochs = Epochs(bags, targets, Packing(tile_dropout=0.5), seed=0)
    first, second = ([batch.features.numpy().tobytes() for batch in epochs] for _ in range(2))
    assert first != second


def test_learning_rate_rises_then_falls_to_zero():
    spec = NetworkSpec("mean", "corn", 12, 2)
    task = MILTask(Network(spec), spec.build_loss(), FitConfig(), steps=100)
    rates = [task._rate(step) for step in range(101)]
    assert rates[0] == 0.1
    assert max(rates) == rates[9] == rates[10] == 1
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[100] == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_learns_as_the_cpu_does():
    bags, targets = cohort()
    network = fit_fold(NetworkSpec("abmil", "corn", 12, 2), bags, targets, FitConfig(30, 5e-3, device="cuda"), seed=0)
    right = [(predict(network, bag)[0][0] > 0) == target for bag, target in zip(bags, targets, strict=True)]
    assert np.mean(right) > 0.9
