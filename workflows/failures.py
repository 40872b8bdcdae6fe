"""What ends a slide's way: classes of failure, what cures each, and which can pass by themselves."""

import errno
import traceback
from dataclasses import dataclass

from wsi.errors import WsiError

TRIES = {"unreachable": 3, "io_error": 3, "lost": 3, "changed": 2, "out_of_memory": 2, "vanished": 2, "disk_full": 4}
"""How often what can pass is tried. All else says something of the slide, and would say it again."""

REMEMBERED = frozenset(
    ("unreadable", "missing_mpp", "implausible_mpp", "no_tissue", "not_brightfield", "too_many_bad_tiles")
    + ("worker_killed", "timeout")
)
"""What a second start of the same command does not try again as long as the slide's files are the same."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

AGAIN_WITH = "run the same command again with --retry-quarantined"
REMEDIES = {
    "disk_full": "make room, then run the same command again: it goes on where it stopped",
    "io_error": "check permissions, disks and mounts, then run the same command again",
    "out_of_memory": "run the same command again with fewer workers or more memory",
    "worker_killed": f"look at the slide by itself; {AGAIN_WITH} where there is more memory",
    "lost": "run the same command again",
    "unexpected": "report it with the output of --debug",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a slide was put into quarantine."""

    slide_id: str
    stage: str
    error_class: str
    message: str
    remedy: str
    detail: str = ""


def failure_of(slide_id: str, stage: str, error: Exception) -> Failure:
    """Name the class of an error; one that is not ours is named by its type and kept with its traceback."""
    if isinstance(error, WsiError):
        return Failure(slide_id, stage, error.code, " ".join(str(error).split()), error.remedy)
    detail = "".join(traceback.format_exception(error))
    if isinstance(error, MemoryError):
        return failure(slide_id, stage, "out_of_memory", "not enough memory", detail)
    if isinstance(error, OSError):
        name = "disk_full" if error.errno in NO_ROOM else "io_error"
        return failure(slide_id, stage, name, f"{error.strerror or error}", detail)
    message = " ".join(f"{type(error).__name__}: {error}".split())
    return failure(slide_id, stage, "unexpected", message, detail)


def failure(slide_id: str, stage: str, error_class: str, message: str, detail: str = "") -> Failure:
    """A failure of one of the classes in `REMEDIES`."""
    return Failure(slide_id, stage, error_class, message, REMEDIES[error_class], detail)
