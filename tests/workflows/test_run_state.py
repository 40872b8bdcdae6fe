"""Figures of logs that are written here by hand, each derived on paper."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from workflows.run_state import DEAD_AFTER_S, LOG, LOG_VERSION, Rate, RunLogReader, RunStatus
from wsi.errors import UsageError

START = datetime(2026, 11, 21, 10, tzinfo=UTC)
START_S = START.timestamp()
BEGIN = {
    "event": "begin", "version": LOG_VERSION, "command": "extract", "slides": 10, "encoder": "lite0",
    "device": "auto", "chunk_tiles": 512, "workers": 4, "pid": 1, "host": "box", "versions": {},
}  # fmt: skip


def line(at_s: float, event: str, run: str = "a1", **facts: Any) -> str:
    time = (START + timedelta(seconds=at_s)).isoformat(timespec="milliseconds")
    return json.dumps({"time": time, "run": run, **(BEGIN if event == "begin" else {}), "event": event, **facts}) + "\n"


def done(at_s: float, slide: int, run: str = "a1", **facts: Any) -> str:
    return line(at_s, "slide", run, **{"slide": slide, "outcome": "done", "bad": 0, "seconds": {}, **facts})


def quarantined(at_s: float, slide: int, error_class: str, **seconds: float) -> str:
    facts = {"slide": slide, "outcome": "quarantined", "error_class": error_class, "stage": "plan"}
    return line(at_s, "slide", **facts, seconds=seconds)


def chunk(at_s: float, slide: int, tiles: int, bad: int = 0, device: str = "box cuda:0", **seconds: float) -> str:
    return line(at_s, "chunk", slide=slide, chunk=0, tiles=tiles, bad=bad, seconds=seconds, device=device)


def planned(at_s: float, slide: int, chunks: int, **seconds: float) -> str:
    return line(at_s, "planned", slide=slide, content="00", tiles=250, chunks=chunks, seconds=seconds)


UNDER_WAY = (
    line(0, "begin")
    + planned(10, 1, 3, tissue=8)
    + chunk(20, 1, 100, 2, read=5, encode=10)
    + chunk(30, 1, 100, 0, read=5, encode=10)
    + chunk(40, 1, 50, 1, read=5, encode=7)
    + done(50, 1, bad=3, tiles=253, chunks=3, seconds={"tissue": 8, "read": 15, "encode": 27})
    + planned(55, 2, 4, tissue=10)
    + chunk(60, 2, 150, 1, encode=3)
    + quarantined(70, 3, "unreadable", hash=2)
    + quarantined(75, 4, "no_tissue")
    + quarantined(80, 5, "unreadable")
    + chunk(100, 2, 50)
)
"""One slide done, three in quarantine, one with 2 of 4 chunks done, in 100 s."""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / LOG


def read(log: Path, text: str, at_s: float) -> RunStatus:
    log.write_text(text)
    return RunLogReader(log.parent).status(START_S + at_s)


def test_a_run_under_way(log: Path) -> None:
    found = read(log, UNDER_WAY, 100)
    assert (found.state, found.command, found.run, found.host) == ("running", "extract", "a1", "box")
    assert (found.begun, found.last_line) == ("2026-11-21T10:00:00.000+00:00", "2026-11-21T10:01:40.000+00:00")
    assert (found.slides_total, found.slides_done, found.slides_quarantined, found.slides_in_work) == (10, 1, 3, 1)
    assert found.quarantined == {"no_tissue": 1, "unreadable": 2}
    assert (found.tiles, found.bad_tiles) == (450, 3 + 1)
    assert found.whole == found.recent == Rate(100, 36, 4.5)
    assert found.left_s == pytest.approx((10 - 4.4) * 100 / 4.4, abs=0.1)  # 2 of 4 chunks and the rest: 2/5 of a slide
    assert found.stages == {
        "encode": {"seconds": 30, "share": 0.4615},
        "tissue": {"seconds": 18, "share": 0.2769},
        "read": {"seconds": 15, "share": 0.2308},
        "hash": {"seconds": 2, "share": 0.0308},
    }
    assert found.gpu_busy == 0.3
    assert (found.starts, found.also_running, found.unreadable_lines, found.newer) == (1, 0, 0, False)


def test_two_cards_halve_the_share_and_none_has_none(log: Path) -> None:
    text = line(0, "begin") + planned(1, 1, 3) + chunk(40, 1, 5, encode=30)
    assert read(log, text, 100).gpu_busy == 0.3
    assert read(log, text + chunk(50, 1, 5, device="other cuda:0", encode=10), 100).gpu_busy == 0.2
    assert read(log, text + chunk(50, 1, 5, device="cpu", encode=10), 100).gpu_busy == 0.3
    assert read(log, text.replace("box cuda:0", "cpu"), 100).gpu_busy is None


def test_tasks_that_share_a_gpu_do_not_make_it_busier_than_it_can_be(log: Path) -> None:
    text = line(0, "begin") + planned(1, 1, 1) + chunk(10, 1, 5, encode=40)
    assert read(log, text, 10).gpu_busy == 1


def test_recent_rates_and_time_left_are_of_the_last_five_minutes(log: Path) -> None:
    """50 slides in 500 s, then one in 100 s: 7 are left, which takes 700 s, and not 1000 / 53 * 7 = 132 s."""
    times = [*range(10, 501, 10), 800, 900, 1000]
    text = line(0, "begin", slides=60) + "".join(done(at_s, number) for number, at_s in enumerate(times))
    found = read(log, text, 1000)
    assert found.recent == Rate(300, 36, 0)
    assert found.whole == Rate(1000, 190.8, 0)
    assert found.left_s == 700


def test_a_run_that_stands_still_has_no_time_left_but_is_alive(log: Path) -> None:
    found = read(log, line(0, "begin") + done(10, 1) + line(500, "alive"), 510)
    assert (found.state, found.left_s, found.recent.slides_per_hour) == ("running", None, 0)
    assert (found.silent_s, found.idle_s) == (10, 500)


def test_a_silent_run_seems_dead_and_its_clock_stops(log: Path) -> None:
    assert read(log, UNDER_WAY, 100 + DEAD_AFTER_S).state == "running"
    found = read(log, UNDER_WAY, 101 + DEAD_AFTER_S)
    assert (found.state, found.elapsed_s, found.left_s) == ("dead", 100, None)
    assert found.silent_s == 101 + DEAD_AFTER_S - 100


@pytest.mark.parametrize("outcome", ["finished", "interrupted"])
def test_a_run_that_ended_is_over_for_ever(log: Path, outcome: str) -> None:
    found = read(log, UNDER_WAY + line(200, "end", outcome=outcome, dropped=0), 1e6)
    assert (found.state, found.elapsed_s, found.whole.tiles_per_s) == (outcome, 200, 2.25)


def test_a_failed_run_says_why(log: Path) -> None:
    found = read(log, UNDER_WAY + line(200, "end", outcome="failed", error_class="MemoryError", dropped=0), 300)
    assert (found.state, found.error_class) == ("failed", "MemoryError")


def test_the_clock_of_the_reader_may_be_behind(log: Path) -> None:
    found = read(log, UNDER_WAY, -3600)
    assert (found.state, found.elapsed_s, found.silent_s) == ("running", 100, 0)


def test_half_a_line_is_waited_for(log: Path) -> None:
    whole = UNDER_WAY.encode()
    log.write_bytes(whole[:-20])
    reader = RunLogReader(log.parent)
    found = reader.status(START_S + 100)
    assert (found.tiles, found.unreadable_lines) == (400, 0)
    log.write_bytes(whole)
    found = reader.status(START_S + 100)
    assert (found.tiles, found.unreadable_lines) == (450, 0)
    assert found == RunLogReader(log.parent).status(START_S + 100)


@pytest.mark.parametrize(
    "wrong",
    [
        '{"time": "2026-11-2\n',
        "null\n",
        "[]\n",
        "\xff\n",
        '{"event": "chunk", "run": "a1", "time": "yesterday"}\n',
        "[" * 100_000 + "\n",
        line(100, "chunk", slide=2, tiles=5),
        line(100, "slide", slide=2, outcome="done", seconds={"read": 1}),
        chunk(100, 2, 5, read=float("nan")),
        chunk(100, 2, 5, read=-1),
        line(100, "end", outcome="unheard of"),
    ],
)
def test_a_line_that_cannot_be_understood_counts_for_nothing(log: Path, wrong: str) -> None:
    found = read(log, UNDER_WAY + wrong, 100)
    assert found.unreadable_lines == 1
    expected = read(log, UNDER_WAY, 100)
    assert {name: getattr(found, name) for name in ("state", "tiles", "bad_tiles", "stages", "slides_in_work")} == {
        name: getattr(expected, name) for name in ("state", "tiles", "bad_tiles", "stages", "slides_in_work")
    }


def test_a_newer_log_is_read_as_far_as_it_is_known(log: Path) -> None:
    newer = UNDER_WAY.replace(f'"version": {LOG_VERSION}', f'"version": {LOG_VERSION + 1}')
    found = read(log, newer + line(110, "moved_house", to="the moon"), 110)
    assert (found.newer, found.tiles, found.unreadable_lines, found.silent_s) == (True, 450, 0, 0)


def test_a_chunk_whose_plan_was_dropped_counts(log: Path) -> None:
    found = read(log, line(0, "begin") + chunk(10, 1, 30, 1, read=2) + done(20, 1, bad=1), 20)
    assert (found.tiles, found.bad_tiles, found.slides_done, found.unreadable_lines) == (30, 1, 1, 0)


def test_the_last_start_is_shown(log: Path) -> None:
    again = line(1000, "begin", "b2", slides=7) + done(1010, 1, "b2")
    found = read(log, UNDER_WAY + again, 1010)
    assert (found.run, found.starts, found.slides_total, found.slides_done) == ("b2", 2, 7, 1)
    assert (found.tiles, found.elapsed_s, found.also_running) == (0, 10, 0)


def test_two_machines_in_one_folder_do_not_mix(log: Path) -> None:
    both = line(0, "begin") + line(1, "begin", "b2") + done(2, 1) + done(3, 1, "b2") + done(4, 2)
    found = read(log, both, 5)
    assert (found.run, found.slides_done, found.also_running) == ("b2", 1, 1)
    assert read(log, both + line(6, "end", outcome="finished"), 6).also_running == 0


@pytest.mark.parametrize("text", ["", '{"half', chunk(5, 1, 5)])
def test_a_log_without_a_start_is_said_to_be_one(log: Path, text: str) -> None:
    with pytest.raises(UsageError, match="no start of a run"):
        read(log, text, 0)


def test_a_folder_without_a_log_is_said_to_be_one(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UsageError, match="--out folder of `histograde grade`"):
            RunLogReader(folder).status(0)
    (tmp_path / LOG).mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        RunLogReader(tmp_path).status(0)


def test_a_watch_grows(tmp_path: Path) -> None:
    text = line(0, "begin", slides=0, watching=["/inbox"]) + line(10, "found", slides=2)
    (tmp_path / LOG).write_text(text + done(20, 1) + quarantined(30, 2, "unreadable") + line(40, "found", slides=3))
    status = RunLogReader(tmp_path).status(START_S + 50)
    assert (status.slides_total, status.slides_done, status.slides_quarantined) == (3, 1, 1)
    assert status.watching == ["/inbox"]
    with (tmp_path / LOG).open("a") as log:
        log.write(line(60, "end", outcome="finished", dropped=0))
    assert RunLogReader(tmp_path).status(START_S + 70).watching == []
