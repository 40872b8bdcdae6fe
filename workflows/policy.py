"""How patient a run is: limits, retries, and what it leaves free. None of it changes a result."""

import re
from dataclasses import dataclass

from wsi.errors import UsageError

UNITS_S = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}
UNITS_BYTES = {"": 1, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True, slots=True)
class Policy:
    """What a run does about trouble.

    Attributes
    ----------
    retry_s : float
        Seconds before the second try of what can pass; four times as long before each further one.
    task_limit_s : float
        Seconds that one task may run (a plan, a chunk of tiles, a grading).
    patience_s : float
        Seconds to wait for an archive folder or a disk that is away or full, before slides are given up for it.
    keep_free : int
        Bytes of disk that are left free.
    retry_quarantined : bool
        Try slides again that an earlier start put into quarantine for what they are.
    """

    retry_s: float = 2.0
    task_limit_s: float = 3600.0
    patience_s: float = 12 * 3600.0
    keep_free: int = 250 * 10**6
    retry_quarantined: bool = False

    def __post_init__(self) -> None:
        if not self.task_limit_s > 0:
            raise UsageError(f"a task needs some time, found {self.task_limit_s:g} s; check --task-limit")

    def backoff_s(self, failed: int) -> float:
        """How long to wait after so many failed tries (1, 2, ...)."""
        return float(self.retry_s * 4.0 ** (failed - 1))


def policy_of(task_limit: str, patience: str, keep_free: str, *, retry_quarantined: bool) -> Policy:
    """From what was said on the command line.

    Raises
    ------
    UsageError
    """
    return Policy(
        task_limit_s=parse_duration(task_limit),
        patience_s=parse_duration(patience),
        keep_free=parse_bytes(keep_free),
        retry_quarantined=retry_quarantined,
    )


def parse_duration(text: str) -> float:
    """Seconds of "90", "90 s", "15 min" or "2 h".

    Raises
    ------
    UsageError
    """
    return _quantity(text, UNITS_S, "a duration such as 90s, 15min or 2h")


def parse_bytes(text: str) -> int:
    """Bytes of "250 MB" or "2GB".

    Raises
    ------
    UsageError
    """
    return round(_quantity(text, UNITS_BYTES, "an amount such as 250MB or 2GB"))


def _quantity(text: str, units: "dict[str, float] | dict[str, int]", wanted: str) -> float:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if found is None or found[2] not in units:
        raise UsageError(f"expected {wanted}, found {text!r}")
    return float(found[1]) * units[found[2]]
