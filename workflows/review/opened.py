"""The database of a run's desk for commands that need no server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, make_url

from workflows.review.case_import import import_run
from workflows.review.database import open_engine
from workflows.review.desk import Settings
from workflows.review.migrate import migrate
from wsi.errors import UsageError


@contextmanager
def opened_cases(run: Path, database: str | None = None) -> Iterator[Engine]:
    """The database with the run's slides as cases; made if it is not there."""
    engine = open_engine(Settings(run.absolute(), database).database_url)
    try:
        migrate(engine)
        import_run(engine, run)
        yield engine
    finally:
        engine.dispose()


@contextmanager
def opened_decided(run: Path, database: str | None = None) -> Iterator[Engine]:
    """The database of a desk that was opened before.

    Raises
    ------
    UsageError
        If there is none: nobody can have decided anything.
    """
    url = make_url(Settings(run.absolute(), database).database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise UsageError(f"{run}: nobody has opened the desk of this run; start with `histograde review {run}`")
    engine = open_engine(url.render_as_string(hide_password=False))
    try:
        migrate(engine)
        yield engine
    finally:
        engine.dispose()
