"""`histograde evaluate`: predictions against labels, with intervals by patient, as tables and pictures."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from mil.cohort import Cohort, read_labels
from mil.intervals import detection_interval, score
from mil.operating_points import Goal
from mil.set_report import SetReport, report_sets
from workflows.evaluation import Evaluation
from workflows.prediction_table import Judged, Predictions, find_table, judge, named, read_predictions
from workflows.thresholds import operating_points
from wsi.errors import UsageError
from wsi.files import write_atomic, write_json
from wsi.store_url import StorePath, store_location

Report = Callable[[str], None]
POINTS_PANEL, ANNOTATIONS_PANEL = "Operating points", "Maps against annotations"


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """What is to be compared.

    Attributes
    ----------
    predictions : path
        `predictions.csv` of a run, or `out_of_fold.csv` of a model folder.
    labels : path
        CSV with slide_id, label and optional patient_id.
    out : path
        Folder of the tables and pictures.
    n_bootstrap : int
        Resamples behind each interval.
    seed : int
    model : path, optional
        Model folder whose held-out slides give the thresholds of the operating points.
    sensitivity, specificity : float
        What the operating points keep.
    annotations : path, optional
        Folder of `<slide_id>.geojson`.
    findings : tuple of str, optional
        Classes of regions that count.
    store : path, optional
        Feature stores of the slides that a model folder was trained on, where they were moved since.
    """

    predictions: Path
    labels: Path
    out: Path
    n_bootstrap: int = 1000
    seed: int = 0
    model: Path | None = None
    sensitivity: float = 0.95
    specificity: float = 0.95
    annotations: Path | None = None
    findings: tuple[str, ...] | None = None
    store: StorePath | None = None


def command(
    predictions: Annotated[
        Path, typer.Option(metavar="CSV", help="predictions.csv of a run, or out_of_fold.csv of a model.")
    ],
    labels: Annotated[Path, typer.Option(metavar="CSV", help="slide_id, label and optional patient_id.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the tables and pictures.")],
    bootstrap: Annotated[
        int, typer.Option(metavar="N", min=100, help="Resamples of the patients behind each interval.")
    ] = 1000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the resampling.")] = 0,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            help="Model folder whose held-out slides give the thresholds. out_of_fold.csv needs none.",
            rich_help_panel=POINTS_PANEL,
        ),
    ] = None,
    sensitivity: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="What one threshold keeps on the slides it is from.", rich_help_panel=POINTS_PANEL
        ),
    ] = 0.95,
    specificity: Annotated[
        float, typer.Option(metavar="SHARE", help="What another keeps there.", rich_help_panel=POINTS_PANEL)
    ] = 0.95,
    annotations: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Drawn findings, <slide_id>.geojson as QuPath writes them.",
            rich_help_panel=ANNOTATIONS_PANEL,
        ),
    ] = None,
    findings: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Classes of regions that count.",
            show_default="all not benign",
            rich_help_panel=ANNOTATIONS_PANEL,
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Feature stores behind out_of_fold.csv, where they were moved.",
            show_default="as trained",
            rich_help_panel=ANNOTATIONS_PANEL,
        ),
    ] = None,
) -> None:
    """Predictions against labels: metrics with intervals, operating points, and plots.

    Writes metrics.json, metrics.csv, confusion.png, roc.png and reliability.png. Patients are resampled as a whole.
    Where the table has sets, their coverage and size are judged as well, by class and by site.

    Sensitivity and specificity are given where a threshold can come from other slides: those of the other folds for
    out_of_fold.csv, those of --model for anything else.

    With --annotations the maps of attention and of class evidence are held against what was drawn: AUROC of the tiles,
    FROC of their peaks, and IoU. A slide of the first class needs no file.

    Example: `histograde evaluate --predictions run/predictions.csv --labels labels.csv --out evaluation/`
    """
    names = tuple(name.strip() for name in findings.split(",")) if findings else None
    where = None if store is None else store_location(store)
    config = EvaluateConfig(
        predictions, labels, out, bootstrap, seed, model, sensitivity, specificity, annotations, names, where
    )
    evaluate(config, typer.echo)


def evaluate(config: EvaluateConfig, report: Report = print) -> Evaluation:
    """Compare predictions with labels, and write tables and pictures.

    Parameters
    ----------
    report : callable
        Takes the lines for people.

    Raises
    ------
    UsageError
        If a table cannot be read, a label is not among the classes, or no slide is in both tables.
    """
    from workflows.config import RunRecord
    from workflows.curves import draw_confusion, draw_reliability, draw_roc

    predictions = read_predictions(config.predictions)
    cohort = read_labels(config.labels)
    judged = judge(predictions, cohort)
    found = _located(config, judged, _with_points(config, judged, measure(config, predictions, cohort, judged)))
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "metrics.json", found.to_dict())
    write_atomic(out / "metrics.csv", found.table().encode())
    write_atomic(out / "confusion.png", draw_confusion(found.targets, found.predicted, found.classes, found.task))
    write_atomic(out / "roc.png", draw_roc(judged.questions(), found.detections))
    write_atomic(out / "reliability.png", draw_reliability(found.targets, found.probabilities, found.calibrated))
    counts = {"slides": len(found.targets), "only_predicted": len(found.only_predicted)}
    RunRecord("evaluate", asdict(config), counts=counts | {"only_labelled": len(found.only_labelled)}).write(out)
    for line in found.lines():
        report(line)
    return found


def measure(config: EvaluateConfig, predictions: Predictions, cohort: Cohort, judged: Judged) -> Evaluation:
    """Metrics over the slides that have a prediction and a label."""
    n, seed, patients = config.n_bootstrap, config.seed, judged.patients
    return Evaluation(
        judged.task,
        judged.classes,
        judged.targets,
        judged.predicted,
        judged.probabilities,
        judged.patients,
        predictions.calibrated,
        score(judged.task, judged.targets, judged.predicted, judged.probabilities, patients, n, seed),
        {name: detection_interval(*pair, patients, n, seed) for name, pair in judged.questions().items()},
        tuple(sorted(set(predictions.slide_id) - set(judged.slide_id))),
        tuple(sorted(set(cohort.slide_id) - set(judged.slide_id))),
        sets=_judged_sets(judged, seed),
        coverage=predictions.coverage,
    )


def _judged_sets(judged: Judged, seed: int) -> SetReport | None:
    """How the sets did, where every slide has one; by site where the labels know it of every slide."""
    if judged.held is None:
        return None
    sites = judged.cohort.site if all(judged.cohort.site) else None
    return report_sets(judged.held, judged.targets, judged.classes, patients=judged.patients, sites=sites, seed=seed)


def _with_points(config: EvaluateConfig, judged: Judged, found: Evaluation) -> Evaluation:
    """With operating points, where a threshold can come from other slides than those that it is judged on."""
    goals = Goal("sensitivity", config.sensitivity), Goal("specificity", config.specificity)
    training, where, notes = None, "the other folds", found.notes
    if config.model is not None:
        table = read_predictions(config.model)
        training = judge(table, table.own_cohort())
        where = f"{len(training.slide_id)} held-out slides of {config.model.name}"
        if seen := sorted(set(training.slide_id) & set(judged.slide_id)):
            notes += (f"the model was trained on slides that are evaluated here: {named(seen)}",)
    elif judged.fold is None:
        return found
    points = operating_points(judged, goals, training, config.n_bootstrap, config.seed)
    return replace(found, points=points, points_from=where, notes=notes)


def _located(config: EvaluateConfig, judged: Judged, found: Evaluation) -> Evaluation:
    """With maps against annotations, where these are given.

    Findings are known of a slide that has a file there, and of one of the first class: nothing was found in it.
    """
    if config.annotations is None:
        return found
    from workflows.localisation import localise_maps
    from workflows.tile_maps import kept_maps

    drawn = {path.stem for path in config.annotations.glob("*.geojson")}
    bare = {slide_id for slide_id, k in zip(judged.slide_id, judged.targets, strict=True) if k == 0}
    known = [slide_id for slide_id in judged.slide_id if slide_id in drawn | bare]
    if not drawn & set(known):
        raise UsageError(f"{config.annotations}: holds no <slide_id>.geojson of a slide with a prediction and a label")
    located = localise_maps(
        kept_maps(find_table(config.predictions).parent, known, config.store),
        config.annotations,
        patients=dict(zip(judged.slide_id, judged.patients, strict=True)),
        bare=bare,
        findings=config.findings,
        n=config.n_bootstrap,
        seed=config.seed,
    )
    left = [slide_id for slide_id in judged.slide_id if slide_id not in known]
    notes = (f"not annotated, left out of the maps: {named(left)}",) if left else ()
    return replace(found, localisation=located, notes=(*found.notes, *notes))
