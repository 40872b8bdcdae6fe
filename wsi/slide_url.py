"""Where a slide is: a `Path` on this machine, or a `SlideUrl` on a server. What a URL may hide is never shown."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from urllib.parse import unquote

from wsi.errors import UsageError

URL = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.-]+)://(?:[^/@]*@)?(?P<host>[^/?#]*)(?P<path>[^?#]*)")
"""User and password before the host, and all that follows the path, are left out: they may be credentials."""


@dataclass(frozen=True, slots=True, repr=False)
class SlideUrl:
    """The URL of one slide file, as fsspec takes it.

    `str()` and `repr()` give it without user, password, query and fragment; `url` is for opening it, never for showing.

    Raises
    ------
    UsageError
        If it names no single file.
    """

    url: str

    def __post_init__(self) -> None:
        if URL.match(self.url) is None:
            raise UsageError("not a URL of one file; expected PROTOCOL://HOST/PATH, such as s3://bucket/slide.svs")
        if not self.name:
            raise UsageError(f"{self}: names no file; list the slides of a remote folder in a CSV, one URL a line")
        if "::" in self.url and self.protocol not in ("http", "https"):
            raise UsageError(f"{self}: URLs inside of URLs (::) are not read; give the slide's own")
        if "*" in self.name:
            raise UsageError(f"{self}: remote files are not searched; list the slides in a CSV, one URL a line")

    def __str__(self) -> str:
        found = self._parts
        return f"{found['protocol']}://{found['host']}{found['path']}"

    def __repr__(self) -> str:
        return f"SlideUrl({str(self)!r})"

    @property
    def _parts(self) -> re.Match[str]:
        found = URL.match(self.url)
        assert found is not None, "checked when it was made"
        return found

    @property
    def protocol(self) -> str:
        """In small letters: "https", "s3" ..."""
        return self._parts["protocol"].lower()

    @property
    def name(self) -> str:
        """The last component of the path, without query."""
        last = self._parts["path"].rpartition("/")[2]
        return unquote(last) if self.protocol in ("http", "https") else last

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The suffix with its dot."""
        return PurePosixPath(self.name).suffix


SlideLocation: TypeAlias = Path | SlideUrl


def slide_location(given: str | SlideLocation) -> SlideLocation:
    """What a user wrote as a path or a URL; `file://` is a path.

    Raises
    ------
    UsageError
        If it is a URL that names no single file.
    """
    if not isinstance(given, str) or URL.match(given) is None:
        return Path(given) if isinstance(given, str) else given
    if given.lower().startswith("file://"):
        return Path(unquote(given[len("file://") :]))
    return SlideUrl(given)
