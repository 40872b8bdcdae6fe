"""From features and labels to a model folder: what `histograde train` does once, and a sweep in each of its cells."""

import inspect
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mil.cohort import Cohort, Task, label_classes, read_labels
from mil.intervals import Interval, score
from workflows.assurances import calibration_text, outliers_text, sets_text
from workflows.training_config import DEFAULT_LOSS, TrainConfig
from workflows.training_table import check_columns, encoder_of, match, with_folds
from wsi.cohort_index import open_cohort
from wsi.errors import UsageError
from wsi.files import to_json
from wsi.store import FeatureStore, read_manifest

if TYPE_CHECKING:
    from mil.bag import StoreBags
    from mil.cross_validation import CrossValidation
    from mil.fit_config import FitConfig
    from mil.nested import Grid
    from mil.network import NetworkSpec
    from mil.outliers import OutlierReference
    from workflows.leakage import LeakageAudit, SlideLooks

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What came of a training.

    Attributes
    ----------
    path : path
        The model folder.
    model_id : str
    classes : tuple of str
    metrics : dict of str to Interval
        On held-out slides.
    calibration, sets : dict or None
        As in `model.json`.
    notes : tuple of str
        What limits the figures.
    parameters : int
        Numbers that the network of one fold learned.
    seconds_per_epoch : float
        Of the clock, mean over the folds.
    task : "grade" or "class"
    outliers : dict or None
        As in `model.json`.
    """

    path: Path
    model_id: str
    classes: tuple[str, ...]
    metrics: dict[str, Interval]
    calibration: dict[str, Any] | None
    notes: tuple[str, ...]
    parameters: int = 0
    seconds_per_epoch: float = 0.0
    sets: dict[str, Any] | None = None
    task: Task = "grade"
    outliers: dict[str, Any] | None = None

    def lines(self) -> list[str]:
        """The outcome for people."""
        first = next(iter(self.metrics.values()))
        why = (self.calibration or {}).get("note")
        return [
            f"held-out slides, 95 % interval by patient ({first.n_groups} patients, {first.method}):",
            *(f"  {name:<18}{interval}" for name, interval in self.metrics.items()),
            f"calibration: {calibration_text(self.calibration)}",
            *([f"  {why}"] if why else []),
            f"sets: {sets_text(self.sets, self.task)}",
            f"outliers: {outliers_text(self.outliers)}",
            *(f"note: {note}" for note in self.notes),
            f"model {self.model_id} in {self.path}",
        ]


@dataclass(frozen=True, slots=True)
class Training:
    """A training that is ready to begin: all that was asked for has been found to fit together.

    Attributes
    ----------
    config : TrainConfig
    cohort : Cohort
        With folds.
    classes : tuple of str
    targets : ndarray (n,) int64
    stores : list of FeatureStore
    bags : StoreBags
    spec : NetworkSpec
    fit : FitConfig
    grid : Grid
    looks : SlideLooks
        For the audit.
    """

    config: TrainConfig
    cohort: Cohort
    classes: tuple[str, ...]
    targets: np.ndarray
    stores: list[FeatureStore]
    bags: "StoreBags"
    spec: "NetworkSpec"
    fit: "FitConfig"
    grid: "Grid"
    looks: "SlideLooks"

    def key(self) -> str:
        """SHA-256 over all that decides the model: slides, labels, folds, features, options, versions."""
        from workflows.config import plain, versions

        encoder = self.bags.card["name"]
        features = [sha256(to_json(read_manifest(one.path / "features" / encoder))).hexdigest() for one in self.stores]
        places = ("store", "labels", "out", "allow_missing", "allow_duplicates")
        asked = {name: value for name, value in asdict(self.config).items() if name not in places}
        known = [plain(asked), self.cohort.digest(), self.classes, plain(asdict(self.spec)), plain(self.fit), features]
        return sha256(to_json([*known, versions()])).hexdigest()

    def line(self) -> str:
        """The cohort for people."""
        cohort = self.cohort
        counts = ", ".join(f"{name}: {cohort.label.count(name)}" for name in self.classes)
        sites = len({site for site in cohort.site if site})
        where = f" at {sites} sites" if sites else ""
        return (
            f"{len(cohort)} slides of {len(set(cohort.patient_id))} patients{where}; {self.config.task} {counts}; "
            f"features by {self.bags.card['name']} ({self.bags.card['dim']})"
        )


def train(config: TrainConfig, report: Report = print) -> TrainResult:
    """Train, measure on held-out slides, calibrate, and write the model folder.

    A training that was killed goes on where its last checkpoint stands, and comes to the same bytes.

    Parameters
    ----------
    report : callable
        Takes the lines for people.

    Raises
    ------
    UsageError
        If labels, stores and options do not fit together.
    PatientLeakError
        If the fold column of the labels splits a patient, or two slides of two folds or patients show one section.
    RecipeMismatchError
        If features of two slides were made in different ways.
    CorruptStoreError
        If a store is damaged.
    StoreBusyError
        If another process trains this model.
    """
    training = prepare(config, report)
    report(training.line())
    result = run(training, report)
    for line in result.lines():
        report(line)
    return result


def prepare(config: TrainConfig, report: Report) -> Training:
    """Read labels and open stores, and find all that cannot be trained before anything is."""
    from mil.bag import StoreBags
    from mil.fit_config import FitConfig
    from mil.model_folder import check_writable
    from mil.nested import Grid, configured
    from mil.packing import Packing
    from workflows.leakage import look_at_slides, without_duplicates
    from workflows.training_options import check_types

    check_writable(Path(config.out))
    labels = read_labels(config.labels)
    check_columns(labels, config.fold_by, config.stratify)
    cohort, stores = match(labels, open_cohort(config.store), config.allow_missing, report)
    classes = label_classes(cohort.label, config.task, config.classes)
    targets = cohort.targets(classes)
    fold_seed = config.seed if config.fold_seed is None else config.fold_seed
    cohort = with_folds(cohort, config.folds, fold_seed, config.fold_by, config.stratify)
    bags = StoreBags(stores, encoder_of(stores, config.encoder))
    looks = look_at_slides(bags, bags.recipe)
    cohort = without_duplicates(cohort, looks, config.allow_duplicates, report)
    spec = _spec(config, np.bincount(targets, minlength=len(classes)).tolist(), bags.card["dim"])
    epochs = {} if config.epochs is None else {"epochs": config.epochs}
    settings = {**config.settings, **epochs}
    defaults = asdict(FitConfig()) | asdict(Packing())
    grid = Grid({name: (value,) for name, value in settings.items()})  # looks at the names
    check_types(settings, defaults)
    if settings.get("find_lr") and "lr" in config.tune:
        raise UsageError("--lr auto finds the rate that --tune lr is to choose; leave one of them out")
    spec, fit = configured(spec, FitConfig(device=config.device), settings)
    grid = Grid(config.tune, config.inner_folds)
    if "site_balance" in {*settings, *config.tune} and not any(cohort.site):
        raise UsageError(f"--site-balance: {config.labels} says of no slide where it is from; add a site column")
    for candidate in grid.candidates():
        check_types(candidate, defaults | {f"model.{name}": value for name, value in spec.model_options.items()})
        configured(spec, fit, candidate)
    return Training(config, cohort, classes, targets, stores, bags, spec, fit, grid, looks)


def run(training: Training, report: Report) -> TrainResult:
    """Train what was prepared, after a look at what would give the labels away."""
    from mil.cross_validation import cross_validate
    from mil.sampling import BagsAtSites
    from workflows.leakage import audit_leakage
    from workflows.unfinished import unfinished

    start = time.perf_counter()
    config, key = training.config, training.key()
    at_sites = BagsAtSites(training.bags, training.cohort.site)
    audit = audit_leakage(training.cohort, training.looks, config.seed)
    for line in audit.lines():
        report(line)
    with unfinished(Path(config.out), key, report) as folder:
        done = cross_validate(
            training.spec, at_sites, training.targets, np.asarray(training.cohort.fold), training.fit, config.seed,
            task=config.task, classes=training.classes, report=report, patients=training.cohort.patient_id,
            grid=training.grid, folder=folder,
        )  # fmt: skip
        result = _save(training, done, audit)
        _record_run(training, result, key, time.perf_counter() - start)
    return result


def kept(training: Training) -> TrainResult | None:
    """The result of the same training, where its model folder is there already and whole."""
    from mil.model_folder import load_model
    from wsi.errors import WsiError

    path = Path(training.config.out)
    try:
        record = json.loads((path / "run.json").read_bytes())
        if record["outputs"]["training_key"] != training.key():
            return None
        model = load_model(path)
    except (OSError, ValueError, KeyError, TypeError, WsiError):
        return None
    known = model.card.training
    metrics = {name: _interval(value) for name, value in known["held_out"].items()}
    seconds = record["timings_s"]["epoch"]
    notes, parameters = tuple(known["notes"]), known["parameters"]
    card = model.card
    return TrainResult(
        path, model.model_id, card.classes, metrics, card.calibration, notes, parameters, seconds, card.sets, card.task,
        card.outliers,
    )  # fmt: skip


def _interval(value: Mapping[str, Any]) -> Interval:
    numbers = {name: float("nan") if value[name] is None else value[name] for name in ("estimate", "low", "high")}
    return Interval(**{one.name: value[one.name] for one in fields(Interval) if one.name in value} | numbers)


def _spec(config: TrainConfig, class_counts: list[int], dim: int) -> "NetworkSpec":
    from mil.losses import LOSSES
    from mil.network import NetworkSpec

    loss = config.loss or DEFAULT_LOSS[config.task]
    counted = "class_counts" in inspect.signature(LOSSES[loss]).parameters
    options = {**({"class_counts": class_counts} if counted else {}), **config.loss_options}
    return NetworkSpec(config.model, loss, dim, len(class_counts), dict(config.model_options), options).complete()


def _save(training: Training, done: "CrossValidation", audit: "LeakageAudit") -> TrainResult:
    from mil.course import log_table
    from mil.model_folder import ModelCard, save_model
    from workflows.config import versions

    config, cohort = training.config, training.cohort
    predicted = done.probabilities.argmax(axis=1)
    metrics = score(config.task, training.targets, predicted, done.probabilities, cohort.patient_id, seed=config.seed)
    reference = _outlier_reference(training)
    parameters = sum(part.numel() for part in done.networks[0].parameters())
    known = _training_record(training, done, metrics) | {"parameters": parameters, "audit": audit.to_dict()}
    card = ModelCard(
        config.task, training.classes, training.spec, training.bags.card, training.bags.recipe, done.calibration, known,
        versions(), _own_networks(training.spec, done), _sets(training, done), reference.describe(),
    )  # fmt: skip
    logs = [log_table(one.log) for one in done.folds]
    model_id = save_model(config.out, card, done.networks, cohort, done.held_out, logs, reference)
    seconds = float(np.mean([one.seconds_per_epoch for one in done.folds]))
    found = (metrics, done.calibration, cohort.notes, parameters, seconds, card.sets, config.task, card.outliers)
    return TrainResult(Path(config.out), model_id, training.classes, *found)


def _sets(training: Training, done: "CrossValidation") -> dict[str, Any]:
    from mil.model_sets import fit_sets

    config, cohort = training.config, training.cohort
    probabilities = training.spec.build_class_loss().probabilities(done.logits)  # (n, C)
    return fit_sets(
        config.task, training.classes, probabilities, training.targets, np.asarray(cohort.fold), cohort.slide_id,
        cohort.patient_id, config.coverage, config.seed,
    )  # fmt: skip


def _outlier_reference(training: Training) -> "OutlierReference":
    """What new slides are held against: one slide of each patient, of which only the drawn tiles are read."""
    from mil.bag import draw
    from mil.outliers import OutlierReference, one_of_each
    from mil.slide_view import SlideView, choice, traits_of

    config, cohort = training.config, training.cohort
    chosen = choice(config.seed)
    views = [
        SlideView.of_drawn(draw(training.bags, row, chosen), traits_of(training.stores[row]))
        for row in one_of_each(cohort.slide_id, cohort.patient_id, config.seed)
    ]
    return OutlierReference.of(views, config.false_alarms, config.seed)


def _training_record(training: Training, done: "CrossValidation", metrics: Mapping[str, Interval]) -> dict[str, Any]:
    """What `model.json` says of the training."""
    from mil.selection import metric_name
    from workflows.config import plain

    config, cohort = training.config, training.cohort
    return {
        "slides": len(cohort),
        "patients": len(set(cohort.patient_id)),
        "sites": sorted({site for site in cohort.site if site}),
        "labels": {name: cohort.label.count(name) for name in training.classes},
        "folds": len(done.networks),
        "fold_by": config.fold_by,
        "stratify": config.stratify,
        "seed": config.seed,
        "fold_seed": config.seed if config.fold_seed is None else config.fold_seed,
        "fit": plain(training.fit),
        "tuning": plain(training.grid),
        "chosen_by": metric_name(config.task, len(training.classes)),
        "networks": [plain(one.to_dict()) for one in done.folds],
        "held_out": {name: interval.to_dict() for name, interval in metrics.items()},
        "cohort_sha256": cohort.digest(),
        "notes": list(cohort.notes),
    }


def _own_networks(spec: "NetworkSpec", done: "CrossValidation") -> "tuple[NetworkSpec, ...] | None":
    """The networks of the folds, where one is not what was asked for."""
    return tuple(one.spec for one in done.folds) if any(one.spec != spec for one in done.folds) else None


def _record_run(training: Training, result: TrainResult, key: str, seconds: float) -> None:
    from workflows.config import RunRecord

    RunRecord(
        "train",
        asdict(training.config) | {"encoder": training.bags.card["name"]},
        inputs={store.slide.slide_id: store.slide.content_hash for store in training.stores},
        outputs={"model_id": result.model_id, "training_key": key},
        counts={"slides": len(training.stores)},
        timings_s={"wall": seconds, "epoch": result.seconds_per_epoch},
    ).write(result.path)
