"""The database comes up to date by steps, with what is in it."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from tests.workflows.review.case_desks import ANNA, OPENED, grading, save_gradings
from workflows.review import accounts, tables
from workflows.review.case_import import import_run
from workflows.review.database import open_engine
from workflows.review.decisions import Decision, decide
from workflows.review.migrate import migrate
from workflows.review.trail import check
from wsi.errors import UsageError

KNOWN = accounts.metadata, tables.metadata  # the tables of accounts are on the same metadata


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = open_engine(f"sqlite:///{tmp_path}/review/review.sqlite")
    OPENED.append(engine)
    return engine


def test_the_steps_make_the_tables_that_the_program_knows(engine: Engine) -> None:
    assert KNOWN[0] is KNOWN[1]
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_from_the_first_step_on_with_data(engine: Engine, tmp_path: Path) -> None:
    migrate(engine, "0001")
    assert "users" not in inspect(engine).get_table_names()
    run = save_gradings(tmp_path / "run", grading("a"), grading("b"))
    import_run(engine, run)
    decide(engine, run, 1, ANNA, "1", Decision("comment", comment="before"), {})
    migrate(engine)
    decide(engine, run, 1, ANNA, "2", Decision("comment", comment="after"), {})
    assert "users" in inspect(engine).get_table_names()
    assert check(engine).entries == 2
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == ["0002"]
        assert connection.execute(text("SELECT count(*) FROM cases")).scalar() == 2


def test_a_newer_database_is_refused_by_name_and_left_alone(engine: Engine) -> None:
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))
    with pytest.raises(UsageError, match="version 0999, and this program knows 0002"):
        migrate(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "0999"
