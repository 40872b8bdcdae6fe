"""Where tasks run, and that nothing of it can be reached from another machine."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from workflows.cluster import connect
from wsi.threads import usable_cores


def listener() -> Callable[[], list[str]]:
    """A function that lists the addresses at which the process that calls it accepts connections, as the kernel has it.

    It is made here so that it travels to worker processes by value.
    """

    def listening() -> list[str]:
        import os
        from pathlib import Path

        own = set()
        for handle in os.listdir("/proc/self/fd"):
            try:
                own.add(os.readlink(f"/proc/self/fd/{handle}"))
            except FileNotFoundError:  # the handle of the listing itself
                continue
        found = []
        for table in ("tcp", "tcp6"):
            for line in Path("/proc/self/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
                    found.append(fields[1].partition(":")[0])
        return found

    return listening


LOOPBACK = "0100007F"
SLOW_START_S = 17
"""Longer than Dask by itself waits for a worker to be replaced."""

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads the kernel's tables of sockets")


def test_a_machine_that_slept_has_not_lost_its_only_worker() -> None:
    """Dask removes workers it has not heard of for five minutes; this process cannot be removed from itself."""
    with connect(0) as client:
        scheduler = client.cluster.scheduler
        for worker in scheduler.workers.values():
            worker.last_seen -= 3600
        assert scheduler.worker_ttl is None
        assert "worker-ttl" not in scheduler.periodic_callbacks, "nothing looks for workers that are silent"
        assert client.submit(os.getpid).result(timeout=60) == os.getpid()


@only_linux
def test_in_this_process_only_loopback_listens() -> None:
    before = listener()()
    with connect(0) as client:
        assert client.submit(os.getpid).result() == os.getpid()
        after = listener()()
    for address in before:
        after.remove(address)
    assert set(after) <= {LOOPBACK}


@only_linux
@pytest.mark.slow
def test_worker_processes_listen_on_loopback_only() -> None:
    with connect(2) as client:
        found = client.run(listener())
        places = client.run(os.getpid)
    assert len(set(places.values()) - {os.getpid()}) == 2
    for addresses in found.values():
        assert addresses
        assert set(addresses) == {LOOPBACK}


def pid_after(seconds: float) -> int:
    """Which process did this; a worker that is being closed does not come to its end."""
    time.sleep(seconds)
    return os.getpid()


@pytest.mark.slow
def test_a_worker_that_is_slow_to_come_back_is_waited_for(tmp_path: Path) -> None:
    import dask
    import distributed  # noqa: F401  # brings its defaults

    slow, script = tmp_path / "slow", tmp_path / "start.py"
    script.write_text(f"""import os, time
def dask_setup(worker):
    time.sleep({SLOW_START_S} * os.path.exists({str(slow)!r}))
""")
    with dask.config.set({"distributed.worker.preload": [str(script)]}), connect(1) as client:
        first = client.submit(os.getpid).result()
        slow.touch()
        os.kill(first, signal.SIGKILL)
        while client.nthreads():
            time.sleep(0.05)
        assert client.submit(pid_after, 5).result(timeout=180) != first


def test_a_thread_on_each_usable_core() -> None:
    with connect(0) as client:
        (threads,) = client.nthreads().values()
    assert threads == usable_cores()


def test_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 6}, raising=False)
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1
