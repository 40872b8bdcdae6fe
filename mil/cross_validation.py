"""A network a fold, what each says of the slides it has not seen, and the calibration that follows from these."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mil.bag import Bags, BagSubset
from mil.calibration import TemperatureScaling, cross_fitted
from mil.cohort import Task
from mil.lit import FitConfig, fit_fold
from mil.network import Network, NetworkSpec, predict
from mil.prediction import Prediction
from wsi.errors import UsageError


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """Networks and held-out predictions.

    Attributes
    ----------
    networks : tuple of Network
        By fold.
    held_out : tuple of Prediction
        For every slide by the network that has not seen it. The probabilities of a fold are calibrated on the other
        folds, so that they show what calibration does for a new slide.
    logits : ndarray (n, L)
        Behind them, not calibrated.
    calibration : dict
        Method, temperature from all held-out slides, and the log loss and ECE before and after.
    """

    networks: tuple[Network, ...]
    held_out: tuple[Prediction, ...]
    logits: np.ndarray
    calibration: dict[str, Any]

    @property
    def probabilities(self) -> np.ndarray:
        """Held-out class probabilities, (n, C)."""
        return np.stack([one.probabilities for one in self.held_out])


def cross_validate(
    spec: NetworkSpec,
    bags: Bags,
    targets: np.ndarray,
    fold: np.ndarray,
    fit: FitConfig,
    seed: int = 0,
    *,
    task: Task = "class",
    classes: Sequence[str] | None = None,
    report: Callable[[str], None] | None = None,
) -> CrossValidation:
    """Train one network a fold and ask it about the slides of that fold.

    Parameters
    ----------
    targets, fold : ndarray (len(bags),) int64
        Folds are numbered from 0; none is empty.
    task, classes
        For the predictions; classes are "0", "1", ... if left out.
    report : callable, optional
        Takes a line when a fold is done.
    """
    folds = int(fold.max()) + 1
    if folds < 2 or len(np.unique(fold)) != folds:
        raise UsageError(f"folds are numbered from 0 without a gap, at least two; found {np.unique(fold).tolist()}")
    networks: list[Network] = []
    found: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    for k in range(folds):
        seen, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        fold_seed = int(np.random.SeedSequence([seed, k]).generate_state(1)[0])
        networks.append(fit_fold(spec, BagSubset(bags, seen), targets[seen], fit, fold_seed))
        found |= {int(row): predict(networks[k], bags[int(row)]) for row in held}
        if report:
            report(f"fold {k + 1} of {folds}: trained on {len(seen)} slides, {len(held)} held out")
    parts = [found[row] for row in range(len(bags))]
    names = tuple(classes) if classes else tuple(str(number) for number in range(spec.n_classes))
    return _calibrated(spec, bags, targets, fold, networks, parts, task, names)


def _calibrated(
    spec: NetworkSpec,
    bags: Bags,
    targets: np.ndarray,
    fold: np.ndarray,
    networks: list[Network],
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    task: Task,
    classes: tuple[str, ...],
) -> CrossValidation:
    link = spec.build_class_loss().probabilities
    logits = np.stack([one[0] for one in parts])
    scaling = TemperatureScaling(link).fit(logits, targets)
    probabilities = cross_fitted(link, logits, targets, fold)
    held_out = []
    for number, (_, attention, tile_logits) in enumerate(parts):
        bag = bags[number]
        evidence = link(tile_logits / scaling.temperature_).astype(np.float32)
        held_out.append(
            Prediction(
                slide_id=bag.slide_id,
                task=task,
                classes=classes,
                probabilities=probabilities[number],
                attention=attention.astype(np.float32),
                tile_evidence=evidence,
                rows=bag.rows,
                model_id="",
                calibrated=True,
                fold_spread=0.0,
            )
        )
    report = {"method": "temperature", **asdict(scaling.report_)}
    return CrossValidation(tuple(networks), tuple(held_out), logits, report)
