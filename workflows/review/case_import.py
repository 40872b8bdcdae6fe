"""The gradings of a run as cases of the desk, taken over again whenever the run's table changes.

`grade --watch` adds slides while the desk is open, and a run may be graded again by another model. What a case says
of the model follows the run; what readers decided stays, and a case whose standing decision was made under another
model is flagged `graded_again`. A slide that the run does not list any more keeps its row and its trail, unlisted.
"""

from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, delete, insert, select, update

from workflows.gradings import PREDICTIONS, load_predictions
from workflows.review.database import writing
from workflows.review.flags import flag_text, flags_of, mark_graded_again
from workflows.review.rows import Row, all_rows
from workflows.review.tables import cases, facts, gradings, readings
from workflows.review.trail import canonical
from workflows.review.trail_lock import lock_writers
from workflows.worklist import Place, rank_slides, uncertainty
from wsi.errors import UsageError

FOLLOWED = "predictions_sha256"
"""The fact that says which table of the run the cases follow."""

FOLLOWING = frozenset(cases.c.keys()) - {"id", "proposed", "state", "decided_at", "disagreement"}
"""Columns of a case that follow the run."""


@dataclass(frozen=True, slots=True)
class Imported:
    """How many cases are new, changed, and not in the run any more."""

    new: int = 0
    changed: int = 0
    gone: int = 0


def import_run(engine: Engine, run: Path) -> Imported:
    """Take over what `predictions.csv` says now. A table that was taken over already is not read again.

    Raises
    ------
    UsageError
        If the table is missing or damaged, or the database is of another run.
    """
    table = run / PREDICTIONS
    digest = sha256(table.read_bytes()).hexdigest() if table.is_file() else ""
    with engine.connect() as connection:
        if digest and digest == connection.execute(select(facts.c.value).where(facts.c.name == FOLLOWED)).scalar():
            return Imported()
    places = rank_slides(load_predictions(run))
    with writing(engine) as connection:
        lock_writers(connection)
        done = _take_over(connection, places)
        connection.execute(delete(facts).where(facts.c.name == FOLLOWED))
        connection.execute(insert(facts).values(name=FOLLOWED, value=digest))
    return done


def _take_over(connection: Connection, places: list[Place]) -> Imported:
    known = _known(connection)
    _refuse_other_run(known, {place.grading.slide_id for place in places})
    models = _models_of_readings(connection)
    found = {place.grading.slide_id: _values(place, models.get(place.grading.slide_id, set())) for place in places}
    new = [values for slide_id, values in found.items() if slide_id not in known]
    changed = {
        slide_id: {name for name, value in values.items() if known[slide_id][name] != value}
        for slide_id, values in found.items()
        if slide_id in known
    }
    gone = [{"of_case": row["id"]} for slide_id, row in known.items() if row["present"] and slide_id not in found]
    if new:
        _insert(connection, new, after=max((row["id"] for row in known.values()), default=0))
    _write_changes(connection, {known[slide_id]["id"]: (found[slide_id], names) for slide_id, names in changed.items()})
    if gone:
        of_case = cases.c.id == bindparam("of_case")
        connection.execute(update(cases).where(of_case).values(present=False), gone)
    return Imported(len(new), sum(map(bool, changed.values())), len(gone))


def _refuse_other_run(known: Collection[str], found: Collection[str]) -> None:
    """A database that two desks were given by mistake would lose sight of all cases of the first."""
    if known and found and not set(known) & set(found):
        raise UsageError(
            f"this review database is of another run: it has {len(known)} slides, and none of the {len(found)} of this "
            "one; give each run a database of its own with --database"
        )


def _write_changes(connection: Connection, changed: dict[int, tuple[dict[str, Any], set[str]]]) -> None:
    """Write the values of cases of which some differ: a new slide moves the ranks of many, and little else."""
    for table, key, columns, wanted in (
        (cases, cases.c.id, {"rank"}, lambda names: names & FOLLOWING == {"rank"}),
        (cases, cases.c.id, FOLLOWING, lambda names: names & FOLLOWING - {"rank"}),
        (gradings, gradings.c.case_id, {"graded"}, lambda names: "graded" in names),
    ):
        rows = [
            {"of_case": case_id, **{name: values[name] for name in columns}}
            for case_id, (values, names) in changed.items()
            if wanted(names)
        ]
        if rows:
            statement = update(table).where(key == bindparam("of_case"))
            connection.execute(statement.values({name: bindparam(name) for name in columns}), rows)


def _insert(connection: Connection, new: list[dict[str, Any]], after: int) -> None:
    fresh = {"state": "new", "disagreement": False, "proposed": None, "decided_at": None}
    rows = [{**values, **fresh, "id": after + number} for number, values in enumerate(new, start=1)]
    connection.execute(insert(cases), [{name: row[name] for name in cases.c.keys()} for row in rows])  # noqa: SIM118
    connection.execute(insert(gradings), [{"case_id": row["id"], "graded": row["graded"]} for row in rows])


def _known(connection: Connection) -> dict[str, Row]:
    joined = select(cases, gradings.c.graded).join(gradings, gradings.c.case_id == cases.c.id)
    return {row["slide_id"]: row for row in all_rows(connection, joined)}


def _models_of_readings(connection: Connection) -> dict[str, set[str]]:
    """By slide, the models under which its standing decisions were made."""
    asked = select(cases.c.slide_id, readings.c.model_id).join(readings, readings.c.case_id == cases.c.id)
    models: dict[str, set[str]] = {}
    for slide_id, model_id in connection.execute(asked):
        models.setdefault(slide_id, set()).add(model_id)
    return models


def _values(place: Place, models: set[str]) -> dict[str, Any]:
    """The columns of a case that follow the run."""
    one = place.grading
    return {
        "slide_id": one.slide_id,
        "patient_id": one.patient_id,
        "predicted": one.predicted,
        "predicted_index": one.classes.index(one.predicted),
        "rank": place.rank,
        "uncertainty": round(uncertainty(one), 6),
        "tissue_mm2": one.tissue_mm2,
        "flags": mark_graded_again(flag_text(flags_of(one)), bool(models - {one.model_id})),
        "model_id": one.model_id,
        "present": True,
        "graded": canonical(_graded(place)),
    }


def _graded(place: Place) -> dict[str, Any]:
    """What is shown of a grading beside the columns."""
    one = place.grading
    found = one.class_set
    return {
        "task": one.task,
        "classes": one.classes,
        "probabilities": one.probabilities,
        "label": one.label,
        "confidence": one.confidence,
        "calibrated": one.calibrated,
        "set": {"held": found.held, "coverage": found.coverage} if found else None,
        "set_text": one.set_text,
        "urgency": place.urgency,
        "reason": place.reason,
        "tiles": one.tiles,
        "bad_tiles": one.bad_tiles,
    }
