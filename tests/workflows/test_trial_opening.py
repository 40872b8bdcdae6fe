"""Whether slides open, asked in another process: what is sound, what is cut, and what ends or hangs its process."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hostile.makers import tissue_pixels, write_tiff
from workflows.sources import SlideSource
from workflows.trial_opening import OPEN_LIMIT_S, TrialOpening, opens
from wsi.slide import Slide


@dataclass(frozen=True, slots=True)
class Deadly(SlideSource):
    """A slide whose reader ends its process."""

    def open(self, *, reader: str | None = None, content_hash: str | None = None) -> Slide:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@dataclass(frozen=True, slots=True)
class Endless(SlideSource):
    """A slide whose reader never comes back."""

    def open(self, *, reader: str | None = None, content_hash: str | None = None) -> Slide:
        while True:
            time.sleep(1)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def trial(clock: Clock) -> Iterator[TrialOpening]:
    trial = TrialOpening(clock=clock)
    yield trial
    trial.close()


def answers(trial: TrialOpening, count: int) -> dict[int, bool]:
    """Wait for so many answers."""
    found: dict[int, bool] = {}
    for _ in range(6000):
        found.update(trial.answers())
        if len(found) == count:
            return found
        time.sleep(0.01)
    raise AssertionError(f"{len(found)} of {count} answers came")


def source(path: Path, kind: type[SlideSource] = SlideSource) -> SlideSource:
    return kind("a", path, "a")


def test_slides_that_open_and_those_that_do_not(trial: TrialOpening, small_svs: Path, tmp_path: Path) -> None:
    (tmp_path / "garbage.svs").write_bytes(b"garbage" * 999)
    trial.ask(7, source(small_svs))
    trial.ask(3, source(tmp_path / "garbage.svs"))
    trial.ask(5, source(tmp_path / "absent.svs"))
    assert trial.pending == 3
    assert answers(trial, 3) == {7: True, 3: False, 5: False}
    assert trial.pending == 0
    assert trial.answers() == []


def test_a_slide_that_ends_the_process_costs_no_other_slide(trial: TrialOpening, small_svs: Path) -> None:
    for number, kind in enumerate((SlideSource, Deadly, SlideSource, Deadly, SlideSource)):
        trial.ask(number, source(small_svs, kind))
    assert answers(trial, 5) == {0: True, 1: False, 2: True, 3: False, 4: True}


def test_a_slide_that_hangs_is_given_up(trial: TrialOpening, clock: Clock, small_svs: Path) -> None:
    trial.ask(1, source(small_svs))
    trial.ask(2, source(small_svs, Endless))
    trial.ask(3, source(small_svs))
    assert answers(trial, 1) == {1: True}
    clock.now_s += OPEN_LIMIT_S
    assert trial.answers() == []
    clock.now_s += 1
    assert trial.answers() == [(2, False)]
    assert answers(trial, 1) == {3: True}


def test_a_trial_can_be_used_again_after_it_was_closed(trial: TrialOpening, small_svs: Path) -> None:
    trial.ask(1, source(small_svs))
    trial.close()
    assert trial.pending == 0
    trial.ask(2, source(small_svs))
    assert answers(trial, 1) == {2: True}


def test_a_part_of_a_tiff_does_not_open_however_it_is_cut(tmp_path: Path) -> None:
    whole = write_tiff(tmp_path / "whole.tif", tissue_pixels(700, 600), (0.5, 0.5))
    assert opens(source(whole))
    data = whole.read_bytes()
    part = tmp_path / "part.tif"
    for length in [0, 1, *range(7, len(data), len(data) // 40), len(data) - 1]:
        part.write_bytes(data[:length])
        assert not opens(source(part)), f"{length} of {len(data)} bytes"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".npy"])
def test_a_part_of_a_picture_does_not_open(tmp_path: Path, suffix: str) -> None:
    import cv2
    import numpy as np

    pixels = tissue_pixels(400, 300)
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".npy":
        np.save(whole, pixels)
    else:
        cv2.imwrite(str(whole), pixels)
    assert opens(source(whole))
    data = whole.read_bytes()
    (tmp_path / f"part{suffix}").write_bytes(data[: len(data) * 2 // 3])
    assert not opens(source(tmp_path / f"part{suffix}"))
