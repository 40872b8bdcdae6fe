"""Files that are written anew beside a run. Whoever waits here waits for an event, not for a time."""

import threading

import pytest

from workflows.rewriting import Rewriter


class Pen:
    """Counts how often it writes; fails while `fault` is set."""

    def __init__(self) -> None:
        self.written = 0
        self.fault: Exception | None = None
        self.began, self.may_end = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self) -> None:
        self.began.release()
        assert self.may_end.acquire(timeout=20)
        if self.fault is not None:
            raise self.fault
        self.written += 1

    def write_once(self) -> None:
        """Let one call begin and end."""
        assert self.began.acquire(timeout=20)
        self.may_end.release()


def test_one_change_is_written_once() -> None:
    pen = Pen()
    with Rewriter(pen, print, every_s=0, rest=0) as rewriter:
        assert not pen.began.acquire(timeout=0.05)
        rewriter.changed()
        rewriter.changed()
        pen.write_once()
        assert not pen.began.acquire(timeout=0.05)
    assert pen.written == 1


def test_a_change_during_the_writing_is_written_too() -> None:
    pen = Pen()
    with Rewriter(pen, print, every_s=0, rest=0) as rewriter:
        rewriter.changed()
        assert pen.began.acquire(timeout=20)
        rewriter.changed()
        pen.may_end.release()
        pen.write_once()
    assert pen.written == 2


@pytest.mark.parametrize("settings", [{"every_s": 1000, "rest": 0}, {"every_s": 0, "rest": 1e9}])
def test_it_rests_in_between_and_ends_at_once(settings: dict[str, float]) -> None:
    pen = Pen()
    with Rewriter(pen, print, **settings) as rewriter:
        rewriter.changed()
        pen.write_once()
        rewriter.changed()
        assert not pen.began.acquire(timeout=0.05)
    assert pen.written == 1


def test_the_end_waits_for_what_is_being_written() -> None:
    pen = Pen()
    with Rewriter(pen, print, every_s=0) as rewriter:
        rewriter.changed()
        assert pen.began.acquire(timeout=20)
        threading.Timer(0.05, pen.may_end.release).start()
    assert pen.written == 1


def test_an_error_that_ends_the_run_waits_for_nothing() -> None:
    pen = Pen()

    def run() -> None:
        with Rewriter(pen, print, every_s=0) as rewriter:
            rewriter.changed()
            assert pen.began.acquire(timeout=20)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert pen.written == 0
    pen.may_end.release()


def test_what_cannot_be_written_is_said_once_and_tried_again() -> None:
    pen, said = Pen(), []
    pen.fault = OSError("no room")
    with Rewriter(pen, said.append, every_s=0, rest=0) as rewriter:
        rewriter.changed()
        pen.write_once()
        pen.write_once()
        assert pen.began.acquire(timeout=20)
        pen.fault = None
        pen.may_end.release()
    assert pen.written == 1
    assert len(said) == 1
    assert "no room" in said[0]
