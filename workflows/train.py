"""`histograde train`: features and labels to a model folder, with figures on slides that were held out."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer

from mil.cohort import Cohort, Task, label_classes, read_labels
from mil.folds import assign_folds, check_no_leak
from mil.intervals import Interval, score
from wsi.cohort_index import open_cohort
from wsi.errors import UsageError
from wsi.store import FeatureStore
from wsi.store_url import StorePath, store_location

if TYPE_CHECKING:
    from mil.bag import StoreBags
    from mil.cross_validation import CrossValidation
    from mil.lit import FitConfig
    from mil.network import NetworkSpec

Report = Callable[[str], None]
DEFAULT_LOSS = {"grade": "corn", "class": "cross_entropy"}
MOST_NAMES = 10


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides a trained model.

    Attributes
    ----------
    store : path
        Folder of feature stores.
    labels : path
        CSV with slide_id, label and optional patient_id, site, fold.
    out : path
        The model folder to make.
    model : str
        Name in `mil.models.MODELS`.
    task : "grade" or "class"
        Whether the labels have an order.
    encoder : str, optional
        Whose features; may be left out where the stores hold those of one.
    loss : str, optional
        Name in `mil.losses.LOSSES`; by the task if left out: corn or cross_entropy.
    classes : tuple of str, optional
        The classes in order, where it cannot be told from the labels.
    folds : int
        Ignored where the labels have a fold column.
    fold_by : "patient" or "site"
    seed : int
    epochs : int, optional
    device : str
        auto, cpu or cuda.
    allow_missing : bool
        Go on without the labelled slides that have no store.
    model_options : mapping
        Hyper-parameters of the model.
    """

    store: StorePath
    labels: Path
    out: Path
    model: str = "abmil"
    task: Task = "grade"
    encoder: str | None = None
    loss: str | None = None
    classes: tuple[str, ...] | None = None
    folds: int = 5
    fold_by: str = "patient"
    seed: int = 0
    epochs: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    allow_missing: bool = False
    model_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value, known in (
            ("task", self.task, ("grade", "class")),
            ("fold-by", self.fold_by, ("patient", "site")),
            ("device", self.device, ("auto", "cpu", "cuda")),
        ):
            if value not in known:
                raise UsageError(f"--{name} is {value!r}; it can be {', '.join(known)}")


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
    calibration : dict
        As in `model.json`.
    notes : tuple of str
        What limits the figures.
    """

    path: Path
    model_id: str
    classes: tuple[str, ...]
    metrics: dict[str, Interval]
    calibration: dict[str, Any]
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The outcome for people."""
        first = next(iter(self.metrics.values()))
        found = self.calibration
        return [
            f"held-out slides, 95 % interval by patient ({first.n_groups} patients, {first.method}):",
            *(f"  {name:<18}{interval}" for name, interval in self.metrics.items()),
            f"calibration: temperature {found['temperature']:.3f} from {found['n_slides']} held-out slides; "
            f"log loss {found['nll_before']:.3f} -> {found['nll_after']:.3f}, "
            f"ECE {found['ece_before']:.3f} -> {found['ece_after']:.3f}",
            *(f"note: {note}" for note in self.notes),
            f"model {self.model_id} in {self.path}",
        ]


def command(
    store: Annotated[str, typer.Option(metavar="DIR", help="Folder of the feature stores, or s3://BUCKET/PREFIX.")],
    labels: Annotated[Path, typer.Option(metavar="CSV", help="slide_id, label and optional patient_id, site, fold.")],
    out: Annotated[Path, typer.Option(metavar="MODEL", help="Folder of the model; an older model there is replaced.")],
    model: Annotated[str, typer.Option(help="abmil, autopool, topk, mean or max.")] = "abmil",
    task: Annotated[str, typer.Option(help="grade (labels have an order) or class.")] = "grade",
    encoder: Annotated[str | None, typer.Option(help="Whose features, where the stores hold several.")] = None,
    loss: Annotated[
        str | None,
        typer.Option(help="corn, coral or cross_entropy.", show_default="corn for grades, else cross_entropy"),
    ] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="All classes in order, where the labels do not tell.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Parts for cross-validation; no patient is in two of them.")] = 5,
    fold_by: Annotated[str, typer.Option(help="patient, or site: then no site is in two folds either.")] = "patient",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same model.")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the slides.", show_default="40")] = None,
    device: Annotated[str, typer.Option(metavar="DEV", help="auto, cpu or cuda.")] = "auto",
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Go on without labelled slides that have no store.")
    ] = False,
) -> None:
    """Features and labels to a model that grades.

    Trains one network a fold, measures each on the slides it has not seen, calibrates on those, and keeps all of it
    in one folder for `histograde grade`.

    Example: `histograde train --store features/ --labels labels.csv --out model/`
    """
    names = tuple(name.strip() for name in classes.split(",")) if classes else None
    config = TrainConfig(
        store_location(store), labels, out, model, task, encoder, loss, names,  # type: ignore[arg-type]
        folds, fold_by, seed, epochs, device, allow_missing,  # type: ignore[arg-type]
    )  # fmt: skip
    train(config, typer.echo)


def train(config: TrainConfig, report: Report = print) -> TrainResult:
    """Train, measure on held-out slides, calibrate, and write the model folder.

    Parameters
    ----------
    report : callable
        Takes the lines for people.

    Raises
    ------
    UsageError
        If labels, stores and options do not fit together.
    PatientLeakError
        If the fold column of the labels splits a patient.
    RecipeMismatchError
        If features of two slides were made in different ways.
    CorruptStoreError
        If a store is damaged.
    """
    from mil.bag import StoreBags
    from mil.cross_validation import cross_validate
    from mil.lit import FitConfig
    from mil.model_folder import check_writable

    start = time.perf_counter()
    check_writable(Path(config.out))
    cohort, stores = match(read_labels(config.labels), open_cohort(config.store), config.allow_missing, report)
    classes = label_classes(cohort.label, config.task, config.classes)
    targets = cohort.targets(classes)
    cohort = _with_folds(cohort, config)
    bags = StoreBags(stores, _encoder(stores, config.encoder))
    spec = _spec(config, np.bincount(targets, minlength=len(classes)).tolist(), bags.card["dim"])
    fit = FitConfig(device=config.device)
    fit = fit if config.epochs is None else replace(fit, epochs=config.epochs)
    report(_cohort_line(cohort, classes, bags, config.task))
    done = cross_validate(
        spec, bags, targets, np.asarray(cohort.fold), fit, config.seed,
        task=config.task, classes=classes, report=report,
    )  # fmt: skip
    result = _save(config, spec, fit, cohort, classes, targets, bags, done)
    _record_run(config, result, stores, bags.card["name"], time.perf_counter() - start)
    for line in result.lines():
        report(line)
    return result


def match(
    cohort: Cohort, stores: Mapping[str, FeatureStore], allow_missing: bool, report: Report
) -> tuple[Cohort, list[FeatureStore]]:
    """The slides that have both a label and a store; what is left out is reported by name."""
    missing = [slide_id for slide_id in cohort.slide_id if slide_id not in stores]
    if missing and not allow_missing:
        raise UsageError(
            f"without feature store: {_listed(missing)}; extract them, or leave them out with --allow-missing"
        )
    if missing:
        report(f"left out, no feature store: {_listed(missing)}")
    if extra := sorted(set(stores) - set(cohort.slide_id)):
        report(f"left out, no label: {_listed(extra)}")
    kept = [row for row, slide_id in enumerate(cohort.slide_id) if slide_id in stores]
    if not kept:
        raise UsageError("no labelled slide has a feature store; check that slide_id is the stores' name")
    cohort = cohort.select(kept)
    if missing:
        cohort = replace(cohort, notes=(*cohort.notes, f"left out, no feature store: {_listed(missing)}"))
    return cohort, [stores[slide_id] for slide_id in cohort.slide_id]


def _encoder(stores: list[FeatureStore], asked: str | None) -> str:
    if asked:
        for store in stores:
            if asked not in store.encoders:
                raise UsageError(f"slide {store.slide.slide_id} has no features by {asked!r}; extract them first")
        return asked
    common = set.intersection(*(set(store.encoders) for store in stores))
    if len(common) != 1:
        have = ", ".join(sorted(common)) or "no encoder for all slides"
        raise UsageError(f"the stores hold features by {have}; say which with --encoder")
    return common.pop()


def _with_folds(cohort: Cohort, config: TrainConfig) -> Cohort:
    if cohort.fold is None:
        cohort = assign_folds(cohort, config.folds, config.seed, config.fold_by)
    else:
        names, fold = np.unique(cohort.fold, return_inverse=True)
        if len(names) < 2:
            raise UsageError(f"the fold column holds only {names[0]}; at least two folds are needed")
        cohort = replace(cohort, fold=fold)
    check_no_leak(cohort)
    return cohort


def _spec(config: TrainConfig, class_counts: list[int], dim: int) -> "NetworkSpec":
    from mil.network import NetworkSpec

    loss = config.loss or DEFAULT_LOSS[config.task]
    options = {"class_counts": class_counts} if loss == "cross_entropy" else {}
    return NetworkSpec(config.model, loss, dim, len(class_counts), dict(config.model_options), options).complete()


def _cohort_line(cohort: Cohort, classes: tuple[str, ...], bags: "StoreBags", task: Task) -> str:
    counts = ", ".join(f"{name}: {cohort.label.count(name)}" for name in classes)
    sites = len({site for site in cohort.site if site})
    where = f" at {sites} sites" if sites else ""
    return (
        f"{len(cohort)} slides of {len(set(cohort.patient_id))} patients{where}; {task} {counts}; "
        f"features by {bags.card['name']} ({bags.card['dim']})"
    )


def _save(
    config: TrainConfig,
    spec: "NetworkSpec",
    fit: "FitConfig",
    cohort: Cohort,
    classes: tuple[str, ...],
    targets: np.ndarray,
    bags: "StoreBags",
    done: "CrossValidation",
) -> TrainResult:
    from mil.model_folder import ModelCard, save_model
    from workflows.config import plain, versions

    predicted = done.probabilities.argmax(axis=1)
    metrics = score(config.task, targets, predicted, done.probabilities, cohort.patient_id, seed=config.seed)
    training = {
        "slides": len(cohort),
        "patients": len(set(cohort.patient_id)),
        "sites": sorted({site for site in cohort.site if site}),
        "labels": {name: cohort.label.count(name) for name in classes},
        "folds": len(done.networks),
        "fold_by": config.fold_by,
        "seed": config.seed,
        "fit": plain(fit),
        "held_out": {name: interval.to_dict() for name, interval in metrics.items()},
        "cohort_sha256": cohort.digest(),
        "notes": list(cohort.notes),
    }
    card = ModelCard(config.task, classes, spec, bags.card, bags.recipe, done.calibration, training, versions())
    model_id = save_model(config.out, card, done.networks, cohort, done.held_out)
    return TrainResult(Path(config.out), model_id, classes, metrics, done.calibration, cohort.notes)


def _record_run(
    config: TrainConfig, result: TrainResult, stores: list[FeatureStore], encoder: str, seconds: float
) -> None:
    from workflows.config import RunRecord

    RunRecord(
        "train",
        asdict(config) | {"encoder": encoder},
        inputs={store.slide.slide_id: store.slide.content_hash for store in stores},
        outputs={"model_id": result.model_id},
        counts={"slides": len(stores)},
        timings_s={"wall": seconds},
    ).write(result.path)


def _listed(names: list[str]) -> str:
    rest = len(names) - MOST_NAMES
    shown = ", ".join(names[:MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")
    return f"{len(names)} slide{'s' if len(names) > 1 else ''} ({shown})"
