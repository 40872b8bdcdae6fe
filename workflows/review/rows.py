"""Rows of the database as plain mappings."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Select

Row = Mapping[str, Any]


def all_rows(connection: Connection, asked: Select[Any]) -> list[Row]:
    """All rows of an answer, by their columns' names."""
    return [row._asdict() for row in connection.execute(asked)]


def one_row(connection: Connection, asked: Select[Any]) -> Row | None:
    """The first row of an answer, or None."""
    row = connection.execute(asked).first()
    return None if row is None else row._asdict()
