"""Whether damaged slides can hurt: thousands of mutants, each read in every way, under watch.

    python -m benchmarks.fuzz [--cases 20000] [--seed 0] [--first 0] [--processes 1]

Every outcome has to be pixels, bad tiles or a `WsiError`. A failure is any other exception, the death of the process,
more than 5 s on a core (30 s by the clock), or more than 512 MiB on top of what the process had before. Most cases go
to the fast reader alone, one in ten through all readers in their order. `--first NUMBER --cases 1 --keep FOLDER`
replays one case, shows its traceback and keeps the mutant as a file.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from tests.hostile.mutate import mutant
from tests.hostile.replay import read_slide
from wsi.slide import READERS

LIMIT_S = 5.0
"""Of processor time, which does not depend on what else the machine does."""

CLOCK_LIMIT_S = 30.0
MAX_GROWTH_BYTES = 512 << 20
MAX_ADDRESS_BYTES = 6 << 30
"""Address space of a worker, so that a mistake here ends one worker and not the machine; much is mapped and unused."""

ALL_READERS_EVERY = 10
MEMORY_WORDS = ("MemoryError", "Unable to allocate", "Cannot allocate memory")


@dataclass
class Report:
    """Outcomes counted, and the failures by case number."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: dict[int, str] = field(default_factory=dict)
    slowest: tuple[float, int] = (0.0, -1)
    largest: tuple[int, int] = (0, -1)

    def add(self, number: int, outcome: str, failure: str, seconds: float, growth_bytes: int) -> None:
        """Count one case."""
        self.outcomes[outcome] += 1
        if failure:
            self.failures[number] = failure
            print(f"case {number}: {failure}", flush=True)
        self.slowest = max(self.slowest, (seconds, number))
        self.largest = max(self.largest, (growth_bytes, number))


def run_case(path: Path, number: int) -> tuple[str, str]:
    """Read one mutant; its outcome, and what failed if anything did."""
    reader = None if number % ALL_READERS_EVERY == 0 else "jpeg_tiff"
    try:
        outcome, said = read_slide(path, reader, (0.5, 0.5) if number % 3 else None)
    except Exception as error:
        return f"failed: {type(error).__name__}", traceback.format_exc()
    lacking = [line for line in said if any(word in line for word in MEMORY_WORDS)]
    return (outcome, f"memory: {lacking[0]}") if lacking else (outcome, "")


def work(pipe: Connection, folder: Path, seed: int, numbers: range) -> None:
    """Worker process: say the number of each case before it, and how it ended after it."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_BYTES, MAX_ADDRESS_BYTES))
    for name in READERS:
        READERS[name]  # imported before the first case, not on its time
    for number in numbers:
        one = mutant(seed, number)
        path = folder / f"case{one.suffix}"
        path.write_bytes(one.data)
        pipe.send((number, one.story))
        before = _resident_bytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        start = time.process_time()
        outcome, failure = run_case(path, number)
        seconds, growth = time.process_time() - start, _resident_bytes("VmHWM") - before
        if growth > MAX_GROWTH_BYTES and not failure:
            failure = f"memory: {growth >> 20} MiB more than before"
        path.unlink()
        pipe.send((outcome, failure, seconds, growth))
    pipe.send(None)


def _resident_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


class Worker:
    """A process that reads one share of the cases, started anew behind each case that it does not survive."""

    def __init__(self, context: ForkServerContext, folder: Path, seed: int, numbers: range, report: Report):
        self._context, self._folder, self._seed, self._report = context, folder, seed, report
        folder.mkdir()
        self.numbers = numbers
        self._current: tuple[int, str] | None = None
        self._process, self.pipe = self._start()
        self.done = False

    def _start(self) -> tuple[ForkServerProcess, Connection]:
        ours, theirs = self._context.Pipe(duplex=False)
        arguments = (theirs, self._folder, self._seed, self.numbers)
        process = self._context.Process(target=work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        self._since_s = time.monotonic(), 60.0  # to import
        return process, ours

    def hear(self) -> None:
        """Take one message; if there is none any more, the process died."""
        try:
            message = self.pipe.recv()
        except EOFError:
            self._process.join()
            self._give_up(f"crash: exit code {self._process.exitcode}")
            return
        self._since_s = time.monotonic(), self._processor_s()
        if message is None:
            self._process.join()
            self.done = True
        elif self._current is None:
            self._current = message
        else:
            self._count(*message)

    def watch(self) -> None:
        """End the process if its case takes too long."""
        if self.done:
            return
        clock_s, processor_s = self._since_s
        if self._processor_s() - processor_s > LIMIT_S or time.monotonic() - clock_s > CLOCK_LIMIT_S:
            self._process.kill()
            self._process.join()
            self._give_up(f"hang: more than {LIMIT_S:g} s")

    def _processor_s(self) -> float:
        """Processor time of the worker so far."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0  # it has ended, and the pipe will say so
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _count(self, outcome: str, failure: str, seconds: float, growth_bytes: int) -> None:
        assert self._current is not None
        number, story = self._current
        if seconds > LIMIT_S and not failure:
            failure = f"hang: {seconds:.1f} s"
        self._report.add(number, outcome, f"{story}\n{failure}" if failure else "", seconds, growth_bytes)
        self.numbers = range(number + self.numbers.step, self.numbers.stop, self.numbers.step)
        self._current = None

    def _give_up(self, why: str) -> None:
        self.pipe.close()
        if self._current is None:
            raise RuntimeError(f"a worker ended between two cases ({why}); the next was {self.numbers[:1]}")
        self._count(f"failed: {why.partition(':')[0]}", why, 0.0, 0)
        self.done = not self.numbers
        if self.numbers:
            self._process, self.pipe = self._start()


def run(seed: int, first: int, cases: int, processes: int) -> Report:
    """Read the mutants `first` to `first + cases` of a seed."""
    report = Report()
    context = multiprocessing.get_context("forkserver")
    readers = [f"wsi.readers.{name}" for name in ("jpeg_tiff", "openslide", "tiffslide", "array")]
    context.set_forkserver_preload(["tests.hostile.mutate", "tests.hostile.replay", *readers])
    with tempfile.TemporaryDirectory() as folder:
        shares = [range(first + part, first + cases, processes) for part in range(processes)]
        workers = [Worker(context, Path(folder) / str(n), seed, one, report) for n, one in enumerate(shares) if one]
        while busy := {worker.pipe: worker for worker in workers if not worker.done}:
            for pipe in wait_for(list(busy), timeout=0.5):
                busy[pipe].hear()
            for worker in busy.values():
                worker.watch()
    return report


def lines(report: Report, seed: int, seconds: float) -> Iterator[str]:
    """The report as a table."""
    total = sum(report.outcomes.values())
    yield f"{total:,} mutants of seed {seed} in {seconds:,.0f} s"
    for outcome, count in report.outcomes.most_common():
        yield f"  {outcome:28}{count:8,}{count / total:8.1%}"
    yield f"  slowest {report.slowest[0]:.2f} s (case {report.slowest[1]}), "
    yield f"  most memory {report.largest[0] / (1 << 20):.0f} MiB (case {report.largest[1]})"
    yield f"  failures: {len(report.failures)} {' '.join(str(number) for number in sorted(report.failures)[:50])}"


def keep(folder: Path, seed: int, numbers: range) -> None:
    """Put mutants down as files and read them here, so that a debugger or a traceback shows what happens."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        one = mutant(seed, number)
        path = folder / f"mutant-{seed}-{number}{one.suffix}"
        path.write_bytes(one.data)
        print(f"{path}: {one.story}", flush=True)
        outcome, failure = run_case(path, number)
        print(outcome, failure, sep="\n")


def main() -> None:
    """Run, print the table, and exit with 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="put the mutants into this folder and read them without a watch")
    args = parser.parse_args()
    if args.keep:
        keep(args.keep, args.seed, range(args.first, args.first + args.cases))
        return
    start = time.monotonic()
    report = run(args.seed, args.first, args.cases, args.processes)
    print("\n".join(lines(report, args.seed, time.monotonic() - start)))
    sys.exit(bool(report.failures))


if __name__ == "__main__":
    main()
