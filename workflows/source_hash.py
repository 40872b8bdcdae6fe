"""A slide's content hash, not computed twice: a note of its files' stamps lies in the store."""

import errno
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager

from workflows.sources import SlideSource
from wsi.errors import UnreadableSlideError, VanishedSlideError
from wsi.files import write_json
from wsi.slide import hash_slide, slide_files
from wsi.slide_url import SlideUrl
from wsi.store import FeatureStore
from wsi.store_url import StorePath

NOTE = ".source.json"

AWAY = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENODEV)
"""What a share says whose server has gone, or a disk that was pulled."""


Stamp = list[list[int]] | list[list[int | str]]


def source_stamp(source: SlideSource) -> Stamp:
    """Sizes and modification times of the slide's files, sorted; they say whether it must be hashed again.

    Of a remote slide its size and what the server says of its version; empty if it says nothing.

    Raises
    ------
    VanishedSlideError
        If there is no such file.
    UnreadableSlideError
        If the way to it is barred.
    """
    if isinstance(source.path, SlideUrl):
        return _remote_stamp(source.path)
    try:
        return sorted([part.stat().st_size, part.stat().st_mtime_ns] for part in slide_files(source.path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise VanishedSlideError(f"{source.path.name}: no such file; check the path or the mount") from error
    except OSError as error:
        kind = VanishedSlideError if error.errno in AWAY else UnreadableSlideError
        raise kind(f"{source.path.name}: cannot be reached ({error.strerror})") from error


@contextmanager
def missed_by_name(source: SlideSource) -> Iterator[None]:
    """Whatever goes wrong with a local slide that is not there any more is that it has vanished.

    Raises
    ------
    VanishedSlideError
    """
    try:
        yield
    except OSError:  # as readers' errors are, too
        check_there(source)
        raise


def check_there(source: SlideSource) -> None:
    """Raise `VanishedSlideError` if a local slide is not there any more."""
    if not isinstance(source.path, SlideUrl):
        source_stamp(source)


def _remote_stamp(url: SlideUrl) -> list[list[int | str]]:
    from wsi.remote_bytes import RemoteBytes

    with closing(RemoteBytes(url)) as remote:
        return [[remote.size, remote.version]] if remote.version else []


def source_hash(source: SlideSource, store: FeatureStore | None, stamp: Stamp) -> str:
    """The slide's content hash: the store's, where it was noted with the same stamp, else of the files."""
    try:
        if store is not None and stamp:
            note = json.loads((store.path / NOTE).read_bytes())
            if note == {"stamp": stamp, "content_hash": store.slide.content_hash}:
                return store.slide.content_hash
    except (OSError, ValueError):
        pass
    return hash_slide(source.path)


def forget_hash(store: StorePath) -> None:
    """Remove the note: a slide's files are known to have changed, whatever their stamps say."""
    (store / NOTE).unlink(missing_ok=True)


def remember_hash(store: StorePath, content_hash: str, stamp: Stamp) -> None:
    """Note the hash with the stamp that the files had before it, so that a second start need not read them again."""
    write_json(store / NOTE, {"stamp": stamp, "content_hash": content_hash})
