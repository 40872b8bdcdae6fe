"""The gradings of a run as cases of the desk, taken over again whenever the run's table changes.

`grade --watch` adds slides while the desk is open, and a run may be graded again by another model. What a case says
of the model follows the run; what readers decided stays, and a case whose standing decision was made under another
model is flagged `graded_again`. A slide that the run does not list any more keeps its row and its trail, unlisted.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, insert, select, update

from workflows.gradings import load_predictions
from workflows.review.database import writing
from workflows.review.flags import flag_text, flags_of, mark_graded_again
from workflows.review.rows import all_rows
from workflows.review.tables import cases, readings
from workflows.review.trail_lock import lock_writers
from workflows.worklist import Place, rank_slides, uncertainty

GRADED = [
    column.name
    for column in cases.columns
    if column.name not in {"id", "proposed", "state", "decided_at", "disagreement"}
]
"""The columns that follow the run."""


@dataclass(frozen=True, slots=True)
class Imported:
    """How many cases are new, changed, and not in the run any more."""

    new: int
    changed: int
    gone: int


def import_run(engine: Engine, run: Path) -> Imported:
    """Take over what `predictions.csv` says now. A table that says nothing new writes nothing.

    Raises
    ------
    UsageError
        If the table is missing or damaged.
    """
    places = rank_slides(load_predictions(run))
    with writing(engine) as connection:
        lock_writers(connection)
        models = _models_of_readings(connection)
        found = {place.grading.slide_id: case_values(place, models) for place in places}
        known = {row["slide_id"]: row for row in all_rows(connection, select(*(cases.c[name] for name in GRADED)))}
        new = [values for slide_id, values in found.items() if slide_id not in known]
        changed = [values for slide_id, values in found.items() if slide_id in known and known[slide_id] != values]
        gone = [slide_id for slide_id, row in known.items() if row["present"] and slide_id not in found]
        _write(connection, new, changed, gone)
    return Imported(len(new), len(changed), len(gone))


def _write(connection: Connection, new: list[dict], changed: list[dict], gone: list[str]) -> None:
    if new:
        connection.execute(insert(cases), [values | {"state": "new", "disagreement": False} for values in new])
    of_slide = cases.c.slide_id == bindparam("of_slide")
    if changed:
        statement = update(cases).where(of_slide).values({name: bindparam(name) for name in GRADED})
        connection.execute(statement, [values | {"of_slide": values["slide_id"]} for values in changed])
    if gone:
        connection.execute(
            update(cases).where(of_slide).values(present=False), [{"of_slide": slide_id} for slide_id in gone]
        )


def _models_of_readings(connection: Connection) -> dict[str, set[str]]:
    """By slide, the models under which its standing decisions were made."""
    asked = select(cases.c.slide_id, readings.c.model_id).join(readings, readings.c.case_id == cases.c.id)
    models: dict[str, set[str]] = {}
    for slide_id, model_id in connection.execute(asked):
        models.setdefault(slide_id, set()).add(model_id)
    return models


def case_values(place: Place, models: dict[str, set[str]]) -> dict[str, Any]:
    """The columns of a case that follow the run."""
    one = place.grading
    found = one.class_set
    other_model = bool(models.get(one.slide_id, set()) - {one.model_id})
    return {
        "slide_id": one.slide_id,
        "patient_id": one.patient_id,
        "task": one.task,
        "classes": json.dumps(one.classes),
        "probabilities": json.dumps(one.probabilities),
        "predicted": one.predicted,
        "predicted_index": one.classes.index(one.predicted),
        "label": one.label,
        "confidence": one.confidence,
        "calibrated": one.calibrated,
        "held": json.dumps(found.held) if found else None,
        "coverage": found.coverage if found else None,
        "set_text": one.set_text,
        "urgency": place.urgency,
        "rank": place.rank,
        "uncertainty": round(uncertainty(one), 6),
        "reason": place.reason,
        "flags": mark_graded_again(flag_text(flags_of(one)), other_model),
        "tiles": one.tiles,
        "bad_tiles": one.bad_tiles,
        "tissue_mm2": one.tissue_mm2,
        "model_id": one.model_id,
        "present": True,
    }
