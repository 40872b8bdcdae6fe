"""Whether a long run stays flat: memory of every process, time a slide, and what the scheduler costs.

    python -m benchmarks.archive [--slides 2000] [--command grade] [--workers 2] [--chunk-tiles 8] [--keep DIR]

Makes an archive of small slides (`benchmarks/small_archive.py`), runs `histograde grade` or `extract` over it, and
looks at the run from outside once a second: PSS (memory, shared pages divided among those who share them) and RSS of
the run and of each of its processes. Tenths are tenths of the slides, by the lines of the run's log. Compared are the
second tenth, when everything is loaded, and the last:

    memory    peak of each process in the last tenth over its peak in the second
    time      seconds a slide in the last tenth over those in the second
    overhead  1 - seconds spent in tasks / (threads x seconds), from the first line of the log about a slide to the last

Start and end of the run (imports, tables, report) are printed beside it. The last line is all of it as JSON.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks.small_archive import make_archive, train_model
from benchmarks.watched_run import LogTail, WatchedRun

EVERY_S = 1.0
FLAT = 1.05
MOST_OVERHEAD = 0.05
TENTHS = 10
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment: seconds since 1970, bytes, and seconds of processor time since it began."""

    time_s: float
    process: str
    pss_bytes: int
    rss_bytes: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Flatness:
    """Something in the second and in the last tenth of a run."""

    name: str
    second: float
    last: float

    @property
    def ratio(self) -> float:
        """Last over second."""
        return self.last / self.second if self.second else float("inf")


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run came to.

    Attributes
    ----------
    pss_mib, rss_mib : list of Flatness
        Peaks by process.
    seconds_a_slide : Flatness
    overhead : float
        Share of the threads' time that was not spent in tasks, 0 to 1.
    scheduler_cpu_share : float
        Processor time that the scheduling process took meanwhile, of that of all processes.
    start_s, loop_s, end_s : float
        To the first slide; from there to the last; from there to the end.
    """

    command: str
    slides: int
    threads: int
    pss_mib: list[Flatness]
    rss_mib: list[Flatness]
    seconds_a_slide: Flatness
    overhead: float
    scheduler_cpu_share: float
    start_s: float
    loop_s: float
    end_s: float

    @property
    def passed(self) -> bool:
        """Whether all is as it should be."""
        flat = [*self.pss_mib, self.seconds_a_slide]
        return all(one.ratio <= FLAT for one in flat) and self.overhead < MOST_OVERHEAD

    def lines(self) -> list[str]:
        """A table for people."""
        rows = [("", "second tenth", "last tenth", "ratio")]
        for unit, part in (("MiB PSS", self.pss_mib), ("MiB RSS", self.rss_mib)):
            rows += [
                (f"{one.name}, {unit}", f"{one.second:.1f}", f"{one.last:.1f}", f"{one.ratio:.3f}") for one in part
            ]
        one = self.seconds_a_slide
        rows.append(("seconds a slide", f"{one.second:.3f}", f"{one.last:.3f}", f"{one.ratio:.3f}"))
        return [
            f"{self.command}, {self.slides} slides, {self.threads} threads: {self.start_s:.1f} s to the first slide, "
            f"{self.loop_s:.1f} s of work, {self.end_s:.1f} s to end",
            *("{:<24}{:>14}{:>14}{:>8}".format(*row) for row in rows),
            f"overhead {self.overhead:.1%} of the threads' time; "
            f"the scheduling process takes {self.scheduler_cpu_share:.1%} of the processor time",
        ]


def sample(run: WatchedRun) -> list[Sample]:
    """The run and its processes now. A worker that was replaced has another name from then on."""
    now = time.time()
    found = []
    workers = {one.pid: f"worker {number}" for number, one in enumerate(run.workers(), 1)}
    for process in [psutil.Process(run.pid), *run.children()]:
        name = workers.get(process.pid, "scheduler" if process.pid == run.pid else "other")
        try:
            memory = process.memory_full_info()
            spent = process.cpu_times()
        except psutil.Error:
            continue
        found.append(Sample(now, name, memory.pss, memory.rss, spent.user + spent.system))
    return found


def watch(run: WatchedRun, log: LogTail) -> list[Sample]:
    """Take samples until the run ends.

    Raises
    ------
    SystemExit
        If it fails.
    """
    samples: list[Sample] = []
    run.start()
    while run.code is None:
        try:
            samples += sample(run)
        except psutil.NoSuchProcess:
            continue
        time.sleep(EVERY_S)
    log.read()
    if run.code:
        raise SystemExit(f"the run ended with {run.code}: {run.last_words()}")
    return samples


def measure(samples: Sequence[Sample], lines: Sequence[dict[str, Any]], command: str, threads: int) -> Measured:
    """Figures of a run from its samples and the lines of its log."""
    ended = [_time_s(line) for line in lines if line["event"] == "slide"]
    begun_s, over_s = (_time_s(next(line for line in lines if line["event"] == event)) for event in ("begin", "end"))
    spent_s = sum(sum(line["seconds"].values()) for line in lines if line["event"] == "slide")
    planned = [line for line in lines if line["event"] == "planned"]
    first_s = min(_time_s(line) - sum(line["seconds"].values()) for line in planned)
    borders = [first_s, *(ended[len(ended) * number // TENTHS - 1] for number in range(1, TENTHS + 1))]
    second, last = (borders[1], borders[2]), (borders[-2], borders[-1])

    def peaks(field: str) -> list[Flatness]:
        return [
            Flatness(name, *(_peak(samples, name, field, part) / MIB for part in (second, last)))
            for name in sorted({one.process for one in samples} - {"other"})
        ]

    spans: dict[str, list[float]] = {}
    for one in samples:
        if first_s <= one.time_s <= borders[-1]:
            spans.setdefault(one.process, []).append(one.cpu_s)
    cpu = {name: max(spent) - min(spent) for name, spent in spans.items()}
    loop_s = borders[-1] - first_s
    tenth = len(ended) / TENTHS
    return Measured(
        command=command,
        slides=len(ended),
        threads=threads,
        pss_mib=peaks("pss_bytes"),
        rss_mib=peaks("rss_bytes"),
        seconds_a_slide=Flatness("seconds a slide", *((until - since) / tenth for since, until in (second, last))),
        overhead=1 - spent_s / (threads * loop_s),
        scheduler_cpu_share=cpu["scheduler"] / sum(cpu.values()),
        start_s=first_s - begun_s,
        loop_s=loop_s,
        end_s=over_s - borders[-1],
    )


def _time_s(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["time"]).timestamp()


def _peak(samples: Sequence[Sample], name: str, field: str, part: tuple[float, float]) -> int:
    since_s, until_s = part
    return max(
        (getattr(one, field) for one in samples if one.process == name and since_s <= one.time_s <= until_s), default=0
    )


def run_archive(folder: Path, slides: int, command: str, workers: int, chunk_tiles: int, seed: int) -> Measured:
    """Make the archive, run over it, and measure."""
    archive = make_archive(folder, slides, 0, seed)
    out = folder / "run"
    options = ["--workers", workers, "--chunk-tiles", chunk_tiles]
    if command == "grade":
        options += ["--model", train_model(folder, seed), "--out", out]
    else:
        options += ["--store", out, "--encoder", "toy"]
    run = WatchedRun([command, *archive.arguments, *options], folder / "said.txt", folder)
    log = LogTail(out / "log.jsonl")
    try:
        samples = watch(run, log)
    finally:
        run.stop()
    (folder / "samples.json").write_text(json.dumps([asdict(one) for one in samples]))
    return measure(samples, log.lines, command, max(workers, 1))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--slides", type=int, default=2000)
    parser.add_argument("--command", choices=("grade", "extract"), default="grade")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--chunk-tiles", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in this folder, and leave it")
    chosen = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = chosen.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="archive-")))
        found = run_archive(folder, chosen.slides, chosen.command, chosen.workers, chosen.chunk_tiles, chosen.seed)
    print("\n".join(found.lines()))
    print(json.dumps({"benchmark": "archive", "passed": found.passed, **asdict(found)}))
    return 0 if found.passed else 1


if __name__ == "__main__":
    sys.exit(main())
