"""`histograde render` on the command line: what it writes, prints and returns."""

from pathlib import Path

import pytest

from workflows.cli import main


def code_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return int(stopped.value.code or 0)


def test_all_drawn(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("render", str(run), "--formats", "geojson, png", "--slide", "mild") == 0
    assert sorted(path.name for path in (run / "heatmaps" / "mild").iterdir()) == [
        "attention.png",
        "evidence.png",
        "tiles.geojson",
    ]
    assert f"heatmaps in {run}/heatmaps" in capsys.readouterr().out


def test_some_not_drawn(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "slides" / "mild" / "slide.json").unlink()
    assert code_of("render", str(run), "--formats", "geojson") == 3
    assert "not drawn: mild: mild/slide.json is missing" in capsys.readouterr().err


def test_wrong_usage(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("render", str(run), "--formats", "jpg") == 2
    assert capsys.readouterr().err.count("\n") == 1
