"""Where tasks run: threads of this process, or worker processes. Dask is the engine in both."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client


def usable_cores() -> int:
    """Cores that this process may use. It sets how much runs at once, never what comes out."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def connect(workers: int = 0) -> Iterator["Client"]:
    """A Dask client.

    Parameters
    ----------
    workers : int
        0: this process, one thread a core. N: N processes of one thread on this machine.
    """
    import dask
    from distributed import Client, LocalCluster

    settings = {
        "distributed.scheduler.allowed-failures": 2,
        "distributed.worker.daemon": True,
        "distributed.comm.timeouts.connect": "60s",
        "distributed.admin.tick.limit": "60s",
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=max(workers, 1),
            threads_per_worker=1 if workers else usable_cores(),
            processes=workers > 0,
            host="127.0.0.1" if workers else None,
            dashboard_address="127.0.0.1:0",  # None takes port 8787, and complains where another run has it
            worker_dashboard_address="127.0.0.1:0",
            silence_logs=50,
            memory_limit=0,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
