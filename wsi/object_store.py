"""Objects in S3 buckets, or in those of servers that speak its protocol: the one module that knows the client.

Credentials, region and endpoint are those of the AWS command line: `AWS_...` variables, configuration files, roles.
What does not answer is asked again for a while; then it is `UnreachableStoreError`, never a missing object.
"""

import errno
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, TypeVar

from wsi.errors import MissingPackageError, UnreachableStoreError, UsageError
from wsi.store_url import StoreUrl

REQUESTS = 8
"""Requests of one call under way at once."""

TRIES = 7
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 8.0
"""A server is asked so often, with longer and longer pauses: some 20 s in all."""

REQUEST_S, CONNECT_S = 60.0, 5.0
"""A request may take so long; a connection that."""

Answer = TypeVar("Answer")
Asked = TypeVar("Asked")


@dataclass(frozen=True, slots=True)
class ObjectStamp:
    """What tells one state of an object from another.

    Attributes
    ----------
    size : int
        Bytes.
    etag : str
        The server's name for this content.
    modified : datetime
        When it was written, by the server's clock; whole seconds.
    """

    size: int
    etag: str
    modified: datetime


def read(url: StoreUrl) -> bytes:
    """An object's bytes.

    Raises
    ------
    FileNotFoundError
        If there is no such object.
    UnreachableStoreError
        If the server does not answer, or denies it; so does all that follows.
    """
    import obstore

    with _answers(url):
        return bytes(obstore.get(_bucket(url.bucket), url.key).bytes())


def read_ranges(url: StoreUrl, ranges: Sequence[tuple[int, int]], etag: str) -> list[bytes] | None:
    """Stretches (start, stop) of the object in the state of an ETag; None if it is in another by now."""
    import obstore
    from obstore.exceptions import PreconditionError

    def part(one: tuple[int, int]) -> bytes:
        with _answers(url):
            return bytes(obstore.get(_bucket(url.bucket), url.key, options={"range": one, "if_match": etag}).bytes())

    try:
        return each(part, ranges)
    except PreconditionError:
        return None


def read_stamped(url: StoreUrl) -> tuple[bytes, ObjectStamp]:
    """An object's bytes, and what state of it they are."""
    import obstore

    with _answers(url):
        got = obstore.get(_bucket(url.bucket), url.key)
        return bytes(got.bytes()), _stamp(got.meta)


def write(url: StoreUrl, data: bytes) -> str:
    """Make or replace an object; gives its ETag."""
    return _put(url, data, "overwrite")


def write_if(url: StoreUrl, data: bytes, etag: str | None) -> str | None:
    """Replace an object that is still in the state of an ETag, or make one where there is none (None).

    Returns
    -------
    str or None
        Its ETag now; None if it is in another state, and was left so.
    """
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    try:
        return _put(url, data, "create" if etag is None else {"e_tag": etag})
    except (AlreadyExistsError, PreconditionError):
        return None
    except FileNotFoundError:  # what was to be replaced is gone
        if etag is None:
            raise
        return None


def remove(urls: Iterable[StoreUrl]) -> None:
    """Remove objects; those that are not there are none."""
    import obstore

    def one(url: StoreUrl) -> None:
        with _answers(url):
            obstore.delete(_bucket(url.bucket), url.key)

    each(one, list(urls))


def stamp(url: StoreUrl) -> ObjectStamp | None:
    """State of an object; None if there is none."""
    import obstore

    try:
        with _answers(url):
            return _stamp(obstore.head(_bucket(url.bucket), url.key))
    except FileNotFoundError:
        return None


def below(url: StoreUrl) -> dict[str, ObjectStamp]:
    """All objects below a place, by their way from it, sorted."""
    import obstore

    found = {}
    with _answers(url):
        for batch in obstore.list(_bucket(url.bucket), url.key or None):
            for meta in batch:
                found[meta["path"][len(url.key) :].lstrip("/")] = _stamp(meta)
    return dict(sorted(found.items()))


def children(url: StoreUrl) -> tuple[list[str], list[str]]:
    """Names of the folders and of the objects directly in a place, each sorted."""
    import obstore

    with _answers(url):
        found = obstore.list_with_delimiter(_bucket(url.bucket), url.key or None)
    folders = (path.rpartition("/")[2] for path in found["common_prefixes"])
    objects = (meta["path"].rpartition("/")[2] for meta in found["objects"])
    return sorted(folders), sorted(objects)


def is_folder(url: StoreUrl) -> bool:
    """Whether there is anything below a place."""
    import obstore

    with _answers(url):
        return any(len(batch) for batch in obstore.list(_bucket(url.bucket), url.key or None, chunk_size=1))


def each(job: Callable[[Asked], Answer], over: Sequence[Asked]) -> list[Answer]:
    """Do the same for several things, some at once; the results in their order."""
    if len(over) < 2:
        return [job(one) for one in over]
    with ThreadPoolExecutor(min(REQUESTS, len(over)), thread_name_prefix="object-store") as threads:
        return list(threads.map(job, over))


def _put(url: StoreUrl, data: bytes, mode: Any) -> str:
    import obstore

    with _answers(url):
        return str(obstore.put(_bucket(url.bucket), url.key, data, mode=mode, use_multipart=False)["e_tag"])


def _stamp(meta: Mapping[str, Any]) -> ObjectStamp:
    return ObjectStamp(meta["size"], str(meta["e_tag"]), meta["last_modified"])


@contextmanager
def _answers(url: StoreUrl) -> Iterator[None]:
    """Name what a server says in our words, and no object; a condition that does not hold stays what it is."""
    from obstore import exceptions

    place = f"s3://{url.bucket}"
    try:
        yield
    except FileNotFoundError as error:
        _check_bucket(url, error)
        raise FileNotFoundError(errno.ENOENT, "no such object", str(url)) from None
    except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
        raise
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError):
        raise UnreachableStoreError(
            f"{place}: access denied; check the credentials (AWS_...), then run again"
        ) from None
    except exceptions.BaseError as error:
        _check_bucket(url, error)
        status = re.search(r"status code: (\d{3})", str(error))
        said = f"HTTP {status[1]}" if status else "no connection"
        if said == "HTTP 301":
            said = "HTTP 301: the bucket is in another region, set AWS_DEFAULT_REGION"
        raise UnreachableStoreError(f"{place}: no sound answer from the server in {TRIES} tries ({said})") from None


def _check_bucket(url: StoreUrl, error: Exception) -> None:
    if "NoSuchBucket" in str(error):
        raise UsageError(f"s3://{url.bucket}: there is no such bucket; make it, or check the name") from None


@cache
def _bucket(name: str) -> Any:
    """The client of a bucket, one in a process."""
    try:
        import botocore.session
        from obstore.store import S3Store
    except ImportError:
        raise MissingPackageError(
            f"s3://{name}: the package for stores in buckets is missing; pip install 'histograde[remote]'"
        ) from None
    from botocore.exceptions import BotoCoreError

    try:
        session = botocore.session.get_session()
        credentials = session.get_credentials()
        meta = session.create_client("s3").meta
    except BotoCoreError as error:
        raise UnreachableStoreError(f"s3://{name}: the AWS configuration cannot be used ({error})") from None
    if credentials is None:
        raise UnreachableStoreError(f"s3://{name}: no credentials found; set them in the environment (AWS_...)")
    plain = meta.endpoint_url.startswith("http://")
    own = not meta.endpoint_url.endswith((".amazonaws.com", ".amazonaws.com.cn"))
    pauses: Any = {"init_backoff": _s(FIRST_PAUSE_S), "max_backoff": _s(LONGEST_PAUSE_S), "base": 2}
    return S3Store(
        name,
        region=meta.region_name if meta.region_name != "aws-global" else "us-east-1",
        credential_provider=lambda: _credential(credentials),
        client_options={"timeout": _s(REQUEST_S), "connect_timeout": _s(CONNECT_S), "allow_http": plain},
        retry_config={"max_retries": TRIES - 1, "retry_timeout": timedelta(minutes=3), "backoff": pauses},
        **({"endpoint": meta.endpoint_url} if own else {}),
    )


def _credential(credentials: Any) -> Any:
    """The credentials of this hour; roles give new ones from time to time."""
    from datetime import UTC

    now = credentials.get_frozen_credentials()
    return {
        "access_key_id": now.access_key,
        "secret_access_key": now.secret_key,
        "token": now.token,
        "expires_at": datetime.now(UTC) + timedelta(minutes=5),
    }


def _s(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)
