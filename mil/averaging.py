"""A running mean of a network's weights, which is used in place of the last ones.

Polyak, Juditsky: Acceleration of Stochastic Approximation by Averaging, 1992. https://doi.org/10.1137/0330046
Tarvainen, Valpola: Mean teachers are better role models, NeurIPS 2017. https://arxiv.org/abs/1703.01780

    mean_t = d_t mean_{t-1} + (1 - d_t) w_t,    d_t = min(decay, (1 + t) / (10 + t))

The decay begins low, so that the mean forgets the weights that it began with.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average (EMA) of the parameters of a network; buffers stay the network's own.

    Parameters
    ----------
    decay : float
        Share of the mean that a step leaves; 0.99 looks back over about 100 steps.
    """

    def __init__(self, network: nn.Module, decay: float):
        self._network, self._decay, self._steps = network, decay, 0
        self._mean = {name: value.detach().clone() for name, value in network.named_parameters()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now: after each step of the optimiser."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for name, value in self._network.named_parameters():
            mean = self._mean[name].to(value.device)
            self._mean[name] = mean.mul_(decay).add_(value, alpha=1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the network have the mean for its weights meanwhile."""
        own = {name: value.detach().clone() for name, value in self._network.named_parameters()}
        self._set(self._mean)
        try:
            yield
        finally:
            self._set(own)

    def settle(self) -> None:
        """Give the network the mean for good."""
        self._set(self._mean)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"steps": self._steps, "mean": self._mean}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._steps, self._mean = int(state["steps"]), dict(state["mean"])

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, value in self._network.named_parameters():
            value.copy_(values[name])
