"""Files that are either whole or not there, and digests of them; on a disk, or as objects in a bucket."""

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from wsi.store_url import StorePath, StoreUrl

Thing = TypeVar("Thing")
Result = TypeVar("Result")


def write_atomic(path: StorePath, data: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, and power loss cannot tear it."""
    if isinstance(path, StoreUrl):
        path.write_bytes(data)
        return
    temporary = path.with_name(f".{path.name}.{_host()}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep_temporaries(folder: StorePath, *, below: bool = True) -> None:
    """Remove what processes that are gone left in a folder, and `below` it: temporary files of `write_atomic`.

    Those of a live process of this machine stay, and those of another machine for a day. In a bucket there are none.
    """
    if isinstance(folder, StoreUrl):
        return
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


def write_json(path: StorePath, value: Any) -> None:
    """Write JSON atomically."""
    write_atomic(path, to_json(value))


def fsync_path(path: Path) -> None:
    """Make a written file, or the entries of a folder, survive power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def record_of(data: bytes) -> dict[str, Any]:
    """Size and SHA-256 of a file's bytes, as a manifest keeps them."""
    return {"bytes": len(data), "sha256": sha256(data).hexdigest()}


def file_record(path: StorePath) -> dict[str, Any]:
    """Size and SHA-256 of a file."""
    return record_of(path.read_bytes())


def files_below(folder: StorePath) -> list[str]:
    """All files below a folder by their way from it, sorted."""
    if isinstance(folder, StoreUrl):
        from wsi import object_store

        return list(object_store.below(folder))
    return [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]


def read_each(paths: Iterable[StorePath]) -> list[bytes | None]:
    """Several files, of a bucket some at once; None for those that are not there or cannot be read."""

    def one(path: StorePath) -> bytes | None:
        try:
            return path.read_bytes()
        except OSError:
            return None

    paths = list(paths)
    return for_each(paths[0], one, paths) if paths else []


def for_each(place: StorePath, job: Callable[[Thing], Result], things: Sequence[Thing]) -> list[Result]:
    """Do the same for several things of a place, in a bucket for some at once; the results in their order."""
    if isinstance(place, StoreUrl):
        from wsi.object_store import each

        return each(job, things)
    return [job(one) for one in things]


def remove_files(paths: Iterable[StorePath]) -> None:
    """Remove files that are there."""
    for path in paths:
        path.unlink(missing_ok=True)


def remove_tree(folder: StorePath, *, ignore_errors: bool = False) -> None:
    """Remove a folder with all that is in it, if it is there; `ignore_errors` leaves what a disk does not let go."""
    if isinstance(folder, StoreUrl):
        from wsi import object_store

        object_store.remove(folder / name for name in object_store.below(folder))
    elif folder.exists():
        shutil.rmtree(folder, ignore_errors=ignore_errors)


def folder_records(folder: Path) -> dict[str, dict[str, Any]]:
    """`file_record` of every file below a folder by its relative path; hidden ones and `manifest.json` left out."""
    return {
        name: file_record(folder / name)
        for name in files_below(folder)
        if not is_hidden(name) and name.rpartition("/")[2] != "manifest.json"
    }


def is_hidden(name: str) -> bool:
    """Whether a part of a relative path starts with a dot, as what is not published does."""
    return any(part.startswith(".") for part in name.split("/"))
