"""The desk's server: one process, one loop, a bounded number of threads that read slides; it ends when told."""

import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI

from wsi.errors import UsageError

THREADS = 16
"""Routes that run at once. They decode pixels outside of Python's lock or wait for the disk; more of them on few cores
would only stand in each other's way, and memory for tiles in work is bounded by them."""

MOST_CONNECTIONS = 1024
"""Fifty readers with six connections each, three times over; what comes after is told to wait (503)."""

KEEP_ALIVE_S = 75
GRACE_S = 10
"""How long requests in work may take to end once the desk is told to."""


class DeskServer(uvicorn.Server):
    """uvicorn's server, which says when it listens, and for which SIGTERM and Ctrl-C are the usual way to end."""

    def __init__(self, config: uvicorn.Config, opened: Callable[[], None]):
        super().__init__(config)
        self.opened = opened

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        import anyio.to_thread

        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        await super().startup(sockets)
        if self.started:
            self.opened()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals that end the desk, and do not raise them again: its end is no failure."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, so that a port that is taken is known before anything else is done; 0 takes a free one.

    Raises
    ------
    UsageError
        If the address is not of this machine, or something listens there already.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=MOST_CONNECTIONS)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host} port {port} ({error.strerror or error}); choose another with --host and --port"
        ) from None
    # connections take it over; asyncio sets it only where a socket names its protocol, which this one does not, and an
    # answer's body would wait 40 ms for the reader's machine to acknowledge its head
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def serve(
    app: FastAPI, listening: socket.socket, opened: Callable[[], None], tls: dict[str, Any] | None = None
) -> None:
    """Answer requests until SIGTERM or Ctrl-C; `opened` is called once the first can be answered."""
    config = uvicorn.Config(
        app,
        log_config=None,  # the desk has its own log, which names neither slides nor patients
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=MOST_CONNECTIONS,
        backlog=MOST_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        **(tls or {}),
    )
    DeskServer(config, opened).run(sockets=[listening])
