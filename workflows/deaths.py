"""How workers end: by the kernel for want of memory, or by this run because their task hangs."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client

VMSTAT = Path("/proc/vmstat")
RESTART_S = 60.0


class Deaths:
    """Looks at, and brings about, the end of workers.

    Attributes
    ----------
    hanging : int
        Tasks given up that still hold a thread, since their worker cannot be ended.
    """

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._killed_before = kills_for_memory()
        self.hanging = 0

    def out_of_memory(self) -> bool:
        """Whether the kernel of this machine has ended a process for want of memory since the last call."""
        before, self._killed_before = self._killed_before, kills_for_memory()
        return self._killed_before > before

    def end(self, address: str) -> bool:
        """End a worker process whose task hangs, to be replaced; False if that cannot be done."""
        known = self._client.scheduler_info(n_workers=-1)["workers"].get(address)
        if known is None:
            return True
        if not known.get("nanny"):
            self.hanging += 1
            return False
        threading.Thread(target=self._restart, args=(address,), daemon=True).start()
        return True

    def _restart(self, address: str) -> None:
        self._client.restart_workers([address], timeout=RESTART_S, raise_for_error=False)


def kills_for_memory() -> int:
    """How often the kernel has ended a process for want of memory since it was started; 0 where it does not say."""
    try:
        lines = VMSTAT.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
