"""The metrics by which each task is judged, and all of them with intervals by patient. Numpy only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

import numpy as np

from mil import metrics, regression_metrics, survival_metrics
from mil.bootstrap import SHARE, Bounds, Interval, bootstrap, bootstrap_each, interval
from mil.cohort import Task
from mil.resampling import Groups, group_numbers


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric, and what an interval or a test must know of it.

    Attributes
    ----------
    function : callable
        Columns of the truth, then of the prediction, to a number. For grades and classes: targets (n,), predicted (n,),
        probabilities (n, C); for survival: times (n,), events (n,), risks (n,); for numbers: targets (n,),
        predicted (n,).
    bounds : (low, high)
        Between which it lies.
    by_class : bool
        Whether each class counts alike, so that the rarest of them decides how sure it is.
    ranks : bool
        Whether only the order of the scores enters, column by column.
    higher : bool
        Whether more is better.
    """

    function: Callable[..., float]
    bounds: Bounds = SHARE
    by_class: bool = False
    ranks: bool = False
    higher: bool = True

    def __call__(self, *columns: np.ndarray) -> float:
        """The metric of some slides."""
        return self.function(*columns)


_CLASSES: dict[str, Measure] = {
    "auroc": Measure(lambda y, _, p: metrics.macro_auroc(y, p), by_class=True, ranks=True),
    "accuracy": Measure(lambda y, k, _: metrics.accuracy(y, k)),
    "balanced_accuracy": Measure(lambda y, k, _: metrics.balanced_accuracy(y, k), by_class=True),
    "log_loss": Measure(lambda y, _, p: metrics.log_loss(y, p), (0, inf), higher=False),
    "brier": Measure(lambda y, _, p: metrics.brier(y, p), (0, 2), higher=False),
    "ece": Measure(lambda y, _, p: metrics.ece(y, p), higher=False),
}
_F1 = Measure(lambda y, k, p: metrics.f1(y, k, p.shape[1]), by_class=True)
_PRECISION = Measure(lambda y, _, p: metrics.average_precision(y == 1, p[:, 1]), by_class=True, ranks=True)
_QWK = Measure(lambda y, k, p: metrics.quadratic_kappa(y, k, p.shape[1]), (-1, 1))

SURVIVAL: Mapping[str, Measure] = {
    "c_index": Measure(survival_metrics.concordance, ranks=True),
    "uno_c_index": Measure(survival_metrics.uno_concordance, ranks=True),
}
NUMBERS: Mapping[str, Measure] = {
    "mae": Measure(regression_metrics.mean_absolute_error, (0, inf), higher=False),
    "rmse": Measure(regression_metrics.root_mean_squared_error, (0, inf), higher=False),
    "r2": Measure(regression_metrics.r_squared, (-inf, 1)),
    "pearson": Measure(regression_metrics.pearson, (-1, 1)),
    "spearman": Measure(regression_metrics.spearman, (-1, 1), ranks=True),
}


def measures(task: Task, n_classes: int) -> Mapping[str, Measure]:
    """The metrics by which a task is judged, the most telling first."""
    if task == "grade":
        errors = Measure(lambda y, k, _: metrics.grade_error(y, k), (0, n_classes - 1), higher=False)
        ranked = {"qwk": _QWK, "mae": errors, **_CLASSES}
    else:
        ranked = {"auroc": _CLASSES["auroc"], "f1": _F1, **_CLASSES}
    return {**ranked, **({"average_precision": _PRECISION} if n_classes == 2 else {})}


def score(
    task: Task,
    targets: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    patients: Groups,
    n: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Every metric of a task with its 95 % interval by patient.

    Parameters
    ----------
    targets, predicted : ndarray (n,) int
    probabilities : ndarray (n, C)
    """
    columns = (np.asarray(targets), np.asarray(predicted), np.asarray(probabilities))
    found = measures(task, columns[2].shape[1])
    return _with_intervals(found, columns, patients, n, seed, behind_rarest(columns[0], patients))


def score_survival(
    times: np.ndarray, events: np.ndarray, risks: np.ndarray, patients: Groups, n: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Harrell's and Uno's C-index with 95 % intervals by patient; parameters as for `survival_metrics.concordance`."""
    return _with_intervals(SURVIVAL, (times, events, risks), patients, n, seed)


def score_numbers(
    targets: np.ndarray, predicted: np.ndarray, patients: Groups, n: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Errors, explained variance and correlations of predicted numbers (n,) with their 95 % intervals by patient."""
    return _with_intervals(NUMBERS, (targets, predicted), patients, n, seed)


def detection_interval(
    positive: np.ndarray, scores: np.ndarray, patients: Groups, n: int = 1000, seed: int = 0
) -> Interval:
    """AUROC of a yes-or-no question with its 95 % interval by patient.

    Parameters
    ----------
    positive : ndarray (n,) bool
    scores : ndarray (n,)
    """
    units = behind_rarest(np.asarray(positive, dtype=bool), patients)
    return bootstrap(metrics.auroc, positive, scores, groups=patients, n=n, seed=seed, bounds=SHARE, units=units)


def _with_intervals(
    found: Mapping[str, Measure],
    columns: tuple[np.ndarray, ...],
    patients: Groups,
    n: int,
    seed: int,
    rarest: int | None = None,
) -> dict[str, Interval]:
    drawn = bootstrap_each(found, *columns, groups=patients, n=n, seed=seed)
    count = len(set(patients))
    return {
        name: interval(*drawn[name], groups=count, bounds=one.bounds, units=rarest if one.by_class else None)
        for name, one in found.items()
    }


def behind_rarest(targets: np.ndarray, patients: Groups) -> int:
    """Patients behind the rarest class that occurs, and no more than pairs of patients can be made."""
    group = group_numbers(patients)
    least = min((len(set(group[targets == k])) for k in np.unique(targets)), default=1)
    return max(1, min(least, len(set(group)) // 2))


__all__ = [
    "NUMBERS", "SURVIVAL", "Interval", "Measure", "behind_rarest", "bootstrap", "detection_interval", "measures",
    "score", "score_numbers", "score_survival",
]  # fmt: skip
