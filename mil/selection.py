"""Which of two networks is better for a task: its own metric, and the log loss between equals."""

from dataclasses import dataclass
from math import isfinite

import numpy as np

from mil.cohort import Task
from mil.intervals import measures
from mil.metrics import log_loss


@dataclass(frozen=True, slots=True, order=True)
class Standing:
    """How good predictions are; the greater is better.

    Attributes
    ----------
    metric : float
        QWK for grades, AUROC for classes; -inf where it is not defined (one class only), so that the log loss decides.
    minus_log_loss : float
        Between predictions of one metric, as with few slides there often are, the surer ones of the truth are better.
    """

    metric: float
    minus_log_loss: float

    def to_dict(self) -> dict[str, float | None]:
        """Plain values, for JSON; None where the metric is not defined."""
        return {"metric": self.metric if isfinite(self.metric) else None, "log_loss": -self.minus_log_loss}


def metric_name(task: Task, n_classes: int) -> str:
    """The metric by which a task is judged first."""
    return next(iter(measures(task, n_classes)))


def standing(task: Task, targets: np.ndarray, probabilities: np.ndarray) -> Standing:
    """How good probabilities (n, C) are for targets (n,)."""
    measure = measures(task, probabilities.shape[1])[metric_name(task, probabilities.shape[1])]
    value = measure(targets, probabilities.argmax(axis=1), probabilities)
    return Standing(round(value, 9) if isfinite(value) else -np.inf, -log_loss(targets, probabilities))
