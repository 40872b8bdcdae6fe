"""The last number and hash of the trail in a file of their own, so that a trail that was cut short is found.

Written after each commit. A crash between the two leaves the file an entry behind, which is no fault: any earlier end
of a chain is still in the chain.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock

from wsi.errors import UsageError
from wsi.files import write_json

_writing = Lock()  # one temporary file a process, and no older end over a newer one


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry of a trail."""

    seq: int
    hash: str


def head_file(run: Path) -> Path:
    """Where the end of a run's trail is written down."""
    return run / "review" / "trail-head.json"


def write_head(path: Path, head: Head) -> None:
    """Write the end of the trail down, unless a later one is there."""
    with _writing:
        known = read_head(path)
        if known is None or known.seq < head.seq:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, asdict(head))


def read_head(path: Path) -> Head | None:
    """What was written down last; None for a trail without entries.

    Raises
    ------
    UsageError
        If the file is damaged.
    """
    try:
        said = json.loads(path.read_bytes())
        return Head(int(said["seq"]), str(said["hash"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path.parent.name}/{path.name} is damaged ({error}); it holds the end of the trail: restore it from a "
            "backup, or remove it to trust the database as it is"
        ) from error
