"""The tables of a run while it goes on: the last result of a slide counts, and earlier gradings stay."""

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from workflows.failures import failure
from workflows.listeners import SlideResult
from workflows.results import GradedSlide
from workflows.run_tables import RunTables
from workflows.sources import SlideSource

MakeResult = Callable[..., SlideResult]


@pytest.fixture
def graded_result(make_slide: Callable[..., GradedSlide]) -> MakeResult:
    def make(slide_id: str, predicted: int = 3) -> SlideResult:
        grading = make_slide(slide_id, predicted=predicted).grading
        source = SlideSource(slide_id, Path(f"{slide_id}.svs"), "P")
        return SlideResult(source, content_hash="ab" * 32, tiles=5, chunks=2, seconds={"read": 1.5}, value=grading)

    return make


def quarantined_result(slide_id: str) -> SlideResult:
    failed = failure(slide_id, "plan", "lost", "for a test")
    return SlideResult(SlideSource(slide_id, Path(f"{slide_id}.svs"), "P"), failure=failed)


def listed(run: Path, table: str) -> list[str]:
    with (run / table).open(newline="") as handle:
        return [row["slide_id"] for row in csv.DictReader(handle)]


def tables(run: Path, *earlier: SlideResult) -> RunTables:
    return RunTables(run, {"out": run}, time.perf_counter(), [one.value for one in earlier])


def test_they_can_be_saved_again_and_again(tmp_path: Path, graded_result: MakeResult) -> None:
    run = tables(tmp_path)
    run.add(graded_result("b", predicted=1))
    run.save()
    assert listed(tmp_path, "predictions.csv") == listed(tmp_path, "worklist.csv") == ["b"]
    run.add(graded_result("a", predicted=5))
    run.add(quarantined_result("c"))
    done = run.save()
    assert [one.slide_id for one in done.gradings] == listed(tmp_path, "predictions.csv") == ["a", "b"]
    assert listed(tmp_path, "worklist.csv") == ["a", "b"]
    assert [one.slide_id for one in done.quarantined] == listed(tmp_path, "quarantine.csv") == ["c"]
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["counts"] == {
        "slides": 3, "graded": 2, "quarantined": 1, "flagged": 0, "tiles": 10, "bad_tiles": 2, "chunks_computed": 4
    }  # fmt: skip
    assert record["timings_s"]["read"] == 3.0


def test_of_a_slide_that_came_twice_the_last_result_counts(tmp_path: Path, graded_result: MakeResult) -> None:
    run = tables(tmp_path)
    run.add(quarantined_result("a"))
    run.save()
    run.add(graded_result("a"))
    run.save()
    assert listed(tmp_path, "predictions.csv") == ["a"]
    assert listed(tmp_path, "quarantine.csv") == []


def test_what_was_graded_earlier_stays_unless_there_is_a_new_result(tmp_path: Path, graded_result: MakeResult) -> None:
    run = tables(tmp_path, graded_result("gone"), graded_result("again", 1), graded_result("broken"))
    run.add(graded_result("again", 5))
    run.add(quarantined_result("broken"))
    done = run.save()
    assert [(one.slide_id, one.predicted) for one in done.gradings] == [("again", "5"), ("gone", "3")]
    assert listed(tmp_path, "quarantine.csv") == ["broken"]
