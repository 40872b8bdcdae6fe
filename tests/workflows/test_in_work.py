"""Marks of slides in work outlive the process, and nothing else does."""

from pathlib import Path

from workflows.in_work import FOLDER, InWork


def test_a_slide_is_known_by_the_starts_that_died_with_it(tmp_path: Path) -> None:
    assert [InWork(tmp_path).begin("a") for _ in range(3)] == [0, 1, 2]
    assert InWork(tmp_path).begin("b") == 0
    InWork(tmp_path).end("a")
    assert InWork(tmp_path).begin("a") == 0


def test_one_that_died_by_itself_is_told_from_one_that_died_among_others(tmp_path: Path) -> None:
    marks = InWork(tmp_path)
    marks.begin("a")
    assert not marks.died_alone("a")
    marks.alone("a")
    assert marks.died_alone("a")
    assert not marks.died_alone("b")


def test_nothing_is_left_when_all_are_through(tmp_path: Path) -> None:
    marks = InWork(tmp_path)
    marks.begin("a")
    marks.begin("b")
    marks.end("a")
    assert (tmp_path / FOLDER).is_dir()
    marks.end("b")
    assert list(tmp_path.iterdir()) == []
    marks.end("b")


def test_a_mark_that_cannot_be_written_is_left_out(tmp_path: Path) -> None:
    marks = InWork(tmp_path / "absent")
    assert marks.begin("a") == 0
    marks.alone("a")
    assert not marks.died_alone("a")
