"""The worklist by filter, search, sort and page.

Pages of 50 of 100,000 cases on SQLite, CPU ms on a shared core: 15 to 25 sorted by any column but state, time of
decision and proposal (45 at the beginning, 200 at the end), 20 to 60 with a filter, 70 to 250 with a search.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from tests.workflows.review.case_desks import ANNA, BEN, grading, open_cases, save_gradings
from workflows.review.case_query import Query, find_cases
from workflows.review.desk import Reader
from workflows.review.errors import DeskError

SORTS = (
    "urgency", "slide_id", "patient_id", "predicted", "uncertainty", "tissue_mm2", "state", "decided_at", "proposed",
)  # fmt: skip


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    run = save_gradings(
        tmp_path / "run",
        grading("T-1", 5, patient_id="Smith", tissue_mm2=3.0),
        grading("T-2", 1, patient_id="Smith", tissue_mm2=9.0),
        grading("u_10%", 3, patient_id="Jones", tissue_mm2=5.0, sure=0.4),
        grading("u_20", 3, patient_id="Abel", tissue_mm2=7.0),
    )
    return open_cases(run)


def names(engine: Engine, who: Reader = ANNA, **query: Any) -> list[str]:
    with engine.connect() as connection:
        return [row["slide_id"] for row in find_cases(connection, Query(**query), who).rows]


def test_sorts(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE cases SET state = 'accepted', decided_at = '2026-01-02' WHERE slide_id = 'T-1'")
        )
        connection.execute(text("UPDATE cases SET state = 'open' WHERE slide_id = 'T-2'"))
    assert names(engine) == ["T-1", "u_10%", "u_20", "T-2"]
    assert names(engine, order="asc") == ["T-2", "u_20", "u_10%", "T-1"]
    assert names(engine, sort="slide_id") == ["T-1", "T-2", "u_10%", "u_20"]
    assert names(engine, sort="patient_id") == ["u_20", "u_10%", "T-1", "T-2"]
    assert names(engine, sort="predicted") == ["T-2", "u_10%", "u_20", "T-1"]
    assert names(engine, sort="tissue_mm2", order="desc") == ["T-2", "u_20", "u_10%", "T-1"]
    assert names(engine, sort="uncertainty")[0] == "u_10%"
    assert names(engine, sort="state") == ["u_10%", "u_20", "T-2", "T-1"]
    assert names(engine, sort="decided_at") == ["T-1", "T-2", "u_10%", "u_20"]
    assert names(engine, sort="decided_at", order="asc") == ["T-1", "T-2", "u_10%", "u_20"]


def test_grades_sort_by_their_order_and_not_by_their_letters(tmp_path: Path) -> None:
    classes = ("9", "10", "11")
    shares = {"9": (0.8, 0.1, 0.1), "10": (0.1, 0.8, 0.1), "11": (0.1, 0.1, 0.8)}
    slides = [
        replace(grading(f"s{name}"), classes=classes, probabilities=shares[name], predicted=name) for name in shares
    ]
    assert names(open_cases(save_gradings(tmp_path / "run", *slides)), sort="predicted") == ["s9", "s10", "s11"]


def test_filters_and_search(engine: Engine) -> None:
    assert names(engine, predicted="3") == ["u_10%", "u_20"]
    assert names(engine, state="new", predicted="5") == ["T-1"]
    assert names(engine, q="t-") == ["T-1", "T-2"]
    assert names(engine, q=" smith ") == ["T-1", "T-2"]
    assert names(engine, q="0%") == ["u_10%"]
    assert names(engine, q="_1") == ["u_10%"]
    assert names(engine, q="%") == ["u_10%"]
    assert names(engine, q="' OR 1=1 --") == []
    assert names(engine, reader="anna") == []


def test_patients_are_not_found_by_who_may_not_see_them(engine: Engine) -> None:
    assert names(engine, BEN, q="smith") == []
    assert names(engine, BEN, q="T-1") == ["T-1"]
    with pytest.raises(DeskError, match="may see patients"):
        names(engine, BEN, sort="patient_id")


def test_counts_are_of_all_states(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE cases SET state = 'accepted' WHERE predicted = '3'"))
    with engine.connect() as connection:
        page = find_cases(connection, Query(q="u_", state="new"), ANNA)
        assert (page.total, page.rows) == (0, [])
        assert {state: number for state, number in page.counts.items() if number} == {"accepted": 2}
        assert find_cases(connection, Query(offset=4), ANNA).rows == []


def fill(connection: Connection, number: int) -> None:
    """Cases made by the database: few values in some columns, so that places are shared."""
    connection.execute(
        text(
            "INSERT INTO cases WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :number) "
            "SELECT i, printf('slide-%06d', (i * 7919) % 1000003), printf('P%05d', (i * 31) % 40009), "
            "CAST(i % 6 AS TEXT), i % 6, (i * 48271) % :number + 1, (i % 97) / 97.0, (i % 1013) / 20.0, "
            "CASE i % 3 WHEN 0 THEN ' uncertain ' WHEN 1 THEN ' uncertain wide_set ' ELSE '' END, 'm', 1, "
            "CASE WHEN i % 500 = 0 THEN i END, CASE i % 4 WHEN 0 THEN 'accepted' WHEN 1 THEN 'open' ELSE 'new' END, "
            "CASE WHEN i % 4 = 0 THEN printf('2026-01-%02dT%05d', i % 28 + 1, i % 300) END, i % 1000 = 0 FROM n"
        ),
        {"number": number},
    )
    connection.execute(
        text('INSERT INTO gradings SELECT id, \'{"classes": ["0"], "reason": "because", "bad_tiles": 0}\' FROM cases')
    )


@pytest.mark.slow
def test_a_hundred_thousand_cases_on_pages_without_gaps_or_repeats(tmp_path: Path) -> None:
    number = 100_000
    engine = open_cases(save_gradings(tmp_path / "run"))
    with engine.begin() as connection:
        fill(connection, number)
    with engine.connect() as connection:
        for sort in SORTS:
            ids: list[int] = []
            for offset in (0, 200, number - 200):
                page = find_cases(connection, Query(sort=sort, offset=offset, limit=200), ANNA)  # type: ignore[arg-type]
                assert page.total == number
                assert len(page.rows) == 200
                ids += [row["id"] for row in page.rows]
            assert len(set(ids)) == len(ids), sort
        filtered = Query(q="9", state="new", flag="wide_set", predicted="1", sort="tissue_mm2", order="desc", limit=200)
        page = find_cases(connection, filtered, ANNA)
        counted = connection.execute(
            text(
                "SELECT count(*) FROM cases WHERE state = 'new' AND flags LIKE '% wide_set %' AND predicted = '1' "
                "AND (slide_id LIKE '%9%' OR patient_id LIKE '%9%')"
            )
        )
        assert page.total == counted.scalar() > 200
        tissue = [row["tissue_mm2"] for row in page.rows]
        assert tissue == sorted(tissue, reverse=True)


def test_pages_read_an_index(tmp_path: Path) -> None:
    """What keeps a page quick: no column with an index of its own is sorted anew, and no row is read to skip it."""
    engine = open_cases(save_gradings(tmp_path / "run"))
    with engine.begin() as connection:
        fill(connection, 6000)
    for sort in ("urgency", "slide_id", "patient_id", "predicted", "uncertainty", "tissue_mm2"):
        for order in ("asc", "desc"):
            assert "COVERING INDEX" in (plan := plan_of(engine, Query(sort=sort, order=order))), sort  # type: ignore[arg-type]
            assert "TEMP B-TREE" not in plan, sort


def plan_of(engine: Engine, query: Query) -> str:
    """How SQLite finds the cases of a page."""
    from sqlalchemy import event

    asked: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    with engine.connect() as connection:
        find_cases(connection, query, ANNA)
        event.remove(engine, "before_cursor_execute", note)
        (page,) = [one for one in asked if "LIMIT" in one[0]]
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {page[0]}", page[1]).all()
    return " ".join(row[3] for row in rows)
