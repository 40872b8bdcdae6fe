"""The interface as it is described: every route takes what it says it takes, and answers what it says it answers."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.workflows.review.at_the_desk import another, desk_at, open_desk, user
from workflows.review.tokens import new_token


@pytest.fixture
def desk(run: Path) -> Iterator[TestClient]:
    with open_desk(run) as client:
        user(client, "grey", "admin", sees_patients=True)
        yield client


def described(client: TestClient) -> dict:
    answer = client.get("/api/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def test_every_route_is_described(desk: TestClient) -> None:
    said = described(desk)
    json.dumps(said, allow_nan=False)
    for path, operations in said["paths"].items():
        for method, one in operations.items():
            where = f"{method} {path}"
            assert one.get("description"), where
            assert one["responses"]["default"]["content"]["application/json"], where
            for status, answer in one["responses"].items():
                assert status in ("204", "304") or answer.get("content"), f"{where} {status}"
            assert ("security" in one) == (path != "/api/login"), where
    assert said["components"]["securitySchemes"]["session"]["name"] == "histograde_session"


def test_it_asks_nothing_of_another_place(desk: TestClient) -> None:
    assert "http://" not in json.dumps(described(desk))
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert desk.get(path).status_code == 404


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("default")
def test_schemathesis_finds_nothing(desk: TestClient) -> None:
    """Made-up requests, right and wrong ones, to every route: no 5xx, only answers of the described shapes."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from schemathesis.checks import load_all_checks
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
        unsupported_method,
    )

    load_all_checks()
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", desk.app, headers={"Host": "127.0.0.1:8765"})
    token = new_token(desk_at(desk).engine, "grey", "schemathesis")
    headers = {"Authorization": f"Bearer {token}", "Host": "127.0.0.1:8765"}
    checks = [
        schemathesis.checks.not_a_server_error, status_code_conformance, content_type_conformance,
        response_schema_conformance, unsupported_method,
    ]  # fmt: skip
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        cases = operation.as_strategy()

        @seed(20261121)
        @settings(
            max_examples=12, deadline=None, database=None, phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=cases)
        def ask(case: schemathesis.Case) -> None:
            nonlocal asked
            asked += 1
            case.call_and_validate(headers=headers, checks=checks)

        ask()
    assert asked > 200
    assert another(desk).get("/api/me", headers=headers).status_code == 200
