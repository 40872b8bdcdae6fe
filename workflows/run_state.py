"""How far a run is, read from its log (`workflows.run_log`) and from nothing else."""

import json
import math
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from wsi.errors import UsageError

LOG = "log.jsonl"
LOG_VERSION = 1
RECENT_S = 300.0
DEAD_AFTER_S = 180.0
READ_BYTES = 1 << 20

State = Literal["running", "finished", "interrupted", "failed", "dead"]
ENDS: dict[str, State] = {"finished": "finished", "interrupted": "interrupted", "failed": "failed"}


@dataclass(frozen=True, slots=True)
class Rate:
    """What was done in a stretch of time: slides that are through (not those in quarantine), and tiles."""

    seconds: float
    slides_per_hour: float
    tiles_per_s: float


@dataclass(frozen=True, slots=True)
class RunStatus:
    """The newest start in a log. `histograde status --json` prints it field by field.

    Attributes
    ----------
    format, version : str, int
        Of this description. Later versions may add fields and change none.
    state : str
        "running", "finished", "interrupted", "failed", or "dead": not ended, and silent for longer than
        `DEAD_AFTER_S` (the run writes at least every `workflows.run_log.ALIVE_EVERY_S`).
    error_class : str or None
        Why it failed, where it did.
    command, run, host : str
        What runs, the id of this start, and where.
    begun, last_line : str
        Times in UTC, ISO 8601, by the clock of the machine that runs.
    elapsed_s : float
        From `begun` until now, or until the last line of a run that is over.
    silent_s, idle_s : float
        Since the last line, and since the last one about a slide; off by as much as the clocks of two machines are.
    slides_total, slides_done, slides_quarantined, slides_in_work : int
        Done and quarantined exclude each other; both are through.
    quarantined : dict
        Slides by class of failure.
    tiles : int
        Computed by this start.
    bad_tiles : int
        Of slides that are done, and of the others what this start has met so far.
    recent, whole : Rate
        The last `RECENT_S` (or less, if it is younger), and the whole start.
    left_s : float or None
        Remaining slides at the recent pace, slides in work counted by their chunks. None if it does not run or has
        not moved lately.
    stages : dict
        By stage `seconds`, summed over workers, and their `share` of all.
    gpu_busy : float or None
        Seconds in the encoder over elapsed time and cards seen at work, at most 1; tasks that share a card or decode
        on it are counted whole, so it is an upper bound. None where no card was seen.
    starts : int
        How often the command was started in this folder.
    also_running : int
        Other starts that have not ended and are not dead: several machines may share a folder of stores.
    unreadable_lines : int
        Lines that are no JSON or lack what they should have.
    paused : list of str
        What work waits for, as classes of failure: "disk_full", or "vanished" for an archive that is away.
    watching : list of str
        Folders that are watched for more slides; `slides_total` grows then.
    newer : bool
        The log is of a newer version than this program; figures may be incomplete.
    """

    format: str
    version: int
    state: State
    error_class: str | None
    command: str
    run: str
    host: str
    begun: str
    last_line: str
    elapsed_s: float
    silent_s: float
    idle_s: float
    slides_total: int
    slides_done: int
    slides_quarantined: int
    slides_in_work: int
    quarantined: dict[str, int]
    tiles: int
    bad_tiles: int
    recent: Rate
    whole: Rate
    left_s: float | None
    stages: dict[str, dict[str, float]]
    gpu_busy: float | None
    starts: int
    also_running: int
    unreadable_lines: int
    newer: bool
    paused: list[str] = field(default_factory=list)
    watching: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Mark:
    """How far a start was at a time; `part` counts all slides that are through, and those in work by their chunks."""

    time_s: float
    part: float = 0.0
    slides: int = 0
    tiles: int = 0


@dataclass(slots=True)
class _InWork:
    chunks: int
    chunks_done: int = 0
    bad: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def part(self) -> float:
        return min(self.chunks_done, self.chunks) / (self.chunks + 1)


class _Start:
    """One start of a run, as far as its lines were read."""

    def __init__(self, line: dict[str, Any], time_s: float) -> None:
        self.run = str(line["run"])
        self.command, self.host = str(line["command"]), str(line["host"])
        self.slides = int(line["slides"])
        self.watching = list(map(str, line.get("watching", ())))
        self.newer = int(line["version"]) > LOG_VERSION
        self.begun_s = self.last_s = self.moved_s = time_s
        self.outcome: State | None = None
        self.error_class: str | None = None
        self.quarantined: dict[str, int] = {}
        self.bad = 0
        self.seconds: dict[str, float] = {}
        self.on_card_s = 0.0
        self.cards: set[str] = set()
        self.in_work: dict[int, _InWork] = {}
        self.paused: set[str] = set()
        self.marks = deque([_Mark(time_s)])

    def hear(self, line: dict[str, Any], time_s: float) -> None:
        """Take one line up; raises where it lacks something, and then counts nothing of it."""
        match line["event"]:
            case "planned":
                self.in_work[int(line["slide"])] = _InWork(int(line["chunks"]), seconds=_seconds(line))
            case "chunk":
                self._hear_chunk(line, time_s)
            case "slide":
                self._hear_slide(line, time_s)
            case "found":
                self.slides = int(line["slides"])
            case "pause":
                self.paused.add(str(line["reason"]))
            case "resume":
                self.paused.discard(str(line["reason"]))
            case "end":
                self.outcome = ENDS[line["outcome"]]
                self.error_class = line.get("error_class")
            case _:
                self.last_s = max(self.last_s, time_s)
                return
        self.last_s = self.moved_s = max(self.last_s, time_s)

    def _hear_chunk(self, line: dict[str, Any], time_s: float) -> None:
        tiles, bad, seconds, device = int(line["tiles"]), int(line["bad"]), _seconds(line), str(line["device"])
        tiles = tiles if line.get("computed", True) else 0
        slide = self.in_work.setdefault(int(line["slide"]), _InWork(0))  # its plan may have been dropped
        before = slide.part
        slide.chunks_done += 1
        slide.bad += bad
        _add(slide.seconds, seconds)
        if device != "cpu":
            self.cards.add(device)
            self.on_card_s += seconds.get("encode", 0.0)
        self._mark(time_s, slide.part - before, 0, tiles)

    def _hear_slide(self, line: dict[str, Any], time_s: float) -> None:
        done, seconds = line["outcome"] == "done", _seconds(line)
        bad, reason = (int(line["bad"]), "") if done else (0, str(line["error_class"]))
        before = self.in_work.pop(int(line["slide"]), _InWork(0)).part
        _add(self.seconds, seconds)
        self.bad += bad
        if not done:
            self.quarantined[reason] = self.quarantined.get(reason, 0) + 1
        self._mark(time_s, 1 - before, int(done), 0)

    def _mark(self, time_s: float, part: float, slides: int, tiles: int) -> None:
        last = self.marks[-1]
        now = _Mark(max(time_s, last.time_s), last.part + part, last.slides + slides, last.tiles + tiles)
        self.marks.append(now)
        while self.marks[1].time_s <= now.time_s - RECENT_S:
            self.marks.popleft()

    def state(self, now_s: float) -> State:
        if self.outcome is not None:
            return self.outcome
        return "dead" if now_s - self.last_s > DEAD_AFTER_S else "running"

    def recent(self, until_s: float) -> tuple[_Mark, float]:
        """The newest mark from before the recent stretch, and the length of the stretch in seconds."""
        since_s = until_s - RECENT_S
        before = self.marks[0]
        for mark in self.marks:
            if mark.time_s > since_s:
                break
            before = mark
        return before, min(RECENT_S, until_s - self.begun_s)


class RunLogReader:
    """Reads a log as it grows; each call of `status` reads what is new.

    Parameters
    ----------
    folder : Path
        The folder of a run of `grade`, or of stores made by `extract`.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG
        self._place = 0
        self._rest = b""
        self._starts: dict[str, _Start] = {}
        self._newest: _Start | None = None
        self._started = 0
        self._unreadable = 0

    def status(self, now_s: float) -> RunStatus:
        """How far the newest start is at a time, seconds since 1970.

        Raises
        ------
        UsageError
            If there is no log, or no start of a run in it.
        """
        self._read()
        if self._newest is None:
            raise UsageError(f"{self._path}: holds no start of a run; give the folder of a run that was started")
        return self._describe(self._newest, now_s)

    def _read(self) -> None:
        try:
            with self._path.open("rb") as log:
                log.seek(self._place)
                while data := log.read(READ_BYTES):
                    self._place += len(data)
                    *lines, self._rest = (self._rest + data).split(b"\n")
                    for line in lines:
                        self._take(line)
        except FileNotFoundError as error:
            raise UsageError(
                f"{self._path.parent}: no run has left a {LOG} here; "
                "give the --out folder of `histograde grade` or the --store folder of `histograde extract`"
            ) from error
        except OSError as error:
            raise UsageError(f"{self._path}: cannot be read ({error.strerror})") from error

    def _take(self, data: bytes) -> None:
        if not data:
            return
        try:
            line = json.loads(data)
            time_s = datetime.fromisoformat(line["time"]).timestamp()
            if line["event"] == "begin":
                self._begin(_Start(line, time_s))
            elif (start := self._starts.get(line["run"])) is not None:
                start.hear(line, time_s)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            self._unreadable += 1

    def _begin(self, start: _Start) -> None:
        self._starts = {run: one for run, one in self._starts.items() if one.outcome is None} | {start.run: start}
        self._newest = start
        self._started += 1

    def _describe(self, start: _Start, now_s: float) -> RunStatus:
        state = start.state(now_s)
        until_s = max(now_s, start.last_s) if state == "running" else start.last_s
        elapsed_s = until_s - start.begun_s
        last = start.marks[-1]
        before, stretch_s = start.recent(until_s)
        moved = last.part - before.part
        seconds = dict(start.seconds)
        for slide in start.in_work.values():
            _add(seconds, slide.seconds)
        all_s = sum(seconds.values())
        quarantined = sum(start.quarantined.values())
        cards_s = elapsed_s * len(start.cards)
        others = [one for one in self._starts.values() if one is not start]
        return RunStatus(
            format="histograde-run-status",
            version=1,
            state=state,
            error_class=start.error_class,
            command=start.command,
            run=start.run,
            host=start.host,
            begun=_iso(start.begun_s),
            last_line=_iso(start.last_s),
            elapsed_s=round(elapsed_s, 3),
            silent_s=round(max(now_s - start.last_s, 0.0), 3),
            idle_s=round(max(now_s - start.moved_s, 0.0), 3),
            slides_total=start.slides,
            slides_done=last.slides,
            slides_quarantined=quarantined,
            slides_in_work=len(start.in_work),
            quarantined=dict(sorted(start.quarantined.items())),
            tiles=last.tiles,
            bad_tiles=start.bad + sum(slide.bad for slide in start.in_work.values()),
            recent=_rate(last.slides - before.slides, last.tiles - before.tiles, stretch_s),
            whole=_rate(last.slides, last.tiles, elapsed_s),
            left_s=round((start.slides - last.part) * stretch_s / moved, 1)
            if state == "running" and moved > 0
            else None,
            stages={
                stage: {"seconds": round(spent, 3), "share": round(spent / all_s, 4) if all_s else 0.0}
                for stage, spent in sorted(seconds.items(), key=lambda item: -item[1])
            },
            gpu_busy=round(min(start.on_card_s / cards_s, 1.0), 4) if cards_s else None,
            starts=self._started,
            also_running=sum(one.state(now_s) == "running" for one in others),
            unreadable_lines=self._unreadable,
            newer=start.newer,
            paused=sorted(start.paused) if state == "running" else [],
            watching=start.watching if state == "running" else [],
        )


def _seconds(line: dict[str, Any]) -> dict[str, float]:
    seconds = {str(stage): float(spent) for stage, spent in line["seconds"].items()}
    if not all(math.isfinite(spent) and spent >= 0 for spent in seconds.values()):
        raise ValueError("seconds are no durations")
    return seconds


def _add(total: dict[str, float], seconds: dict[str, float]) -> None:
    for stage, spent in seconds.items():
        total[stage] = total.get(stage, 0.0) + spent


def _rate(slides: int, tiles: int, seconds: float) -> Rate:
    if seconds <= 0:
        return Rate(0.0, 0.0, 0.0)
    return Rate(round(seconds, 3), round(slides * 3600 / seconds, 2), round(tiles / seconds, 2))


def _iso(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds")
