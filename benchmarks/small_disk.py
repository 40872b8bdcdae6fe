"""A disk that is small enough to be filled: a tmpfs of its own, where this process may mount one."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BLOCK_BYTES = 1 << 20


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[str]:
    """Mount a tmpfs on a folder for as long as this lasts; gives the reason where that cannot be, else ""."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={size_bytes},mode=700,uid={os.getuid()}"
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "histograde-chaos", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        yield f"there is no mount ({error.strerror})"
        return
    if done.returncode:
        yield " ".join(done.stderr.split()) or "mount failed"
        return
    try:
        yield ""
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(filler: Path) -> None:
    """Append to a file until the disk takes no byte more; again, to take what has become free since."""
    with filler.open("ab", buffering=0) as handle:
        size = BLOCK_BYTES
        while size:
            try:
                if handle.write(b"\1" * size) < size:
                    size //= 2
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2
