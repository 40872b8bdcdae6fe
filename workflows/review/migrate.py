"""Bring a database to the schema of this program: alembic's steps, run from code and within one transaction.

A database that a newer program has changed is refused by name, since this one does not know what its columns mean.
"""

from pathlib import Path

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from workflows.review.database import writing
from workflows.review.trail_lock import lock_writers
from wsi.errors import UsageError

STEPS = Path(__file__).parent / "migrations"


def migrate(engine: Engine, revision: str = "head") -> None:
    """Make the tables, or bring them up to a revision; a database that is up to date is left alone.

    Raises
    ------
    UsageError
        If the database is of a newer program.
    """
    with writing(engine) as connection:
        lock_writers(connection)
        upgrade(connection, revision)


def upgrade(connection: Connection, revision: str = "head") -> None:
    """The same within a transaction that is open."""
    steps = ScriptDirectory(str(STEPS))
    _refuse_newer(connection, steps)
    with EnvironmentContext(
        Config(), steps, fn=lambda found, _: steps._upgrade_revs(revision, found), destination_rev=revision
    ) as environment:
        environment.configure(connection=connection)
        environment.run_migrations()


def _refuse_newer(connection: Connection, steps: ScriptDirectory) -> None:
    known = {step.revision for step in steps.walk_revisions()}
    for found in MigrationContext.configure(connection).get_current_heads():
        if found not in known:
            raise UsageError(
                f"the review database is of version {found}, and this program knows {steps.get_current_head()}: "
                "a newer histograde has opened it; update this one, or name another with --database"
            )
