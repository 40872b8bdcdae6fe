"""A learning rate from one short training in which it rises until the loss explodes.

Smith: Cyclical Learning Rates for Training Neural Networks, WACV 2017, section 3.3. https://arxiv.org/abs/1506.01186

    lr_t = low (high / low)^(t / (T - 1));    choose lr* / 10 with lr* where the smoothed loss is least

The loss falls while the rate grows into the range that trains, and rises beyond it. A tenth of where it turns is the
usual choice for a schedule that has its highest rate early.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

LOW, HIGH, STEPS = 1e-6, 1.0, 120
MEMORY = 0.9
"""Share of the smoothed loss that a step leaves."""
EXPLODED = 4.0
"""How many times its least value the smoothed loss may be."""


@dataclass(frozen=True, slots=True)
class LrRange:
    """Losses of the steps of a ramp.

    Attributes
    ----------
    losses : tuple of float
        One a step, up to where the ramp was left.
    """

    losses: tuple[float, ...]

    def smoothed(self) -> np.ndarray:
        """Running mean of the losses, without the pull towards its start, (steps,)."""
        mean, found = 0.0, []
        for step, loss in enumerate(self.losses):
            mean = MEMORY * mean + (1 - MEMORY) * loss
            found.append(mean / (1 - MEMORY ** (step + 1)))
        return np.array(found)

    def chosen(self) -> float:
        """A tenth of the rate at which the smoothed loss is least."""
        return ramp(int(np.argmin(self.smoothed()))) / 10


def ramp(step: int) -> float:
    """Learning rate of a step."""
    return LOW * (HIGH / LOW) ** (step / (STEPS - 1))


def has_exploded(losses: Sequence[float]) -> bool:
    """Whether the ramp has gone far enough: the last loss is no number, or the smoothed one many times its least."""
    if not isfinite(losses[-1]):
        return True
    smoothed = LrRange(tuple(losses)).smoothed()
    return bool(smoothed[-1] > EXPLODED * smoothed.min())
