"""Heatmaps are drawn from the run folder alone, and the same twice."""

import shutil
from pathlib import Path

import pytest

from workflows.heatmaps import render_run
from wsi.errors import UsageError
from wsi.exports import EXPORTS


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_slide_has_every_file_and_twice_is_the_same(run: Path) -> None:
    assert render_run(run) == []
    first = contents(run / "heatmaps")
    names = [name for export in EXPORTS.values() for name in export.file_names]
    assert sorted(first) == sorted(f"{slide}/{name}" for slide in ("mild", "severe") for name in names)
    moved = run.with_name("moved")
    shutil.copytree(run, moved, ignore=shutil.ignore_patterns("heatmaps"))
    render_run(moved)
    assert contents(moved / "heatmaps") == first


def test_one_slide_in_one_format(run: Path) -> None:
    render_run(run, formats=["geojson"], slide_ids=["severe"])
    assert list(contents(run / "heatmaps")) == ["severe/tiles.geojson"]


def test_a_damaged_slide_does_not_stop_the_others(run: Path) -> None:
    (run / "slides" / "mild" / "scores.npz").unlink()
    failures = render_run(run, formats=["geojson"])
    assert [(one.slide_id, one.stage) for one in failures] == [("mild", "render")]
    assert "scores.npz is missing" in failures[0].message
    assert list(contents(run / "heatmaps")) == ["severe/tiles.geojson"]


def test_what_does_not_exist_is_said(run: Path) -> None:
    with pytest.raises(UsageError, match="no export is called 'jpg'; there are: png, geojson"):
        render_run(run, formats=["jpg"])
    with pytest.raises(UsageError, match="'other' was not graded"):
        render_run(run, slide_ids=["other"])
