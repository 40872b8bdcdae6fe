"""`histograde status` as a user meets it."""

import json
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.workflows.test_run_state import START_S, UNDER_WAY, line
from workflows import status as module
from workflows.cli import main
from workflows.run_state import LOG, RunLogReader, RunStatus
from workflows.status import rows, show_until_the_end


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run under way, looked at 100 s after its start."""
    (tmp_path / LOG).write_text(UNDER_WAY)
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: START_S + 100))
    return tmp_path


def status(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["status", *map(str, arguments)])
    told = capsys.readouterr()
    return end.value.code, told.out, told.err


def test_what_it_shows(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = status(capsys, run)
    assert (code, err) == (0, "")
    said = {text.split("  ")[0]: " ".join(text.split()[1:]) for text in out.splitlines()}
    assert said["extract"] == "running on box"
    assert said["slides"] == "4 of 10 through (40%), 1 in work"
    assert said["left"] == "about 2 min 07 s"
    assert said["now"] == "36.0 slides/h, 4.5 tiles/s, over the last 1 min 40 s"
    assert said["bad tiles"].split()[-1] == "4"
    assert said["quarantine"] == "3: 1 no_tissue, 2 unreadable"
    assert said["stages"] == "encode 30.0 s 46%"
    assert said["GPU"] == "busy at most 30%"
    assert "note" not in said


def test_json_has_the_documented_fields(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = status(capsys, run, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["format"], found["version"]) == ("histograde-run-status", 1)
    assert (found["state"], found["tiles"], found["whole"]["slides_per_hour"]) == ("running", 450, 36.0)
    assert list(found) == [one.name for one in fields(RunStatus)]
    documented = RunStatus.__doc__ or ""
    assert not [name for name in found if name not in documented]


@pytest.mark.parametrize(
    ("more", "at_s", "said"),
    [
        ("", 1000, "seems dead: no line for 15 min 00 s; the same command again goes on where it stopped"),
        (line(110, "end", outcome="finished", dropped=0), 1000, "finished on box"),
        (line(110, "end", outcome="interrupted"), 120, "interrupted; the same command goes on where it stopped"),
        (line(110, "end", outcome="failed", error_class="MemoryError"), 120, "failed [MemoryError]"),
        (line(590, "alive"), 600, "alive, but no slide has moved for 8 min 20 s"),
        (line(110, "begin", "b2"), 120, "1 more running in this folder"),
        (line(110, "begin", "b2"), 900, "started 2 times in this folder; these are the figures of the last start"),
        (line(110, "begin", "b2", version=99), 120, "the log is of a newer version of histograde"),
        ("{}\n", 120, "1 lines of the log cannot be read and are left out"),
    ],
)
def test_what_is_said_of_it(tmp_path: Path, more: str, at_s: float, said: str) -> None:
    (tmp_path / LOG).write_text(UNDER_WAY + more)
    shown = rows(RunLogReader(tmp_path).status(START_S + at_s))
    assert any(text.startswith(said) for _, text in shown), shown


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    (tmp_path / LOG).write_text(UNDER_WAY.replace("box cuda:0", "cpu"))
    assert ("GPU", "no GPU used") in rows(RunLogReader(tmp_path).status(START_S + 100))
    (tmp_path / LOG).write_text(line(0, "begin"))
    shown = rows(RunLogReader(tmp_path).status(START_S + 100))
    assert {("GPU", "not known yet"), ("left", "not known yet"), ("stages", "nothing yet")} <= set(shown)


def test_texts_of_a_log_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / LOG).write_text(UNDER_WAY.replace('"box"', '"[bold]box[/red]"'))
    assert "[bold]box[/red]" not in status(capsys, tmp_path)[1]  # it is dead by now, and the host is not shown
    (tmp_path / LOG).write_text(UNDER_WAY.replace('"box"', '"[bold]box[/red]"') + line(110, "end", outcome="finished"))
    assert "finished on [bold]box[/red]" in status(capsys, tmp_path)[1]


def test_a_folder_without_a_run_is_one_line_and_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        code, out, err = status(capsys, folder)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "no run has left a log.jsonl here" in err


@pytest.mark.parametrize("options", [("--watch",), ("--watch", "--json")])
def test_watching_needs_a_terminal(run: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]) -> None:
    code, out, err = status(capsys, run, *options)
    assert (code, out) == (2, "")
    assert "--json" in err


def test_watching_ends_with_the_run(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            with (run / LOG).open("a") as log:
                log.write(line(104, "end", outcome="finished", dropped=0))

    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: START_S + 100, sleep=wait))
    show_until_the_end(RunLogReader(run))
    assert waited == [2.0, 2.0]
    assert "finished on box" in capsys.readouterr().out


def test_a_watch_with_nothing_to_do_is_no_cause_for_alarm(tmp_path: Path) -> None:
    (tmp_path / LOG).write_text(line(0, "begin", slides=0, watching=["/inbox", "/other"]) + line(899, "alive"))
    shown = rows(RunLogReader(tmp_path).status(START_S + 900))
    assert {("watching", "/inbox, /other"), ("left", "nothing, until a slide comes")} <= set(shown)
    assert "note" not in dict(shown)
    with (tmp_path / LOG).open("a") as log:
        log.write(line(900, "found", slides=1))
    assert ("left", "not known yet") in rows(RunLogReader(tmp_path).status(START_S + 901))
