"""Tables of predictions, as `grade` and `train` write them, read back and put beside labels."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mil.cohort import Cohort, Task
from wsi.errors import UsageError

TABLES = ("out_of_fold.csv", "predictions.csv")
"""Of a model folder, and of a run."""

PLURAL: dict[Task, str] = {"grade": "grades", "class": "classes"}
Questions = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, slots=True)
class Predictions:
    """A table of predictions.

    Attributes
    ----------
    path : path
        Where it lies.
    task : "grade" or "class"
    classes : tuple of str
    slide_id, patient_id : tuple (n,) of str
    predicted : ndarray (n,) int64
    probabilities : ndarray (n, C)
    calibrated : bool
        Whether all of them are.
    label, fold : tuple (n,) of str, or None
        The truth, and the fold in which each slide was held out, where the table has them for every slide.
    site : tuple (n,) of str
        "" where the table has none.
    held : ndarray (n, C) bool, or None
        The set of each slide, where every slide has one of the same coverage.
    coverage : float or None
        Of the sets.
    """

    path: Path
    task: Task
    classes: tuple[str, ...]
    slide_id: tuple[str, ...]
    patient_id: tuple[str, ...]
    predicted: np.ndarray
    probabilities: np.ndarray
    calibrated: bool
    label: tuple[str, ...] | None = None
    fold: tuple[str, ...] | None = None
    site: tuple[str, ...] = ()
    held: np.ndarray | None = None
    coverage: float | None = None

    def own_cohort(self) -> Cohort:
        """Its slides with the labels that it holds itself; raises `UsageError` where it holds none."""
        if self.label is None:
            raise UsageError(f"{self.path}: holds no labels; give them with --labels")
        order = sorted(range(len(self.slide_id)), key=lambda row: self.slide_id[row])
        sites = self.site or ("",) * len(order)
        slides, patients, labels, sites = (
            tuple(column[row] for row in order) for column in (self.slide_id, self.patient_id, self.label, sites)
        )
        return Cohort(slides, patients, sites, labels)


@dataclass(frozen=True, slots=True)
class Judged:
    """Predictions that have a label, sorted by slide_id.

    Attributes
    ----------
    task : "grade" or "class"
    classes : tuple of str
    slide_id, patients : tuple (n,) of str
    targets, predicted : ndarray (n,) int64
    probabilities : ndarray (n, C)
    fold : tuple (n,) of str, or None
    cohort : Cohort
        The same slides, with all that the labels say of them.
    held : ndarray (n, C) bool, or None
        Their sets.
    """

    task: Task
    classes: tuple[str, ...]
    slide_id: tuple[str, ...]
    patients: tuple[str, ...]
    targets: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    fold: tuple[str, ...] | None
    cohort: Cohort
    held: np.ndarray | None = None

    def questions(self) -> Questions:
        """Yes-or-no questions by name: truth (n,) bool and score (n,).

        For grades "at least k" for each k, where the order is what matters; for classes each against the rest, of two
        only the second.
        """
        size = len(self.classes)
        numbers = range(1, size) if self.task == "grade" or size == 2 else range(size)
        if self.task == "grade":
            return {
                f"grade ≥ {self.classes[k]}": (self.targets >= k, self.probabilities[:, k:].sum(axis=1))
                for k in numbers
            }
        return {self.classes[k]: (self.targets == k, self.probabilities[:, k]) for k in numbers}


def judge(predictions: Predictions, cohort: Cohort) -> Judged:
    """The slides that have a prediction and a label.

    The patient is that of the labels, or of the predictions where the labels name none.

    Raises
    ------
    UsageError
        If there is no such slide, or a label is not among the classes.
    """
    place = {slide_id: row for row, slide_id in enumerate(predictions.slide_id)}
    kept = cohort.select([row for row, slide_id in enumerate(cohort.slide_id) if slide_id in place])
    if not len(kept):
        raise UsageError("no slide has both a prediction and a label; check that both tables use the same slide_id")
    rows = np.array([place[slide_id] for slide_id in kept.slide_id])
    patients = tuple(
        predictions.patient_id[row] if patient == slide_id else patient
        for row, slide_id, patient in zip(rows, kept.slide_id, kept.patient_id, strict=True)
    )
    return Judged(
        predictions.task,
        predictions.classes,
        kept.slide_id,
        patients,
        kept.targets(predictions.classes),
        predictions.predicted[rows],
        predictions.probabilities[rows],
        None if predictions.fold is None else tuple(predictions.fold[row] for row in rows),
        kept,
        None if predictions.held is None else predictions.held[rows],
    )


def read_predictions(path: str | Path) -> Predictions:
    """Read slide_id, grade or class, and the p_<class> columns; patient_id, calibrated, label, fold where they are.

    Parameters
    ----------
    path : path
        The table, or the model folder or run that holds it.

    Raises
    ------
    UsageError
        In one line, if the table is not of this form.
    """
    path = find_table(Path(path))
    rows = _rows(path)
    if not rows:
        raise UsageError(f"{path}: holds no prediction; no slide was graded there")
    columns = list(rows[0])
    classes = tuple(name.removeprefix("p_") for name in columns if name.startswith("p_"))
    tasks: list[Task] = [task for task in ("grade", "class") if task in columns]
    if "slide_id" not in columns or len(tasks) != 1 or len(classes) < 2:
        raise UsageError(
            f"{path.name}: predictions need the columns slide_id, grade or class, and p_<class> for every class; "
            f"found: {', '.join(columns)}"
        )
    names = tuple(row["slide_id"] for row in rows)
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise UsageError(f"{path.name}: slide {min(twice)} occurs twice")
    predicted, probabilities = _numbers(path.name, rows, tasks[0], classes)
    patients = tuple(row.get("patient_id") or row["slide_id"] for row in rows)
    calibrated = all(row.get("calibrated") == "yes" for row in rows)
    label, fold = (_whole_column(rows, name) for name in ("label", "fold"))
    site = tuple(row.get("site") or "" for row in rows)
    held, coverage = _sets(rows, classes)
    return Predictions(
        path,
        tasks[0],
        classes,
        names,
        patients,
        predicted,
        probabilities,
        calibrated,
        label,
        fold,
        site,
        held,
        coverage,
    )


def find_table(path: Path) -> Path:
    """The table itself, or that of a model folder or run; raises `UsageError` for a folder without one."""
    if not path.is_dir():
        return path
    for name in TABLES:
        if (path / name).is_file():
            return path / name
    raise UsageError(f"{path}: holds neither {' nor '.join(TABLES)}; give a model folder, a run, or a CSV")


def named(slides: Sequence[str], most: int = 10) -> str:
    """How many slides, and the names of the first."""
    rest = len(slides) - most
    return f"{len(slides)} ({', '.join(slides[:most])}{f' and {rest} more' if rest > 0 else ''})"


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            return list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as a table of predictions ({error})") from error


def _whole_column(rows: list[dict[str, str]], name: str) -> tuple[str, ...] | None:
    values = tuple(row.get(name) or "" for row in rows)
    return values if all(values) else None


def _sets(rows: list[dict[str, str]], classes: tuple[str, ...]) -> tuple[np.ndarray | None, float | None]:
    """Sets (n, C) bool and their coverage; None unless every slide has one, at the same coverage."""
    coverages = {row.get("coverage") or "" for row in rows}
    if len(coverages) != 1 or "" in coverages:
        return None, None
    return np.array([[row.get(f"holds_{name}") == "yes" for name in classes] for row in rows]), float(coverages.pop())


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
