"""What the run keeps is read once, in bounded number, and again where it was written anew."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.workflows.conftest import graded_slide, save_run
from workflows.gradings import load_model, save_model
from workflows.results import save_slide
from workflows.review import graded_slides as module
from workflows.review.graded_slides import GradedSlides
from wsi.errors import UsageError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return save_run(tmp_path / "run", [graded_slide(f"s{number}") for number in range(4)])


def test_few_are_kept_and_those_used_last(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_SLIDES", 2)
    slides = GradedSlides(run)
    for name in ("s0", "s1", "s0", "s2"):
        slides.get(name)
    assert [slides.known(f"s{number}") is not None for number in range(4)] == [True, False, True, False]


def test_no_pictures_are_kept(run: Path) -> None:
    kept = GradedSlides(run).get("s0")
    assert kept.graded.thumbnail.size == 3
    assert [(top.row, top.pixels.size) for top in kept.graded.top_tiles] == [(1, 3), (0, 3)]


def test_a_slide_written_anew_is_read_anew_with_other_versions_where_it_differs(run: Path) -> None:
    slides = GradedSlides(run)
    before = slides.get("s0")
    assert slides.get("s0") is before
    save_slide(run, graded_slide("s0", attention=np.full(5, 0.2)))
    assert slides.known("s0") is None
    after = slides.get("s0")
    assert after.version != before.version
    assert after.maps["attention"].version != before.maps["attention"].version
    assert after.maps["evidence-0"].version == before.maps["evidence-0"].version
    assert len({one.version for one in after.maps.values()}) == 7


@pytest.mark.parametrize(
    ("shown", "leading"), [("", "attention"), ("attention", "attention"), ("evidence", "predicted")]
)
def test_the_map_that_was_measured_to_be_the_best_is_shown_first(run: Path, shown: str, leading: str) -> None:
    save_model(run, replace(load_model(run), shown_map=shown))
    kept = GradedSlides(run).get("s0")
    assert kept.leading == ("attention" if leading == "attention" else f"evidence-{kept.slide_maps.predicted}")
    assert kept.leading in kept.maps


def test_what_the_run_does_not_hold_is_an_error(run: Path) -> None:
    for name in ("s9", "../run", ""):
        with pytest.raises(UsageError):
            GradedSlides(run).get(name)
