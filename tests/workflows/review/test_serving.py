"""The desk's process: it opens, says where, and ends when told to."""

import signal
import socket
from pathlib import Path

import httpx
import pytest

from tests.workflows.review.desk_process import desk_process
from workflows.review.serving import listen
from wsi.errors import UsageError

pytestmark = pytest.mark.services


@pytest.fixture
def here() -> httpx.Client:
    """A client that asks this machine, whatever proxies there are."""
    with httpx.Client(trust_env=False, timeout=60) as client:
        yield client


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_it_ends_cleanly(run: Path, here: httpx.Client, number: int) -> None:
    with desk_process(run, "--no-auth", "--reader", "Dr. Ann Grey") as desk:
        assert here.get(f"{desk.address}/api/me").json()["full_name"] == "Dr. Ann Grey"
        answer = here.get(f"{desk.address}/login")
        assert "server" not in answer.headers
        assert desk.end(number) == 0
        said = desk.said.read_text()
    assert said.count("\n") == 1
    assert "Dr. Ann Grey" in said
    assert not (run / "review" / "review.sqlite-wal").exists(), "the database was not closed"
    log = (run / "review" / "desk.log").read_text()
    assert "GET /api/me 200" in log
    assert "Grey" not in log


def test_a_port_that_is_taken(run: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port}.*--port"):
            listen("127.0.0.1", port)
    with pytest.raises(UsageError, match="--host"):
        listen("no such name.", 0)


def test_an_answer_does_not_wait_for_its_head_to_be_acknowledged() -> None:
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
