"""A slide's file is found where it was or where it went, and is that slide or is refused."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.hostile.makers import tissue_pixels, write_svs
from workflows.review import slide_files as module
from workflows.review.slide_files import SlideFiles
from workflows.run_sources import save_sources
from workflows.sources import SlideSource
from wsi.errors import SlideChangedError, VanishedSlideError
from wsi.slide import SlideInfo, open_slide


@pytest.fixture
def place(tmp_path: Path, small_svs: Path) -> Path:
    """A run that graded `archive/scan 7.svs` as "s7"."""
    (tmp_path / "archive").mkdir()
    path = shutil.copy(small_svs, tmp_path / "archive" / "scan 7.svs")
    (tmp_path / "run").mkdir()
    save_sources(tmp_path / "run", [SlideSource("s7", Path(path), "p")])
    return tmp_path


@pytest.fixture
def info(small_svs: Path) -> SlideInfo:
    slide = open_slide(small_svs, slide_id="s7")
    slide.close()
    return replace(slide.info, mpp=(0.4, 0.4), mpp_source="user")


def test_a_slide_is_opened_where_it_was_graded_from_with_its_pixel_size(place: Path, info: SlideInfo) -> None:
    opened = SlideFiles(place / "run").open("s7", info)
    assert opened.slide.info == info
    assert opened.slide.read_region((0, 0), 0, (8, 8)).shape == (8, 8, 3)
    opened.check()
    opened.close()


def test_a_slide_is_proved_once_and_then_known_by_its_stamp(
    place: Path, info: SlideInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    SlideFiles(place / "run").open("s7", info).close()

    def refuse(path: Path) -> str:
        raise AssertionError("read to its end again")

    monkeypatch.setattr(module, "hash_slide", refuse)
    SlideFiles(place / "run").open("s7", info).close()
    os.utime(place / "archive" / "scan 7.svs", (0, 0))
    with pytest.raises(AssertionError, match="read to its end"):
        SlideFiles(place / "run").open("s7", info)


def test_another_slide_under_the_name_is_refused(place: Path, info: SlideInfo) -> None:
    write_svs(place / "archive" / "scan 7.svs", tissue_pixels(1500, 1400, seed=9))
    with pytest.raises(SlideChangedError, match="is not the slide that was graded"):
        SlideFiles(place / "run").open("s7", info)


def test_a_file_that_changes_while_open_is_noticed(place: Path, info: SlideInfo) -> None:
    opened = SlideFiles(place / "run").open("s7", info)
    path = place / "archive" / "scan 7.svs"
    os.utime(path, (0, 0))
    with pytest.raises(SlideChangedError, match="replaced or written to"):
        opened.check()
    path.unlink()
    with pytest.raises(VanishedSlideError):
        opened.check()
    opened.close()


@pytest.mark.parametrize("name", ["scan 7.svs", "s7.svs"])
def test_a_slide_that_moved_is_found_by_either_name(place: Path, info: SlideInfo, name: str) -> None:
    (place / "new" / "deep").mkdir(parents=True)
    (place / "archive" / "scan 7.svs").rename(place / "new" / "deep" / name)
    with pytest.raises(VanishedSlideError, match="start the desk with --slides"):
        SlideFiles(place / "run").locate("s7")
    opened = SlideFiles(place / "run", place / "new").open("s7", info)
    np.testing.assert_array_equal(opened.slide.read_region((0, 0), 0, (4, 4)).shape, (4, 4, 3))
    opened.close()


def test_a_run_of_an_older_version_needs_the_folder(place: Path, info: SlideInfo) -> None:
    (place / "run" / "sources.csv").unlink()
    (place / "archive" / "scan 7.svs").rename(place / "archive" / "s7.svs")
    with pytest.raises(VanishedSlideError, match="keeps no list"):
        SlideFiles(place / "run").open("s7", info)
    SlideFiles(place / "run", place / "archive").open("s7", info).close()


def test_the_message_names_no_folder_of_the_machine(place: Path) -> None:
    (place / "archive" / "scan 7.svs").unlink()
    with pytest.raises(VanishedSlideError) as caught:
        SlideFiles(place / "run", place / "archive").locate("s7")
    assert str(place) not in str(caught.value)
