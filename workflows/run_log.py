"""The log of a run: one JSON object a line, appended to `log.jsonl` in the run's folder or the stores' folder.

Every line has `time` (UTC), `run` (an id of this start; the same command started again appends with another) and
`event`; the others by event:

    begin    version, command, slides, encoder, device, chunk_tiles, workers, pid, host, versions, watching (folders, as
             the user named them; empty if none is watched)
    found    slides: how many there are by now, where a folder is watched
    planned  slide, content, tiles, chunks (still to be computed), seconds
    chunk    slide, chunk, tiles, bad, seconds, device ("cpu", or which card of which machine), computed
             (false: it lay there, its worker having ended before it could say so)
    retry    slide, stage, error_class, after_s (null: by itself, when all other slides are through)
    pause    reason: a class of failure, while work waits for something outside ("disk_full", "vanished")
    resume   reason
    slide    slide, outcome "done": tiles, bad, chunks, seconds; "quarantined": error_class, stage, seconds
    alive    nothing: written where nothing else was for a while, so that a dead run differs from a slow one
    end      outcome "finished", "interrupted" or "failed" (with error_class), dropped

`seconds` is by stage; of `slide` it is the sum over all of the slide. A slide's id, path and message may name a patient
and are never written: `slide` is its number in the order in which the run took it up, `content` the first digits of
its content hash, by which `run.json` has its id. Nothing that a run computes reads this file.
"""

import json
import os
import socket
import sys
import threading
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from workflows.config import versions
from workflows.extraction import ExtractConfig
from workflows.failures import Failure
from workflows.listeners import ChunkDone, Listener, Plan, SlideResult
from workflows.run_state import LOG, LOG_VERSION
from wsi.errors import WsiError

ALIVE_EVERY_S = 30.0
CONTENT_DIGITS = 12


class RunLog(Listener):
    """Appends what it hears, as a context manager that lasts as long as the run.

    It never ends a run: lines that cannot be written (a full disk, no permission) are dropped and counted.

    Parameters
    ----------
    folder : Path
        Where `log.jsonl` lies; must be there.
    slides : int
        How many are to be done.
    config : ExtractConfig
    watching : sequence of Path
        Folders that are watched for more.
    """

    def __init__(
        self,
        folder: Path,
        command: str,
        slides: int,
        config: ExtractConfig,
        watching: Sequence[Path] = (),
        *,
        alive_every_s: float = ALIVE_EVERY_S,
    ) -> None:
        self.dropped = 0
        self._path = folder / LOG
        self._alive_every_s = alive_every_s
        self._run = uuid.uuid4().hex[:8]
        self._numbers: dict[str, int] = {}
        self._taken_up = 0
        self._file: int | None = None
        self._torn = False
        self._fault = ""
        self._lock = threading.Lock()
        self._over, self._spoke = threading.Event(), threading.Event()
        self._pulse = threading.Thread(target=self._beat, daemon=True)
        self._facts = {
            "version": LOG_VERSION,
            "command": command,
            "slides": slides,
            "encoder": config.encoder,
            "device": config.device,
            "chunk_tiles": config.chunk_tiles,
            "workers": config.workers,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "versions": versions(),
            "watching": list(map(str, watching)),
        }

    def __enter__(self) -> "RunLog":
        try:
            self._file, self._torn = _open(self._path)
        except OSError as error:
            self._fault = error.strerror or str(error)
        self._write("begin", self._facts)
        self._pulse.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._pulse.join()
        self._write("end", _outcome(error) | {"dropped": self.dropped})
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self.dropped:
            lines = f"{self.dropped} lines of {LOG} could not be written ({self._fault})"
            print(f"{lines}; results are not touched by it", file=sys.stderr, flush=True)

    def found(self, slides: int) -> None:
        self._write("found", {"slides": slides})

    def planned(self, plan: Plan) -> None:
        facts = {"content": plan.content_hash[:CONTENT_DIGITS], "tiles": plan.tiles, "chunks": len(plan.chunks)}
        self._write("planned", {"slide": self._number(plan.slide_id), **facts, "seconds": _rounded(plan.seconds)})

    def chunk(self, done: ChunkDone) -> None:
        facts = {"chunk": done.chunk, "tiles": done.tiles, "bad": done.bad, "seconds": _rounded(done.seconds)}
        where = {"device": done.device, "computed": done.computed}
        self._write("chunk", {"slide": self._number(done.slide_id), **facts, **where})

    def retried(self, failure: Failure, after_s: float | None) -> None:
        facts = {"stage": failure.stage, "error_class": failure.error_class, "after_s": after_s}
        self._write("retry", {"slide": self._number(failure.slide_id), **facts})

    def paused(self, reason: str, message: str) -> None:
        self._write("pause", {"reason": reason})

    def resumed(self, reason: str) -> None:
        self._write("resume", {"reason": reason})

    def slide(self, result: SlideResult) -> None:
        facts: dict[str, Any]
        if result.failure is None:
            facts = {"outcome": "done", "tiles": result.tiles, "bad": result.bad, "chunks": result.chunks}
        else:
            facts = {
                "outcome": "quarantined",
                "error_class": result.failure.error_class,
                "stage": result.failure.stage,
            }
        number = self._number(result.source.slide_id)
        del self._numbers[result.source.slide_id]
        self._write("slide", {"slide": number, **facts, "seconds": _rounded(result.seconds)})

    def _number(self, slide_id: str) -> int:
        if slide_id not in self._numbers:
            self._taken_up += 1
            self._numbers[slide_id] = self._taken_up
        return self._numbers[slide_id]

    def _beat(self) -> None:
        while not self._over.wait(self._alive_every_s):
            if not self._spoke.is_set():
                self._write("alive", {})
            self._spoke.clear()

    def _write(self, event: str, facts: dict[str, Any]) -> None:
        """One line in one call, so that a reader meets whole lines, and those of two runs do not mix."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "run": self._run, "event": event, **facts}).encode() + b"\n"
        with self._lock:
            self._spoke.set()
            try:
                whole = self._file is not None and self._append(self._file, line)
            except OSError as error:
                whole, self._fault = False, error.strerror or str(error)
            self.dropped += not whole

    def _append(self, file: int, line: bytes) -> bool:
        """Whether the line was written whole; half a line is ended by the next one."""
        data = b"\n" + line if self._torn else line
        self._torn = os.write(file, data) < len(data)
        if self._torn:
            self._fault = "the disk took a part of a line"
        return not self._torn


def _open(path: Path) -> tuple[int, bool]:
    """The log to append to, and whether a crash left half a line at its end."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    if not os.lseek(file, 0, os.SEEK_END):
        return file, False
    os.lseek(file, -1, os.SEEK_END)
    return file, os.read(file, 1) != b"\n"


def _outcome(error: BaseException | None) -> dict[str, str]:
    if error is None:
        return {"outcome": "finished"}
    if isinstance(error, KeyboardInterrupt):
        return {"outcome": "interrupted"}
    return {"outcome": "failed", "error_class": error.code if isinstance(error, WsiError) else type(error).__name__}


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {stage: round(spent, 4) for stage, spent in seconds.items()}
