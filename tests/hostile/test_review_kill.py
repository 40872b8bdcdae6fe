"""The desk is killed while ten readers decide: what was acknowledged is there afterwards, and nothing twice."""

import os
import signal
import socket
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from tests.workflows.conftest import graded_slide, save_run
from tests.workflows.review.desk_process import DeskProcess, desk_process
from workflows.review.database import open_engine
from workflows.review.desk import Settings
from workflows.review.migrate import migrate
from workflows.review.tables import cases, entries
from workflows.review.tokens import new_token
from workflows.review.trail import check
from workflows.review.trail_head import head_file
from workflows.review.users import add_user

CLIENTS = 10
DECISIONS = int(os.environ.get("HISTOGRADE_TEST_DECISIONS", "40"))
"""Of each client; HISTOGRADE_TEST_DECISIONS=100 for a thousand in all."""

KILLED_AT = tuple(round(share * CLIENTS * DECISIONS) for share in (0.15, 0.42, 0.7))
"""After how many acknowledged decisions the desk is killed."""

ACTIONS = ({"action": "accept"}, {"action": "comment", "comment": "again"}, {"action": "reject", "reason": "blurred"},
           {"action": "undo"})  # fmt: skip
PASSWORD = "seven tiny brown owls"


class Reader:
    """A client with a case of its own, who sends each decision until the desk has acknowledged it."""

    def __init__(self, number: int, address: str, token: str | None):
        self.number = number
        self.acknowledged: dict[str, dict] = {}
        self.sent = 0
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=address, headers=headers, trust_env=False, timeout=60)
        if token is None:
            said = {"name": f"reader{number}", "password": PASSWORD}
            self.http.headers["X-CSRF-Token"] = self.must("/api/login", said, 200)["csrf_token"]

    def must(self, path: str, said: dict, status: int) -> dict:
        """Post until it is answered, however often the desk dies meanwhile."""
        while True:
            try:
                self.sent += 1
                answer = self.http.post(path, json=said)
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            assert answer.status_code == status, answer.text
            return dict(answer.json())

    def work(self, tell: threading.Semaphore) -> None:
        """Decide, again and again."""
        place = f"/api/cases/{self.number + 1}"
        try:
            self.must(f"{place}/claim", {}, 200)
            for turn in range(DECISIONS):
                said = {"request_id": str(uuid.uuid4()), "shown": {"map": "attention"}, **ACTIONS[turn % len(ACTIONS)]}
                self.acknowledged[said["request_id"]] = self.must(f"{place}/decisions", said, 201)
                tell.release()
        finally:
            self.http.close()


@pytest.mark.slow
@pytest.mark.services
@pytest.mark.timeout(900)
def test_killed_while_ten_readers_decide(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", [graded_slide(f"slide-{number:02d}") for number in range(CLIENTS)])
    engine = open_engine(Settings(run).database_url)
    migrate(engine)
    for number in range(CLIENTS):
        add_user(engine, f"reader{number}", "reader", PASSWORD)
    tokens = [new_token(engine, f"reader{number}", "") if number % 2 else None for number in range(CLIENTS)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    told = threading.Semaphore(0)
    with ThreadPoolExecutor(CLIENTS) as pool:
        with desk_process(run, port=port) as desk:
            readers = [Reader(number, address, token) for number, token in enumerate(tokens)]
            working = [pool.submit(reader.work, told) for reader in readers]
            done = _kill_after(desk, told, KILLED_AT[0])
        for times in KILLED_AT[1:]:
            with desk_process(run, port=port) as desk:
                done += _kill_after(desk, told, times - done)
        with desk_process(run, port=port) as desk:
            for one in working:
                one.result(timeout=600)
            assert desk.end() == 0

    acknowledged = {request: said for reader in readers for request, said in reader.acknowledged.items()}
    assert len(acknowledged) == CLIENTS * DECISIONS
    assert sum(reader.sent for reader in readers) > len(acknowledged), "no kill fell between a request and its answer"
    with engine.connect() as connection:
        kept = connection.execute(select(entries.c.request_id, entries.c.seq, entries.c.hash, entries.c.case_id)).all()
        states = connection.scalars(select(cases.c.state)).all()
    assert {row.request_id: (row.seq, row.hash) for row in kept} == {
        request: (said["entry"], said["hash"]) for request, said in acknowledged.items()
    }
    assert len(kept) == len(acknowledged), "a decision is there twice"
    assert len(set(states)) == 1, "the state of a case does not follow from its trail"
    found = check(engine, head_file(run))
    assert (found.sound, found.entries) == (True, len(acknowledged))
    engine.dispose()


def _kill_after(desk: DeskProcess, told: threading.Semaphore, decisions: int) -> int:
    for _ in range(decisions):
        assert told.acquire(timeout=60), desk.said.read_text()
    assert desk.end(signal.SIGKILL) == -signal.SIGKILL
    return decisions
