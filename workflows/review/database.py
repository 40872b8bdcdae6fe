"""The database under the desk: SQLite beside the run, or another; many readers at once and power cuts do no harm.

A transaction that writes is opened with `writing(engine)`: on SQLite it takes the lock at its beginning, so that what
it has read is still true when it writes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from wsi.errors import UsageError

BUSY_MS = 15_000
"""How long a writer waits for another before it gives up."""

CONNECTIONS = 16
"""Kept open, and as many again for a crowd: no thread of the desk waits for another's connection."""


def open_engine(url: str) -> Engine:
    """The engine of a SQLAlchemy URL. The folder of a SQLite file is made.

    Raises
    ------
    UsageError
        If there is no such kind of database.
    """
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
            _make_private(Path(str(parsed.database)))
        room = {"pool_size": CONNECTIONS, "max_overflow": CONNECTIONS, "pool_pre_ping": True}
        engine = create_engine(parsed, **({} if parsed.database == ":memory:" else room))
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise UsageError(
            f"--database cannot be used ({error}); expected sqlite:///FILE or postgresql+psycopg://..."
        ) from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", _begin)
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes; committed at the end, and then it is on the disk."""
    with engine.connect().execution_options(immediate=True) as connection, connection.begin():
        yield connection


def _make_private(file: Path) -> None:
    """Make the file so that only its owner reads it: it holds patients, and digests of passwords."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600, exist_ok=True)


def _configure(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # the driver begins no transactions of its own; `_begin` does
    for pragma in (f"busy_timeout={BUSY_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
