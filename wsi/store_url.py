"""Where feature stores are: a `Path` on this machine, or a `StoreUrl` in a bucket, used alike.

A `StoreUrl` has as much of a `Path` as a store needs. There are no folders in a bucket: one is there as long as
something lies below it. A file is written whole or not at all, and there is no renaming.
"""

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote

from wsi.errors import UsageError
from wsi.slide_url import URL

if TYPE_CHECKING:
    from wsi.object_store import ObjectStamp

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class StoreUrl:
    """A place in a bucket: `s3://bucket/prefix`. Plain values: it travels to workers.

    It is no dataclass, so that `asdict` of a configuration leaves it whole.

    Attributes
    ----------
    bucket : str
    key : str
        Parts joined by "/", without one at either end; empty for the bucket itself.
    run : str
        Name of the run that writes there, empty for readers. All places made from this one have it. It takes no part
        in comparisons.

    Raises
    ------
    UsageError
        If it is no such URL.
    """

    __slots__ = ("bucket", "key", "run")

    def __init__(self, url: str, run: str = ""):
        found = URL.match(url)
        if found is None or found["protocol"].lower() != "s3" or len(url) != len("".join((*found.groups(), "://"))):
            shown = "this URL" if found is None else f"{found['protocol']}://{found['host']}{found['path']}"
            raise UsageError(
                f"{shown}: not a place for stores; give a folder, or s3://BUCKET/PREFIX and nothing more: "
                "credentials and endpoint are found in the environment (AWS_...)"
            )
        self.bucket = found["host"]
        self.key = "/".join(part for part in found["path"].split("/") if part)
        self.run = run
        if not BUCKET.fullmatch(self.bucket) or {".", ".."} & set(self.key.split("/")):
            raise UsageError(f"{self}: not a place for stores; expected s3://BUCKET/PREFIX")

    def of_run(self, run: str) -> "StoreUrl":
        """The same place, for the run of this name to write to."""
        return self._at(self.key, run)

    def _at(self, key: str, run: str | None = None) -> "StoreUrl":
        place = object.__new__(StoreUrl)
        place.bucket, place.key, place.run = self.bucket, key, self.run if run is None else run
        return place

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}" if self.key else f"s3://{self.bucket}"

    def __repr__(self) -> str:
        return f"StoreUrl({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoreUrl) and (self.bucket, self.key) == (other.bucket, other.key)

    def __hash__(self) -> int:
        return hash((self.bucket, self.key))

    def __lt__(self, other: "StoreUrl") -> bool:
        return (self.bucket, self.key.split("/")) < (other.bucket, other.key.split("/"))

    def __truediv__(self, name: str) -> "StoreUrl":
        return self._at(f"{self.key}/{name}" if self.key else name)

    @property
    def name(self) -> str:
        """The last part."""
        return self.key.rpartition("/")[2] or self.bucket

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The suffix of the name, with its dot."""
        return PurePosixPath(self.key).suffix

    @property
    def parent(self) -> "StoreUrl":
        """The place around it."""
        return self._at(self.key.rpartition("/")[0])

    def with_name(self, name: str) -> "StoreUrl":
        """The place beside it that has this name."""
        return self.parent / name

    def is_file(self) -> bool:
        """Whether there is an object of this key."""
        return self.stamp() is not None

    def is_dir(self) -> bool:
        """Whether there is anything below it."""
        from wsi import object_store

        return object_store.is_folder(self)

    def exists(self) -> bool:
        """Whether anything lies there."""
        return self.is_dir() or self.is_file()

    def stamp(self) -> "ObjectStamp | None":
        """Size, version and date of the object; None if there is none."""
        from wsi import object_store

        return object_store.stamp(self)

    def read_bytes(self) -> bytes:
        """The whole object; raises `FileNotFoundError` if there is none."""
        from wsi import object_store

        return object_store.read(self)

    def read_text(self, *, errors: str = "strict") -> str:
        """The whole object as UTF-8."""
        return self.read_bytes().decode(errors=errors)

    def write_bytes(self, data: bytes) -> str:
        """Make or replace the object, whole and for good; gives its version."""
        from wsi import object_store

        return object_store.write(self, data)

    def unlink(self, missing_ok: bool = True) -> None:
        """Remove the object. S3 does not say whether there was one."""
        from wsi import object_store

        object_store.remove([self])


StorePath: TypeAlias = Path | StoreUrl


def store_location(given: str | StorePath) -> StorePath:
    """What a user wrote as a folder or as `s3://...`; `file://` is a folder.

    Raises
    ------
    UsageError
        If it is another URL.
    """
    if not isinstance(given, str) or URL.match(given) is None:
        return Path(given) if isinstance(given, str) else given
    if given.lower().startswith("file://"):
        return Path(unquote(given[len("file://") :]))
    return StoreUrl(given)
