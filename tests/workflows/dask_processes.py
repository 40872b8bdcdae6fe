"""A Dask scheduler and workers as processes of their own on loopback, as somebody else would have started them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LOOPBACK = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")


class DaskProcesses:
    """Use `dask_processes`. `address` is the scheduler's; `scheduler` and `workers` are its processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()
        file = folder / "scheduler.json"
        self.workers: list[subprocess.Popen] = []
        self.scheduler = self._start("dask_scheduler", "--port", "0", "--scheduler-file", file, *LOOPBACK)
        deadline = time.monotonic() + 60
        while not file.is_file():
            assert self.scheduler.poll() is None, self.log("dask_scheduler")
            assert time.monotonic() < deadline, self.log("dask_scheduler")
            time.sleep(0.05)
        self.address = json.loads(file.read_text())["address"]

    def log(self, program: str) -> str:
        """What a program wrote."""
        return (self.folder / f"{program}.log").read_text(errors="replace")

    def add_worker(self, python_path: Path = REPOSITORY) -> subprocess.Popen:
        """Start a worker of one thread that sees the code in a folder."""
        options = ("--nthreads", 1, "--no-nanny", "--local-directory", self.folder / "scratch", *LOOPBACK)
        self.workers.append(self._start("dask_worker", self.address, *options, python_path=python_path))
        return self.workers[-1]

    def _start(self, program: str, *options: object, python_path: Path = REPOSITORY) -> subprocess.Popen:
        with (self.folder / f"{program}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{program}", *map(str, options)],
                cwd=self.elsewhere,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(python_path), _inherited()]))},
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        """End all of them."""
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


def _inherited() -> str:
    return os.environ.get("PYTHONPATH", "")


@contextmanager
def dask_processes(folder: Path, workers: int) -> Iterator[DaskProcesses]:
    """A scheduler with so many workers, in another working directory than this process."""
    processes = DaskProcesses(folder)
    try:
        for _ in range(workers):
            processes.add_worker()
        yield processes
    finally:
        processes.stop()
