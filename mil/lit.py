"""The one place where MIL training happens: a LightningModule, and `fit` around it."""

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from mil.bag import BagBatch, Bags
from mil.checkpoints import FitFolder
from mil.cohort import Task
from mil.course import Course, EpochRow
from mil.early_stopping import Watched, parted
from mil.fit_config import FitConfig
from mil.lr_range import STEPS, LrRange, has_exploded, ramp
from mil.network import Loss, Network, NetworkSpec, one_thread
from mil.packing import Packing

KEPT = ("lr", "best_epoch", "seconds_per_epoch")
"""Of `Fitted`, beside its network and its log."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained network and its training.

    Attributes
    ----------
    network : Network
        On the CPU, in evaluation mode.
    log : tuple of EpochRow
    lr : float
        The learning rate, given or found.
    best_epoch : int or None
        Whose weights were taken, where slides were set apart.
    seconds_per_epoch : float
        Of the clock, with reading and validation.
    """

    network: Network
    log: tuple[EpochRow, ...]
    lr: float
    best_epoch: int | None
    seconds_per_epoch: float


class MILTask(lightning.LightningModule):
    """One step: loss of a batch of bags.

    Parameters
    ----------
    steps : int
        Of the whole training.
    rate : callable, optional
        From a step to its learning rate, in place of rise and fall.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        config: FitConfig,
        steps: int,
        rate: Callable[[int], float] | None = None,
    ):
        super().__init__()
        self.network = network
        self.loss = loss
        self.config = config
        self.steps = steps
        self.rate = rate

    def training_step(self, batch: BagBatch, batch_idx: int) -> Tensor:
        return self.network.objective(batch, self.loss)

    def transfer_batch_to_device(self, batch: BagBatch, device: torch.device, dataloader_idx: int) -> BagBatch:
        return batch.to(device)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), self.config.lr, weight_decay=self.config.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        if self.rate is not None:
            return self.rate(step) / self.config.lr
        rise = max(1, self.steps // 10)
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, self.steps - rise)))


class Epochs:
    """The batches of each epoch in turn, from `first` on: what Lightning takes for a data loader."""

    def __init__(self, bags: Bags, targets: np.ndarray, packing: Packing, seed: int, first: int = 0):
        self._bags, self._targets, self._packing, self._seed = bags, targets, packing, seed
        self._epoch = first

    def __iter__(self) -> Iterator[BagBatch]:
        epoch, self._epoch = self._epoch, self._epoch + 1
        return self._packing.epoch(self._bags, self._targets, self._seed, epoch)


def fit_fold(spec: NetworkSpec, bags: Bags, targets: np.ndarray, config: FitConfig, seed: int) -> Network:
    """The network of `fit`, alone."""
    return fit(spec, bags, targets, config, seed).network


def fit(
    spec: NetworkSpec,
    bags: Bags,
    targets: np.ndarray,
    config: FitConfig,
    seed: int,
    *,
    task: Task = "class",
    patients: Sequence[str] | None = None,
    folder: FitFolder | None = None,
) -> Fitted:
    """Train a network on the bags of one fold's training side.

    On a CPU the same arguments give the same bits, whatever the number of cores and however often it was killed on its
    way: training uses one thread. The global random state and the number of threads are as before afterwards.

    Parameters
    ----------
    spec : NetworkSpec
    bags : Bags
        Raw features; their mean and variance become part of the network.
    targets : ndarray (len(bags),) int64
    seed : int
        Of weights, order of slides, tiles drawn and dropout.
    task : "grade" or "class"
        Whose metric stops a training early.
    patients : sequence of str, optional
        Of the bags: who is set apart for that together; each bag is its own patient if left out.
    folder : FitFolder, optional
        Where the checkpoints of a fit with these very arguments lie. One that is done there is not done again.

    Raises
    ------
    UsageError
        If the loss is no number any more, or there are not enough patients to set some apart.
    """
    watched = None
    if folder and (done := _kept(spec, folder)):
        return done
    if config.patience:
        names = patients or [str(number) for number in range(len(bags))]
        bags, targets, watched = parted(bags, targets, names, config.watched, seed, task)
    with one_thread(), _seeded(seed), _quiet():
        if config.find_lr:
            config = replace(config, lr=find_lr(spec, bags, targets, config, seed).chosen())
        fitted = _fit(spec, bags, targets, config, seed, watched, folder)
    if folder:
        record = {name: getattr(fitted, name) for name in KEPT}
        folder.finish(fitted.network, record | {"log": [asdict(row) for row in fitted.log]})
    return fitted


def find_lr(spec: NetworkSpec, bags: Bags, targets: np.ndarray, config: FitConfig, seed: int) -> LrRange:
    """The losses of a short training from the network's beginning, in which the learning rate rises step by step."""
    with one_thread(), _seeded(seed), _quiet():
        network = _begun(spec, bags, targets)
        task = MILTask(network, spec.build_loss(), config, STEPS, ramp)
        losses = _Losses()
        trainer = _trainer(config, losses, max_steps=STEPS)
        trainer.fit(task, Epochs(bags, targets, config.packing, seed))
    return LrRange(tuple(losses.finite))


def _fit(
    spec: NetworkSpec,
    bags: Bags,
    targets: np.ndarray,
    config: FitConfig,
    seed: int,
    watched: Watched | None,
    folder: FitFolder | None,
) -> Fitted:
    steps = config.epochs * math.ceil(len(bags) / config.packing.slides)
    torch.manual_seed(seed)
    network = _begun(spec, bags, targets)
    loss = spec.build_loss()
    judge = spec.build_class_loss() if watched else None
    course = Course(network, judge, config.epochs, config.ema, config.patience, watched, folder)
    if not course.is_over:
        trainer = _trainer(config, course, max_epochs=config.epochs - course.done)
        task = MILTask(network, loss, config, steps)
        trainer.fit(task, Epochs(bags, targets, config.packing, seed, course.done))
    network.cpu().eval()
    best = course.close()
    return Fitted(network, tuple(course.rows), config.lr, best, course.seconds / course.done)


def _kept(spec: NetworkSpec, folder: FitFolder) -> Fitted | None:
    """What an earlier run came to, if it was done."""
    with one_thread(), _seeded(0):
        network = Network(spec)
    record = folder.finished(network)
    if record is None:
        return None
    log = tuple(EpochRow(**row) for row in record["log"])
    return Fitted(network.eval(), log, **{name: record[name] for name in KEPT})


def _begun(spec: NetworkSpec, bags: Bags, targets: np.ndarray) -> Network:
    """A network as it is before the first step."""
    network = Network(spec)
    network.standardize(bags)
    network.prepare(bags, targets, spec.build_loss())
    return network


def _trainer(
    config: FitConfig, callback: lightning.Callback, *, max_epochs: int | None = None, max_steps: int = -1
) -> lightning.Trainer:
    cuda = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    return lightning.Trainer(
        accelerator="gpu" if cuda else "cpu",
        devices=1,
        precision="bf16-mixed" if cuda else "32-true",
        max_epochs=max_epochs,
        max_steps=max_steps,
        callbacks=[callback],
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


class _Losses(lightning.Callback):
    """Losses of the steps, until they explode."""

    def __init__(self) -> None:
        self.finite: list[float] = []

    def on_train_batch_end(self, trainer: Any, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss = float(outputs["loss"])
        trainer.should_stop = has_exploded([*self.finite, loss])
        if math.isfinite(loss):
            self.finite.append(loss)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's announcements, and its advice on loaders and loggers that are not used here."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        logger.setLevel(level)


__all__ = ["Epochs", "FitConfig", "Fitted", "MILTask", "find_lr", "fit", "fit_fold"]
