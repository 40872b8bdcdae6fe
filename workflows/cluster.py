"""Where tasks run: threads of this process, worker processes here, a scheduler that runs already, or jobs of Slurm.

Dask is the engine in all of them. Where tasks run is a fact about machines and never changes a result.
"""

import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from workflows.config import versions
from workflows.local_workers import kept_alive
from wsi.errors import UsageError, WsiError
from wsi.store_url import StorePath, StoreUrl
from wsi.threads import usable_cores

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

CLUSTERS = ("slurm",)
ADDRESS = re.compile(r"(tcp|tls)://[^/\s]+:\d+")
CONNECT_S = 15.0
"""How long a scheduler may take to answer."""
FIRST_WORKER_S = 600.0
"""How long a scheduler may be without any worker."""
SAY_AFTER_S = 3.0
START_TRIES = 3

ENGINE = ("python", "dask", "distributed")
"""What a scheduler must have in the version that is here; workers must have all that can change a result."""


@contextmanager
def connect(
    workers: int = 0,
    scheduler: str | None = None,
    cluster: str | None = None,
    cluster_options: Path | None = None,
) -> Iterator["Client"]:
    """A Dask client.

    Parameters
    ----------
    workers : int
        0: this process, one thread a core. N: N processes of one thread on this machine, or N jobs of `cluster`.
    scheduler : str, optional
        `tcp://HOST:PORT` or `tls://HOST:PORT` of a scheduler that runs already; TLS as Dask's configuration says.
    cluster : str, optional
        "slurm".
    cluster_options : Path, optional
        TOML file of `workflows.slurm.OPTIONS`.

    Raises
    ------
    UsageError
        If these contradict each other, a scheduler cannot be reached, no worker comes, or one has other versions.
    MissingPackageError
        If dask-jobqueue is needed and not installed.
    """
    import dask
    import distributed  # noqa: F401  # brings its defaults, which the settings below must not keep from coming

    place: AbstractContextManager[Client]
    if scheduler is not None:
        _check_alone("--scheduler", {"--workers": workers, "--cluster": cluster, "--cluster-options": cluster_options})
        place = _existing(scheduler)
    elif cluster is not None:
        if cluster not in CLUSTERS:
            raise UsageError(f"--cluster {cluster}: not known; there is {', '.join(CLUSTERS)}")
        if not workers:
            raise UsageError(f"--cluster {cluster}: say with --workers N how many jobs to ask for")
        from workflows.slurm import slurm_jobs

        place = slurm_jobs(workers, cluster_options)
    else:
        if cluster_options is not None:
            raise UsageError("--cluster-options: is for jobs; add --cluster slurm")
        place = _on_this_machine(workers)
    settings = {
        "distributed.scheduler.allowed-failures": 0,  # the loop counts itself, and knows which tasks ran
        "distributed.worker.daemon": True,
        "distributed.comm.timeouts.connect": "60s",
        "distributed.admin.tick.limit": "60s",
        # what Dask keeps of its own doings grows for hours, by 0.2 MB a slide
        "distributed.worker.profile.enabled": False,
        "distributed.admin.low-level-log-length": 100,
        "distributed.admin.system-monitor.log-length": 60,
    }
    with dask.config.set(settings), place as client:
        yield client


def _check_alone(option: str, others: Mapping[str, Any]) -> None:
    if given := [name for name, value in others.items() if value]:
        raise UsageError(f"{option} goes without {', '.join(given)}: the scheduler has its own workers")


@contextmanager
def _on_this_machine(workers: int) -> Iterator["Client"]:
    import dask
    from distributed import Client

    settings: dict[str, Any] = {
        # else Dask gives a worker up for good that is on its way back that long after it first ended
        "distributed.deploy.lost-worker-timeout": "365 days",
    }
    if not workers:
        # the worker is this process: silence says that the machine slept, and nobody would bring the worker back
        settings["distributed.scheduler.worker-ttl"] = None
    with (
        dask.config.set(settings),
        _local_cluster(workers) as cluster,
        Client(cluster) as client,
        kept_alive(cluster) if workers else nullcontext(),
    ):
        yield client


def _local_cluster(workers: int) -> "LocalCluster":
    """A cluster on this machine; tried again where a worker is killed while it starts."""
    from distributed import LocalCluster

    for tries_left in reversed(range(START_TRIES)):
        try:
            return LocalCluster(
                n_workers=max(workers, 1),
                threads_per_worker=1 if workers else usable_cores(),
                processes=workers > 0,
                host="127.0.0.1" if workers else None,
                dashboard_address="127.0.0.1:0",  # None takes port 8787, and complains where another run has it
                worker_dashboard_address="127.0.0.1:0",
                silence_logs=50,
                memory_limit=0,
            )
        except RuntimeError:
            if not (tries_left and workers):
                raise
    raise AssertionError("unreachable")


@contextmanager
def _existing(address: str) -> Iterator["Client"]:
    from distributed import Client
    from distributed.versions import VersionMismatchWarning

    if not ADDRESS.fullmatch(address):
        raise UsageError(f"--scheduler {address}: expected tcp://HOST:PORT or tls://HOST:PORT")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VersionMismatchWarning)  # a table; `check_versions` says it in one line
        try:
            client = Client(address, timeout=CONNECT_S)
        except OSError as error:
            raise UsageError(
                f"--scheduler {address}: no Dask scheduler answers there within {CONNECT_S:g} s; check that it runs, "
                "its address, and whether it wants tls://"
            ) from error
        except (TypeError, ValueError, ImportError) as error:
            raise UsageError(
                f"--scheduler {address}: {error}; set distributed.comm.tls in Dask's configuration for tls://"
            ) from error
    with client:
        wait_for_worker(client, f"the scheduler {address}", FIRST_WORKER_S, f"start one with: dask worker {address}")
        check_versions(client)
        yield client


def wait_for_worker(client: "Client", place: str, limit_s: float, remedy: str) -> None:
    """Wait until there is a worker, and say so if that takes long.

    Raises
    ------
    UsageError
        If none comes in time.
    """
    start = time.monotonic()
    said = False
    while not client.nthreads():
        waited_s = time.monotonic() - start
        if waited_s > limit_s:
            raise UsageError(f"{place}: no worker came within {limit_s:g} s; {remedy}")
        if waited_s > SAY_AFTER_S and not said:
            print(f"{place}: waiting up to {limit_s:g} s for a first worker", file=sys.stderr, flush=True)
            said = True
        time.sleep(0.1)


def check_versions(client: "Client") -> None:
    """Refuse a scheduler or workers whose versions could change a result, or break the work half way.

    Raises
    ------
    UsageError
        It names the first difference.
    """
    here = versions()
    engine = cast("dict[str, Any]", client.get_versions())["scheduler"]["packages"]
    _check_same("the scheduler", {name: engine[name] for name in ENGINE}, {**here, **_installed(ENGINE[1:])}, ENGINE)
    try:
        found = client.run(versions)
    except Exception as error:  # whatever a worker's import may raise
        raise UsageError(
            f"a worker cannot import histograde ({type(error).__name__}: {error}); install the same version there"
        ) from error
    for address, there in sorted(found.items()):
        _check_same(f"the worker {address}", there, here, sorted({*here, *there} - {"platform"}))


def _installed(packages: tuple[str, ...]) -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in packages}


def _check_same(place: str, there: Mapping[str, str], here: Mapping[str, str], names: Any) -> None:
    for name in names:
        theirs, ours = (_comparable(name, side.get(name, "missing")) for side in (there, here))
        if theirs != ours:
            raise UsageError(f"{place}: {name} is {theirs} there and {ours} here; install the same versions on both")


def _comparable(name: str, version: str) -> str:
    """A version without what may differ: the patch of Python, the build (`+cpu`) of a package."""
    return ".".join(version.split(".")[:2]) if name == "python" else version.partition("+")[0]


def check_folder_is_shared(client: "Client", folder: Path) -> None:
    """Refuse workers that do not see a folder of this machine.

    Raises
    ------
    UsageError
        It names the first such worker.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder.absolute() / f".seen-{uuid4().hex}"
    mark.touch()
    try:
        seen = client.run(os.path.exists, str(mark), on_error="ignore")
    finally:
        mark.unlink()
    if blind := sorted(address for address, there in seen.items() if not there):
        raise UsageError(
            f"{folder}: {len(blind)} of {len(seen)} workers do not see this folder, the first is {blind[0]}; "
            "use a folder that all machines share under one path"
        )


def check_store_is_shared(client: "Client", store: StorePath) -> None:
    """Refuse workers that do not see the folder of the stores, or do not reach their bucket.

    Raises
    ------
    UsageError
        It names the first such worker.
    """
    if isinstance(store, Path):
        check_folder_is_shared(client, store)
        return
    for address, error in sorted(client.run(_met_at, store).items()):
        if error:
            raise UsageError(f"{store}: the worker {address} does not reach it ({error}); set AWS_... for workers too")


def _met_at(store: StoreUrl) -> str:
    """What goes wrong with a bucket here, in words."""
    try:
        store.is_dir()
    except WsiError as error:
        return str(error)
    return ""
