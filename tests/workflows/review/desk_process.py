"""The desk as a process of its own, as a user starts it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
STARTS_WITHIN_S = 120.0


@dataclass
class DeskProcess:
    """A desk that listens; `said` is what it has printed."""

    process: subprocess.Popen[bytes]
    address: str
    said: Path

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; gives the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@contextmanager
def desk_process(run: Path, *options: str, port: int = 0) -> Iterator[DeskProcess]:
    """`histograde review RUN`, on a free port unless one is named; killed at the end if it still lives."""
    said = run.parent / "desk-said.txt"
    command = [sys.executable, "-m", "workflows.cli", "review", str(run), "--port", str(port), *options]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    with said.open("wb") as out:
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        yield DeskProcess(process, _address(process, said), said)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(timeout=60)


def _address(process: subprocess.Popen[bytes], said: Path) -> str:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:\d+", said.read_text()):
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"the desk did not open: {said.read_text()}")
