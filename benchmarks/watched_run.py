"""A run of `histograde` as a process of its own: started, watched from outside, and killed.

Nothing here imports what it watches: what is known of a run is its processes, its folder and its log.
Only processes that were started here, and their children, are ever ended.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).resolve().parents[1]
WORKING = ("planned", "chunk", "slide")


def environment(*folders: Path) -> dict[str, str]:
    """The environment of a run, with more folders on Python's path."""
    path = [str(REPOSITORY), *map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}


def command_line(*arguments: object) -> list[str]:
    """`histograde ARGUMENTS` with this Python and this working tree."""
    return [sys.executable, "-m", "workflows.cli", *map(str, arguments)]


def histograde(*arguments: object) -> str:
    """Run a command to its end; what it printed.

    Raises
    ------
    RuntimeError
        If it failed; with the end of what it said.
    """
    done = subprocess.run(command_line(*arguments), env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"histograde {arguments[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


class WatchedRun:
    """A command that may be killed and started again.

    Parameters
    ----------
    arguments : list
        Of `histograde`.
    said : Path
        File to which what it prints is appended.
    python_path : Path
        A folder more on Python's path.
    """

    def __init__(self, arguments: list[object], said: Path, python_path: Path) -> None:
        self._command = command_line(*arguments)
        self._said = said
        self._environment = environment(python_path)
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: set[psutil.Process] = set()
        self.starts = 0

    def start(self) -> None:
        """Start the command; an earlier start must have ended."""
        self.starts += 1
        with self._said.open("ab") as said:
            self._process = subprocess.Popen(self._command, env=self._environment, stdout=said, stderr=said)

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        assert self._process is not None
        return self._process.poll()

    @property
    def pid(self) -> int:
        """Process id of the newest start."""
        assert self._process is not None
        return self._process.pid

    def children(self) -> list[psutil.Process]:
        """All processes below the run."""
        try:
            found = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        self._seen.update(found)
        return found

    def workers(self) -> list[psutil.Process]:
        """The worker processes of its cluster, by age."""
        found = []
        for child in self.children():
            try:
                if "spawn_main" in " ".join(child.cmdline()):
                    found.append(child)
            except psutil.Error:
                continue
        return sorted(found, key=lambda one: one.create_time())

    def kill(self, *, workers_too: bool) -> None:
        """SIGKILL, to the run alone or to all of its processes, and wait until it is gone."""
        assert self._process is not None
        children = self.children()
        self._process.kill()
        if workers_too:
            for child in children:
                kill(child)
        self._process.wait()

    def stop(self) -> None:
        """End whatever is left of it."""
        if self._process is not None and self._process.poll() is None:
            self.kill(workers_too=True)
        for orphan in self.left_behind():
            kill(orphan)

    def left_behind(self, wait_s: float = 0.0) -> list[psutil.Process]:
        """Processes that outlived their run by so much."""
        _, alive = psutil.wait_procs(list(self._seen), timeout=wait_s)
        return [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

    def last_words(self) -> str:
        """The end of what it said."""
        return self._said.read_text(errors="replace")[-2000:] if self._said.exists() else ""


def kill(process: psutil.Process) -> bool:
    """SIGKILL one process; False where it was gone already."""
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return False
    return True


class LogTail:
    """The lines of a run's log as they come; `lines` has all of them so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place, self._rest = 0, b""
        self.lines: list[dict[str, Any]] = []
        self.moves = 0

    def read(self) -> list[dict[str, Any]]:
        """Take up what is new, and return it; a line that a crash cut is left out."""
        try:
            with self._path.open("rb") as log:
                log.seek(self._place)
                data = log.read()
        except FileNotFoundError:
            return []
        self._place += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        new = [line for line in map(_parsed, whole) if line is not None]
        self.lines += new
        self.moves += sum(line["event"] in WORKING for line in new)
        return new


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "event" in found else None
