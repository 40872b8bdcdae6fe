"""Signing in and out: what a cookie is worth, to whom, and for how long."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from tests.workflows.review.at_the_desk import PASSWORD, another, desk_at, open_desk, sign_in, user
from workflows.review import sessions as session_rules
from workflows.review.accounts import sessions, users
from workflows.review.clock import utc_in
from workflows.review.users import set_disabled, set_password, set_rights

COOKIE = "histograde_session"


@pytest.fixture
def browser(run: Path):
    with open_desk(run) as client:
        user(client, "grey", full_name="Dr. Ann Grey")
        yield client


def status(client: TestClient, cookie: str | None = None) -> int:
    headers = {} if cookie is None else {"Cookie": f"{COOKIE}={cookie}"}
    return client.get("/api/me", headers=headers).status_code


def test_a_reader_signs_in_and_out(browser: TestClient) -> None:
    assert status(browser) == 401
    token = sign_in(browser, "  Grey ")
    said = browser.get("/api/me").json()
    assert (said["name"], said["full_name"], said["role"], said["sees_patients"]) == (
        "grey", "Dr. Ann Grey", "reader", False,
    )  # fmt: skip
    assert (said["csrf_token"], said["auth"]) == (token, "password")
    cookie = browser.cookies[COOKIE]
    assert browser.post("/api/logout").status_code == 200
    assert COOKIE not in browser.cookies
    assert status(another(browser), cookie) == 401, "a copy of the cookie outlived the session"


def test_the_cookie_is_for_this_site_and_no_script(browser: TestClient) -> None:
    answer = browser.post("/api/login", json={"name": "grey", "password": PASSWORD})
    parts = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= parts
    assert "secure" not in parts


def test_over_https_the_cookie_is_for_https_alone(run: Path) -> None:
    with open_desk(run, url="https://desk.example") as client:
        user(client, "grey")
        headers = {"Host": "desk.example"}
        answer = client.post("/api/login", json={"name": "grey", "password": PASSWORD}, headers=headers)
        said = answer.headers["set-cookie"]
        assert said.startswith(f"__Host-{COOKIE}=")
        assert "Secure" in said
        assert "Domain" not in said
        assert answer.headers["strict-transport-security"]


def test_desks_side_by_side_do_not_share_a_cookie(run: Path) -> None:
    with open_desk(run, port=9000) as client:
        user(client, "grey")
        answer = client.post("/api/login", json={"name": "grey", "password": PASSWORD})
        assert answer.headers["set-cookie"].startswith(f"{COOKIE}_9000=")


def test_the_database_holds_no_token(browser: TestClient, run: Path) -> None:
    sign_in(browser, "grey")
    cookie = browser.cookies[COOKIE]
    assert len(cookie) >= 43, "fewer than 256 bits"
    kept = b"".join(path.read_bytes() for path in (run / "review").iterdir())
    assert cookie.encode() not in kept
    assert PASSWORD.encode() not in kept
    assert b"$argon2id$" in kept


@pytest.mark.parametrize("forged", ["", "x", "a" * 43, "../../etc/passwd", "%00", "é", "a" * 5000, "' OR 1=1 --"])
def test_a_forged_cookie_opens_nothing(browser: TestClient, forged: str) -> None:
    sign_in(browser, "grey")
    answer = another(browser).get("/api/me", headers={"Cookie": f"{COOKIE}={forged}".encode()})
    assert answer.status_code == 401
    assert list(answer.json()) == ["error"]


def test_the_digest_in_the_database_is_no_cookie(browser: TestClient) -> None:
    sign_in(browser, "grey")
    with desk_at(browser).engine.connect() as connection:
        digest = connection.scalar(select(sessions.c.token_hash))
    assert status(another(browser), digest) == 401


def test_a_cookie_that_was_planted_is_not_taken_over(browser: TestClient) -> None:
    planted = "planted" * 7
    browser.cookies.set(COOKIE, planted, domain="127.0.0.1", path="/")
    answer = browser.post("/api/login", json={"name": "grey", "password": PASSWORD})
    assert planted not in answer.headers["set-cookie"]
    assert status(another(browser), planted) == 401


def test_signing_in_again_ends_the_session_before(browser: TestClient) -> None:
    first_csrf = sign_in(browser, "grey")
    first = browser.cookies[COOKIE]
    assert sign_in(browser, "grey") != first_csrf
    assert browser.cookies[COOKIE] != first
    assert status(another(browser), first) == 401
    assert status(browser) == 200


@pytest.mark.parametrize(
    ("column", "seconds"),
    [("seen_at", -session_rules.IDLE_S - 1), ("expires_at", -1.0)],
    ids=["idle for too long", "longer than a day's work"],
)
def test_a_session_ends_by_itself(browser: TestClient, column: str, seconds: float) -> None:
    sign_in(browser, "grey")
    desk = desk_at(browser)
    with desk.engine.begin() as connection:
        connection.execute(update(sessions).values({column: utc_in(seconds)}))
    desk.doors.forget()
    assert status(browser) == 401


def test_a_session_that_is_used_stays(browser: TestClient) -> None:
    sign_in(browser, "grey")
    desk = desk_at(browser)
    with desk.engine.begin() as connection:
        connection.execute(update(sessions).values(seen_at=utc_in(-session_rules.IDLE_S + 60)))
    desk.doors.forget()
    assert status(browser) == 200
    with desk.engine.connect() as connection:
        assert connection.scalar(select(sessions.c.seen_at)) > utc_in(-5)


@pytest.mark.parametrize("change", ["disable", "password"])
def test_who_is_locked_out_is_out_at_once(browser: TestClient, change: str) -> None:
    user(browser, "root", "admin")
    sign_in(browser, "grey")
    desk = desk_at(browser)
    if change == "disable":
        set_disabled(desk.engine, "grey", True)
    else:
        set_password(desk.engine, "grey", "another few plain words")
    with desk.engine.connect() as connection:
        assert connection.scalar(select(sessions.c.id)) is None
    desk.doors.forget()  # another process did it: believed for KNOWN_S at most
    assert status(browser) == 401
    if change == "disable":
        answer = browser.post("/api/login", json={"name": "grey", "password": PASSWORD})
        assert (answer.status_code, answer.json()["error"]) == (401, "name or password is wrong")


def test_a_remembered_answer_of_the_database_is_believed_for_seconds_only(
    browser: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workflows.review import doors

    now = 1000.0
    monkeypatch.setattr(doors, "monotonic", lambda: now)
    sign_in(browser, "grey")
    assert browser.get("/api/me").json()["role"] == "reader"
    set_rights(desk_at(browser).engine, "grey", "reviewer", None)
    assert browser.get("/api/me").json()["role"] == "reader"
    now += doors.KNOWN_S + 0.1
    assert browser.get("/api/me").json()["role"] == "reviewer"


class TestOwnPassword:
    def test_is_changed_with_the_old_one(self, browser: TestClient) -> None:
        sign_in(browser, "grey")
        new = "eleven loud grey geese"
        answer = browser.post("/api/password", json={"old": PASSWORD, "new": new})
        assert answer.status_code == 200
        assert status(browser) == 401
        sign_in(browser, "grey", new)

    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [("wrong", "eleven loud grey geese", 401), (PASSWORD, "short", 422), (PASSWORD, "a" * 300, 422)],
    )
    def test_or_not_at_all(self, browser: TestClient, old: str, new: str, expected: int) -> None:
        sign_in(browser, "grey")
        answer = browser.post("/api/password", json={"old": old, "new": new})
        assert answer.status_code == expected
        assert new not in answer.text
        assert status(browser) == 200


class TestOpenDoor:
    def test_the_reader_is_named_and_nobody_signed_in(self, run: Path) -> None:
        with open_desk(run, no_auth=True, reader_name="Dr. Ann Grey") as client:
            said = client.get("/api/me").json()
            assert (said["full_name"], said["auth"], said["sees_patients"]) == ("Dr. Ann Grey", "none", True)
            assert client.post("/api/login", json={"name": "x", "password": PASSWORD}).status_code == 404

    def test_is_not_the_user_of_that_name(self, run: Path) -> None:
        with open_desk(run) as client:
            user(client, "grey", full_name="Dr. Ann Grey")
        with open_desk(run, no_auth=True, reader_name="grey") as client:
            with desk_at(client).engine.connect() as connection:
                named = connection.execute(select(users.c.name, users.c.password_hash)).all()
            assert client.get("/api/me").json()["name"] not in {name for name, kept in named if kept}
        with open_desk(run) as client:
            answer = client.post("/api/login", json={"name": "not signed in: grey", "password": "x"})
            assert answer.status_code == 401
