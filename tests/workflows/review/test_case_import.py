"""A run's gradings as cases: new slides, other models, slides that are gone."""

from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine

from mil.outliers import OutlierCheck
from tests.workflows.review.case_desks import ANNA, grading, open_cases, save_gradings, wide
from workflows.review.case_import import Imported, import_run
from workflows.review.case_query import Query, find_cases
from workflows.review.cases import case_row, describe
from workflows.review.claims import claim
from workflows.review.decisions import Decision, decide
from workflows.review.rows import Row
from wsi.errors import UsageError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return save_gradings(tmp_path / "run", grading("a", 5), grading("b", 3))


def listed(engine: Engine, **query: object) -> list[tuple[str, int]]:
    with engine.connect() as connection:
        return [(row["slide_id"], row["rank"]) for row in find_cases(connection, Query(**query), ANNA).rows]


def case(engine: Engine, case_id: int) -> Row:
    with engine.connect() as connection:
        return describe(connection, [case_row(connection, case_id)], ANNA, blind=False)[0]


def accept(engine: Engine, run: Path, case_id: int, number: int) -> None:
    claim(engine, case_id, ANNA)
    decide(engine, run, case_id, ANNA, str(UUID(int=number)), Decision("accept"), {})


def test_slides_that_arrive_while_the_desk_is_open(run: Path) -> None:
    engine = open_cases(run)
    accept(engine, run, 2, 1)
    save_gradings(run, grading("a", 5), grading("b", 3), grading("c", 4))
    assert import_run(engine, run) == Imported(new=1, changed=1)
    assert listed(engine) == [("a", 1), ("c", 2), ("b", 3)]
    assert (case(engine, 2)["slide_id"], case(engine, 2)["state"]) == ("b", "accepted")
    assert import_run(engine, run) == Imported()


def test_another_model_keeps_decisions_and_says_under_which_they_were_made(run: Path) -> None:
    engine = open_cases(run)
    accept(engine, run, 1, 1)
    save_gradings(run, grading("a", 2, model_id="model-b"), grading("b", 3, model_id="model-b"))
    assert import_run(engine, run) == Imported(changed=2)
    found = case(engine, 1)
    assert (found["state"], found["predicted"], found["model_id"]) == ("accepted", "2", "model-b")
    assert [(one["grade"], one["model_id"]) for one in found["decisions"]] == [("5", "model-a")]
    assert [slide for slide, _ in listed(engine, flag="graded_again")] == ["a"]
    accept(engine, run, 1, 2)
    assert listed(engine, flag="graded_again") == []
    assert case(engine, 1)["decisions"][0]["grade"] == "2"


def test_a_slide_that_is_gone_keeps_its_case_unlisted(run: Path) -> None:
    engine = open_cases(run)
    accept(engine, run, 1, 1)
    save_gradings(run, grading("b", 3))
    assert import_run(engine, run) == Imported(changed=1, gone=1)
    assert listed(engine) == [("b", 1)]
    assert case(engine, 1)["state"] == "accepted"
    save_gradings(run, grading("a", 5), grading("b", 3))
    assert import_run(engine, run) == Imported(changed=2)
    assert listed(engine) == [("a", 1), ("b", 2)]


def test_flags_follow_the_worklists_rules(tmp_path: Path) -> None:
    run = save_gradings(
        tmp_path / "run",
        grading("doubt", 3, sure=0.25),
        grading("set", 3, class_set=wide("3", "4")),
        grading("small", 3, tissue_mm2=0.2),
        grading("torn", 3, bad_tiles=1),
        grading("odd", 3, outlier=OutlierCheck(0.01, 0.05, 40, ("other stain (bluer)",), {})),
        grading("fine", 3, class_set=wide("3"), outlier=OutlierCheck(0.5, 0.05, 40, (), {})),
    )
    engine = open_cases(run)
    for flag, slide_id in {
        "uncertain": "doubt",
        "wide_set": "set",
        "little_tissue": "small",
        "unreadable_tiles": "torn",
        "unlike_training": "odd",
    }.items():
        assert [slide for slide, _ in listed(engine, flag=flag)] == [slide_id]
    shown = next(row for row in (case(engine, number) for number in range(1, 7)) if row["slide_id"] == "set")
    assert shown["set"] == {"held": ["3", "4"], "coverage": 0.9}
    assert shown["flags"] == ["wide_set"]


def test_a_run_without_slides_and_one_without_a_table(tmp_path: Path) -> None:
    empty = save_gradings(tmp_path / "empty")
    assert listed(open_cases(empty)) == []
    (tmp_path / "bare").mkdir()
    with pytest.raises(UsageError, match=r"predictions\.csv is missing"):
        open_cases(tmp_path / "bare")


def test_a_database_of_another_run_is_refused_and_left_alone(run: Path, tmp_path: Path) -> None:
    engine = open_cases(run)
    other = save_gradings(tmp_path / "other", grading("x"), grading("y"))
    with pytest.raises(UsageError, match="of another run: it has 2 slides, and none of the 2"):
        import_run(engine, other)
    assert len(listed(engine)) == 2
