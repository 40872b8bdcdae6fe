"""A network a fold, what each says of the slides it has not seen, and the calibration that follows from these."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mil.bag import Bags, BagSubset
from mil.calibration_choice import calibration_methods, choose_calibration, nested_probabilities
from mil.checkpoints import FitFolder
from mil.cohort import Task
from mil.course import EpochRow
from mil.fit_config import FitConfig
from mil.lit import fit
from mil.metrics import ece, log_loss
from mil.nested import Choice, Grid, Side, choose, configured
from mil.network import Network, NetworkSpec, predict
from mil.prediction import Prediction
from wsi.errors import UsageError


@dataclass(frozen=True, slots=True)
class FoldRecord:
    """How the network of one fold came to be.

    Attributes
    ----------
    spec : NetworkSpec
        What was trained.
    choice : Choice
        What inner cross-validation chose.
    log : tuple of EpochRow
    lr : float
        The learning rate, given, chosen or found.
    best_epoch : int or None
        Whose weights were taken, with early stopping.
    seconds_per_epoch : float
    """

    spec: NetworkSpec
    choice: Choice
    log: tuple[EpochRow, ...]
    lr: float
    best_epoch: int | None
    seconds_per_epoch: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `model.json`, those that do not depend on the clock."""
        chosen = {"settings": dict(self.choice.settings), "tried": [dict(one) for one in self.choice.tried]}
        return {"epochs": len(self.log), "best_epoch": self.best_epoch, "lr": self.lr, **chosen}


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """Networks and held-out predictions.

    Attributes
    ----------
    networks : tuple of Network
        By fold.
    held_out : tuple of Prediction
        For every slide by the network that has not seen it. The probabilities of a fold are calibrated by what is
        chosen and fitted on the other folds, so that they show what calibration does for a new slide.
    logits : ndarray (n, L)
        Behind them, not calibrated.
    calibration : dict
        `CalibrationChoice.to_dict`, fitted on all held-out slides; how many slides and patients these are; and log loss
        and ECE before and after, of the probabilities in `held_out`.
    folds : tuple of FoldRecord
    """

    networks: tuple[Network, ...]
    held_out: tuple[Prediction, ...]
    logits: np.ndarray
    calibration: dict[str, Any]
    folds: tuple[FoldRecord, ...] = ()

    @property
    def probabilities(self) -> np.ndarray:
        """Held-out class probabilities, (n, C)."""
        return np.stack([one.probabilities for one in self.held_out])


def cross_validate(
    spec: NetworkSpec,
    bags: Bags,
    targets: np.ndarray,
    fold: np.ndarray,
    config: FitConfig,
    seed: int = 0,
    *,
    task: Task = "class",
    classes: Sequence[str] | None = None,
    report: Callable[[str], None] | None = None,
    patients: Sequence[str] | None = None,
    grid: Grid | None = None,
    folder: FitFolder | None = None,
) -> CrossValidation:
    """Train one network a fold and ask it about the slides of that fold.

    What is chosen for a network (of a grid, or when to stop) is chosen on its training side.

    Parameters
    ----------
    targets, fold : ndarray (len(bags),) int64
        Folds are numbered from 0; none is empty.
    task, classes
        For the predictions; classes are "0", "1", ... if left out.
    report : callable, optional
        Takes a line when a fold is done.
    patients : sequence of str, optional
        Of the bags: who stays together in the parts of a training side; each bag is its own patient if left out.
    grid : Grid, optional
        Hyper-parameters to choose from in each fold.
    folder : FitFolder, optional
        Where checkpoints and folds that are done lie, for a run that goes on.
    """
    folds = int(fold.max()) + 1
    if folds < 2 or len(np.unique(fold)) != folds:
        raise UsageError(f"folds are numbered from 0 without a gap, at least two; found {np.unique(fold).tolist()}")
    people = tuple(patients) if patients else tuple(str(number) for number in range(len(bags)))
    networks: list[Network] = []
    records: list[FoldRecord] = []
    found: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    for k in range(folds):
        seen, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        side = Side(BagSubset(bags, seen), targets[seen], tuple(people[row] for row in seen))
        place = folder and folder.below(f"fold-{k}")
        network, record = _fold(spec, side, config, (seed, k), task, grid or Grid(), place, report)
        networks.append(network)
        records.append(record)
        found |= {int(row): predict(network, bags[int(row)]) for row in held}
        if report:
            report(f"fold {k + 1} of {folds}: trained on {len(seen)} slides, {len(held)} held out{_told(record)}")
    parts = [found[row] for row in range(len(bags))]
    names = tuple(classes) if classes else tuple(str(number) for number in range(spec.n_classes))
    done = _calibrated(spec, bags, targets, fold, people, networks, parts, task, names)
    return replace(done, folds=tuple(records))


def _fold(
    spec: NetworkSpec,
    side: Side,
    config: FitConfig,
    seed: tuple[int, int],
    task: Task,
    grid: Grid,
    folder: FitFolder | None,
    report: Callable[[str], None] | None,
) -> tuple[Network, FoldRecord]:
    """Choose for a training side, and train on it."""
    choice = choose(grid, spec, side, config, seed, task, folder, report)
    spec, config = configured(spec, config, choice.settings)
    fold_seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    done = fit(spec, side.bags, side.targets, config, fold_seed, task=task, patients=side.patients, folder=folder)
    return done.network, FoldRecord(spec, choice, done.log, done.lr, done.best_epoch, done.seconds_per_epoch)


def _told(record: FoldRecord) -> str:
    """What was chosen in a fold, for people; empty where nothing was."""
    chosen = [f"{name} {value}" for name, value in record.choice.settings.items()]
    if record.best_epoch is not None:
        chosen.append(f"weights of epoch {record.best_epoch + 1} of {len(record.log)}")
    return f"; {', '.join(chosen)}" if chosen else ""


def _calibrated(
    spec: NetworkSpec,
    bags: Bags,
    targets: np.ndarray,
    fold: np.ndarray,
    people: tuple[str, ...],
    networks: list[Network],
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    task: Task,
    classes: tuple[str, ...],
) -> CrossValidation:
    link = spec.build_class_loss().probabilities
    logits = np.stack([one[0] for one in parts])
    methods = calibration_methods(task, link)
    choice = choose_calibration(methods, logits, targets, fold, people)
    probabilities = nested_probabilities(methods, logits, targets, fold, people)
    held_out = []
    for number, (_, attention, tile_logits) in enumerate(parts):
        bag = bags[number]
        evidence = choice.calibrator.transform(tile_logits).astype(np.float32)
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
    figures = _before_and_after(targets, link(logits), probabilities)
    report = {"n_slides": len(logits), "n_patients": len(set(people)), **figures, **choice.to_dict()}
    return CrossValidation(tuple(networks), tuple(held_out), logits, report)


def _before_and_after(targets: np.ndarray, before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    return {
        "nll_before": log_loss(targets, before),
        "nll_after": log_loss(targets, after),
        "ece_before": ece(targets, before),
        "ece_after": ece(targets, after),
    }
