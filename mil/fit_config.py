"""How a network is trained: every number of it, and the defaults."""

import math
from dataclasses import dataclass, field
from typing import Literal

from mil.packing import Packing
from wsi.errors import UsageError

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
    find_lr : bool
        Take the learning rate from a short training in which it rises (`mil.lr_range`), in place of `lr`.
    ema : float
        Decay of a running mean of the weights (`mil.averaging`), which then are the network's; 0 is none.
    patience : int
        Stop when the task's metric on slides set apart has not risen for so many epochs, and take the best epoch's
        weights (`mil.early_stopping`); 0 trains to the end on all slides.
    watched : float
        Share of the patients that is set apart for this.

    Raises
    ------
    UsageError
        If a number cannot be meant.
    """

    epochs: int = 40
    lr: float = 1e-3
    weight_decay: float = 1e-2
    packing: Packing = field(default_factory=Packing)
    device: Device = "auto"
    find_lr: bool = False
    ema: float = 0.0
    patience: int = 0
    watched: float = 0.2

    def __post_init__(self) -> None:
        for name, value, fits, wanted in (
            ("epochs", self.epochs, self.epochs >= 1, "1 or more"),
            ("lr", self.lr, 0 < self.lr < math.inf, "above 0"),
            ("weight-decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "0 or more"),
            ("ema", self.ema, 0 <= self.ema < 1, "from 0 to below 1"),
            ("patience", self.patience, self.patience >= 0, "0 or more"),
            ("watched", self.watched, 0 < self.watched <= 0.5, "above 0, 0.5 at most"),
        ):
            if not fits:
                raise UsageError(f"{name} is {value}; it can be {wanted}")
