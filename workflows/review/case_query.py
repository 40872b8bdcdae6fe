"""The worklist as the database answers it: filter, search, sort and a page, also of 100,000 cases.

Pages are by offset: an index gives the numbers of a page's cases in their order, and only those rows are read. The
figures are in `tests/workflows/review/test_case_query.py`. Equal places go by slide_id, so that no case is on
two pages or none.
"""

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Select, and_, case, exists, func, or_, select, true

from workflows.review.cases import case_rows
from workflows.review.clock import utc_now
from workflows.review.desk import Reader
from workflows.review.errors import DeskError
from workflows.review.rows import Row, all_rows
from workflows.review.standing import FINISHED, STATES
from workflows.review.tables import cases, claims, readings

Sort = Literal[
    "urgency",
    "slide_id",
    "patient_id",
    "predicted",
    "uncertainty",
    "tissue_mm2",
    "state",
    "decided_at",
    "proposed",
]
Order = Literal["asc", "desc"]
State = Literal["new", "open", "second_look", "accepted", "corrected", "rejected"]
MOST_ROWS = 200
FEW = 5000
HIGHEST_FIRST = ("urgency", "uncertainty", "decided_at")

_STATE_PLACE = case({state: place for place, state in enumerate(STATES)}, value=cases.c.state)
_SORTED: dict[str, ColumnElement[Any]] = {
    "urgency": cases.c.rank,
    "slide_id": cases.c.slide_id,
    "patient_id": cases.c.patient_id,
    "predicted": cases.c.predicted_index,
    "uncertainty": cases.c.uncertainty,
    "tissue_mm2": cases.c.tissue_mm2,
    "state": _STATE_PLACE,
    "decided_at": cases.c.decided_at,
    "proposed": cases.c.proposed,
}


@dataclass(frozen=True, slots=True)
class Query:
    """What of the worklist is asked for.

    Attributes
    ----------
    q : str
        A part of the slide's name, or of the patient's for readers who may see it; case does not matter.
    state, predicted : str or None
    flag : str or None
        One of `case_import.FLAGS`, `disagreement` or `proposed`.
    reader : str or None
        The sign-in name of somebody whose decision on the case stands.
    sort : str
    order : str or None
        None: what is wanted first for this column, which is the highest of `HIGHEST_FIRST` and the lowest of others.
    offset, limit : int
    """

    q: str = ""
    state: State | None = None
    predicted: str | None = None
    flag: str | None = None
    reader: str | None = None
    sort: Sort = "urgency"
    order: Order | None = None
    offset: int = 0
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a page, how many there are in all, and how many in each state but for the filter by state."""

    rows: list[Row]
    total: int
    counts: dict[str, int]


def find_cases(connection: Connection, query: Query, reader: Reader) -> Page:
    """A page of the worklist for a reader.

    Raises
    ------
    DeskError
        403 if it is to be sorted by patient for somebody who may not see patients.
    """
    if query.sort == "patient_id" and not reader.sees_patients:
        raise DeskError(403, "only readers who may see patients can sort by them")
    wanted = _wanted(query, reader)
    counts = count_states(connection, wanted)
    total = counts[query.state] if query.state else sum(counts.values())
    if query.state:
        wanted = and_(wanted, cases.c.state == query.state)
    if query.offset >= total:
        return Page([], total, counts)
    page = _ordered(select(cases.c.id).where(wanted), query, total).offset(query.offset).limit(query.limit)
    places = {case_id: place for place, case_id in enumerate(connection.execute(page).scalars())}
    rows = case_rows(connection, places)
    return Page(sorted(rows, key=lambda row: places[row["id"]]), total, counts)


def count_states(connection: Connection, wanted: ColumnElement[bool] | None = None) -> dict[str, int]:
    """How many listed cases are in each state."""
    where = cases.c.present == true() if wanted is None else wanted
    asked = select(cases.c.state, func.count()).where(where).group_by(cases.c.state)
    return dict.fromkeys(STATES, 0) | {str(row[0]): int(row[1]) for row in connection.execute(asked)}


def _wanted(query: Query, reader: Reader) -> ColumnElement[bool]:
    """All conditions but the state."""
    parts: list[ColumnElement[bool]] = [cases.c.present == true()]
    if query.q.strip():
        parts.append(_named(query.q.strip(), reader))
    if query.predicted is not None:
        parts.append(cases.c.predicted == query.predicted)
    if query.flag is not None:
        parts.append(_flagged(query.flag))
    if query.reader is not None:
        mine = (readings.c.case_id == cases.c.id) & (readings.c.name == query.reader)
        parts.append(exists().where(mine))
    return and_(*parts)


def _named(text: str, reader: Reader) -> ColumnElement[bool]:
    by_slide = cases.c.slide_id.icontains(text, autoescape=True)
    return or_(by_slide, cases.c.patient_id.icontains(text, autoescape=True)) if reader.sees_patients else by_slide


def _flagged(flag: str) -> ColumnElement[bool]:
    if flag == "disagreement":
        return cases.c.disagreement.is_(True)
    if flag == "proposed":
        return cases.c.proposed.is_not(None)
    return cases.c.flags.contains(f" {flag} ", autoescape=True)


def _ordered(asked: Select[Any], query: Query, total: int) -> Select[Any]:
    """In order; few cases are found first and sorted then, as walking the index of the order would look at all."""
    column = _SORTED[query.sort]
    if total < FEW:
        column = case((cases.c.id > 0, column))  # the same value, which no index has
    order = query.order or ("desc" if query.sort in HIGHEST_FIRST else "asc")
    falls = (order == "desc") != (query.sort == "urgency")  # rank 1 is the most urgent
    if query.sort in ("decided_at", "proposed"):
        column_order = column.desc().nulls_last() if falls else column.asc().nulls_last()
        return asked.order_by(column_order, cases.c.slide_id)
    if query.sort == "slide_id":
        return asked.order_by(column.desc() if falls else column)
    return asked.order_by(*((column.desc(), cases.c.slide_id.desc()) if falls else (column, cases.c.slide_id)))


def neighbours(connection: Connection, row: Row) -> tuple[int | None, int | None]:
    """The cases before and behind one by urgency."""
    listed = cases.c.present == true()
    before = select(cases.c.id).where(listed, cases.c.rank < row["rank"]).order_by(cases.c.rank.desc()).limit(1)
    behind = select(cases.c.id).where(listed, cases.c.rank > row["rank"]).order_by(cases.c.rank).limit(1)
    return connection.execute(before).scalar(), connection.execute(behind).scalar()


def siblings(connection: Connection, row: Row) -> list[Row]:
    """Other slides of the same patient."""
    same = (cases.c.patient_id == row["patient_id"]) & (cases.c.id != row["id"]) & cases.c.present == true()
    asked = select(cases.c.id, cases.c.slide_id).where(same).order_by(cases.c.slide_id).limit(MOST_ROWS)
    return all_rows(connection, asked)


def next_case(connection: Connection, reader: Reader, after: int | None = None) -> int | None:
    """The most urgent case that nobody else has in hand and that waits for this reader; from the top again at the end.

    Parameters
    ----------
    after : int, optional
        Only what is less urgent than this case is looked at first, so that a case that was skipped does not come back
        at once.
    """
    busy = exists().where(
        (claims.c.case_id == cases.c.id) & (claims.c.until > utc_now()) & (claims.c.user_id != reader.user_id)
    )
    mine = exists().where((readings.c.case_id == cases.c.id) & (readings.c.user_id == reader.user_id))
    waits = and_(cases.c.present == true(), cases.c.state.not_in(FINISHED), ~busy, ~mine, cases.c.id != (after or 0))
    asked = select(cases.c.id).where(waits).order_by(cases.c.rank, cases.c.slide_id).limit(1)
    if after is not None:
        rank = select(cases.c.rank).where(cases.c.id == after).scalar_subquery()
        found = connection.execute(asked.where(cases.c.rank > rank)).scalar()
        if found is not None:
            return int(found)
    return connection.execute(asked).scalar()
