"""How a slide's files look from outside while they arrive: what tells a copy that is under way from one that is whole.

Only names, sizes and times are looked at. A copy that keeps an old modification time shows in the size and in the time
at which the file's own record changed (ctime), which no copying tool can set.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from wsi.slide import slide_files

TRANSFER = re.compile(
    r"(?P<named>.+)\.(?:part|partial|filepart|crdownload|download|tmp)|\.(?P<hidden>.+)\.[A-Za-z0-9]{6}", re.IGNORECASE
)
"""What browsers, SFTP clients and rsync call a file that they have not finished."""


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


def transfers_in(names: Iterable[str]) -> dict[str, list[str]]:
    """By the name that a file will have: what transfers call it while they are at work on it."""
    found: dict[str, list[str]] = {}
    for name in names:
        if (match := TRANSFER.fullmatch(name)) is not None:
            found.setdefault(match["named"] or match["hidden"], []).append(name)
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
        files = slide_files(path)
        stamps = sorted(map(_stamp, files))
        beside = sorted(map(_stamp, _beside(path, files, transfers or {})))
    except OSError:
        return UNSEEN
    content = [stamp[:2] for stamp in stamps]
    return Sight(_digest(stamps), _digest(content), _digest(beside), max((stamp[2] for stamp in stamps), default=0))


def _beside(path: Path, files: list[Path], transfers: Mapping[str, list[str]]) -> list[Path]:
    if path.is_dir():
        return [path / name for names in transfers.values() for name in names]
    meant = [name for target in (path.name, path.stem) for name in transfers.get(target, ())]
    inside = [file for file in files[1:] if TRANSFER.fullmatch(file.name)]
    return [path.with_name(name) for name in meant] + inside


def _stamp(file: Path) -> tuple[int, int, int]:
    found = os.stat(file)
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _digest(stamps: object) -> bytes:
    return blake2b(repr(stamps).encode(), digest_size=16).digest() if stamps else b""
