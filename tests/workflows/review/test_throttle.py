"""Guessing is slow: by name, by address, with many at once, and after a restart."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update

from tests.workflows.review.at_the_desk import PASSWORD, another, desk_at, open_desk, user
from workflows.review import auth_api, passwords, proof
from workflows.review.accounts import login_attempts
from workflows.review.clock import utc_in
from workflows.review.database import open_engine
from workflows.review.migrate import migrate
from workflows.review.throttle import PATIENCE, WINDOW_S, begin_try, forget_failures


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'review.sqlite'}")
    migrate(engine)
    yield engine
    engine.dispose()


def age(engine: Engine, seconds: float) -> None:
    with engine.begin() as connection:
        connection.execute(update(login_attempts).values(at=utc_in(-seconds)))


def test_waits_grow_twofold_up_to_a_limit() -> None:
    waits = [PATIENCE["user"].wait_s(failures) for failures in (0, 4, 5, 6, 7, 8, 20, 10_000)]
    assert waits == [0, 0, 2, 4, 8, 16, 300, 300]
    assert [PATIENCE["address"].wait_s(failures) for failures in (19, 20, 30)] == [0, 2, 60]


def test_a_name_has_five_free_tries(engine: Engine) -> None:
    assert [begin_try(engine, "grey", f"10.0.0.{n}").wait_s for n in range(5)] == [0] * 5
    assert 1 < begin_try(engine, "grey", "10.0.0.9").wait_s <= 2
    assert begin_try(engine, "brown", "10.0.0.9").wait_s == 0
    age(engine, 2.1)
    assert begin_try(engine, "grey", "10.0.0.9").wait_s == 0
    assert 3 < begin_try(engine, "grey", "10.0.0.9").wait_s <= 4


def test_an_address_has_twenty(engine: Engine) -> None:
    assert [begin_try(engine, f"user{n}", "10.0.0.1").wait_s for n in range(20)] == [0] * 20
    assert begin_try(engine, "another", "10.0.0.1").wait_s > 1
    assert begin_try(engine, "another", "10.0.0.2").wait_s == 0


def test_who_waits_does_not_make_it_longer(engine: Engine) -> None:
    waits = [begin_try(engine, "grey", "10.0.0.1").wait_s for _ in range(50)]
    assert max(waits) <= 2
    age(engine, WINDOW_S + 1)
    assert begin_try(engine, "grey", "10.0.0.1").wait_s == 0
    with engine.connect() as connection:
        assert len(connection.execute(select(login_attempts)).all()) == 2, "old failures stay for ever"


def test_many_at_once_win_nothing(engine: Engine) -> None:
    with ThreadPoolExecutor(16) as pool:
        waits = list(pool.map(lambda _: begin_try(engine, "grey", "10.0.0.1").wait_s, range(40)))
    assert waits.count(0) == 5


def test_a_login_forgets_its_names_failures_and_its_own_try(engine: Engine) -> None:
    for _ in range(4):
        begin_try(engine, "grey", "10.0.0.1")
    forget_failures(engine, "grey", begin_try(engine, "grey", "10.0.0.1"))
    with engine.connect() as connection:
        kinds = connection.scalars(select(login_attempts.c.kind)).all()
    assert kinds == ["address"] * 4
    assert begin_try(engine, "grey", "10.0.0.1").wait_s == 0


def test_what_was_typed_as_a_name_is_not_kept(engine: Engine, tmp_path: Path) -> None:
    begin_try(engine, "my password by mistake", "10.0.0.1")
    assert not [path for path in tmp_path.iterdir() if b"my password" in path.read_bytes()]


def test_a_restart_forgives_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str | None] = []
    monkeypatch.setattr(proof, "is_password", lambda said, kept: looked.append(kept) or False)
    with open_desk(run) as client:
        user(client, "grey")
        said = {"name": "grey", "password": "wrong"}
        assert {client.post("/api/login", json=said).status_code for _ in range(5)} == {401}
    with open_desk(run) as client:
        answer = client.post("/api/login", json={"name": "GREY ", "password": PASSWORD})
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["retry-after"]) == answer.json()["wait_s"] <= 2
    assert len(looked) == 5, "the password was looked at while the name had to wait"


def test_unknown_and_locked_out_users_take_the_same_way(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[str] = []
    original = passwords.PasswordHasher.verify

    def verify(self: passwords.PasswordHasher, kept: str, said: str) -> bool:
        verified.append(kept)
        return original(self, kept, said)

    monkeypatch.setattr(passwords.PasswordHasher, "verify", verify)
    with open_desk(run) as client:
        user(client, "grey")
        auth = [client.post("/api/login", json={"name": name, "password": "wrong"}) for name in ("grey", "nobody")]
        assert {(answer.status_code, answer.text) for answer in auth} == {
            (401, '{"error":"name or password is wrong"}')
        }
    assert len(verified) == 2
    assert verified[0].split("$")[:4] == verified[1].split("$")[:4], "other parameters take another time"


class TestSigning:
    BODY = {"action": "accept", "shown": {}}  # noqa: RUF012

    def decide(self, client: object, number: int, **more: str) -> tuple[int, dict]:
        request_id = f"6a1f0c62-1d1b-4c0e-9a55-0d7a8a1f1a{number:02d}"
        answer = client.post("/api/cases/1/decisions", json={"request_id": request_id, **self.BODY, **more})
        return answer.status_code, answer.json()

    def test_a_desk_that_asks_for_the_password(self, run: Path) -> None:
        with open_desk(run, sign_with_password=True) as client:
            user(client, "grey")
            csrf = client.post("/api/login", json={"name": "grey", "password": PASSWORD}).json()["csrf_token"]
            client.headers["X-CSRF-Token"] = csrf
            client.post("/api/cases/1/claim")
            assert self.decide(client, 1)[0] == 403
            assert self.decide(client, 2, password="wrong") == (
                403, {"error": "the password is not yours; nothing was signed"},
            )  # fmt: skip
            assert self.decide(client, 3, password=PASSWORD)[0] == 201
            trail = client.get("/api/cases/1/trail")
            assert PASSWORD not in trail.text
            assert len(trail.json()) == 1

    def test_one_that_does_not(self, run: Path) -> None:
        with open_desk(run) as client:
            user(client, "grey")
            fresh = another(client)
            csrf = fresh.post("/api/login", json={"name": "grey", "password": PASSWORD}).json()["csrf_token"]
            fresh.headers["X-CSRF-Token"] = csrf
            fresh.post("/api/cases/1/claim")
            assert self.decide(fresh, 1)[0] == 201
            assert desk_at(client).settings.sign_with_password is False


def test_the_form_of_a_login_is_bounded() -> None:
    with pytest.raises(ValueError, match="1024"):
        auth_api.Credentials(name="grey", password="x" * 1025)
