"""`histograde evaluate`: predictions against labels, with intervals by patient, as tables and pictures."""

import csv
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from mil.cohort import Cohort, Task, read_labels
from mil.intervals import Interval, bootstrap, score
from mil.metrics import auroc, confusion
from wsi.errors import UsageError
from wsi.files import write_atomic, write_json

Report = Callable[[str], None]
MOST_NAMES = 10


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
    """

    predictions: Path
    labels: Path
    out: Path
    n_bootstrap: int = 1000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Predictions:
    """A table of predictions.

    Attributes
    ----------
    task : "grade" or "class"
    classes : tuple of str
    slide_id, patient_id : tuple (n,) of str
    predicted : ndarray (n,) int64
    probabilities : ndarray (n, C)
    calibrated : bool
        Whether all of them are.
    """

    task: Task
    classes: tuple[str, ...]
    slide_id: tuple[str, ...]
    patient_id: tuple[str, ...]
    predicted: np.ndarray
    probabilities: np.ndarray
    calibrated: bool


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Predictions that have a label, compared with it.

    Attributes
    ----------
    task : "grade" or "class"
    classes : tuple of str
    targets, predicted : ndarray (n,) int64
    probabilities : ndarray (n, C)
    patients : tuple (n,) of str
    calibrated : bool
    metrics : dict of str to Interval
    detections : dict of str to Interval
        AUROC of each question that can be asked of the classes: "at least grade k", or one class against the rest.
    only_predicted, only_labelled : tuple of str
        Slides that could not be compared.
    """

    task: Task
    classes: tuple[str, ...]
    targets: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    patients: tuple[str, ...]
    calibrated: bool
    metrics: dict[str, Interval]
    detections: dict[str, Interval]
    only_predicted: tuple[str, ...]
    only_labelled: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "task": self.task,
            "classes": list(self.classes),
            "slides": len(self.targets),
            "patients": len(set(self.patients)),
            "calibrated": self.calibrated,
            "metrics": {name: interval.to_dict() for name, interval in self.metrics.items()},
            "detection_auroc": {name: interval.to_dict() for name, interval in self.detections.items()},
            "confusion": confusion(self.targets, self.predicted, len(self.classes)).tolist(),
            "only_predicted": list(self.only_predicted),
            "only_labelled": list(self.only_labelled),
        }

    def lines(self) -> list[str]:
        """The outcome for people."""
        first = next(iter(self.metrics.values()))
        lines = [
            f"{len(self.targets)} slides of {len(set(self.patients))} patients; 95 % intervals by patient "
            f"({first.method}); probabilities {'calibrated' if self.calibrated else 'NOT calibrated'}",
            *(f"  {name:<18}{interval}" for name, interval in self.metrics.items()),
            *(f"  AUROC of {name}: {interval}" for name, interval in self.detections.items()),
        ]
        for what, names in (("prediction", self.only_labelled), ("label", self.only_predicted)):
            if names:
                rest = len(names) - MOST_NAMES
                shown = ", ".join(names[:MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")
                lines.append(f"left out, no {what}: {len(names)} ({shown})")
        return lines


def command(
    predictions: Annotated[
        Path, typer.Option(metavar="CSV", help="predictions.csv of a run, or out_of_fold.csv of a model.")
    ],
    labels: Annotated[Path, typer.Option(metavar="CSV", help="slide_id, label and optional patient_id.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the tables and pictures.")],
    bootstrap: Annotated[int, typer.Option(min=100, help="Resamples of the patients behind each interval.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the resampling.")] = 0,
) -> None:
    """Predictions against labels: metrics with intervals, and plots.

    Writes metrics.json, metrics.csv, confusion.png, roc.png and reliability.png. Patients are resampled as a whole.

    Example: `histograde evaluate --predictions run/predictions.csv --labels labels.csv --out evaluation/`
    """
    evaluate(EvaluateConfig(predictions, labels, out, bootstrap, seed), typer.echo)


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
    found = compare(predictions, read_labels(config.labels), config.n_bootstrap, config.seed)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "metrics.json", found.to_dict())
    write_atomic(out / "metrics.csv", _metrics_table(found).encode())
    questions = detections(found.task, found.classes, found.targets, found.probabilities)
    write_atomic(out / "confusion.png", draw_confusion(found.targets, found.predicted, found.classes, found.task))
    write_atomic(out / "roc.png", draw_roc(questions, found.detections))
    write_atomic(out / "reliability.png", draw_reliability(found.targets, found.probabilities, found.calibrated))
    counts = {"slides": len(found.targets), "only_predicted": len(found.only_predicted)}
    RunRecord("evaluate", asdict(config), counts=counts | {"only_labelled": len(found.only_labelled)}).write(out)
    for line in found.lines():
        report(line)
    return found


def read_predictions(path: str | Path) -> Predictions:
    """Read slide_id, grade or class, and the p_<class> columns; patient_id and calibrated where they are.

    Raises
    ------
    UsageError
        In one line, if the table is not of this form.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as a table of predictions ({error})") from error
    columns = list(rows[0]) if rows else []
    classes = tuple(name.removeprefix("p_") for name in columns if name.startswith("p_"))
    tasks: list[Task] = [task for task in ("grade", "class") if task in columns]
    if "slide_id" not in columns or len(tasks) != 1 or len(classes) < 2:
        raise UsageError(
            f"{path.name}: predictions need the columns slide_id, grade or class, and p_<class> for every class; "
            f"found: {', '.join(columns) or 'no rows'}"
        )
    names = [row["slide_id"] for row in rows]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"{path.name}: slide {min(twice)} occurs twice")
    predicted, probabilities = _numbers(path.name, rows, tasks[0], classes)
    patients = tuple(row.get("patient_id") or row["slide_id"] for row in rows)
    calibrated = all(row.get("calibrated") == "yes" for row in rows)
    return Predictions(tasks[0], classes, tuple(names), patients, predicted, probabilities, calibrated)


def compare(predictions: Predictions, cohort: Cohort, n_bootstrap: int = 1000, seed: int = 0) -> Evaluation:
    """Metrics over the slides that have a prediction and a label."""
    place = {slide_id: row for row, slide_id in enumerate(predictions.slide_id)}
    kept = cohort.select([row for row, slide_id in enumerate(cohort.slide_id) if slide_id in place])
    if not len(kept):
        raise UsageError("no slide has both a prediction and a label; check that both tables use the same slide_id")
    rows = np.array([place[slide_id] for slide_id in kept.slide_id])
    targets = kept.targets(predictions.classes)
    predicted, probabilities = predictions.predicted[rows], predictions.probabilities[rows]
    patients = tuple(
        predictions.patient_id[row] if patient == slide_id else patient
        for row, slide_id, patient in zip(rows, kept.slide_id, kept.patient_id, strict=True)
    )
    questions = detections(predictions.task, predictions.classes, targets, probabilities)
    return Evaluation(
        predictions.task,
        predictions.classes,
        targets,
        predicted,
        probabilities,
        patients,
        predictions.calibrated,
        score(predictions.task, targets, predicted, probabilities, patients, n_bootstrap, seed),
        {name: bootstrap(auroc, *pair, groups=patients, n=n_bootstrap, seed=seed) for name, pair in questions.items()},
        tuple(sorted(set(place) - set(kept.slide_id))),
        tuple(sorted(set(cohort.slide_id) - set(place))),
    )


def detections(
    task: Task, classes: tuple[str, ...], targets: np.ndarray, probabilities: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Yes-or-no questions by name: truth (n,) bool and score (n,).

    For grades "at least k" for each k, where the order is what matters; for classes each against the rest, of two
    only the second.
    """
    numbers = range(1, len(classes)) if task == "grade" or len(classes) == 2 else range(len(classes))
    if task == "grade":
        return {f"grade ≥ {classes[k]}": (targets >= k, probabilities[:, k:].sum(axis=1)) for k in numbers}
    return {classes[k]: (targets == k, probabilities[:, k]) for k in numbers}


def _numbers(
    name: str, rows: list[dict[str, str]], task: Task, classes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    probabilities = np.zeros((len(rows), len(classes)))
    predicted = np.zeros(len(rows), dtype=np.int64)
    for number, row in enumerate(rows):
        try:
            predicted[number] = classes.index(row[task])
            probabilities[number] = [float(row[f"p_{one}"]) for one in classes]
        except (ValueError, TypeError) as error:
            raise UsageError(f"{name}: slide {row['slide_id']} has a value that does not fit ({error})") from error
        if not abs(probabilities[number].sum() - 1) < 1e-3:
            raise UsageError(f"{name}: the probabilities of slide {row['slide_id']} do not sum to 1")
    return predicted, probabilities


def _metrics_table(found: Evaluation) -> str:
    named: Mapping[str, Interval] = {
        **found.metrics,
        **{f"auroc of {name}": interval for name, interval in found.detections.items()},
    }
    lines = ["metric,estimate,low,high,level,slides,patients,method"]
    for name, one in named.items():
        numbers = ",".join(f"{value:.6f}" for value in (one.estimate, one.low, one.high))
        text = name.replace('"', '""')
        lines.append(f'"{text}",{numbers},{one.level},{len(found.targets)},{one.n_groups},"{one.method}"')
    return "\n".join(lines) + "\n"
