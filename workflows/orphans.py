"""Worker processes that outlive the run that started them."""

import ctypes
import multiprocessing
import signal
import sys
from functools import cache

PR_SET_PDEATHSIG = 1


@cache
def end_with_parent() -> None:
    """Have the kernel end this process when the one that started it has ended, if it is a worker process.

    Dask's workers watch their parent from a thread. Where a codec is stuck and holds the interpreter's lock, no thread
    gets to look, and the process would stay for ever. Linux only; `prctl(2)`.
    """
    if sys.platform == "linux" and multiprocessing.parent_process() is not None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
