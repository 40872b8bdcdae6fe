"""The one place where MIL training happens: a LightningModule, and `fit_fold` around it."""

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import lightning
import numpy as np
import torch
from torch import Tensor

from mil.bag import BagBatch, Bags
from mil.network import Loss, Network, NetworkSpec, one_thread
from mil.packing import Packing

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class FitConfig:
    """How a network is trained; the defaults suit 50 to 200 slides of 100 to 1,000 tiles.

    They were chosen by inner cross-validation on 120 slides of known truth and are the same for all models.

    Attributes
    ----------
    epochs : int
    lr, weight_decay : float
        Of AdamW; the learning rate falls to zero over a cosine after a tenth of the steps of linear rise.
    packing : Packing
    device : "auto", "cpu" or "cuda"
        "auto" takes a CUDA device if there is one, and then bfloat16 autocast.
    """

    epochs: int = 40
    lr: float = 1e-3
    weight_decay: float = 1e-2
    packing: Packing = field(default_factory=Packing)
    device: Device = "auto"


class MILTask(lightning.LightningModule):
    """One step: loss of a batch of bags."""

    def __init__(self, network: Network, loss: Loss, config: FitConfig, steps: int):
        super().__init__()
        self.network = network
        self.loss = loss
        self.config = config
        self.steps = steps

    def training_step(self, batch: BagBatch, batch_idx: int) -> Tensor:
        return self.network.objective(batch, self.loss)

    def transfer_batch_to_device(self, batch: BagBatch, device: torch.device, dataloader_idx: int) -> BagBatch:
        return batch.to(device)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), self.config.lr, weight_decay=self.config.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        rise = max(1, self.steps // 10)
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, self.steps - rise)))


class Epochs:
    """The batches of each epoch in turn: what Lightning takes for a data loader."""

    def __init__(self, bags: Bags, targets: np.ndarray, packing: Packing, seed: int):
        self._bags, self._targets, self._packing, self._seed = bags, targets, packing, seed
        self._epoch = 0

    def __iter__(self) -> Iterator[BagBatch]:
        epoch, self._epoch = self._epoch, self._epoch + 1
        return self._packing.epoch(self._bags, self._targets, self._seed, epoch)


def fit_fold(spec: NetworkSpec, bags: Bags, targets: np.ndarray, config: FitConfig, seed: int) -> Network:
    """Train a network on the bags of one fold's training side.

    On a CPU the same arguments give the same bits, whatever the number of cores: training uses one thread. The
    global random state and the number of threads are as before afterwards.

    Parameters
    ----------
    spec : NetworkSpec
    bags : Bags
        Raw features; their mean and variance become part of the network.
    targets : ndarray (len(bags),) int64
    seed : int
        Of weights, order of slides, tiles drawn and dropout.

    Returns
    -------
    Network
        On the CPU, in evaluation mode.
    """
    cuda = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    steps = config.epochs * math.ceil(len(bags) / config.packing.slides)
    with one_thread(), _seeded(seed), _quiet():
        network = Network(spec)
        network.standardize(bags)
        network.prepare(bags, targets, spec.build_loss())
        task = MILTask(network, spec.build_loss(), config, steps)
        trainer = lightning.Trainer(
            accelerator="gpu" if cuda else "cpu",
            devices=1,
            precision="bf16-mixed" if cuda else "32-true",
            max_epochs=config.epochs,
            gradient_clip_val=1.0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(task, Epochs(bags, targets, config.packing, seed))
    return network.cpu().eval()


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
