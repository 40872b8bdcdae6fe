"""The users of the desk: made, found, changed."""

from sqlalchemy import Engine, insert, select

from workflows.review.accounts import users
from workflows.review.clock import utc_now
from workflows.review.database import writing
from workflows.review.desk import Reader


def open_door_reader(engine: Engine, name: str) -> Reader:
    """The reader of a desk where nobody signs in; a user without a password, made when it is first needed."""
    with writing(engine) as connection:
        found = connection.execute(select(users.c.id).where(users.c.name == name)).scalar()
        if found is None:
            row = {"name": name, "full_name": name, "role": "reviewer", "sees_patients": True}
            made = connection.execute(insert(users).values(**row, disabled=False, created_at=utc_now()))
            found = made.inserted_primary_key[0]  # type: ignore[index]
    return Reader(found, name, name, "reviewer", sees_patients=True, auth="none")
