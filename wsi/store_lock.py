"""The only right to plan, publish or repair a slide's store: a lock of the kernel, or a lease in a bucket."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import overload

from wsi.errors import StoreBusyError
from wsi.store import store_path
from wsi.store_url import StorePath, StoreUrl


@contextmanager
def slide_lock(root: StorePath, slide_id: str, *, outlast: bool = False) -> Iterator[None]:
    """Hold the only right to plan, publish or repair a slide's store.

    On a disk the kernel frees it if the process dies. In a bucket it runs out, `wsi.lease.LEASE_S` after that.

    Parameters
    ----------
    outlast : bool
        In a bucket, wait for so long as the lock of a run that died may last.

    Raises
    ------
    StoreBusyError
        If another process holds it.
    """
    path = lock_of(store_path(root, slide_id))
    if isinstance(path, StoreUrl):
        from wsi import lease

        with lease.lease(path, slide_id, 1.5 * lease.LEASE_S if outlast else 0.0):
            yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _flock(path, slide_id)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def check_lock(store: StorePath) -> None:
    """Refuse to go on writing to the store of a slide whose lock was lost, as one in a bucket can be.

    Raises
    ------
    StoreBusyError
    """
    path = lock_of(store)
    if isinstance(path, StoreUrl):
        from wsi.lease import check_lease

        check_lease(path, store.stem)


@overload
def lock_of(store: StoreUrl) -> StoreUrl: ...
@overload
def lock_of(store: StorePath) -> StorePath: ...
def lock_of(store: StorePath) -> StorePath:
    """Where the lock of a slide's store lies."""
    return store.with_name(f".{store.stem}.lock")


def _flock(path: Path, slide_id: str) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise StoreBusyError(f"{slide_id}: another run is writing this store; wait for it to end") from None
        if _same_file(descriptor, path):
            return descriptor
        os.close(descriptor)


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False
