"""The figures of `benchmarks/archive.py`, from a log and samples whose figures are known."""

import json
from datetime import UTC, datetime

import pytest

from benchmarks import archive
from benchmarks.archive import MIB, Sample

START_S = 1_700_000_000.0


def line(at_s: float, event: str, **facts: object) -> dict[str, object]:
    time = datetime.fromtimestamp(START_S + at_s, UTC).isoformat(timespec="milliseconds")
    return json.loads(json.dumps({"time": time, "event": event, **facts}))


def test_figures_of_a_run_that_grows_and_slows_down() -> None:
    # 20 slides, a tenth is two: one a second, 3 s each in the last tenth; 1.5 s in tasks for each, two threads
    ends = [10 + number for number in range(1, 19)] + [31, 34]
    lines = [line(0, "begin")]
    lines += [line(10.5, "planned", seconds={"hash": 0.5}), line(10.6, "planned", seconds={"hash": 0.2})]
    lines += [line(end, "slide", seconds={"read": 1.0, "encode": 0.5}) for end in ends]
    lines.append(line(36, "end"))
    samples = []
    for second in range(36):
        size = (100 if second < 28 else 110) * MIB
        samples.append(Sample(START_S + second, "worker 1", size, 2 * size, second * 0.9))
        samples.append(Sample(START_S + second, "scheduler", 50 * MIB, 60 * MIB, second * 0.1))
    found = archive.measure(samples, lines, "grade", 2)
    assert (found.slides, found.start_s, found.loop_s, found.end_s) == (20, 10, 24, 2)
    assert (found.seconds_a_slide.second, found.seconds_a_slide.last) == (1, 3)
    assert found.overhead == pytest.approx(1 - 20 * 1.5 / (2 * 24))
    assert found.scheduler_cpu_share == pytest.approx(0.1)
    assert {one.name: (one.second, one.last) for one in found.pss_mib} == {
        "scheduler": (50, 50),
        "worker 1": (100, 110),
    }
    assert not found.passed
