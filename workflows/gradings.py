"""The lines of a run's tables: `Grading`, `Quarantined`, and `ModelSummary`, and the files that hold them."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar
from zipfile import BadZipFile

from PIL.Image import DecompressionBombError

from mil.outlier_scores import SCORES
from mil.outliers import OutlierCheck
from mil.prediction import ClassSet
from mil.slide_view import TRAITS
from workflows.assurances import NO_MAPS, NO_OUTLIERS, NO_SETS
from wsi.errors import MissingPackageError, UsageError, WsiError
from wsi.files import write_atomic, write_json
from wsi.scales import EvidenceKind

Task = Literal["grade", "class"]
INPUTS = tuple(name for name in TRAITS if name != "tissue_mm2")  # which has a column of its own
Value = TypeVar("Value")

PREDICTIONS, QUARANTINE, MODEL = "predictions.csv", "quarantine.csv", "model.json"
RUN_AGAIN = "run `histograde grade` again into this folder"


@dataclass(frozen=True, slots=True)
class Grading:
    """The line of one slide in `predictions.csv`.

    Attributes
    ----------
    slide_id, patient_id : str
    task : {"grade", "class"}
        Whether the classes are ordered.
    classes : tuple of str
    probabilities : tuple of float
        One a class; sums to 1.
    predicted : str
        One of `classes`.
    calibrated : bool
    tiles, bad_tiles : int
        Tiles that took part, and those that could not be read.
    tissue_mm2 : float
    model_id : str
    seconds : float
        Time spent on the slide.
    class_set : ClassSet, optional
        None where the model has no sets.
    outlier : OutlierCheck, optional
        None where the model does not hold slides against its training slides.
    inputs : mapping of str to float
        Stain, focus and glass, by the names of `mil.slide_view.TRAITS`, as far as they were measured.
    """

    slide_id: str
    patient_id: str
    task: Task
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    predicted: str
    calibrated: bool
    tiles: int
    bad_tiles: int
    tissue_mm2: float
    model_id: str
    seconds: float
    class_set: ClassSet | None = None
    outlier: OutlierCheck | None = None
    inputs: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.predicted not in self.classes or len(self.classes) != len(self.probabilities):
            raise UsageError(
                f"slide {self.slide_id}: {self.predicted!r} with {len(self.probabilities)} probabilities "
                f"does not fit the classes {', '.join(self.classes)}"
            )
        if self.class_set and not {self.predicted} <= set(self.class_set.held) <= set(self.classes):
            raise UsageError(
                f"slide {self.slide_id}: its set ({', '.join(self.class_set.held)}) holds the predicted "
                f"{self.predicted!r} and nothing but the classes {', '.join(self.classes)}"
            )

    @property
    def confidence(self) -> float:
        """Probability of the predicted class."""
        return self.probabilities[self.classes.index(self.predicted)]

    @property
    def set_text(self) -> str:
        """The set as a person reads it, `3-4 at 90 %`; `none` where the model has no sets."""
        return self.class_set.text(self.classes, self.task) if self.class_set else "none"

    @property
    def flag_text(self) -> str:
        """Whether the slide is unlike the training slides: `yes`, `no`, or that nothing was or could be judged."""
        if self.outlier is None:
            return "not checked"
        if not self.outlier.judged:
            return "not judged"
        return "yes" if self.outlier.flagged else "no"

    @property
    def unlike_text(self) -> str:
        """Why it is flagged, briefly: `unlike training: other stain, blur`; empty where it is not."""
        if self.outlier is None or not self.outlier.flagged:
            return ""
        return f"unlike training: {', '.join(reason.split(' (')[0] for reason in self.outlier.reasons)}"

    @property
    def label(self) -> str:
        """The predicted class as a person reads it."""
        return class_labels(self.task, self.classes)[self.classes.index(self.predicted)]

    @property
    def bad_share(self) -> float:
        """Share of all tiles that could not be read."""
        return self.bad_tiles / max(1, self.tiles + self.bad_tiles)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A slide without a result: where it stopped, the class of failure, the message, and what cures it."""

    slide_id: str
    stage: str
    error_class: str
    message: str
    remedy: str

    @classmethod
    def of(cls, slide_id: str, stage: str, error: WsiError) -> "Quarantined":
        """From the error that stopped the slide."""
        return cls(slide_id, stage, error.code, str(error), error.remedy)


@dataclass(frozen=True, slots=True)
class Metric:
    """A number with its 95 % interval."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class MapLine:
    """What one kind of map is worth (`mil.map_choice`): numbers with 95 % intervals by patient.

    Attributes
    ----------
    name : str
        As in `mil.map_names.MAPS`.
    title : str
        For people.
    deletion, gain, control : Metric
        Deletion area; gain over random order; that of the same map of random weights.
    control_failed : bool
        As it must.
    stability : float or None
    """

    name: str
    title: str
    deletion: Metric
    gain: Metric
    control: Metric
    control_failed: bool
    stability: float | None


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """What a reader of the report needs to know of the model.

    Attributes
    ----------
    model_id : str
        Digest or name that tells models apart.
    name : str
        Architecture ("abmil").
    task : {"grade", "class"}
    classes : tuple of str
    encoder : mapping
        The encoder's card as plain values (name, dim, licence, weights_sha256 ...).
    cohort : mapping of str to str or number
        What it was trained on, in the order in which to show it ("slides": 60, "patients": 40 ...).
    metrics : tuple of Metric
        Out of fold, in the order in which to show them.
    metrics_on : str
        On what the metrics were measured ("5-fold cross-validation by patient").
    calibrated : bool
    calibration : str
        One sentence: how, and on what; or that nothing was done.
    coverage : float or None
        Share of slides whose set is to hold the truth; None: the model has no sets.
    sets : str
        One sentence: on what they were calibrated; or that there are none.
    false_alarms : float or None
        Share of slides like those of training that is flagged at most; None: the model has no such check.
    outliers : str
        Some sentences: what slides are held against; or that they are not.
    limits : tuple of str
        Sentences on where the model must not be trusted.
    evidence : {"probability", "signed"}
        What the per-tile evidence is.
    evidence_limit : float
        For signed evidence, the value at the ends of the scale.
    shown_map : str
        The map that is shown first, by its name in `mil.map_names.MAPS`; empty where no map was measured to be good.
    maps : str
        Why it is shown, in sentences; or that the maps were not measured.
    map_table : tuple of MapLine
    """

    model_id: str
    name: str
    task: Task
    classes: tuple[str, ...]
    encoder: Mapping[str, Any]
    cohort: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    metrics_on: str = ""
    calibrated: bool = False
    calibration: str = ""
    limits: tuple[str, ...] = ()
    evidence: EvidenceKind = "probability"
    evidence_limit: float = 1.0
    coverage: float | None = None
    sets: str = NO_SETS
    shown_map: str = ""
    maps: str = NO_MAPS
    map_table: tuple[MapLine, ...] = ()
    false_alarms: float | None = None
    outliers: str = NO_OUTLIERS

    @property
    def class_labels(self) -> tuple[str, ...]:
        """The classes as a person reads them."""
        return class_labels(self.task, self.classes)


def class_labels(task: Task, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Classes as a person reads them: "Grade group 3" where all are grade groups 0 to 5, else as they are."""
    grade_groups = task == "grade" and set(classes) <= set("012345")
    return tuple(f"Grade group {name}" for name in classes) if grade_groups else classes


def save_predictions(run: str | Path, gradings: Sequence[Grading]) -> None:
    """Write `predictions.csv`, and the same as Parquet.

    Raises
    ------
    MissingPackageError
        If pyarrow is not there; the CSV has been written then.
    """
    rows = [prediction_row(grading) for grading in gradings]
    write_csv(Path(run) / PREDICTIONS, rows, columns=list(rows[0]) if rows else ["slide_id", "patient_id"])
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingPackageError('predictions.parquet needs pyarrow: pip install "histograde[report]"') from error
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    write_atomic(Path(run) / "predictions.parquet", buffer.getvalue())


def prediction_row(grading: Grading) -> dict[str, Any]:
    """A grading as the columns of `predictions.csv`, in their order."""
    found = grading.class_set
    return {
        "slide_id": grading.slide_id,
        "patient_id": grading.patient_id,
        grading.task: grading.predicted,
        **{f"p_{name}": p for name, p in zip(grading.classes, grading.probabilities, strict=True)},
        "calibrated": "yes" if grading.calibrated else "no",
        "set": grading.set_text,
        "coverage": found.coverage if found else None,
        **{f"holds_{name}": ("yes" if name in found.held else "no") if found else None for name in grading.classes},
        "flagged": grading.flag_text,
        "flag_reason": "; ".join(grading.outlier.reasons) if grading.outlier else None,
        "outlier_p": grading.outlier.p_value if grading.outlier else None,
        "tiles": grading.tiles,
        "bad_tiles": grading.bad_tiles,
        "tissue_mm2": grading.tissue_mm2,
        "model_id": grading.model_id,
        "seconds": grading.seconds,
        "false_alarms": grading.outlier.false_alarms if grading.outlier else None,
        "training_patients": grading.outlier.patients if grading.outlier else None,
        **{f"odd_{name}": grading.outlier.oddness.get(name) if grading.outlier else None for name in SCORES},
        **{f"input_{name}": grading.inputs.get(name) for name in INPUTS},
    }


def load_predictions(run: str | Path) -> tuple[Grading, ...]:
    """The lines of `predictions.csv`."""
    return read_part(Path(run) / PREDICTIONS, lambda data: tuple(_grading(row) for row in _csv_rows(data)))


def _grading(row: Mapping[str, str]) -> Grading:
    task: Task = "grade" if "grade" in row else "class"
    classes = tuple(column.removeprefix("p_") for column in row if column.startswith("p_"))
    return Grading(
        row["slide_id"],
        row["patient_id"],
        task,
        classes,
        tuple(float(row[f"p_{name}"]) for name in classes),
        row[task],
        row["calibrated"] == "yes",
        int(row["tiles"]),
        int(row["bad_tiles"]),
        float(row["tissue_mm2"]),
        row["model_id"],
        float(row["seconds"]),
        _class_set(row, classes),
        _outlier(row),
        {name: float(value) for name in INPUTS if (value := row.get(f"input_{name}"))},
    )


def _class_set(row: Mapping[str, str], classes: tuple[str, ...]) -> ClassSet | None:
    """The set of a line; None where there is none, as in tables of programs that knew no sets."""
    if not row.get("coverage"):
        return None
    return ClassSet(tuple(name for name in classes if row[f"holds_{name}"] == "yes"), float(row["coverage"]))


def _outlier(row: Mapping[str, str]) -> OutlierCheck | None:
    """What holding a slide against the training slides gave; None where that was not done, as by older programs."""
    if not row.get("outlier_p"):
        return None
    reasons = tuple(row["flag_reason"].split("; ")) if row["flag_reason"] else ()
    oddness = {name: float(value) for name in SCORES if (value := row.get(f"odd_{name}"))}
    patients = int(row["training_patients"])
    return OutlierCheck(float(row["outlier_p"]), float(row["false_alarms"]), patients, reasons, oddness)


def save_quarantine(run: str | Path, quarantined: Iterable[Quarantined]) -> None:
    """Write `quarantine.csv`; it is there, with its head only, when there is nothing to say."""
    columns = ["slide_id", "stage", "error_class", "message", "remedy"]
    write_csv(Path(run) / QUARANTINE, [asdict(one) for one in quarantined], columns)


def load_quarantine(run: str | Path) -> tuple[Quarantined, ...]:
    """The lines of `quarantine.csv`."""
    return read_part(Path(run) / QUARANTINE, lambda data: tuple(Quarantined(**row) for row in _csv_rows(data)))


def save_model(run: str | Path, model: ModelSummary) -> None:
    """Write `model.json`."""
    write_json(Path(run) / MODEL, asdict(model) | {"cohort": list(map(list, model.cohort.items()))})


def load_model(run: str | Path) -> ModelSummary:
    """Read `model.json`."""
    return read_part(Path(run) / MODEL, lambda data: _model(json.loads(data)))


def _model(said: dict[str, Any]) -> ModelSummary:
    changes = {
        "classes": tuple(said["classes"]),
        "cohort": dict(said["cohort"]),
        "metrics": tuple(Metric(**metric) for metric in said["metrics"]),
        "limits": tuple(said["limits"]),
        "map_table": tuple(_map_line(one) for one in said.get("map_table", ())),
    }
    return ModelSummary(**(said | changes))


def _map_line(said: dict[str, Any]) -> MapLine:
    return MapLine(**(said | {name: Metric(**said[name]) for name in ("deletion", "gain", "control")}))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write a table atomically, with one line a row whatever the platform."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())


def _csv_rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def read_part(path: Path, decode: Callable[[bytes], Value], advice: str = RUN_AGAIN) -> Value:
    """Decode one file of a run.

    Raises
    ------
    UsageError
        In one line, if it is missing or damaged, with what to do.
    """
    name = f"{path.parent.name}/{path.name}"
    try:
        return decode(path.read_bytes())
    except FileNotFoundError as error:
        raise UsageError(f"{name} is missing; {advice}") from error
    except UsageError:
        raise
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, DecompressionBombError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{name} cannot be read ({said}); {advice}") from error
