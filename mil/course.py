"""What happens around the steps of a training: log, mean of the weights, slides that are watched, checkpoints."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import lightning
import torch
from torch import Tensor

from mil.averaging import WeightAverage
from mil.bag import BagBatch
from mil.checkpoints import FitFolder
from mil.early_stopping import BestWeights, Watched
from mil.loss import ClassLoss
from mil.network import Network
from mil.selection import Standing
from wsi.errors import UsageError

COLUMNS = ("epoch", "loss", "lr", "metric", "log_loss")


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One line of the log.

    Attributes
    ----------
    epoch : int
        From 0.
    loss : float
        Mean over the bags, of the batches as they were trained on.
    lr : float
        Of the last step.
    metric, log_loss : float or None
        On the slides that are watched; None where there are none, or it is not defined.
    """

    epoch: int
    loss: float
    lr: float
    metric: float | None = None
    log_loss: float | None = None


class Course(lightning.Callback):
    """The course of one fit; it begins where the last checkpoint stands.

    Parameters
    ----------
    network : Network
        As it is before the first step; it gets the checkpoint's weights.
    loss : ClassLoss, optional
        What is watched are its probabilities.
    watched : Watched, optional
        After each epoch the network, with the mean of its weights where there is one, is asked about these.
    """

    def __init__(
        self,
        network: Network,
        loss: ClassLoss | None,
        epochs: int,
        ema: float = 0.0,
        patience: int = 0,
        watched: Watched | None = None,
        folder: FitFolder | None = None,
    ):
        self._network, self._loss, self._epochs = network, loss, epochs
        self._watched, self._folder = watched, folder
        self._average = WeightAverage(network, ema) if ema else None
        self._best = BestWeights(patience) if watched else None
        self._sum: Tensor | float = 0.0
        self._bags, self._rate, self._began = 0, 0.0, time.perf_counter()
        self.rows: list[EpochRow] = []
        self.seconds = 0.0
        self._resumed = folder.load() if folder else None
        if self._resumed:
            self._go_on(self._resumed)

    @property
    def done(self) -> int:
        """Epochs that are over."""
        return len(self.rows)

    @property
    def is_over(self) -> bool:
        """Whether no epoch is left, or none is worth it."""
        return self.done >= self._epochs or (self._best is not None and self._best.is_time)

    def close(self) -> int | None:
        """Give the network the weights that it keeps, and say of which epoch they are where some were watched."""
        if self._best is not None:
            self._best.put_back(self._network)
            return self._best.epoch
        if self._average is not None:
            self._average.settle()
        return None

    def on_train_start(self, trainer: Any, task: Any) -> None:
        if self._resumed:
            trainer.optimizers[0].load_state_dict(self._resumed["optimizer"])
            trainer.lr_scheduler_configs[0].scheduler.load_state_dict(self._resumed["schedule"])
            torch.set_rng_state(self._resumed["random"])
        self._began = time.perf_counter()

    def on_train_batch_start(self, trainer: Any, task: Any, batch: BagBatch, batch_idx: int) -> None:
        self._rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(self, trainer: Any, task: Any, outputs: Any, batch: BagBatch, batch_idx: int) -> None:
        if self._average is not None:
            self._average.update()
        self._sum = self._sum + outputs["loss"].detach() * len(batch)  # read once an epoch: a GPU is not waited for
        self._bags += len(batch)

    def on_train_epoch_end(self, trainer: Any, task: Any) -> None:
        loss = float(self._sum) / self._bags
        self._sum, self._bags = 0.0, 0
        if not isfinite(loss):
            raise UsageError(
                f"the loss is no number after epoch {self.done}; a lower --lr may help (now {self._rate:g})"
            )
        self.rows.append(self._row(loss))
        trainer.should_stop = self._best is not None and self._best.is_time
        now = time.perf_counter()
        self.seconds, self._began = self.seconds + now - self._began, now
        if self._folder is not None:
            self._folder.save(lambda: self._state(trainer))

    def _row(self, loss: float) -> EpochRow:
        if self._watched is None or self._best is None or self._loss is None:
            return EpochRow(self.done, loss, self._rate)
        if self._average is None:
            return self._judged(self._watched.standing(self._network, self._loss), self._best, loss)
        with self._average.in_place():
            return self._judged(self._watched.standing(self._network, self._loss), self._best, loss)

    def _judged(self, found: Standing, best: BestWeights, loss: float) -> EpochRow:
        best.see(self.done, found, self._network)
        return EpochRow(self.done, loss, self._rate, **found.to_dict())

    def _state(self, trainer: Any) -> dict[str, Any]:
        return {
            "network": self._network.state_dict(),
            "optimizer": trainer.optimizers[0].state_dict(),
            "schedule": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
            "random": torch.get_rng_state(),
            "average": self._average and self._average.state(),
            "best": self._best and self._best.state(),
            "log": [asdict(row) for row in self.rows],
            "seconds": self.seconds,
        }

    def _go_on(self, state: dict[str, Any]) -> None:
        self._network.load_state_dict(state["network"])
        if self._average is not None:
            self._average.restore(state["average"])
        if self._best is not None:
            self._best.restore(state["best"])
        self.rows = [EpochRow(**row) for row in state["log"]]
        self.seconds = float(state["seconds"])


def log_table(log: Sequence[EpochRow]) -> str:
    """The log as CSV; a number that is not there is an empty cell."""
    lines = [",".join(COLUMNS)]
    for row in log:
        numbers = (row.loss, row.lr, row.metric, row.log_loss)
        lines.append(",".join([str(row.epoch), *("" if one is None else f"{one:.8g}" for one in numbers)]))
    return "\n".join(lines) + "\n"
