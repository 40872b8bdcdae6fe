"""A watched folder as an intake: what is told of it, and how signals end it."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.workflows.test_watch import Trial, put
from workflows.failures import failure
from workflows.intake import Intake
from workflows.listeners import Listener, SlideResult
from workflows.source_hash import NOTE
from workflows.watch import FolderWatch, WatchConfig
from workflows.watched_intake import WatchedIntake, watching


class Ear(Listener):
    def __init__(self) -> None:
        self.totals: list[int] = []
        self.notes: list[str] = []

    def found(self, slides: int) -> None:
        self.totals.append(slides)

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture
def watch(tmp_path: Path) -> FolderWatch:
    (tmp_path / "inbox").mkdir()
    return FolderWatch(WatchConfig((tmp_path / "inbox",), scan_every_s=0, stable_s=0), trial=Trial())


def take_all(intake: WatchedIntake) -> list[str]:
    found = []
    for _ in range(10):
        while (source := intake.take()) is not None:
            found.append(source)
    return [source.slide_id for source in found]


def test_it_is_an_intake(watch: FolderWatch, tmp_path: Path) -> None:
    assert isinstance(WatchedIntake(watch, Listener(), tmp_path), Intake)


def test_the_total_grows_with_what_is_seen(watch: FolderWatch, tmp_path: Path) -> None:
    ear = Ear()
    intake = WatchedIntake(watch, ear, tmp_path)
    assert intake.take() is None
    for name in ("a", "b", "c"):
        put(tmp_path / "inbox" / f"{name}.svs")
    assert take_all(intake) == ["a", "b", "c"]
    put(tmp_path / "inbox" / "d.svs")
    assert take_all(intake) == ["d"]
    assert ear.totals == [3, 4]


def test_what_the_watch_has_to_say_is_heard(watch: FolderWatch, tmp_path: Path) -> None:
    ear = Ear()
    intake = WatchedIntake(watch, ear, tmp_path)
    put(tmp_path / "inbox" / "a.svs")
    put(tmp_path / "inbox" / "x" / "a.svs")
    assert take_all(intake) == ["a"]
    assert len(ear.notes) == 1
    assert "same slide_id" in ear.notes[0]


def test_a_slide_that_is_given_again_is_hashed_again(watch: FolderWatch, tmp_path: Path) -> None:
    intake = WatchedIntake(watch, Listener(), tmp_path)
    path = put(tmp_path / "inbox" / "a.svs")
    note = put(tmp_path / "a.zarr" / NOTE)
    (source,) = [one for one in (intake.take() for _ in range(10)) if one is not None]
    assert note.exists()
    intake.done(SlideResult(source, failure=failure("a", "plan", "lost", "for a test")))
    put(path, "another")
    assert take_all(intake) == ["a"]
    assert not note.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_it_softly_and_the_second_at_once(
    watch: FolderWatch, tmp_path: Path, number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    put(tmp_path / "inbox" / "a.svs")
    with watching(watch, Listener(), tmp_path) as intake:
        assert not intake.over
        os.kill(os.getpid(), number)
        assert intake.over
        assert take_all(intake) == []
        assert "when those in work are done" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_signals_are_left_alone_outside_of_the_main_thread(watch: FolderWatch, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    kept = []

    def run() -> None:
        with watching(watch, Listener(), tmp_path):
            kept.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert kept == [before]


SHIELDED = """
import os, signal, sys, time
from workflows.cluster import connect
from workflows.watched_intake import shield_workers

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)
    return os.getpid()

if __name__ == "__main__":
    with connect(1) as client:
        if sys.argv[1:]:
            shield_workers(client)
        print(*(client.submit(interrupt, pure=False).result(timeout=60) for _ in range(2)))
"""


@pytest.mark.slow
def test_a_shielded_worker_lives_through_an_interrupt(tmp_path: Path) -> None:
    (tmp_path / "shielded.py").write_text(SHIELDED)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "shielded.py"), "shielded"], capture_output=True, text=True, timeout=120
    )
    first, second = done.stdout.split()
    assert first == second, done.stderr
