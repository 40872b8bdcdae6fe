"""A desk over a small run, and people who sign in at it, for the tests of its routes."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fastapi.testclient import TestClient

from workflows.review.app import create_app
from workflows.review.desk import Desk, Role, Settings
from workflows.review.passwords import hash_password
from workflows.review.users import add_user

hashed_once = lru_cache(hash_password)
PASSWORD = "seven tiny brown owls"
ADDRESS = "http://127.0.0.1:8765"


@contextmanager
def open_desk(run: Path, **settings: Any) -> Iterator[TestClient]:
    """A browser that has not signed in, at the desk of a run."""
    app = create_app(Settings(run, **settings))
    with TestClient(app, base_url=ADDRESS, raise_server_exceptions=False) as client:
        yield client


def desk_at(client: TestClient) -> Desk:
    """The desk that a browser is at."""
    return client.app.state.desk  # type: ignore[attr-defined]


def user(client: TestClient, name: str, role: Role = "reader", **more: Any) -> str:
    """Make a user with the password of all tests, which is hashed once; gives the name."""
    with patch("workflows.review.users.hash_password", hashed_once):
        add_user(desk_at(client).engine, name, role, PASSWORD, **more)
    return name


def another(client: TestClient) -> TestClient:
    """Another browser at the same desk, with no cookies."""
    return TestClient(client.app, base_url=ADDRESS, raise_server_exceptions=False)


def sign_in(client: TestClient, name: str, password: str = PASSWORD) -> str:
    """Sign a browser in; its unsafe requests carry the CSRF token from now on."""
    answer = client.post("/api/login", json={"name": name, "password": password})
    assert answer.status_code == 200, answer.text
    client.headers["X-CSRF-Token"] = answer.json()["csrf_token"]
    return str(answer.json()["csrf_token"])
