"""A small HTTP server for tests, on loopback: it counts what it sends, and can be made to fail in many ways."""

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class RangeServer:
    """Serves the files of a folder by ranges (RFC 9110, section 14); use it in a `with` statement.

    Attributes
    ----------
    requests : list of (path with query, Range header)
    sent_bytes : int
        Of bodies.
    statuses : list of int
        Answered to the next requests, one each, before any file is looked at.
    cut : int
        So many of the next answers break off in the middle.
    delay_s : float
        Before each answer.
    ranges : bool
        False: the Range header is ignored.
    silent : bool
        True: requests are taken and never answered.
    etag, date : str
        Sent with each answer as ETag and Last-Modified; none if empty.
    gone : callable
        Asked before each answer; from when it says so, all requests are answered with 503.
    query : str
        If not empty, another query string is denied.
    """

    def __init__(self, folder: Path):
        self.folder, self.requests, self.sent_bytes = folder, list[tuple[str, str]](), 0
        self.statuses, self.cut, self.delay_s, self.ranges = list[int](), 0, 0.0, True
        self.silent, self.etag, self.date, self.query = False, '"v1"', "", ""
        self.gone: Callable[[], bool] = lambda: False
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self._open: list[Any] = []

    def __enter__(self) -> "RangeServer":
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer._open.append(self.connection)

            def do_GET(self) -> None:
                outer._answer(self)

            def handle(self) -> None:
                with suppress(OSError):
                    super().handle()

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def root(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        """Go away: close all connections, and refuse new ones. May be called twice."""
        if self.ended.is_set():
            return
        self.ended.set()
        self._server.shutdown()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(2)
        self._server.server_close()
        self._thread.join()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range", "")
        path, _, query = request.path.partition("?")
        with self.lock:
            self.requests.append((request.path, asked))
            status = 503 if self.gone() else self.statuses.pop(0) if self.statuses else 0
            cut = not status and self.cut > 0
            self.cut -= cut
        time.sleep(self.delay_s)
        if self.silent:
            self.ended.wait()
            return
        file = self.folder / path.lstrip("/")
        status = status or (403 if self.query and query != self.query else 0 if file.is_file() else 404)
        if status:
            request.send_response(status)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        self._send(request, file, asked if self.ranges else "", cut)

    def _send(self, request: BaseHTTPRequestHandler, file: Path, asked: str, cut: bool) -> None:
        size, first, last = file.stat().st_size, 0, file.stat().st_size - 1
        if found := re.fullmatch(r"bytes=(\d+)-(\d+)", asked):
            first, last = int(found[1]), min(int(found[2]), last)
            request.send_response(206 if first < size else 416)
            request.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        else:
            request.send_response(200)
        with file.open("rb") as handle:
            handle.seek(first)
            data = handle.read(max(0, last + 1 - first))
        if self.etag:
            request.send_header("ETag", self.etag)
        if self.date:
            request.send_header("Last-Modified", self.date)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        for start in range(0, len(data) // 2 if cut else len(data), 1 << 16):
            piece = data[start : start + (1 << 16)]
            request.wfile.write(piece)
            with self.lock:
                self.sent_bytes += len(piece)
        if cut:
            request.close_connection = True
