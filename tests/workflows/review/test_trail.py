"""The trail: it refuses changes, and shows those that were made behind the database's back."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from tests.workflows.review.case_desks import ANNA, grading, open_cases, save_gradings
from workflows.review.decisions import Decision, decide
from workflows.review.errors import DeskError
from workflows.review.trail import FIRST, canonical, check
from workflows.review.trail_head import Head, head_file, read_head, write_head
from wsi.errors import UsageError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return save_gradings(tmp_path / "run", grading("a"), grading("b"))


@pytest.fixture
def engine(run: Path) -> Engine:
    engine = open_cases(run)
    for number in range(6):
        comment(engine, run, number)
    return engine


def comment(engine: Engine, run: Path, number: int) -> None:
    said = Decision("comment", comment=f"remark {number}")
    decide(engine, run, 1 + number % 2, ANNA, str(UUID(int=number)), said, {"opacity": 0.5})


def rehash(connection: Connection, seq: int) -> None:
    """Give an entry the hash that its content has, as a careful forger would."""
    row = dict(connection.execute(text("SELECT * FROM entries WHERE seq = :seq"), {"seq": seq}).mappings().one())
    row.pop("hash")
    previous = row.pop("previous_hash")
    content = json.dumps(row, sort_keys=True, separators=(",", ":"))
    digest = sha256((previous + content).encode()).hexdigest()
    connection.execute(text("UPDATE entries SET hash = :hash WHERE seq = :seq"), {"hash": digest, "seq": seq})


def changed(connection: Connection) -> None:
    connection.execute(text("UPDATE entries SET payload = replace(payload, 'remark', 'praise') WHERE seq = 3"))


def changed_with_its_hash(connection: Connection) -> None:
    changed(connection)
    rehash(connection, 3)


def shown_changed(connection: Connection) -> None:
    connection.execute(text("UPDATE entries SET shown = '{}' WHERE seq = 3"))


def removed(connection: Connection) -> None:
    connection.execute(text("DELETE FROM entries WHERE seq = 3"))


def removed_and_closed_up(connection: Connection) -> None:
    removed(connection)
    for seq in (4, 5, 6):
        connection.execute(text(f"UPDATE entries SET seq = {seq - 1} WHERE seq = {seq}"))


def reordered(connection: Connection) -> None:
    for old, new in ((3, 99), (4, 3), (99, 4)):
        connection.execute(text(f"UPDATE entries SET seq = {new} WHERE seq = {old}"))


def inserted(connection: Connection) -> None:
    for seq in (6, 5, 4, 3):
        connection.execute(text(f"UPDATE entries SET seq = {seq + 1} WHERE seq = {seq}"))
    connection.execute(
        text(
            "INSERT INTO entries SELECT 3, case_id, slide_id, user_id, name, full_name, at, action, payload, shown, "
            "'forged', request_hash, hash, hash FROM entries WHERE seq = 2"
        )
    )
    rehash(connection, 3)


def cut_off(connection: Connection) -> None:
    connection.execute(text("DELETE FROM entries WHERE seq > 4"))


def emptied(connection: Connection) -> None:
    connection.execute(text("DELETE FROM entries"))


BROKEN = [
    (changed, 3, "entry 3 was changed"),
    (changed_with_its_hash, 4, "entry 4 does not follow"),
    (shown_changed, 3, "entry 3 was changed"),
    (removed, 3, "entry 3 is missing"),
    (removed_and_closed_up, 3, "entry 3 does not follow"),
    (reordered, 3, "entry 3 does not follow"),
    (inserted, 4, "entry 4 does not follow"),
    (cut_off, 5, "entries 5 to 6 were cut off"),
    (emptied, 1, "entries 1 to 6 were cut off"),
]


def tamper(engine: Engine, how: Callable[[Connection], None]) -> None:
    with engine.begin() as connection:
        for trigger in ("entries_no_update", "entries_no_delete", "entries_append"):
            connection.execute(text(f"DROP TRIGGER IF EXISTS {trigger}"))
        how(connection)


def test_a_whole_trail_is_sound(engine: Engine, run: Path) -> None:
    found = check(engine, head_file(run))
    assert (found.sound, found.entries, found.problem) == (True, 6, "")


@pytest.mark.parametrize(("how", "first", "problem"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_the_first_broken_entry_is_named(engine: Engine, run: Path, how: Callable, first: int, problem: str) -> None:
    tamper(engine, how)
    found = check(engine, head_file(run))
    assert not found.sound
    assert (found.first_broken, found.entries) == (first, first - 1)
    assert found.problem.startswith(problem)


def test_a_last_entry_that_was_forged_whole_differs_from_the_side_file(engine: Engine, run: Path) -> None:
    def forge(connection: Connection) -> None:
        connection.execute(text("UPDATE entries SET name = 'ben' WHERE seq = 6"))
        rehash(connection, 6)

    tamper(engine, forge)
    assert check(engine).sound
    assert check(engine, head_file(run)).first_broken == 6


def test_nothing_is_signed_behind_a_trail_that_was_cut(engine: Engine, run: Path) -> None:
    tamper(engine, cut_off)
    with pytest.raises(DeskError, match="entry 6 of the trail is gone or changed"):
        comment(engine, run, 100)
    assert check(engine).entries == 4


STATEMENTS = [
    "UPDATE entries SET payload = '{}' WHERE seq = 2",
    "DELETE FROM entries WHERE seq = 6",
    "INSERT OR REPLACE INTO entries SELECT * FROM entries WHERE seq = 2",
    "INSERT OR REPLACE INTO entries SELECT 7, case_id, slide_id, user_id, name, full_name, at, action, payload, shown, "
    "request_id, request_hash, previous_hash, hash FROM entries WHERE seq = 2",
    "INSERT INTO entries SELECT 9, case_id, slide_id, user_id, name, full_name, at, action, payload, shown, 'new', "
    "request_hash, previous_hash, hash FROM entries WHERE seq = 2",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_the_database_refuses_changes(engine: Engine, run: Path, statement: str) -> None:
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(text(statement))
    assert check(engine, head_file(run)).entries == 6


def test_hashes_are_those_of_the_definition(engine: Engine) -> None:
    with engine.connect() as connection:
        first = dict(connection.execute(text("SELECT * FROM entries WHERE seq = 1")).mappings().one())
    digest, previous = first.pop("hash"), first.pop("previous_hash")
    assert previous == "0" * 64 == FIRST
    assert digest == sha256((previous + json.dumps(first, sort_keys=True, separators=(",", ":"))).encode()).hexdigest()


def test_canonical_json() -> None:
    assert canonical({"b": [1.5, None], "a": "µ"}) == '{"a":"\\u00b5","b":[1.5,null]}'
    with pytest.raises(ValueError):
        canonical(float("nan"))


def test_the_side_file_never_goes_back(tmp_path: Path) -> None:
    path = head_file(tmp_path)
    assert read_head(path) is None
    write_head(path, Head(2, "b" * 64))
    write_head(path, Head(1, "a" * 64))
    assert read_head(path) == Head(2, "b" * 64)
    path.write_text("{")
    with pytest.raises(UsageError, match=r"review/trail-head\.json is damaged"):
        read_head(path)
