"""`histograde report` on the command line: what it writes, prints and returns."""

from pathlib import Path

import pytest

from workflows.cli import main


def code_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return int(stopped.value.code or 0)


def test_all_written(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("report", str(run)) == 0
    assert (run / "report" / "index.html").is_file()
    assert f"report in {run}/report/index.html" in capsys.readouterr().out


def test_a_slide_without_page(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "slides" / "mild" / "thumbnail.jpg").write_bytes(b"no picture")
    assert code_of("report", str(run)) == 3
    assert "no page: mild: mild/thumbnail.jpg cannot be read" in capsys.readouterr().err


def test_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("report", str(tmp_path)) == 2
    assert "model.json is missing" in capsys.readouterr().err
