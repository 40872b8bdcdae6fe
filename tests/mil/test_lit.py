import os
import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from mil.checkpoints import FitFolder
from mil.lit import Epochs, FitConfig, MILTask, find_lr, fit, fit_fold
from mil.network import Network, NetworkSpec, predict
from mil.packing import Packing
from mil.testing import toy_bag
from wsi.errors import UsageError

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


class Killed(Exception):
    pass


class Fatal:
    """Bags that raise `Killed` when they have been read so many times: an end in the midst of an epoch."""

    def __init__(self, bags, reads):
        self.bags, self.left = bags, reads

    def __len__(self):
        return len(self.bags)

    def __getitem__(self, number):
        self.left -= 1
        if self.left < 0:
            raise Killed
        return self.bags[number]


CONFIGS = {
    "plain": FitConfig(epochs=6, lr=5e-3, device="cpu"),
    "mean of weights": FitConfig(epochs=6, lr=5e-3, device="cpu", ema=0.9),
    "early stopping": FitConfig(epochs=30, lr=2e-2, device="cpu", patience=3),
    "both, rate found": FitConfig(epochs=8, device="cpu", patience=4, ema=0.9, find_lr=True),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_killed_training_goes_on_to_the_same_bits(config, tmp_path):
    bags, targets = cohort(18, signal=1.0)
    spec = NetworkSpec("abmil", "corn", 12, 2)
    patients = [f"p{number // 2}" for number in range(18)]
    counted = Fatal(bags, 10**6)
    whole = fit(spec, counted, targets, config, 3, task="grade", patients=patients)
    before = 10**6 - counted.left - len(bags) * len(whole.log)  # reads until the first epoch
    for reads in (before + 27, before + 23):  # in the second epoch, and in the second after that
        with pytest.raises(Killed):
            fit(
                spec, Fatal(bags, reads), targets, config, 3,
                task="grade", patients=patients, folder=FitFolder(tmp_path / "fit", every_s=0),
            )  # fmt: skip
        assert (tmp_path / "fit" / "checkpoint").exists()
    resumed = fit(
        spec, bags, targets, config, 3, task="grade", patients=patients, folder=FitFolder(tmp_path / "fit", every_s=0)
    )
    assert torch.equal(weights(resumed.network), weights(whole.network))
    assert resumed.log == whole.log
    assert (resumed.lr, resumed.best_epoch) == (whole.lr, whole.best_epoch)
    again = fit(spec, Fatal(bags, 0), targets, config, 3, patients=patients, folder=FitFolder(tmp_path / "fit"))
    assert torch.equal(weights(again.network), weights(whole.network))
    assert again.log == whole.log


def test_best_epoch_on_slides_set_apart_is_what_is_kept():
    bags, targets = cohort(30, signal=1.0)
    config = FitConfig(epochs=40, lr=2e-2, device="cpu", patience=5)
    found = fit(NetworkSpec("abmil", "corn", 12, 2), bags, targets, config, 0, task="grade")
    stands = [(row.metric, -row.log_loss) for row in found.log]
    assert found.best_epoch == stands.index(max(stands))
    assert len(found.log) == found.best_epoch + 6 < 40
    assert [row.epoch for row in found.log] == list(range(len(found.log)))


def test_mean_of_weights_is_between_the_weights():
    bags, targets = cohort(12)
    spec = NetworkSpec("mean", "corn", 12, 2)
    plain, averaged = (
        fit_fold(spec, bags, targets, FitConfig(epochs=4, lr=1e-2, device="cpu", ema=ema), seed=0) for ema in (0, 0.99)
    )
    torch.manual_seed(0)
    begun = Network(spec)
    moved, moved_less = (
        torch.cat([(a - b).flatten() for a, b in zip(one.parameters(), begun.parameters(), strict=True)]).norm()
        for one in (plain, averaged)
    )
    assert 0 < moved_less < moved


def test_the_rate_found_trains_and_comes_again():
    bags, targets = cohort(16)
    spec = NetworkSpec("abmil", "corn", 12, 2)
    found = [find_lr(spec, bags, targets, QUICK, seed=1) for _ in range(2)]
    assert found[0] == found[1]
    assert 1e-5 < found[0].chosen() < 0.1
    first = fit(spec, bags, targets, replace(QUICK, find_lr=True), 1)
    assert first.lr == found[0].chosen()
    assert first.log[-1].loss < first.log[0].loss


def test_log_has_what_happened():
    bags, targets = cohort(12)
    found = fit(NetworkSpec("mean", "corn", 12, 2), bags, targets, replace(QUICK, epochs=3), 0)
    assert [row.epoch for row in found.log] == [0, 1, 2]
    assert found.log[2].loss < found.log[0].loss
    assert found.log[-1].lr < found.log[1].lr <= QUICK.lr
    assert found.seconds_per_epoch > 0
    assert found.best_epoch is None


def test_a_loss_that_is_no_number_is_said():
    bags, targets = cohort(8)
    with pytest.raises(UsageError, match="the loss is no number after epoch .; a lower --lr"):
        fit(NetworkSpec("abmil", "corn", 12, 2), bags, targets, replace(QUICK, lr=1e30), 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_goes_on_with_mean_of_weights_and_early_stopping(tmp_path):
    bags, targets = cohort()
    spec, config = NetworkSpec("abmil", "corn", 12, 2), FitConfig(30, 5e-3, device="cuda", ema=0.9, patience=10)
    with pytest.raises(Killed):
        fit(spec, Fatal(bags, 150), targets, config, 0, folder=FitFolder(tmp_path, every_s=0))
    found = fit(spec, bags, targets, config, 0, folder=FitFolder(tmp_path, every_s=0))
    right = [(predict(found.network, bag)[0][0] > 0) == target for bag, target in zip(bags, targets, strict=True)]
    assert np.mean(right) > 0.9
    assert found.best_epoch is not None
