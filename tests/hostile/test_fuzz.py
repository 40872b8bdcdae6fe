"""A short run of `benchmarks/fuzz.py`: some hundred mutants, and that the watch sees what it is there for."""

import os
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from benchmarks import fuzz
from tests.hostile.mutate import mutant, sound_slides
from tests.hostile.replay import read_slide


def test_no_mutant_does_harm() -> None:
    report = fuzz.run(seed=2026, first=0, cases=200, processes=1)
    assert not report.failures, report.failures
    assert sum(report.outcomes.values()) == 200
    assert {"pixels", "bad tiles", "UnreadableSlideError"} <= set(report.outcomes)


def test_a_mutant_is_known_by_its_seed_and_number() -> None:
    assert mutant(3, 14) == mutant(3, 14)
    assert mutant(3, 14) != mutant(3, 15)
    assert mutant(3, 14) != mutant(4, 14)


@pytest.mark.parametrize("name", sound_slides())
def test_what_mutants_are_made_of_is_sound(tmp_path: Path, name: str) -> None:
    data, suffix = sound_slides()[name]
    path = tmp_path / f"slide{suffix}"
    path.write_bytes(data)
    assert read_slide(path, "jpeg_tiff", None) == ("pixels", [])


def misbehave(path: Path, number: int) -> tuple[str, str]:
    """In place of reading: a death, a hang, a full memory and an error, each in a case of its own."""
    if number == 1:
        os.abort()
    if number == 2:
        while True:
            time.process_time()
    if number == 3:
        bytearray(600 << 20)
    if number == 4:
        return "failed: KeyError", "Traceback ..."
    return "pixels", ""


real_work = fuzz.work


def work_badly(pipe: Connection, folder: Path, seed: int, numbers: range) -> None:
    """`work` with other cases, in the worker process."""
    fuzz.run_case = misbehave
    real_work(pipe, folder, seed, numbers)


def test_the_watch_sees_what_goes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "LIMIT_S", 5.0)
    monkeypatch.setattr(fuzz, "work", work_badly)
    report = fuzz.run(seed=0, first=0, cases=6, processes=1)
    said = {number: text.rpartition("\n")[2] for number, text in report.failures.items()}
    assert said.keys() == {1, 2, 3, 4}
    assert said[1].startswith("crash: exit code -6")
    assert said[2].startswith("hang: more than 5 s")
    assert said[3].endswith("MiB more than before")
    assert said[4] == "Traceback ..."
    assert report.outcomes["pixels"] == 3
