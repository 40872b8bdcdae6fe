"""Whether a run over an archive survives what happens in a night, and comes to the same.

    python -m benchmarks.chaos [--slides 200] [--seed 0] [--kills 20] [--restarts 5] [--workers 2] [--keep DIR]

Draws an archive, a tenth of it bad in a dozen ways (`benchmarks/small_archive.py`), trains a model of toy features and
grades the good slides undisturbed. Then `histograde grade` does the whole archive while, at moments drawn from the
seed, workers and the whole run are killed (SIGKILL; the run is started again by the same command), the disk is full
for a while, the archive is away for a while, and a chunk of a published store is damaged. In the end every check of
`benchmarks/chaos_checks.py` must hold; the exit code is 1 if one does not. The last line is all of it as JSON.

Moments are shares of the slides graded, plus a wait of up to a second and a half, so that they mean the same on any
machine. The full disk is a tmpfs, and needs the right to mount one; where that is denied it is left out, and says so.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

from benchmarks.chaos_checks import (
    ENCODER,
    Check,
    ChunkWatch,
    all_graded,
    heard_twice,
    nothing_temporary,
    right_classes,
    same_features,
    same_predictions,
)
from benchmarks.chaos_reader import install_reader
from benchmarks.small_archive import BAD_SLIDES, Archive, make_archive, train_model
from benchmarks.small_disk import fill, small_disk
from benchmarks.watched_run import LogTail, WatchedRun, histograde, kill

POLL_S = 0.1
LONGEST_WAIT_S = 1.5
STILL_S = 20.0
"""A run of which nothing is heard for so long is disturbed again all the same: it may wait for a slide that hangs."""

MOST_UNASKED = 5
DISK_BYTES_A_SLIDE = 3 << 20
DISK_BYTES = 256 << 20
KEEP_FREE = "64MB"
"""A full disk is one on which this is not free; less than the default, for the disk is small."""

EXIT_QUARANTINED = 3
ORPHANS_S = 30.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What is done to which archive.

    Attributes
    ----------
    slides : int
        In the archive; a tenth of them, and at least one of every kind, is bad.
    kills, restarts : int
        SIGKILLs of a worker, and of the whole run.
    workers, chunk_tiles, task_limit_s
        Options of `histograde grade`.
    hold_s : (float, float)
        Least and most seconds for which the disk is full, and the archive away.
    limit_s : float
        The run counts as hanging after so long.
    """

    slides: int = 200
    seed: int = 0
    kills: int = 20
    restarts: int = 5
    workers: int = 2
    chunk_tiles: int = 4
    task_limit_s: float = 45.0
    hold_s: tuple[float, float] = (8.0, 16.0)
    limit_s: float = 3600.0

    @property
    def bad(self) -> int:
        """How many slides are bad."""
        return max(self.slides // 10, len(BAD_SLIDES))


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """At a share of the good slides graded, and some seconds later, something happens."""

    at: float
    what: str
    wait_s: float
    hold_s: float = 0.0


def draw_events(settings: Settings, chance: random.Random) -> list[Event]:
    """What happens, in order. The damage goes before the last restart, which is what finds it."""
    what = ["kill_worker"] * settings.kills + ["kill_run"] * settings.restarts + ["fill_disk", "move_archive"]
    events = [
        Event(chance.uniform(0.02, 0.9), name, chance.uniform(0, LONGEST_WAIT_S), chance.uniform(*settings.hold_s))
        for name in what
    ]
    if restarts := [event.at for event in events if event.what == "kill_run"]:
        events = [replace(event, at=max(event.at, 0.4)) if event.at == max(restarts) else event for event in events]
        last = max(event.at for event in events if event.what == "kill_run")
        events.append(Event(chance.uniform(0.2, last), "damage_chunk", 0.0))
    return sorted(events)


class Chaos:
    """One disturbed run.

    Parameters
    ----------
    run_folder : Path
        Its --out folder.
    disk_refused : str
        Why the disk is not to be filled; empty if it is.
    """

    def __init__(
        self, settings: Settings, archive: Archive, run: WatchedRun, run_folder: Path, disk_refused: str
    ) -> None:
        self._settings, self._archive, self._run, self._folder = settings, archive, run, run_folder
        self._chance = random.Random(settings.seed)
        self.events = draw_events(settings, self._chance)
        self.log, self.chunks = LogTail(run_folder / "log.jsonl"), ChunkWatch(run_folder / "features")
        self.done: list[str] = []
        self.left_out = {"fill_disk": disk_refused} if disk_refused else {}
        self.unasked: list[str] = []
        self.damaged: set[tuple[str, int]] = set()
        self._graded: set[str] = set()
        self._begun_s = time.monotonic()

    def play(self) -> None:
        """From the first start to the end of the run."""
        self._run.start()
        for event in self.events:
            if event.what in self.left_out:
                continue
            if not self._reach(event.at) or not self._wait(event.wait_s):
                break
            detail = getattr(self, f"_{event.what}")(event)
            self._note(f"{event.what} {detail}".strip())
            self.done.append(event.what)
        while self._tick():
            pass

    @property
    def graded(self) -> float:
        """Share of the good slides whose result is there."""
        slides = self._folder / "slides"
        self._graded |= {
            name for name in self._archive.good if name not in self._graded and (slides / name / "slide.json").exists()
        }
        return len(self._graded) / len(self._archive.good)

    def _note(self, text: str) -> None:
        print(f"  {time.monotonic() - self._begun_s:6.1f} s  {self.graded:4.0%} graded  {text}", flush=True)

    def _tick(self) -> bool:
        """Wait a moment; False once the run has come to its end. A run that failed is started again."""
        self.chunks.look()
        self.log.read()
        time.sleep(POLL_S)
        if time.monotonic() - self._begun_s > self._settings.limit_s:
            self.unasked.append(f"not through after {self._settings.limit_s:g} s")
            return False
        if (code := self._run.code) is None:
            return True
        if code in (0, EXIT_QUARANTINED):
            return False
        self.unasked.append(f"exit code {code}: {self._run.last_words().strip().splitlines()[-1:]}")
        self._note(self.unasked[-1])
        if len(self.unasked) >= MOST_UNASKED:
            return False
        self._run.start()
        return True

    def _reach(self, share: float) -> bool:
        """Go on until so much is graded and the run has moved since the last event; False once it has ended."""
        moves, since_s = self.log.moves, time.monotonic()
        while self._tick():
            moved = self.log.moves > moves or time.monotonic() - since_s > STILL_S
            if moved and self.graded >= share and self._run.workers():
                return True
        return False

    def _wait(self, seconds: float) -> bool:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            if not self._tick():
                return False
        return True

    def _kill_worker(self, event: Event) -> str:
        while not (workers := self._run.workers()):
            if not self._tick():
                return "(none was left)"
        one = self._chance.choice(workers)
        return f"{one.pid}" if kill(one) else f"{one.pid} (was gone)"

    def _kill_run(self, event: Event) -> str:
        workers_too = self._chance.random() < 0.5
        self._run.kill(workers_too=workers_too)
        self._run.start()
        return "with its workers" if workers_too else "alone"

    def _fill_disk(self, event: Event) -> str:
        filler = self._folder.parent / "filler"
        until_s = time.monotonic() + event.hold_s
        try:
            fill(filler)
            while time.monotonic() < until_s and self._wait(0.3):
                fill(filler)
        finally:
            filler.unlink(missing_ok=True)
        return f"for {event.hold_s:.1f} s"

    def _move_archive(self, event: Event) -> str:
        away = self._archive.folder.with_name("archive-away")
        self._archive.folder.rename(away)
        try:
            self._wait(event.hold_s)
        finally:
            away.rename(self._archive.folder)
        return f"for {event.hold_s:.1f} s"

    def _damage_chunk(self, event: Event) -> str:
        """Flip a bit in the middle of a chunk of a slide that is through."""
        slide_id = self._chance.choice(sorted(self._graded))
        chunks = sorted((self._folder / "features" / f"{slide_id}.zarr/features/{ENCODER}/values/c").glob("*/0"))
        path = self._chance.choice(chunks)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        self.damaged.add((slide_id, int(path.parent.name)))
        return f"{path.parent.name} of {slide_id}"

    def checks(self, undisturbed: Path) -> list[Check]:
        """All that must hold now."""
        archive, folder = self._archive, self._folder
        contents = {
            (sha256((archive.folder / f"{slide_id}.svs").read_bytes()).hexdigest()[:12], chunk)
            for slide_id, chunk in self.damaged
        }
        wanted = [event.what for event in self.events if event.what not in self.left_out]
        happened = f"{len(self.done)} of {len(wanted)}" + "".join(
            f"; {name} left out: {why}" for name, why in self.left_out.items()
        )
        pauses = sorted({line["reason"] for line in self.log.lines if line["event"] == "pause"})
        happened += f"; the run paused for: {', '.join(pauses) or 'nothing'}"
        left = self._run.left_behind(ORPHANS_S)
        return [
            Check("all events took place", len(self.done) == len(wanted), happened),
            Check("the run ended only when killed", not self.unasked, "; ".join(self.unasked) or "yes"),
            Check("its exit code", self._run.code == EXIT_QUARANTINED, str(self._run.code)),
            all_graded(folder, archive.good),
            same_predictions(folder, undisturbed, archive.good),
            same_features(folder, undisturbed, archive.good),
            right_classes(folder, archive.bad),
            nothing_temporary(folder),
            self.chunks.check(self.damaged, archive.bad),
            heard_twice(self.log.lines, contents),
            Check("no process left behind", not left, str(len(left))),
        ]


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it."""

    settings: Settings
    seconds: float
    starts: int
    events: dict[str, int]
    checks: list[Check]

    @property
    def failed(self) -> list[Check]:
        """Checks that did not hold."""
        return [check for check in self.checks if not check.passed]

    def lines(self) -> list[str]:
        """A table for people."""
        width = max(len(check.name) for check in self.checks)
        happened = ", ".join(f"{count} x {name}" for name, count in self.events.items())
        return [
            f"{self.settings.slides} slides, {self.settings.bad} bad; {self.starts} starts in {self.seconds:.0f} s",
            happened,
            *(f"{'ok  ' if check.passed else 'FAIL'}  {check.name:<{width}}  {check.found}" for check in self.checks),
        ]

    def to_json(self) -> str:
        """All of it on one line."""
        return json.dumps({"benchmark": "chaos", **asdict(self)})


def run_chaos(
    folder: Path, settings: Settings, *, say: Callable[[str], None] = print, keep_run: bool = False
) -> Report:
    """Make everything in an empty folder, do it, and check it; the small disk goes, the run on it may be kept."""
    say(f"drawing {settings.slides} slides and training a model")
    archive = make_archive(folder, settings.slides, settings.bad, settings.seed)
    model = train_model(folder, settings.seed)
    options = ["--model", model, "--workers", settings.workers]
    options += [
        "--chunk-tiles",
        settings.chunk_tiles,
        "--task-limit",
        f"{settings.task_limit_s}s",
        "--keep-free",
        KEEP_FREE,
    ]
    undisturbed, plug_in = folder / "undisturbed", folder / "plug-in"
    start = time.monotonic()
    histograde("grade", archive.list_good(folder / "good.csv"), "--out", undisturbed, *options)
    say(f"undisturbed, the good slides take {time.monotonic() - start:.0f} s")
    install_reader(plug_in)
    with ExitStack() as stack:
        disk = folder / "disk"
        refused = stack.enter_context(small_disk(disk, DISK_BYTES + settings.slides * DISK_BYTES_A_SLIDE))
        run = WatchedRun(["grade", *archive.arguments, "--out", disk / "run", *options], folder / "said.txt", plug_in)
        stack.callback(run.stop)
        chaos = Chaos(settings, archive, run, disk / "run", refused)
        start = time.monotonic()
        chaos.play()
        seconds = time.monotonic() - start
        events = {name: chaos.done.count(name) for name in sorted(set(chaos.done))}
        report = Report(settings, round(seconds, 1), run.starts, events, chaos.checks(undisturbed))
        if keep_run:
            shutil.copytree(disk / "run", folder / "run")
        return report


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    defaults = Settings()
    for name in ("slides", "seed", "kills", "restarts", "workers", "chunk_tiles"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(defaults, name))
    parser.add_argument("--task-limit-s", type=float, default=defaults.task_limit_s)
    parser.add_argument("--limit-s", type=float, default=defaults.limit_s)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in this folder, and leave it")
    chosen = vars(parser.parse_args(arguments))
    keep = chosen.pop("keep")
    settings = Settings(**chosen)
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        report = run_chaos(folder, settings, keep_run=keep is not None)
    print("\n".join(report.lines()))
    print(report.to_json())
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
