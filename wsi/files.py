"""Files that are either whole or not there, and digests of them."""

import json
import os
import re
import socket
import time
from hashlib import sha256
from pathlib import Path
from typing import Any


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, and power loss cannot tear it."""
    temporary = path.with_name(f".{path.name}.{_host()}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep_temporaries(folder: Path, *, below: bool = True) -> None:
    """Remove what processes that are gone left in a folder, and `below` it: temporary files of `write_atomic`.

    Those of a live process of this machine stay, and those of another machine for a day.
    """
    for path in folder.rglob(".*.tmp") if below else folder.glob(".*.tmp"):
        found = TEMPORARY.fullmatch(path.name)
        if found is not None and _is_left(path, found["host"], int(found["pid"])):
            path.unlink(missing_ok=True)


TEMPORARY = re.compile(r"\..+\.(?P<host>[^.]+)\.(?P<pid>\d+)\.tmp")
DAY_S = 86400.0


def _host() -> str:
    return socket.gethostname().replace(".", "-")


def _is_left(path: Path, host: str, pid: int) -> bool:
    if host != _host():
        try:
            return time.time() - path.stat().st_mtime > DAY_S
        except OSError:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def to_json(value: Any) -> bytes:
    """UTF-8 JSON, the same bytes for equal values."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_atomic(path, to_json(value))


def fsync_path(path: Path) -> None:
    """Make a written file, or the entries of a folder, survive power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_record(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, as a manifest keeps them."""
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": sha256(data).hexdigest()}


def folder_records(folder: Path) -> dict[str, dict[str, Any]]:
    """`file_record` of every file below a folder by its relative path; hidden ones and `manifest.json` left out."""
    records = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.is_file() and not hidden and relative.name != "manifest.json":
            records[relative.as_posix()] = file_record(path)
    return records
