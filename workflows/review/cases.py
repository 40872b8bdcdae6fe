"""A case as the desk hands it out: the columns of its row, who has it in hand, and the decisions that may be seen.

With double reading nobody sees what another reader decided before deciding too. Patient identifiers go to readers
with `sees_patients` alone.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, select

from workflows.review.clock import utc_now
from workflows.review.desk import Reader
from workflows.review.errors import DeskError
from workflows.review.rows import Row, all_rows
from workflows.review.tables import cases, claims, gradings, readings


@dataclass(frozen=True, slots=True)
class CaseSlide:
    """The slide of a case; `run` is the folder that holds its files."""

    case_id: int
    slide_id: str
    run: Path


def slide_of(engine: Engine, case_id: int, run: Path) -> CaseSlide:
    """The slide of a case; raises `DeskError` 404 if there is no such case."""
    with engine.connect() as connection:
        return CaseSlide(case_id, case_row(connection, case_id)["slide_id"], run)


def case_rows(connection: Connection, ids: Collection[int]) -> list[Row]:
    """The rows of some cases in no order, with what the model says of them under `graded`."""
    joined = select(cases, gradings.c.graded).join(gradings, gradings.c.case_id == cases.c.id)
    rows = all_rows(connection, joined.where(cases.c.id.in_(ids)))
    return [{**row, "graded": json.loads(row["graded"])} for row in rows]


def case_row(connection: Connection, case_id: int) -> Row:
    """The row of a case; raises `DeskError` 404 if there is none."""
    row = next(iter(case_rows(connection, [case_id])), None)
    if row is None:
        raise DeskError(404, f"there is no case {case_id}")
    return row


def describe(connection: Connection, rows: Sequence[Row], reader: Reader, blind: bool) -> list[dict[str, Any]]:
    """Some cases as plain values for a reader. `blind`: double reading, with what that hides."""
    ids = [row["id"] for row in rows]
    held = _claims(connection, ids)
    read = _readings(connection, ids)
    return [_described(row, reader, held.get(row["id"]), _seen(read.get(row["id"], []), reader, blind)) for row in rows]


def _described(row: Row, reader: Reader, held: Row | None, read: Sequence[Row]) -> dict[str, Any]:
    extra = [name for name in ("disagreement", "proposed") if row[name]]
    same = ("slide_id", "rank", "predicted", "uncertainty", "tissue_mm2", "model_id", "state", "decided_at")
    return {
        "case_id": row["id"],
        **{name: row[name] for name in (*same, "disagreement", "proposed")},
        **row["graded"],
        "patient_id": row["patient_id"] if reader.sees_patients else None,
        "flags": row["flags"].split() + extra,
        "claimed_by": held["full_name"] if held else None,
        "claimed_by_me": bool(held and held["user_id"] == reader.user_id),
        "decisions": [
            {"reader": one["full_name"], **{name: one[name] for name in ("entry", "action", "grade", "model_id", "at")}}
            for one in read
        ],
    }


def _claims(connection: Connection, ids: Sequence[int]) -> dict[int, Row]:
    asked = select(claims).where(claims.c.case_id.in_(ids), claims.c.until > utc_now())
    return {row["case_id"]: row for row in all_rows(connection, asked)}


def _readings(connection: Connection, ids: Sequence[int]) -> dict[int, list[Row]]:
    asked = select(readings).where(readings.c.case_id.in_(ids)).order_by(readings.c.entry)
    found: dict[int, list[Row]] = {}
    for row in all_rows(connection, asked):
        found.setdefault(row["case_id"], []).append(row)
    return found


def _seen(read: Sequence[Row], reader: Reader, blind: bool) -> Sequence[Row]:
    return read if sees_others({one["user_id"] for one in read}, reader, blind) else []


def sees_others(deciders: Collection[int], reader: Reader, blind: bool) -> bool:
    """Whether a reader may see what others made of a case: `deciders` have decisions on it that stand.

    Whoever comes third, to settle it, sees both.
    """
    return not blind or reader.user_id in deciders or len(deciders) > 1


def seen_by(connection: Connection, case_id: int, reader: Reader, blind: bool) -> bool:
    """The same for one case, by what the database holds."""
    asked = select(readings.c.user_id).where(readings.c.case_id == case_id)
    return sees_others(set(connection.execute(asked).scalars()), reader, blind)
