"""The same desk over PostgreSQL: steps, guards, one chain by many writers, pages."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from tests.workflows.review.case_desks import ANNA, BEN, OPENED, grading, open_cases, save_gradings
from tests.workflows.review.postgresql_server import postgresql
from workflows.review import accounts, tables
from workflows.review.case_query import Query, find_cases, next_case
from workflows.review.claims import claim
from workflows.review.database import open_engine
from workflows.review.decisions import Decision, decide
from workflows.review.desk import Reader
from workflows.review.errors import DeskError
from workflows.review.label_table import label_table
from workflows.review.trail import check
from workflows.review.trail_head import head_file

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return save_gradings(tmp_path / "run", grading("a", 5), grading("b", 3), grading("c_%", 1))


@pytest.fixture
def engine(server: str, run: Path) -> Engine:
    """An empty database with the run's slides as cases."""
    empty = open_engine(server)
    with empty.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    empty.dispose()
    return open_cases(run, server)


def sign(engine: Engine, run: Path, reader: Reader, case_id: int, number: int, decision: Decision) -> str:
    return decide(engine, run, case_id, reader, str(UUID(int=number)), decision, {"opacity": 0.25}).state


def test_the_steps_make_the_tables_that_the_program_knows(engine: Engine) -> None:
    assert accounts.metadata is tables.metadata
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_a_reading_to_its_label(engine: Engine, run: Path) -> None:
    claim(engine, 1, ANNA)
    with pytest.raises(DeskError, match="Dr. Anna Grey has this case"):
        claim(engine, 1, BEN)
    assert sign(engine, run, ANNA, 1, 1, Decision("accept")) == "accepted"
    assert sign(engine, run, ANNA, 1, 1, Decision("accept")) == "accepted"
    assert sign(engine, run, ANNA, 1, 2, Decision("correct", grade="4")) == "corrected"
    assert sign(engine, run, ANNA, 1, 3, Decision("undo")) == "accepted"
    assert check(engine, head_file(run)).entries == 3
    (row,) = label_table(engine, run).rows
    assert (row["slide_id"], row["label"]) == ("a", "5")
    with engine.connect() as connection:
        assert next_case(connection, ANNA, 1) == 2


SORTS = (
    "urgency", "slide_id", "patient_id", "predicted", "uncertainty", "tissue_mm2", "state", "decided_at", "proposed",
)  # fmt: skip


def test_pages(engine: Engine) -> None:
    with engine.connect() as connection:
        for sort in SORTS:
            for order in ("asc", "desc"):
                assert len(find_cases(connection, Query(sort=sort, order=order), ANNA).rows) == 3  # type: ignore[arg-type]
        assert [row["slide_id"] for row in find_cases(connection, Query(q="C_%"), ANNA).rows] == ["c_%"]
        assert [row["slide_id"] for row in find_cases(connection, Query(), ANNA).rows] == ["a", "b", "c_%"]


STATEMENTS = [
    "UPDATE entries SET payload = '{}' WHERE seq = 1",
    "DELETE FROM entries",
    "TRUNCATE entries",
    "INSERT INTO entries SELECT 9, case_id, slide_id, user_id, name, full_name, at, action, payload, shown, 'new', "
    "request_hash, previous_hash, hash FROM entries WHERE seq = 1",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_the_database_refuses_changes(engine: Engine, run: Path, statement: str) -> None:
    sign(engine, run, ANNA, 1, 1, Decision("comment", comment="so"))
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(text(statement))
    assert check(engine, head_file(run)).entries == 1


def test_ten_writers_on_two_desks_make_one_chain(engine: Engine, server: str, run: Path) -> None:
    other = open_engine(server)
    OPENED.append(other)

    def work(number: int) -> None:
        reader = Reader(number, f"r{number}", f"Dr. {number}", "reader", False)
        for turn in range(8):
            at = engine if (number + turn) % 2 else other
            sign(at, run, reader, 1 + turn % 3, 100 * number + turn, Decision("comment", comment=f"{turn}"))

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(work, range(10)))
    found = check(engine, head_file(run))
    assert (found.entries, found.problem) == (80, "")
