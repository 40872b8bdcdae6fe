"""The database of a run's desk for commands that need no server."""

from pathlib import Path

from sqlalchemy import Engine, make_url

from workflows.review.case_import import import_run
from workflows.review.database import open_engine
from workflows.review.desk import Settings
from workflows.review.migrate import migrate
from wsi.errors import UsageError


def open_cases(run: Path, database: str | None = None) -> Engine:
    """The database with the run's slides as cases; made if it is not there."""
    engine = open_engine(Settings(run.absolute(), database).database_url)
    migrate(engine)
    import_run(engine, run)
    return engine


def open_decided(run: Path, database: str | None = None) -> Engine:
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
    migrate(engine)
    return engine
