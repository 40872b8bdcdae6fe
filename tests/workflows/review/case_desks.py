"""Runs, databases and readers for the tests of cases."""

from pathlib import Path

from sqlalchemy import Engine

from mil.prediction import ClassSet
from workflows.gradings import Grading, save_predictions
from workflows.review.case_import import import_run
from workflows.review.database import open_engine
from workflows.review.desk import Reader
from workflows.review.migrate import migrate

CLASSES = ("0", "1", "2", "3", "4", "5")
ANNA = Reader(1, "anna", "Dr. Anna Grey", "reader", sees_patients=True)
BEN = Reader(2, "ben", "Dr. Ben Moss", "reader", sees_patients=False)
CLARA = Reader(3, "clara", "Dr. Clara Fern", "reviewer", sees_patients=True)
OPENED: list[Engine] = []
"""What the tests of cases have opened; `conftest.py` closes it."""


def grading(slide_id: str, predicted: int = 3, sure: float = 0.8, **changes: object) -> Grading:
    """A slide of 2 mm2 and 100 tiles whose other classes share what is left evenly."""
    rest = (1 - sure) / 5
    values: dict = {
        "slide_id": slide_id,
        "patient_id": f"patient-{slide_id}",
        "task": "grade",
        "classes": CLASSES,
        "probabilities": tuple(sure if place == predicted else rest for place in range(6)),
        "predicted": str(predicted),
        "calibrated": True,
        "tiles": 100,
        "bad_tiles": 0,
        "tissue_mm2": 2.0,
        "model_id": "model-a",
        "seconds": 1.0,
    }
    return Grading(**{**values, **changes})


def wide(*held: str) -> ClassSet:
    """A set of classes at 90 %."""
    return ClassSet(held, 0.9)


def save_gradings(run: Path, *gradings: Grading) -> Path:
    """A run folder that holds gradings and nothing else."""
    run.mkdir(parents=True, exist_ok=True)
    save_predictions(run, gradings)
    return run


def open_cases(run: Path, url: str | None = None) -> Engine:
    """The database of a run, with its slides as cases."""
    engine = open_engine(url or f"sqlite:///{run}/review/review.sqlite")
    OPENED.append(engine)
    migrate(engine)
    import_run(engine, run)
    return engine
