"""How a slide's files look from outside while they arrive: what tells a copy that is under way from one that is whole.

Only names, sizes and times are looked at. A copy that keeps an old modification time shows in the size and in the time
at which the file's own record changed (ctime), which no copying tool can set.
"""

import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from workflows.sources import SlideSource
from wsi.slide import slide_files

TRANSFER_SUFFIXES = frozenset((".part", ".partial", ".filepart", ".crdownload", ".download", ".tmp"))
"""What browsers and SFTP clients put behind the name of a file that they have not finished."""

RSYNC_SUFFIX = re.compile(r"\.[A-Za-z0-9]{6}")
"""What rsync puts behind it; a dot stands before it as well."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A slide's files as they were at one moment.

    Attributes
    ----------
    files : bytes
        Digest of their sizes, modification times and ctimes: differs as soon as anything was written.
    content : bytes
        The same without ctimes, which also change when a file is moved, or its permissions are.
    transfers : bytes
        Digest of sizes and times of what file transfers have beside it; empty where there is nothing.
    newest_ns : int
        The newest ctime: when the last of it came.
    """

    files: bytes
    content: bytes
    transfers: bytes
    newest_ns: int


UNSEEN = Sight(b"", b"", b"", 0)
"""Of files that cannot be looked at: a link that leads nowhere, a share that is away."""


def meant_by(name: str) -> str | None:
    """What an unfinished file of a transfer will be called; None if it is none."""
    stem, suffix = os.path.splitext(name)
    if suffix.lower() in TRANSFER_SUFFIXES:
        return stem
    return stem[1:] if name[0] == "." and RSYNC_SUFFIX.fullmatch(suffix) and len(stem) > 1 else None


def transfers_in(names: Iterable[str]) -> dict[str, list[str]]:
    """By the name that a file will have: what transfers call it while they are at work on it."""
    found: dict[str, list[str]] = {}
    for name in names:
        if (meant := meant_by(name)) is not None:
            found.setdefault(meant, []).append(name)
    return found


def sight_of(path: Path, transfers: Mapping[str, list[str]] | None = None) -> Sight:
    """Look at a slide's files, and at what transfers have beside it.

    Parameters
    ----------
    path : Path
        The slide, as in `SlideSource`.
    transfers : mapping, optional
        `transfers_in` the folder that holds it, or in itself if it is a folder; without it none are looked for.
    """
    try:
        first = os.stat(path)
        alone = not stat.S_ISDIR(first.st_mode) and path.suffix.lower() != ".mrxs"
        files = [path] if alone else slide_files(path)
        stamps = [_stamp(first)] if alone else sorted(_stamp(os.stat(file)) for file in files)
        beside = sorted(_stamp(os.stat(file)) for file in _beside(path, files, transfers or {}))
    except OSError:
        return UNSEEN
    content = [stamp[:2] for stamp in stamps]
    return Sight(_digest(stamps), _digest(content), _digest(beside), max((stamp[2] for stamp in stamps), default=0))


def _beside(path: Path, files: list[Path], transfers: Mapping[str, list[str]]) -> list[Path]:
    inside = [file for file in files[1:] if meant_by(file.name) is not None]
    if not transfers:
        return inside
    if path.is_dir():
        return [path / name for names in transfers.values() for name in names]
    meant = [name for target in (path.name, path.stem) for name in transfers.get(target, ())]
    return [path.with_name(name) for name in meant] + inside


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _digest(stamps: object) -> bytes:
    return blake2b(repr(stamps).encode(), digest_size=16).digest() if stamps else b""


@dataclass(slots=True)
class Arrival:
    """A slide that was seen and not given yet; another object as soon as its files change.

    `since_s` is since when they are as they are, `content_since_s` since when but for their ctimes.
    """

    number: int
    source: SlideSource
    sight: Sight
    since_s: float
    content_since_s: float
    seen: int
    looks: int = 1
    state: Literal["coming", "ripe", "asked", "opens", "refused", "left"] = "coming"

    @property
    def is_whole(self) -> bool:
        """Whether it was still for long enough; then it is looked at again when it is given."""
        return self.state not in ("coming", "refused")


@dataclass(slots=True)
class Given:
    """A slide that was given, and what came of it."""

    number: int
    path: Path
    sight: Sight
    seen: int
    outcome: Literal["in work", "graded", "quarantined"] = "in work"
    gone: bool = False
    told: bool = False
