"""Workers as jobs of a real Slurm on loopback; and what its options file must hold."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest

from tests.workflows.dask_processes import REPOSITORY
from tests.workflows.slurm_site import slurm_site
from tests.workflows.test_cluster import LOOPBACK, listener, only_linux
from tests.workflows.test_existing_scheduler import TINY_CHUNKS, files_of, when_begun
from workflows.cluster import connect
from workflows.extract import extract
from workflows.extraction import ExtractConfig
from workflows.slurm import read_options
from workflows.sources import find_slides
from wsi.errors import UsageError

services = pytest.mark.services


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The options file of small jobs; Slurm runs as long as the module does."""
    pytest.importorskip("dask_jobqueue")
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as environment, slurm_site(folder, environment):
        path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
        environment.setenv("PYTHONPATH", path)
        file = folder / "jobs.toml"
        file.write_text(f"cores = 1\nmemory = '1 GB'\nwait_s = 60\nlog_directory = '{folder}/logs'\n")
        yield file
        assert running_jobs() == []


def running_jobs() -> list[str]:
    """Ids of the jobs that run, the oldest first."""
    command = ["squeue", "--noheader", "--states=RUNNING", "--format=%i", "--sort=i"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def wait_for_jobs(count: int) -> list[str]:
    deadline = time.monotonic() + 60
    while len(jobs := running_jobs()) != count:
        assert time.monotonic() < deadline, f"{len(jobs)} jobs run, expected {count}"
        time.sleep(0.1)
    return jobs


@services
def test_a_job_cancelled_in_mid_run_changes_nothing(tmp_path: Path, options: Path, small_svs: Path) -> None:
    alone = tmp_path / "alone"
    extract(find_slides([small_svs]), ExtractConfig(alone, **TINY_CHUNKS))
    stores = tmp_path / "stores"
    cancelled: list[str] = []

    def cancel() -> None:
        cancelled.append(running_jobs()[0])
        subprocess.run(["scancel", *cancelled], check=True)

    killer = when_begun(stores, cancel)
    place = {"workers": 2, "cluster": "slurm", "cluster_options": options}
    summary = extract(find_slides([small_svs]), ExtractConfig(stores, **TINY_CHUNKS, **place))
    killer.join()
    assert len(cancelled) == 1
    assert summary.quarantined == []
    assert files_of(stores) == files_of(alone)


@services
@only_linux
def test_jobs_listen_on_loopback_only_and_a_lost_one_is_replaced(options: Path) -> None:
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"}),
        connect(2, cluster="slurm", cluster_options=options) as client,
    ):
        client.wait_for_workers(2, timeout=60)
        for addresses in client.run(listener()).values():
            assert addresses
            assert set(addresses) == {LOOPBACK}
        first, second = wait_for_jobs(2)
        subprocess.run(["scancel", first], check=True)
        while len(jobs := running_jobs()) != 1:
            time.sleep(0.05)
        assert jobs == [second]
        after = wait_for_jobs(2)
        assert second in after
        assert first not in after
    wait_for_jobs(0)


@services
def test_what_slurm_refuses_is_one_line(tmp_path: Path, options: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("cores = 1\nmemory = '1 GB'\nqueue = 'nowhere'\n")
    with (
        pytest.raises(
            UsageError, match=r"Slurm refuses such a job \(.*invalid partition.*\); check .*wrong.toml"
        ) as end,
        connect(1, cluster="slurm", cluster_options=wrong),
    ):
        pass
    assert "\n" not in str(end.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cores = ", "cannot be read as TOML"),
        ("cores = 2\nmemory = '4 GB'\npartition = 'a'", "no option is called partition; there are: account, cores"),
        ("cores = 'two'\nmemory = '4 GB'", "cores must be a whole number above 0, found 'two'"),
        ("cores = 0\nmemory = '4 GB'", "cores must be a whole number above 0, found 0"),
        ("cores = true\nmemory = '4 GB'", "cores must be a whole number above 0, found True"),
        ("cores = 2\nmemory = 4", "memory must be text, found 4"),
        ("cores = 2\nmemory = '4 GB'\njob_extra_directives = [1]", "job_extra_directives must be a list of texts"),
        ("cores = 2", "memory of a job missing"),
    ],
)
def test_a_wrong_options_file_is_said_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "jobs.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as end:
        read_options(file)
    assert message in str(end.value)
    assert "\n" not in str(end.value)


def test_an_options_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_options(tmp_path / "none.toml")
