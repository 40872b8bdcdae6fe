"""Attempts to get in, or to get more than one may: by foreign pages, paths, roles, size, and names that are scripts."""

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from urllib.parse import unquote

import anyio
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from tests.workflows.review.at_the_desk import PASSWORD, another, desk_at, open_desk, sign_in, user
from workflows.review.accounts import sessions
from workflows.review.body_limit import MAX_BODY
from workflows.review.guard import SECURITY_HEADERS
from workflows.review.tables import entries
from workflows.review.tokens import new_token, revoke_token

CASE = 1
DECISION = {"request_id": "6a1f0c62-1d1b-4c0e-9a55-0d7a8a1f1a01", "action": "accept", "shown": {}}


@pytest.fixture
def desk(run: Path) -> Iterator[TestClient]:
    with open_desk(run) as client:
        user(client, "grey")
        yield client


@pytest.fixture
def signed_in(desk: TestClient) -> TestClient:
    sign_in(desk, "grey")
    return desk


def entries_of(client: TestClient) -> int:
    with desk_at(client).engine.connect() as connection:
        return len(connection.execute(select(entries.c.seq)).all())


class TestForeignPages:
    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[", "localhost@evil.example"])
    def test_a_name_that_is_not_the_desks(self, signed_in: TestClient, host: str) -> None:
        answer = signed_in.get("/api/me", headers={"Host": host})
        assert (answer.status_code, list(answer.json())) == (400, ["error"])

    @pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "LOCALHOST", "[::1]:8765"])
    def test_the_names_that_are(self, desk: TestClient, host: str) -> None:
        assert desk.get("/login", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize("token", [None, "", "x", "é"])
    def test_a_cookie_alone_decides_nothing(self, signed_in: TestClient, token: str | None) -> None:
        del signed_in.headers["X-CSRF-Token"]
        headers = {} if token is None else {"X-CSRF-Token": token.encode()}
        for path in ("/api/logout", f"/api/cases/{CASE}/claim", f"/api/cases/{CASE}/decisions"):
            assert signed_in.post(path, json=DECISION, headers=headers).status_code == 403
        assert signed_in.delete(f"/api/cases/{CASE}/claim", headers=headers).status_code == 403
        assert entries_of(signed_in) == 0
        assert signed_in.get("/api/me").status_code == 200

    def test_another_sessions_token_is_not_taken(self, signed_in: TestClient) -> None:
        user(signed_in, "brown")
        theirs = sign_in(another(signed_in), "brown")
        answer = signed_in.post("/api/logout", headers={"X-CSRF-Token": theirs})
        assert answer.status_code == 403

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://evil.example"},
            {"Origin": "http://127.0.0.1:9999"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ],
    )
    @pytest.mark.parametrize("no_auth", [False, True])
    def test_a_foreign_page_changes_nothing(self, run: Path, no_auth: bool, headers: dict[str, str]) -> None:
        with open_desk(run, no_auth=no_auth) as client:
            if not no_auth:
                sign_in(client, user(client, "grey"))
            assert client.post(f"/api/cases/{CASE}/claim", headers=headers).status_code == 403
            own = {"Origin": "http://127.0.0.1:8765", "Sec-Fetch-Site": "same-origin"}
            assert client.post(f"/api/cases/{CASE}/claim", headers=own).status_code == 200

    def test_a_foreign_page_shows_no_picture_and_reads_no_case(self, signed_in: TestClient) -> None:
        for mode in ("no-cors", "cors", "navigate"):
            headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode}
            assert signed_in.get("/api/cases", headers=headers).status_code == 403

    def test_a_link_to_the_desk_is_followed(self, desk: TestClient) -> None:
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert desk.get("/login", headers=headers).status_code == 200

    def test_login_takes_json_alone(self, desk: TestClient) -> None:
        said = {"name": "grey", "password": PASSWORD}
        assert desk.post("/api/login", data=said).status_code == 422
        text = f'{{"name":"grey","password":"{PASSWORD}"}}'
        assert desk.post("/api/login", content=text, headers={"Content-Type": "text/plain"}).status_code == 422

    def test_no_other_origin_is_ever_allowed(self, signed_in: TestClient) -> None:
        answer = signed_in.get("/api/me", headers={"Origin": "https://evil.example"})
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_every_answer_says_what_a_page_may_do(signed_in: TestClient) -> None:
    for path in (
        "/login",
        "/api/me",
        "/api/cases",
        "/static/login.js",
        "/absent",
        "/api/cases/999999",
        "/api/openapi.json",
    ):
        answer = signed_in.get(path)
        for name, value in SECURITY_HEADERS.items():
            assert answer.headers[name] == value, (path, name)
        assert answer.headers["cache-control"] == ("no-cache" if path.startswith("/static/") else "no-store")
    assert signed_in.get("/login", headers={"Host": "evil.example"}).headers["x-frame-options"] == "DENY"
    assert "unsafe" not in SECURITY_HEADERS["content-security-policy"]


WAYS_OUT = [
    "../../run.json", "..%2f..%2frun.json", "%2e%2e/%2e%2e/run.json", "%252e%252e%252frun.json", "....//run.json",
    "..\\..\\run.json", "%5c..%5crun.json", "/etc/passwd", "//etc/passwd", "%2fetc%2fpasswd", "file:///etc/passwd",
    "%00", "login.js%00", "~root", "C:%5cWindows", "%c0%ae%c0%ae%2frun.json", "\u2025/run.json", ".", "..", "desk.py",
]  # fmt: skip
"""Paths that leave a folder for whoever joins them to one."""


def get_raw(client: TestClient, path: str) -> tuple[int, bytes]:
    """Ask for a path exactly as it is written: clients tidy `..` away, attackers do not."""
    said: list = []

    async def ask() -> None:
        async def receive() -> dict:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict) -> None:
            said.append(message)

        headers = [(b"host", b"127.0.0.1:8765")]
        if client.cookies:
            headers.append((b"cookie", "; ".join(f"{k}={v}" for k, v in client.cookies.items()).encode()))
        scope = {
            "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "root_path": "",
            "path": unquote(path, errors="replace"), "raw_path": path.encode(), "query_string": b"",
            "headers": headers, "asgi": {"version": "3.0"}, "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8765), "state": {},
        }  # fmt: skip
        await client.app(scope, receive, send)

    anyio.run(ask)
    return said[0]["status"], b"".join(message.get("body", b"") for message in said[1:])


def filled(pattern: str, value: str) -> Iterator[str]:
    """The pattern of a route with each of its parameters in turn set to a value, the others to 1."""
    names = re.findall(r"\{([^}]+)\}", pattern)
    for aimed in names:
        yield re.sub(r"\{([^}]+)\}", lambda found, aimed=aimed: value if found[1] == aimed else "1", pattern)


def test_no_path_leads_out(signed_in: TestClient, run: Path) -> None:
    secret = "only in the run's own record"
    (run / "run.json").write_text(f'{{"command": "grade", "note": "{secret}"}}')
    patterns = [path for path in routes(signed_in) if "{" in path]
    assert {"/static/{name:path}", "/api/cases/{case_id}"} <= set(patterns)
    for pattern, way in product(patterns, WAYS_OUT):
        for path in filled(pattern, way):
            status, body = get_raw(signed_in, path)
            assert status in (400, 404, 405, 422), (path, status)
            assert secret.encode() not in body
            assert b"root:" not in body
            assert b"Traceback" not in body


def routes(client: TestClient) -> dict[str, set[str]]:
    """Path pattern to methods of every route that there is."""
    found: dict[str, set[str]] = {}
    for route in client.app.routes:  # type: ignore[attr-defined]
        for one in getattr(route, "effective_candidates", lambda route=route: [route])():
            if path := getattr(one, "path", None):
                found.setdefault(path, set()).update(getattr(one, "methods", None) or ())
    return found


class TestRoles:
    def test_nothing_of_a_case_without_signing_in(self, desk: TestClient) -> None:
        asked = 0
        for path, methods in routes(desk).items():
            if not path.startswith("/api/") or path in ("/api/login", "/api/openapi.json"):
                continue
            for method in methods - {"HEAD", "OPTIONS"}:
                answer = desk.request(method, re.sub(r"\{[^}]+\}", "1", path), json={})
                assert answer.status_code == 401, (method, path, answer.text)
                asked += 1
        assert asked > 10

    def test_a_reader_does_not_check_the_trail(self, signed_in: TestClient) -> None:
        assert signed_in.get("/api/trail/check").status_code == 403
        reviewer = another(signed_in)
        sign_in(reviewer, user(signed_in, "brown", "reviewer"))
        assert reviewer.get("/api/trail/check").status_code == 200

    def test_nobody_gives_themselves_a_role(self, desk: TestClient) -> None:
        said = {"name": "grey", "password": PASSWORD, "role": "admin"}
        assert desk.post("/api/login", json=said).status_code == 422
        sign_in(desk, "grey")
        for more in ({"role": "admin"}, {"sees_patients": "1"}):
            assert desk.get("/api/me", params=more, headers={"X-Role": "admin"}).json()["role"] == "reader"

    def test_patients_are_for_those_who_may_see_them(self, signed_in: TestClient) -> None:
        clinician = another(signed_in)
        sign_in(clinician, user(signed_in, "brown", sees_patients=True))
        assert "patient-1" in clinician.get("/api/cases").text
        for path in ("/api/cases", f"/api/cases/{CASE}", f"/api/cases/{CASE}/trail", "/api/run"):
            assert "patient-1" not in signed_in.get(path).text
        assert signed_in.get("/api/cases", params={"q": "patient-1"}).json()["total"] == 0


class TestTokens:
    def ask(self, client: TestClient, said: str, method: str = "GET", path: str = "/api/me") -> int:
        return another(client).request(method, path, headers={"Authorization": said}).status_code

    def test_a_script_comes_in_without_cookie_and_csrf(self, desk: TestClient) -> None:
        token = new_token(desk_at(desk).engine, "grey", "export")
        assert self.ask(desk, f"Bearer {token}") == 200
        assert self.ask(desk, f"bearer {token}", "POST", f"/api/cases/{CASE}/claim") == 200

    @pytest.mark.parametrize("said", ["Bearer", "Bearer ", "Basic Z3JleTp4", "Bearer x", "Bearer a b", "x"])
    def test_what_is_none(self, signed_in: TestClient, said: str) -> None:
        assert self.ask(signed_in, said) == 401
        assert signed_in.get("/api/me", headers={"Authorization": said}).status_code == 401, "fell back to the cookie"

    def test_revoked_or_of_who_is_locked_out(self, desk: TestClient) -> None:
        engine = desk_at(desk).engine
        token = new_token(engine, "grey", "export")
        revoke_token(engine, 1)
        assert self.ask(desk, f"Bearer {token}") == 401
        session_cookie = new_token(engine, "grey", "another")
        answer = another(desk).get("/api/me", headers={"Cookie": f"histograde_session={session_cookie}"})
        assert answer.status_code == 401, "a token for scripts is no session"


class TestSize:
    def test_a_body_that_says_it_is_too_large(self, desk: TestClient) -> None:
        answer = desk.post("/api/login", content=b"x" * (MAX_BODY + 1))
        assert (answer.status_code, list(answer.json())) == (413, ["error"])

    def test_a_body_that_does_not_say(self, desk: TestClient) -> None:
        sent = 0

        def chunks() -> Iterator[bytes]:
            nonlocal sent
            for _ in range(100):
                sent += 1
                yield b" " * 100_000

        answer = desk.post("/api/login", content=chunks(), headers={"Content-Type": "application/json"})
        assert answer.status_code == 413

    def test_the_largest_that_may_be(self, desk: TestClient) -> None:
        body = f'{{"name":"grey","password":"{PASSWORD}"}}'.encode()
        answer = desk.post(
            "/api/login", content=body + b" " * (MAX_BODY - len(body)), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 200

    @pytest.mark.parametrize("length", ["-1", "1e3", "x"])
    def test_a_length_that_is_none(self, desk: TestClient, length: str) -> None:
        answer = desk.post("/api/login", content=b"{}", headers={"Content-Length": length})
        assert answer.status_code == 413

    def test_nesting_and_numbers_that_break_parsers(self, signed_in: TestClient) -> None:
        for body in (b"[" * 200_000, b'{"a":' * 50_000, b"9" * 100_000, b"\xff\xfe", b"NaN", b'"\\ud800"'):
            answer = signed_in.post("/api/login", content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code in (400, 422), body[:10]
            assert list(answer.json()) == ["error"]


class TestScripts:
    SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"

    def test_in_names_and_comments_stay_what_they_are(self, run: Path) -> None:
        with open_desk(run) as client:
            sign_in(client, user(client, "grey", full_name=self.SCRIPT))
            said = {"request_id": DECISION["request_id"], "action": "comment", "comment": self.SCRIPT, "shown": {}}
            assert client.post(f"/api/cases/{CASE}/decisions", json=said).status_code == 201
            answer = client.get(f"/api/cases/{CASE}/trail")
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["x-content-type-options"] == "nosniff"
            (entry,) = answer.json()
            assert (entry["payload"]["comment"], entry["reader"]) == (self.SCRIPT, self.SCRIPT)

    def test_in_an_address_are_not_given_back(self, signed_in: TestClient) -> None:
        for path in ("/api/cases/<script>", "/<script>", "/login?next=<script>", "/api/cases?sort=<script>"):
            assert "<script>alert" not in signed_in.get(path).text
            answer = signed_in.get(path)
            assert "<script>" not in answer.text.replace('<script type="module"', "")


class TestErrors:
    def test_what_goes_wrong_inside_stays_inside(
        self, signed_in: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        from workflows.review import case_api

        def fail(*arguments: object) -> None:
            raise RuntimeError("patient-1 of slide severe")

        monkeypatch.setattr(case_api, "find_cases", fail)
        with caplog.at_level("INFO", "workflows.review"):
            answer = signed_in.get("/api/cases", params={"q": "patient-1"})
        assert (answer.status_code, list(answer.json())) == (500, ["error"])
        assert "patient-1" not in answer.text
        assert "RuntimeError at test_attacks.py" in caplog.text
        assert "/api/cases" in caplog.text
        assert "patient-1" not in caplog.text
        assert "severe" not in caplog.text

    def test_the_log_knows_readers_by_number(self, signed_in: TestClient, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level("INFO", "workflows.review"):
            signed_in.get(f"/api/cases/{CASE}/trail")
        (line,) = [record.getMessage() for record in caplog.records if "trail" in record.getMessage()]
        assert re.fullmatch(r"GET /api/cases/\{case_id\}/trail 200 [\d.]+ ms user 1", line)

    def test_a_password_that_is_refused_is_not_given_back(self, desk: TestClient) -> None:
        answer = desk.post("/api/login", json={"name": ["grey"], "password": "my secret words"})
        assert answer.status_code == 422
        assert "secret" not in answer.text


def test_an_ended_session_leaves_no_row(signed_in: TestClient) -> None:
    signed_in.post("/api/logout")
    with desk_at(signed_in).engine.connect() as connection:
        assert connection.execute(select(sessions.c.id)).all() == []
