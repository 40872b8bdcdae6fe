"""What is saved comes back; what is missing or damaged is said in one line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workflows.results import (
    GradedSlide,
    TopTile,
    load_run,
    load_slide,
    save_slide,
    slide_folder,
    top_tile_rows,
)
from wsi.errors import UsageError
from wsi.tiles import TileGrid, TileSpec


def test_a_slide_comes_back(tmp_path: Path, graded: GradedSlide) -> None:
    folder = save_slide(tmp_path, graded)
    assert sorted(path.name for path in folder.iterdir()) == [
        "scores.npz", "slide.json", "thumbnail.jpg", "tile_01.png", "tile_02.png",
    ]  # fmt: skip
    again = load_slide(tmp_path, "slide-1")
    arrays = ("probabilities", "rows", "attention", "evidence")
    for name in arrays:
        np.testing.assert_array_equal(getattr(again, name), getattr(graded, name))
    np.testing.assert_array_equal(again.grid.coords, graded.grid.coords)
    np.testing.assert_array_equal(again.grid.tissue_fraction, graded.grid.tissue_fraction)
    assert (again.grid.spec, again.grid.side_px0) == (graded.grid.spec, graded.grid.side_px0)
    assert (again.info, again.grading, again.bad, again.qc) == (graded.info, graded.grading, graded.bad, graded.qc)
    assert again.tissue.equals(graded.tissue)
    assert [tile.row for tile in again.top_tiles] == [1, 0]
    np.testing.assert_array_equal(again.top_tiles[0].pixels, graded.top_tiles[0].pixels)
    assert np.abs(again.thumbnail.astype(int) - graded.thumbnail).max() <= 2  # JPEG


def test_saving_twice_gives_the_same_bytes_and_no_tile_of_before(tmp_path: Path, graded: GradedSlide) -> None:
    first = {path.name: path.read_bytes() for path in save_slide(tmp_path / "a", graded).iterdir()}
    save_slide(tmp_path / "b", replace(graded, top_tiles=graded.top_tiles * 2))
    second = {path.name: path.read_bytes() for path in save_slide(tmp_path / "b", graded).iterdir()}
    assert first == second


def test_a_slide_that_was_not_finished_is_not_there(tmp_path: Path, graded: GradedSlide) -> None:
    save_slide(tmp_path, graded)
    broken = replace(graded, top_tiles=(TopTile(1, np.zeros((2, 2, 7), np.uint8)),))
    with pytest.raises(TypeError):
        save_slide(tmp_path, broken)
    with pytest.raises(UsageError, match=r"slide-1/slide\.json is missing; run `histograde grade` again"):
        load_slide(tmp_path, "slide-1")


@pytest.mark.parametrize("part", ["scores.npz", "thumbnail.jpg", "tile_02.png", "slide.json"])
def test_a_missing_or_damaged_part_is_named_in_one_line(tmp_path: Path, graded: GradedSlide, part: str) -> None:
    path = save_slide(tmp_path, graded) / part
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UsageError, match=f"slide-1/{part} cannot be read") as caught:
        load_slide(tmp_path, "slide-1")
    assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(UsageError, match=f"slide-1/{part} is missing"):
        load_slide(tmp_path, "slide-1")


def test_a_newer_format_is_refused(tmp_path: Path, graded: GradedSlide) -> None:
    path = save_slide(tmp_path, graded) / "slide.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(UsageError, match="version 2; this program reads version 1"):
        load_slide(tmp_path, "slide-1")


@pytest.mark.parametrize("name", ["", "..", "../out", "a/b", ".hidden", "/etc", "nul\0"])
def test_a_name_that_is_a_path_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a file name"):
        slide_folder(tmp_path, name)


def test_scores_must_fit_the_grid(graded: GradedSlide) -> None:
    with pytest.raises(UsageError, match="attention sums to 2"):
        replace(graded, attention=graded.attention * 2)
    with pytest.raises(UsageError, match=r"evidence \(5, 6\)"):
        replace(graded, evidence=graded.evidence[:, :2])
    with pytest.raises(UsageError, match="not in the grid of 6"):
        replace(graded, rows=np.arange(2, 7))


def test_the_line_of_a_slide(graded: GradedSlide) -> None:
    line = graded.grading
    assert (line.slide_id, line.predicted, line.label) == ("slide-1", "3", "Grade group 3")
    assert (line.tiles, line.bad_tiles, line.tissue_mm2, line.confidence) == (5, 1, 2.5, 0.8)


def test_maps_show_attention_times_the_mean_tile(graded: GradedSlide, model) -> None:
    maps = graded.maps(model)
    np.testing.assert_allclose(maps.attention.scores, [0.5, 3, 0.5, 0.5, 0.5])
    assert [channel.name for channel in maps.evidence] == list("012345")
    assert maps.class_labels[maps.predicted] == "Grade group 3"


def test_top_tiles_do_not_overlap() -> None:
    coords = np.array([(0, 0), (20, 0), (40, 0), (0, 40), (500, 500)], np.int32)
    grid = TileGrid(TileSpec(40, 0.5, 20), coords, np.ones(5, np.float32), (40.0, 40.0))
    rows = np.array([0, 1, 2, 3])
    chosen = top_tile_rows(grid, rows, np.array([0.3, 0.4, 0.1, 0.2]), 3)
    assert chosen.tolist() == [1, 3]  # 0 and 2 overlap 1; 4 was not scored
    assert top_tile_rows(grid, rows, np.array([0.25, 0.25, 0.25, 0.25]), 2).tolist() == [0, 2]


def test_a_run_is_read(run: Path, model) -> None:
    found = load_run(run)
    assert [one.slide_id for one in found.gradings] == ["mild", "severe"]
    assert (found.model, found.quarantined[0].slide_id) == (model, "dark")
    assert found.record["command"] == "grade"


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        load_run(tmp_path / "nothing")
    with pytest.raises(UsageError, match=r"model\.json is missing"):
        load_run(tmp_path)
