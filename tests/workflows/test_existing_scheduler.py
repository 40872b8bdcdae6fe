"""The same extraction on a scheduler that runs already, with workers in another working directory."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.workflows.dask_processes import DaskProcesses, dask_processes
from workflows import cluster
from workflows.cli import main
from workflows.cluster import check_folder_is_shared, connect
from workflows.extract import extract
from workflows.extraction import ExtractConfig
from workflows.sources import find_slides
from wsi.errors import LostSchedulerError, UsageError
from wsi.tiles import TileSpec

TINY_CHUNKS = {"encoder": "toy", "tiles": TileSpec(stride_px=96), "chunk_tiles": 2}

services = pytest.mark.services


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    with dask_processes(tmp_path_factory.mktemp("dask"), workers=2) as processes:
        yield processes


def files_of(root: Path) -> dict[str, bytes]:
    """Bytes of every file of the stores; `.source.json` holds time stamps and may differ."""
    stores = [path for path in root.rglob("*") if path.is_file() and ".zarr" in str(path.relative_to(root))]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in stores if path.name != ".source.json"}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, small_svs: Path) -> dict[str, bytes]:
    """The stores as this process makes them."""
    root = tmp_path_factory.mktemp("here")
    assert extract(find_slides([small_svs]), ExtractConfig(root, **TINY_CHUNKS)).chunks > 20
    return files_of(root)


def when_begun(root: Path, act: Callable[[], object]) -> threading.Thread:
    """Do something in a thread of its own once two chunks are in the journal; fails the test by not acting."""

    def wait() -> None:
        deadline = time.monotonic() + 60
        while len(list(root.glob("small.zarr/features/.toy.partial/.journal/[0-9]*.json"))) < 2:
            if time.monotonic() > deadline:
                return
            time.sleep(0.002)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@services
def test_stores_are_equal_byte_for_byte_though_all_paths_are_relative(
    tmp_path: Path, running: DaskProcesses, small_svs: Path, here: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.svs").symlink_to(small_svs)
    config = ExtractConfig(Path("stores"), scheduler=running.address, **TINY_CHUNKS)
    summary = extract(find_slides(["small.svs"]), config)
    assert summary.quarantined == []
    assert files_of(tmp_path / "stores") == here
    assert not list(running.elsewhere.iterdir())


@services
def test_chunks_of_a_killed_worker_are_done_by_another(
    tmp_path: Path, running: DaskProcesses, small_svs: Path, here: dict[str, bytes]
) -> None:
    victim = running.add_worker()
    with connect(scheduler=running.address) as client:
        client.wait_for_workers(3, timeout=60)
    killer = when_begun(tmp_path, victim.kill)
    summary = extract(find_slides([small_svs]), ExtractConfig(tmp_path, scheduler=running.address, **TINY_CHUNKS))
    killer.join()
    assert victim.wait(10) < 0, "the worker was not killed"
    assert summary.quarantined == []
    assert files_of(tmp_path) == here


@services
def test_a_scheduler_that_dies_ends_the_run_and_the_work_goes_on_later(
    tmp_path: Path, small_svs: Path, here: dict[str, bytes]
) -> None:
    (tmp_path / "dask").mkdir()
    stores = tmp_path / "stores"
    with dask_processes(tmp_path / "dask", workers=1) as mortal:
        killer = when_begun(stores, mortal.stop)
        with pytest.raises(LostSchedulerError, match="run the same command again"):
            extract(find_slides([small_svs]), ExtractConfig(stores, scheduler=mortal.address, **TINY_CHUNKS))
        killer.join()
    extract(find_slides([small_svs]), ExtractConfig(stores, **TINY_CHUNKS))
    assert files_of(stores) == here


@services
def test_workers_that_do_not_see_the_folder_are_refused(
    tmp_path: Path, running: DaskProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(scheduler=running.address) as client:
        check_folder_is_shared(client, tmp_path / "new")
        assert not list((tmp_path / "new").iterdir())
        monkeypatch.setattr(os.path, "exists", os.path.isdir)  # as a worker without the mount: it sees no such file
        with pytest.raises(UsageError, match=r"(\d) of \1 workers do not see this folder, the first is tcp://127"):
            check_folder_is_shared(client, tmp_path)


@services
def test_other_versions_are_refused_in_one_line(running: DaskProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {**cluster.versions(), "numpy": "1.0.0+here"}
    monkeypatch.setattr(cluster, "versions", Versions(ours))
    with (
        pytest.raises(UsageError, match=r"the worker tcp://127.*: numpy is [2-9]\..* there and 1.0.0 here"),
        connect(scheduler=running.address),
    ):
        pass


class Versions:
    """Says the given versions here, and on workers what is true there."""

    def __init__(self, here: dict[str, str]) -> None:
        self.here = here

    def __call__(self) -> dict[str, str]:
        return self.here

    def __reduce__(self) -> tuple:
        from workflows.config import versions

        return _itself, (versions,)


def _itself(value: object) -> object:
    return value


@services
def test_a_worker_without_histograde_is_refused_and_one_without_workers_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other" / "workflows").mkdir(parents=True)
    (tmp_path / "other" / "workflows" / "__init__.py").write_text("raise ImportError('another package')")
    monkeypatch.setattr(cluster, "SAY_AFTER_S", 0.0)
    with dask_processes(tmp_path, workers=0) as processes:
        monkeypatch.setattr(cluster, "FIRST_WORKER_S", 0.5)
        with pytest.raises(UsageError, match="no worker came within 0.5 s"), connect(scheduler=processes.address):
            pass
        assert f"the scheduler {processes.address}: waiting up to 0.5 s" in capsys.readouterr().err
        processes.add_worker(python_path=tmp_path / "other")
        monkeypatch.setattr(cluster, "FIRST_WORKER_S", 60.0)
        with pytest.raises(UsageError, match="cannot import histograde"), connect(scheduler=processes.address):
            pass


def run_cli(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str]:
    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    return end.value.code, capsys.readouterr().err


def test_a_scheduler_that_cannot_be_reached_is_one_line(
    tmp_path: Path, small_svs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can take it, and it refuses
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        code, shown = run_cli(
            capsys, "extract", small_svs, "--store", tmp_path, "--encoder", "toy", "--scheduler", address
        )
    assert code == 2
    assert shown.splitlines() == [
        f"histograde: --scheduler {address}: no Dask scheduler answers there within 0.5 s; check that it runs, its "
        "address, and whether it wants tls://"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scheduler", "127.0.0.1:8786"), "expected tcp://HOST:PORT"),
        (("--scheduler", "tcp://a:1", "--workers", "2"), "--scheduler goes without --workers"),
        (("--scheduler", "tcp://a:1", "--cluster", "slurm"), "--scheduler goes without --cluster"),
        (("--cluster", "pbs", "--workers", "2"), "--cluster pbs: not known; there is slurm"),
        (("--cluster", "slurm"), "say with --workers N"),
        (("--cluster", "slurm", "--workers", "2"), "give --cluster-options FILE"),
        (("--cluster-options", "jobs.toml"), "add --cluster slurm"),
        (("--scheduler", "tls://127.0.0.1:1"), "distributed.comm.tls"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(
    tmp_path: Path, small_svs: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    code, shown = run_cli(capsys, "extract", small_svs, "--store", tmp_path, "--encoder", "toy", *options)
    assert code == 2
    (line,) = shown.splitlines()
    assert message in line
