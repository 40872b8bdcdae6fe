"""An entry on its way into the trail: signed once, however often its request comes, and on the disk when answered.

A request has an id of its own. If it comes again, since its answer was lost, the entry that it made is given again;
if the same id comes with another content it is refused.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, select, update

from workflows.review.cases import case_row
from workflows.review.clock import utc_now
from workflows.review.database import writing
from workflows.review.desk import Reader
from workflows.review.errors import DeskError
from workflows.review.flags import mark_graded_again
from workflows.review.rows import Row, all_rows, one_row
from workflows.review.standing import Act, Standing, standing_of
from workflows.review.tables import cases, entries, readings
from workflows.review.trail import append, canonical
from workflows.review.trail_head import Head, head_file, write_head
from workflows.review.trail_lock import lock_writers


@dataclass(frozen=True, slots=True)
class Request:
    """What a reader asks to have signed.

    Attributes
    ----------
    case_id : int
    reader : Reader
    action : str
    request_id : str
    said : mapping
        What was asked, as plain values; with the case, the reader and the action it decides whether a request is the
        same one again.
    shown : mapping
        What the reader had before the eyes.
    """

    case_id: int
    reader: Reader
    action: str
    request_id: str
    said: Mapping[str, Any]
    shown: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of all that was asked."""
        asked = [self.case_id, self.reader.user_id, self.action, self.said, self.shown]
        return sha256(canonical(asked).encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class Signed:
    """An entry of the trail, and the state of its case."""

    entry: Row
    state: str


Settle = Callable[[Connection, Row, list[Act]], dict[str, Any]]
"""Given the case and its acts so far: what the entry's payload is, or a `DeskError`."""


Follow = Callable[[Connection, Row], None]
"""Given the new entry: what else is written down with it."""


def sign(engine: Engine, run: Path, request: Request, settle: Settle, follow: Follow | None = None) -> Signed:
    """Check a request, append its entry, and bring the case up to date, in one transaction.

    Raises
    ------
    DeskError
        404 for no such case, 409 for a request id that was used for something else, and whatever `settle` says.
    """
    with writing(engine) as connection:
        lock_writers(connection)
        case = case_row(connection, request.case_id)
        if (before := _signed_before(connection, request)) is not None:
            return Signed(before, case["state"])
        acts = acts_of(connection, request.case_id)
        said = _entry(request, case, settle(connection, case, acts))
        entry = append(connection, said, head_file(run))
        standing = standing_of([*acts, act_of(entry)])
        if follow is not None:
            follow(connection, entry)
        state = _keep(connection, case, standing)
    write_head(head_file(run), Head(entry["seq"], entry["hash"]))
    return Signed(entry, state)


def _entry(request: Request, case: Row, payload: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "case_id": request.case_id,
        "slide_id": case["slide_id"],
        "user_id": request.reader.user_id,
        "name": request.reader.name,
        "full_name": request.reader.full_name,
        "at": utc_now(),
        "action": request.action,
        "payload": canonical(payload),
        "shown": canonical(request.shown),
        "request_id": request.request_id,
        "request_hash": request.digest,
    }


def _signed_before(connection: Connection, request: Request) -> Row | None:
    found = one_row(connection, select(entries).where(entries.c.request_id == request.request_id))
    if found is not None and found["request_hash"] != request.digest:
        raise DeskError(409, "this request_id was used for something else; each request needs one of its own")
    return found


def acts_of(connection: Connection, case_id: int) -> list[Act]:
    """The entries of a case as `standing_of` takes them."""
    asked = select(entries).where(entries.c.case_id == case_id).order_by(entries.c.seq)
    return [act_of(row) for row in all_rows(connection, asked)]


def act_of(entry: Row) -> Act:
    """An entry as far as it can change the state."""
    said = json.loads(entry["payload"])
    grade, undoes, double = said.get("grade"), said.get("undoes"), bool(said.get("double_reading"))
    return Act(entry["seq"], entry["user_id"], entry["action"], grade, undoes, double, entry)


def _keep(connection: Connection, case: Row, standing: Standing) -> str:
    """Write down what follows from the trail; what changes no state leaves a new case new."""
    read = standing.readings
    state = standing.state if read or case["state"] != "new" else "new"
    settled = standing.counts or (max(read, key=lambda act: act.seq) if state == "second_look" else None)
    rows = [_reading(act) for act in read]
    values = {
        "state": state,
        "disagreement": standing.disagreement,
        "decided_at": settled.row["at"] if settled else None,
        "flags": mark_graded_again(case["flags"], any(row["model_id"] != case["model_id"] for row in rows)),
    }
    connection.execute(update(cases).where(cases.c.id == case["id"]).values(values))
    connection.execute(delete(readings).where(readings.c.case_id == case["id"]))
    if rows:
        connection.execute(insert(readings), rows)
    return state


def _reading(act: Act) -> dict[str, Any]:
    entry = act.row
    return {
        **{name: entry[name] for name in ("case_id", "user_id", "name", "full_name", "action", "at")},
        "entry": act.seq,
        "grade": act.grade,
        "model_id": json.loads(entry["payload"])["model_id"],
    }
