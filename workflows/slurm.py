"""Workers as jobs of Slurm, by way of dask-jobqueue."""

import shutil
import subprocess
import tempfile
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflows.cluster import check_versions, wait_for_worker
from wsi.errors import MissingPackageError, UsageError

if TYPE_CHECKING:
    from distributed import Client

OPTIONS: dict[str, type[int] | type[str] | type[list]] = {
    "account": str,
    "cores": int,
    "death_timeout": int,
    "interface": str,
    "job_cpu": int,
    "job_directives_skip": list,
    "job_extra_directives": list,
    "job_mem": str,
    "job_script_prologue": list,
    "local_directory": str,
    "log_directory": str,
    "memory": str,
    "python": str,
    "queue": str,
    "wait_s": int,
    "walltime": str,
    "worker_extra_args": list,
}
"""Keys of the options file, as dask-jobqueue's `SLURMCluster` has them; `wait_s` is for the first job to start.

`interface` is the network of scheduler and workers; without it they meet on loopback, which serves one machine.
"""
NEEDED = ("cores", "memory")
WAIT_S = 3600
LOST_JOBS = 5
"""Jobs that may end under one task before the slide is given up: Slurm ends jobs for reasons of its own."""
REPLACE_EVERY_S = 5.0


def read_options(path: Path | None) -> dict[str, Any]:
    """Options of the jobs from a TOML file.

    Raises
    ------
    UsageError
        If it cannot be read, has a key that is not known or of another type, or lacks one that is needed.
    """
    if path is None:
        raise UsageError(f"--cluster slurm: give --cluster-options FILE, a TOML file with {', '.join(NEEDED)} of a job")
    try:
        options = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as TOML ({error})") from error
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise UsageError(f"{path}: no option is called {', '.join(unknown)}; there are: {', '.join(OPTIONS)}")
    for name, value in options.items():
        kind = OPTIONS[name]
        sound = type(value) is kind
        if isinstance(value, list):
            sound = sound and all(isinstance(part, str) for part in value)
        if not sound or (kind is int and value < 1):
            wanted = {int: "a whole number above 0", str: "text", list: "a list of texts"}[kind]
            raise UsageError(f"{path}: {name} must be {wanted}, found {value!r}")
    if missing := [name for name in NEEDED if name not in options]:
        raise UsageError(f"{path}: {', '.join(missing)} of a job missing; for example cores = 8 and memory = '32 GB'")
    return options


@contextmanager
def slurm_jobs(jobs: int, options_file: Path | None) -> Iterator["Client"]:
    """A client whose workers are jobs of one process each; jobs that end before the work does are replaced.

    Raises
    ------
    UsageError
        If the options are wrong, Slurm refuses them or is not there, or no job starts in time.
    MissingPackageError
        If dask-jobqueue is not installed.
    """
    options = read_options(options_file)
    wait_s = options.pop("wait_s", WAIT_S)
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError as error:
        raise MissingPackageError("--cluster slurm needs dask-jobqueue: pip install 'histograde[slurm]'") from error
    import dask
    from distributed import Client

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": LOST_JOBS}),
        SLURMCluster(**_arguments(options)) as cluster,
        Client(cluster) as client,
        _kept_at(cluster, jobs, options_file),
    ):
        remedy = "see squeue; set interface in the options where jobs run on other machines, log_directory to see why"
        wait_for_worker(client, f"Slurm, {jobs} jobs", wait_s, remedy)
        check_versions(client)
        yield client


def _arguments(options: dict[str, Any]) -> dict[str, Any]:
    """What `SLURMCluster` is given: dashboards on loopback, and no files in the working directory."""
    directives = options.get("job_extra_directives", [])
    if "log_directory" not in options:
        directives = ["--output=/dev/null", *directives]
    return {
        "interface": "lo",
        "processes": 1,  # with a thread on each core, so that the encoder is loaded once
        "silence_logs": 50,
        "scheduler_options": {"dashboard_address": "127.0.0.1:0"},
        **options,
        "job_extra_directives": directives,
        "worker_extra_args": ["--dashboard-address", "127.0.0.1:0", *options.get("worker_extra_args", [])],
    }


@contextmanager
def _kept_at(cluster: Any, jobs: int, options_file: Path | None) -> Iterator[None]:
    """Hold the number of jobs: Dask strikes those that were lost, and asks for new ones when told to scale again."""
    _check_accepted(cluster.job_script(), options_file)
    ended = threading.Event()

    def replace_lost() -> None:
        while not ended.wait(REPLACE_EVERY_S):
            cluster.scale(jobs=jobs)

    cluster.scale(jobs=jobs)
    keeper = threading.Thread(target=replace_lost, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()


def _check_accepted(script: str, options_file: Path | None) -> None:
    """Ask Slurm whether it would take such a job; Dask would only log that it does not."""
    if shutil.which("sbatch") is None:
        raise UsageError("--cluster slurm: there is no sbatch here; run it where jobs are submitted")
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as handle:
        handle.write(script)
        handle.flush()
        told = subprocess.run(["sbatch", "--test-only", handle.name], capture_output=True, text=True, check=False)
    if told.returncode:
        why = " ".join(told.stderr.split()) or f"sbatch ended with {told.returncode}"
        raise UsageError(f"Slurm refuses such a job ({why}); check {options_file}")
