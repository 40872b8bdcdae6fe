"""`histograde desk-users` and what `histograde review` refuses, as typed on a command line."""

import io
from pathlib import Path

import pytest

from workflows.cli import main

PASSWORD = "seven tiny brown owls"


@pytest.fixture
def type_in(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, run: Path):
    """Run a verb on the run with something on standard input: (exit code, standard output, standard error)."""

    def typed(verb: str, *arguments: object, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as stopped:
            main([verb, str(run), *map(str, arguments)])
        told = capsys.readouterr()
        return int(stopped.value.code or 0), told.out, told.err

    return typed


def test_a_users_way(type_in) -> None:
    code, out, _ = type_in("desk-users")
    assert (code, "--add NAME --role admin" in out) == (0, True)
    arguments = ("--add", "Grey", "--full-name", "Dr. Ann Grey", "--role", "admin", "--password-stdin")
    assert type_in("desk-users", *arguments, stdin=PASSWORD + "\n")[:2] == (0, "grey may sign in as admin\n")
    assert type_in("desk-users", "--add", "brown", "--password-stdin", stdin=PASSWORD)[0] == 0
    assert type_in("desk-users", "--change", "brown", "--role", "reviewer", "--sees-patients")[0] == 0
    code, token, _ = type_in("desk-users", "--token", "brown", "--label", "nightly export")
    assert (code, len(token.strip())) == (0, 43)
    listed = type_in("desk-users")[1].splitlines()
    assert [line.split()[:2] for line in listed] == [["brown", "reviewer"], ["grey", "admin"], ["token", "1"]]
    assert "sees patient identifiers" in listed[0]
    assert token.strip() not in "".join(listed)
    assert type_in("desk-users", "--revoke", 1)[0] == 0
    assert type_in("desk-users", "--disable", "brown")[0] == 0
    assert "locked out" in type_in("desk-users")[1].splitlines()[0]
    assert type_in("desk-users", "--reset", "brown", "--password-stdin", stdin="eleven loud grey geese\n")[0] == 0
    assert type_in("desk-users", "--enable", "brown")[0] == 0
    assert len(type_in("desk-users")[1].splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--add", "grey"], "--password-stdin"),
        (["--add", "grey", "--role", "owner", "--password-stdin"], "owner"),
        (["--add", "grey", "--password-stdin"], "password has 12"),
        (["--add", "a b", "--password-stdin"], "'a b'"),
        (["--add", "grey", "--disable", "brown"], "one thing at a time"),
        (["--change", "grey"], "--role"),
        (["--disable", "grey"], "no user 'grey'"),
        (["--token", "grey"], "no user 'grey'"),
        (["--revoke", "7"], "no token 7"),
        (["--database", "nonsense"], "--database"),
        (["--database", "oracle+nothing://x"], "--database"),
    ],
)
def test_wrong_usage(type_in, arguments: list[str], said: str) -> None:
    code, out, err = type_in("desk-users", *arguments, stdin="short\n")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--add NAME --role admin"),
        (["--no-auth", "--host", "0.0.0.0"], "this machine only"),
        (["--no-auth", "--url", "https://desk.example"], "this machine only"),
        (["--no-auth", "--sign-with-password"], "--no-auth"),
        (["--reader", "Dr. Grey"], "--no-auth"),
        (["--slides", "absent"], "--slides"),
        (["--url", "desk.example"], "https://"),
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1"),
    ],
)
def test_a_desk_that_does_not_open(type_in, arguments: list[str], said: str) -> None:
    code, out, err = type_in("review", "--port", "0", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_the_trail_is_checked_without_a_server(type_in, run: Path) -> None:
    from sqlalchemy import create_engine, text

    from tests.workflows.review.at_the_desk import open_desk

    code, _, err = type_in("review", "--check-trail")
    assert (code, "nobody has opened" in err) == (2, True)
    with open_desk(run, no_auth=True) as client:
        for number in range(3):
            said = {"request_id": f"6a1f0c62-1d1b-4c0e-9a55-0d7a8a1f1a{number:02d}", "action": "comment", "shown": {}}
            assert client.post("/api/cases/1/decisions", json={**said, "comment": "looked"}).status_code == 201
    code, out, _ = type_in("review", "--check-trail")
    assert (code, "3 entries" in out) == (0, True)
    engine = create_engine(f"sqlite:///{run / 'review' / 'review.sqlite'}")
    with engine.begin() as connection:
        for (name,) in connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all():
            connection.execute(text(f"DROP TRIGGER {name}"))
        connection.execute(text("UPDATE entries SET at = '2020-01-01' WHERE seq = 2"))
    engine.dispose()
    code, _, err = type_in("review", "--check-trail")
    assert (code, "entry 2" in err) == (1, True)


def test_a_folder_that_is_no_run(type_in, tmp_path: Path, run: Path) -> None:
    (run / "run.json").unlink()
    for verb in ("review", "desk-users"):
        code, _, err = type_in(verb)
        assert (code, "run.json" in err) == (2, True)
    assert not (run / "review").exists()
