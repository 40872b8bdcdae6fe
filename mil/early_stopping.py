"""When a training has become as good as it gets: slides of it that are watched and not trained on.

Prechelt: Early Stopping - But When?, 1998. https://doi.org/10.1007/3-540-49430-8_3
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mil.bag import Bags, BagSubset, pack
from mil.cohort import Task
from mil.folds import spread
from mil.loss import ClassLoss
from mil.network import Network
from mil.selection import Standing, standing
from wsi.errors import UsageError


class Watched:
    """Slides that a training is watched on, whole bags.

    Parameters
    ----------
    bags : Bags
    targets : ndarray (len(bags),) int64
    task : "grade" or "class"
        Says which metric is watched.
    """

    def __init__(self, bags: Bags, targets: np.ndarray, task: Task):
        self._bags, self._targets, self._task = bags, targets, task

    def standing(self, network: Network, loss: ClassLoss) -> Standing:
        """How good the network is by now; its mode and the random state are as before afterwards."""
        return standing(self._task, self._targets, loss.probabilities(logits_of(network, self._bags)))


class BestWeights:
    """The weights of the best epoch so far, and whether it is time to stop.

    Parameters
    ----------
    patience : int
        Epochs without a better one after which it is.
    """

    def __init__(self, patience: int):
        self._patience = patience
        self._standing: Standing | None = None
        self._weights: dict[str, Tensor] = {}
        self.epoch = -1
        self.is_time = False

    def see(self, epoch: int, found: Standing, network: Network) -> None:
        """Note how good the network is after an epoch; of equals the earlier one stays."""
        if self._standing is None or found > self._standing:
            self._standing, self.epoch = found, epoch
            self._weights = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
        self.is_time = epoch - self.epoch >= self._patience

    def put_back(self, network: Network) -> None:
        """Give the network the weights of the best epoch."""
        network.load_state_dict(self._weights)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        found = self._standing
        numbers = None if found is None else (found.metric, found.minus_log_loss)
        return {"standing": numbers, "weights": self._weights, "epoch": self.epoch, "is_time": self.is_time}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._standing = None if state["standing"] is None else Standing(*state["standing"])
        self._weights, self.epoch, self.is_time = dict(state["weights"]), int(state["epoch"]), bool(state["is_time"])


def logits_of(network: Network, bags: Bags) -> np.ndarray:
    """Logits (n, L) float64 of bags one by one, in evaluation mode; leaves mode and random state as they were."""
    training, device = network.training, network.mean.device
    with torch.inference_mode(), torch.random.fork_rng():
        network.eval()
        found = [network.logits(pack([bags[number]]).to(device))[0].double().cpu() for number in range(len(bags))]
    network.train(training)
    return np.stack([one.numpy() for one in found])


def set_apart(
    bags: Bags, targets: np.ndarray, groups: Sequence[str], share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows to watch, (n,) int64 each: whole patients, labels in like shares.

    Raises
    ------
    UsageError
        If all slides are of one patient.
    """
    patients = len(set(groups))
    if patients < 2:
        raise UsageError(f"{len(bags)} slides of one patient cannot be parted for early stopping; leave --patience out")
    parts = min(patients, max(2, round(1 / share)))
    part = spread(groups, [[str(target) for target in targets]], parts, seed)
    return np.flatnonzero(part != 0), np.flatnonzero(part == 0)


def parted(
    bags: Bags, targets: np.ndarray, groups: Sequence[str], share: float, seed: int, task: Task
) -> tuple[Bags, np.ndarray, Watched]:
    """Bags and targets to train on, and those that are watched."""
    seen, watched = set_apart(bags, targets, groups, share, seed)
    return BagSubset(bags, seen), targets[seen], Watched(BagSubset(bags, watched), targets[watched], task)
