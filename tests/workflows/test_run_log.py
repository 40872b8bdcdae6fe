"""The log that a run appends: every line, nothing of a patient, and no run that ends because of it."""

import errno
import json
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.makers import tissue_pixels, write_svs
from tests.workflows.test_extract import config as killed_config
from tests.workflows.test_extract import kill_after, start
from workflows import run_log
from workflows.extract import ExtractSummary, extract
from workflows.extraction import ExtractConfig
from workflows.listeners import Listener
from workflows.run_log import RunLog
from workflows.run_state import DEAD_AFTER_S, LOG, RunLogReader
from workflows.sources import find_slides

ALWAYS = {"time", "run", "event"}
FIELDS = {
    "begin": {
        "version", "command", "slides", "encoder", "device", "chunk_tiles", "workers", "pid", "host",
        "versions", "watching",
    },
    "found": {"slides"},
    "planned": {"slide", "content", "tiles", "chunks", "seconds"},
    "chunk": {"slide", "chunk", "tiles", "bad", "seconds", "computed", "device"},
    "slide": {"slide", "outcome", "seconds"},
    "alive": set(),
    "end": {"outcome", "dropped"},
}  # fmt: skip
OF_OUTCOME = {"done": {"tiles", "bad", "chunks"}, "quarantined": {"error_class", "stage"}}


def config(root: Path) -> ExtractConfig:
    return ExtractConfig(store=root, encoder="toy", chunk_tiles=4)


def lines(root: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (root / LOG).read_text().splitlines()]


def by_event(found: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [line for line in found if line["event"] == event]


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sound slides and a text, all with names of patients."""
    folder = tmp_path_factory.mktemp("doe-john")
    write_svs(folder / "Doe^John-1.svs", tissue_pixels(900, 800))
    write_svs(folder / "Doe^John-2.svs", tissue_pixels(800, 700, seed=1))
    (folder / "Doe^John-3.svs").write_text("not a slide of Doe^John")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, slides: Path) -> tuple[Path, ExtractSummary]:
    """Stores of the slides, made without a display. Do not write to it."""
    root = tmp_path_factory.mktemp("stores")
    return root, extract(find_slides([slides]), config(root), Listener())


def test_every_line_has_the_fields_of_its_event(run: tuple[Path, ExtractSummary]) -> None:
    found = lines(run[0])
    for line in found:
        more = OF_OUTCOME[line["outcome"]] if line["event"] == "slide" else set()
        assert set(line) == ALWAYS | FIELDS[line["event"]] | more
        assert datetime.fromisoformat(line["time"]).tzinfo is not None
    assert len({line["run"] for line in found}) == 1
    assert [line["time"] for line in found] == sorted(line["time"] for line in found)
    assert (found[0]["event"], found[-1]["event"]) == ("begin", "end")


def test_the_log_agrees_with_the_summary(run: tuple[Path, ExtractSummary]) -> None:
    root, summary = run
    found = lines(root)
    chunks = by_event(found, "chunk")
    assert (found[0]["slides"], found[0]["command"], found[0]["chunk_tiles"], found[0]["pid"]) == (
        3,
        "extract",
        4,
        os.getpid(),
    )
    assert sum(line["tiles"] for line in chunks) == summary.tiles > 8
    assert len(chunks) == summary.chunks == sum(line["chunks"] for line in by_event(found, "planned"))
    assert [line["error_class"] for line in by_event(found, "slide") if line["outcome"] == "quarantined"] == [
        "unreadable"
    ]
    hashes = {result.content_hash[:12] for result in summary.results if result.content_hash}
    assert {line["content"] for line in by_event(found, "planned")} == hashes
    assert {line["device"] for line in chunks} == {"cpu"}
    assert found[-1]["outcome"] == "finished"
    status = RunLogReader(root).status(time.time())
    assert (status.tiles, status.slides_done, status.slides_quarantined) == (summary.tiles, 2, 1)
    expected = json.loads((root / "run.json").read_bytes())["timings_s"]
    del expected["wall"]
    assert {stage: one["seconds"] for stage, one in status.stages.items()} == pytest.approx(expected, abs=0.01)


def test_nothing_in_it_names_a_patient(run: tuple[Path, ExtractSummary], slides: Path) -> None:
    text = (run[0] / LOG).read_text().lower()
    assert "doe" not in text
    assert ".svs" not in text
    assert str(slides.parent).lower() not in text


def test_a_given_listener_replaces_the_display(
    tmp_path: Path, slides: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = []

    class Ear(Listener):
        def begin(self, slides: int) -> None:
            begun.append(slides)

    extract(find_slides([slides]), config(tmp_path), Ear())
    assert begun == [3]
    assert capsys.readouterr().err == ""
    extract(find_slides([slides]), config(tmp_path))
    assert "extract: 3 slides" in capsys.readouterr().err
    found = lines(tmp_path)
    assert [line["event"] for line in found].count("begin") == 2
    assert len({line["run"] for line in found}) == 2


def test_a_killed_run_leaves_a_log_to_read_and_the_next_start_goes_on_in_it(tmp_path: Path, small_svs: Path) -> None:
    kill_after(start(small_svs, tmp_path), tmp_path / "small.zarr" / "features" / ".toy.partial" / ".journal", 2)
    killed = lines(tmp_path)
    assert by_event(killed, "planned")
    assert not by_event(killed, "end")
    assert RunLogReader(tmp_path).status(time.time() + DEAD_AFTER_S + 1).state == "dead"
    with (tmp_path / LOG).open("a") as log:
        log.write('{"time": "2026-')
    extract(find_slides([small_svs]), killed_config(tmp_path), Listener())
    status = RunLogReader(tmp_path).status(time.time())
    assert (status.starts, status.state, status.slides_done, status.unreadable_lines) == (2, "finished", 1, 1)


def test_a_run_that_waits_says_that_it_is_alive(tmp_path: Path) -> None:
    with RunLog(tmp_path, "extract", 1, config(tmp_path), alive_every_s=0.01):
        deadline = time.monotonic() + 60
        while len(lines(tmp_path)) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    events = [line["event"] for line in lines(tmp_path)]
    assert events == ["begin", *["alive"] * (len(events) - 2), "end"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyboardInterrupt(), {"outcome": "interrupted"}),
        (MemoryError("of Doe^John"), {"outcome": "failed", "error_class": "MemoryError"}),
    ],
)
def test_how_a_run_ended(tmp_path: Path, error: BaseException, said: dict[str, str]) -> None:
    with pytest.raises(type(error)), RunLog(tmp_path, "extract", 1, config(tmp_path)):
        raise error
    assert lines(tmp_path)[-1].items() >= said.items()
    assert "Doe" not in (tmp_path / LOG).read_text()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_costs_the_log_and_not_the_run(
    tmp_path: Path, slides: Path, run: tuple[Path, ExtractSummary], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / LOG).symlink_to("/dev/full")
    summary = extract(find_slides([slides]), config(tmp_path), Listener())
    assert (summary.tiles, len(summary.quarantined)) == (run[1].tiles, 1)
    # begin, a plan and an end of two slides, an end of the third, all chunks, end
    said = f"{1 + 2 * 2 + 1 + summary.chunks + 1} lines of {LOG} could not be written ({os.strerror(errno.ENOSPC)})"
    assert said in capsys.readouterr().err


def test_a_log_that_cannot_be_opened_costs_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / LOG).mkdir()
    with RunLog(tmp_path, "extract", 0, config(tmp_path)):
        pass
    assert "2 lines of log.jsonl could not be written (Is a directory)" in capsys.readouterr().err


def test_half_a_line_does_not_spoil_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    with RunLog(tmp_path, "extract", 0, config(tmp_path)) as log:
        monkeypatch.setattr(run_log.os, "write", lambda file, data: write(file, data[: len(data) // 2]))
        log._write("alive", {})
        monkeypatch.undo()
        log._write("alive", {})
    begin, half, *rest = (tmp_path / LOG).read_text().splitlines()
    assert json.loads(begin)["event"] == "begin"
    with pytest.raises(json.JSONDecodeError):
        json.loads(half)
    assert [json.loads(line)["event"] for line in rest] == ["alive", "end"]
    assert json.loads(rest[-1])["dropped"] == 1
