"""A PostgreSQL server of a test's own, on a socket in a folder that goes away with it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

OWNER = "postgres"


def programs() -> Path:
    """Where initdb and pg_ctl are; skips the test where there are none, or where root has nobody to run them as."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if not found:
        pytest.skip("no PostgreSQL server is installed (no /usr/lib/postgresql/*/bin/initdb)")
    if os.geteuid() == 0:
        import pwd

        if shutil.which("runuser") is None:
            pytest.skip("PostgreSQL does not run as root, and there is no runuser")
        try:
            pwd.getpwnam(OWNER)
        except KeyError:
            pytest.skip(f"PostgreSQL does not run as root, and there is no user {OWNER}")
    return found[-1].parent


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of an empty database."""
    where = programs()
    folder = Path(tempfile.mkdtemp(prefix="histograde-pg-"))
    prefix: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, OWNER, OWNER)
        prefix = ["runuser", "-u", OWNER, "--"]

    def call(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*prefix, str(where / program), "-D", str(folder / "data"), *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
            check=False, cwd="/",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout

    try:
        call("initdb", "-U", OWNER, "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
        call("pg_ctl", "-w", "-t", "100", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://{OWNER}@/postgres?host={folder}"
        finally:
            call("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
