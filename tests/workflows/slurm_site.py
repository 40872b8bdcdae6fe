"""Slurm for real, on loopback and for one test, with a configuration, key and socket of its own."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue", "sinfo")
READY_S = 60.0

CONFIG = """\
ClusterName=test
SlurmctldHost={node}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={slurmctld_port}
SlurmdPort={slurmd_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SchedulerParameters=sched_interval=2
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=2
NodeName={node} NodeAddr=127.0.0.1 CPUs=4 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes={node} Default=YES State=UP
"""


@contextmanager
def slurm_site(folder: Path, environment: pytest.MonkeyPatch) -> Iterator[None]:
    """A Slurm that takes jobs; the test is skipped with the reason where it cannot be had."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    if missing := [name for name in PROGRAMS if shutil.which(name, path=path) is None]:
        pytest.skip(f"Slurm is not installed: no {', '.join(missing)} (Debian: slurmctld slurmd slurm-client munge)")
    if os.geteuid() != 0:
        pytest.skip("slurmd runs jobs of root here, so it needs root")
    environment.setenv("PATH", path)
    environment.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    (folder / "slurm.conf").write_text(_config(folder))
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    folder.chmod(0o755)
    own = (f"--{name}={folder}/munge.{end}" for name, end in _MUNGE.items())
    processes: list[subprocess.Popen] = []
    try:
        processes.append(_start(folder, "munged", "--foreground", "--force", "--num-threads=2", *own))
        _wait(processes, lambda: (folder / "munge.socket").exists())
        processes.append(_start(folder, "slurmctld", "-D"))
        processes.append(_start(folder, "slurmd", "-D"))
        _wait(processes, _is_idle)
        yield
    finally:
        for process in reversed(processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


_MUNGE = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}


def _config(folder: Path) -> str:
    with socket.socket() as one, socket.socket() as other:
        for free in (one, other):
            free.bind(("127.0.0.1", 0))
        ports = {"slurmctld_port": one.getsockname()[1], "slurmd_port": other.getsockname()[1]}
    return CONFIG.format(node=socket.gethostname().partition(".")[0], user="root", folder=folder, **ports)


def _start(folder: Path, program: str, *options: str) -> subprocess.Popen:
    with (folder / f"{program}.log").open("wb") as log:
        process = subprocess.Popen([program, *options], stdout=log, stderr=log, start_new_session=True)
    process.__dict__["log"] = folder / f"{program}.log"
    return process


def _wait(processes: list[subprocess.Popen], ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_S
    while not ready():
        for process in processes:
            log = process.__dict__["log"].read_text(errors="replace")[-500:]
            assert process.poll() is None, f"{process.args} ended: {log}"
            assert time.monotonic() < deadline, f"Slurm is not ready: {log}"
        time.sleep(0.1)


def _is_idle() -> bool:
    told = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True, check=False)
    return told.stdout.strip() == "idle"
