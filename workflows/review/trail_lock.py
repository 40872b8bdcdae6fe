"""One writer at a time. SQLite has that by `BEGIN IMMEDIATE`; PostgreSQL needs to be asked."""

from sqlalchemy import Connection, text

LOCK = 0x68697374  # the same number for all desks of a database


def lock_writers(connection: Connection) -> None:
    """Let no other desk write until this transaction ends, so that the trail has one end to append to."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": LOCK})
