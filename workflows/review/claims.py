"""Who has a case in hand. A claim is a lease and lapses unless it is renewed: no closed laptop blocks a case."""

from sqlalchemy import Connection, Engine, delete, insert, select, update

from workflows.review.clock import utc_in, utc_now
from workflows.review.database import writing
from workflows.review.desk import Reader
from workflows.review.errors import DeskError
from workflows.review.rows import one_row
from workflows.review.tables import cases, claims
from workflows.review.trail_lock import lock_writers

LEASE_S = 600.0


def claim(engine: Engine, case_id: int, reader: Reader) -> str:
    """Take a case in hand, or keep it for another lease; says until when.

    Raises
    ------
    DeskError
        404 for no such case; 409 while another reader has it.
    """
    until = utc_in(LEASE_S)
    with writing(engine) as connection:
        lock_writers(connection)
        state = connection.execute(select(cases.c.state).where(cases.c.id == case_id)).scalar()
        if state is None:
            raise DeskError(404, f"there is no case {case_id}")
        refuse_others(connection, case_id, reader)
        connection.execute(delete(claims).where(claims.c.case_id == case_id))
        row = {"case_id": case_id, "user_id": reader.user_id, "full_name": reader.full_name, "until": until}
        connection.execute(insert(claims).values(row))
        if state == "new":
            connection.execute(update(cases).where(cases.c.id == case_id).values(state="open"))
    return until


def release(engine: Engine, case_id: int, reader: Reader) -> None:
    """Put a case back. What is another reader's, or nobody's, stays as it is."""
    with writing(engine) as connection:
        lock_writers(connection)
        mine = (claims.c.case_id == case_id) & (claims.c.user_id == reader.user_id)
        connection.execute(delete(claims).where(mine))


def refuse_others(connection: Connection, case_id: int, reader: Reader) -> bool:
    """Whether the reader holds the case; raises `DeskError` 409 while another does."""
    held = one_row(connection, select(claims).where(claims.c.case_id == case_id))
    if held is None or held["until"] <= utc_now():
        return False
    if held["user_id"] != reader.user_id:
        raise DeskError(
            409,
            f"{held['full_name']} has this case in hand until {held['until'][11:16]} UTC",
            claimed_by=held["full_name"],
            until=held["until"],
        )
    return True


def need_claim(connection: Connection, case_id: int, reader: Reader) -> None:
    """Raise `DeskError` 409 unless the reader holds the case."""
    if not refuse_others(connection, case_id, reader):
        raise DeskError(409, "claim the case first: only who has it in hand decides", claimed_by=None, until=None)
