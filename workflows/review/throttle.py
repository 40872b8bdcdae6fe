"""Guessing passwords is made slow: after some failures each try has to wait, twice as long each time.

A try is written down before the password is looked at, in one transaction with the question whether it may be made.
So many tries at once win nothing, and neither does a restart. A login forgets the failures of its name, but of its
address only the try that it was: whoever knows one password may not guess others faster.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from sqlalchemy import Connection, Engine, delete, insert, select

from workflows.review.accounts import login_attempts
from workflows.review.clock import utc_in, utc_now
from workflows.review.database import writing

WINDOW_S = 60 * 60.0
"""How long a failure is remembered."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How many tries are free, and the longest wait after more. Before try n the wait is 2^(n - free) s."""

    free: int
    longest_s: float

    def wait_s(self, failures: int) -> float:
        """How long to wait after the last of so many failures."""
        return 0.0 if failures < self.free else min(2.0 ** (min(failures - self.free, 30) + 1), self.longest_s)


PATIENCE = {"user": Patience(5, 5 * 60.0), "address": Patience(20, 60.0)}
"""An address may stand for a whole department behind a proxy, so it has more tries and shorter waits."""


@dataclass(frozen=True, slots=True)
class Try:
    """A try at a name's password: how long it has to wait, or where it is written down if it may be made."""

    wait_s: float
    rows: tuple[int, ...] = ()


def begin_try(engine: Engine, name: str, address: str) -> Try:
    """Write down a try at a name from an address; one that has to wait is not written."""
    subjects = {"user": _hidden(name), "address": _hidden(address)}
    with writing(engine) as connection:
        wait_s = max(_left_s(connection, kind, subject) for kind, subject in subjects.items())
        if wait_s > 0:
            return Try(wait_s)
        connection.execute(delete(login_attempts).where(login_attempts.c.at < utc_in(-WINDOW_S)))
        rows = [
            connection.scalars(
                insert(login_attempts).returning(login_attempts.c.id),
                {"kind": kind, "subject": subject, "at": utc_now()},
            ).one()
            for kind, subject in subjects.items()
        ]
        return Try(0.0, tuple(rows))


def forget_failures(engine: Engine, name: str, made: Try) -> None:
    """A name's own password was given: its failures and this try do not count any more."""
    own = (login_attempts.c.kind == "user") & (login_attempts.c.subject == _hidden(name))
    with writing(engine) as connection:
        connection.execute(delete(login_attempts).where(own | login_attempts.c.id.in_(made.rows)))


def _left_s(connection: Connection, kind: str, subject: str) -> float:
    query = (
        select(login_attempts.c.at)
        .where(
            login_attempts.c.kind == kind,
            login_attempts.c.subject == subject,
            login_attempts.c.at > utc_in(-WINDOW_S),
        )
        .order_by(login_attempts.c.at.desc())
    )
    times = connection.execute(query).scalars().all()
    if not times:
        return 0.0
    since_s = (datetime.fromisoformat(utc_now()) - datetime.fromisoformat(times[0])).total_seconds()
    return max(0.0, PATIENCE[kind].wait_s(len(times)) - since_s)


def _hidden(subject: str) -> str:
    """People type passwords into the field of the name: what was typed is not kept."""
    return sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()
