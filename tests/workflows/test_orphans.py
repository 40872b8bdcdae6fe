"""A worker process that is stuck ends with its parent, however that ended."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PARENT = """
import ctypes, multiprocessing, os, sys, time
from workflows.orphans import end_with_parent

def freeze(pipe):
    end_with_parent()
    pipe.send(os.getpid())
    ctypes.PyDLL(None).sleep(600)  # holds the interpreter's lock

if __name__ == "__main__":
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    multiprocessing.get_context("spawn").Process(target=freeze, args=(theirs,)).start()
    print(ours.recv(), flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_a_frozen_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        try:
            gone, _ = psutil.wait_procs([child], timeout=20)
            assert gone or child.status() == psutil.STATUS_ZOMBIE
        finally:
            if child.is_running():
                child.kill()
