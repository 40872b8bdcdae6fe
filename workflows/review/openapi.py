"""The desk's interface described for programs, at `/api/openapi.json`: each route, what it takes and answers."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from workflows.review.desk import Desk
from workflows.review.errors import Problem

OPEN = frozenset({"/api/login"})
"""What may be asked without a session or a token."""

ABOUT = (
    "Cases of a graded run, their slides and heatmaps, and what readers decided. For research use only. "
    "A browser signs in and sends X-CSRF-Token with every unsafe request; a script sends Authorization: Bearer TOKEN "
    '(`histograde desk-users RUN --token NAME`). Every error is {"error": "one line"}.'
)


def describe(app: FastAPI) -> None:
    """Give an app its description, made when it is first asked for."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


KINDS = {
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".tiff": "image/tiff",
    ".geojson": "application/geo+json",
}
"""What an answer is that is not JSON, by the end of its address."""


def _name_kind(path: str, answer: dict[str, Any]) -> None:
    for end, kind in KINDS.items():
        if path.endswith(end):
            answer["content"] = {kind: {}}


def _described(app: FastAPI) -> dict[str, Any]:
    desk: Desk = app.state.desk
    found = get_openapi(title=app.title, version=app.version, description=ABOUT, routes=app.routes)
    parts = found.setdefault("components", {})
    parts["securitySchemes"] = {
        "session": {"type": "apiKey", "in": "cookie", "name": desk.doors.cookie},
        "token": {"type": "http", "scheme": "bearer"},
    }
    parts.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
    problem = {
        "description": "One line that says what was found, what was expected, what to do.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for path, operations in found["paths"].items():
        for operation in operations.values():
            operation["responses"]["default"] = problem
            _name_kind(path, operation["responses"].get("200", {}))
            if "422" in operation["responses"]:
                operation["responses"]["422"] = problem
            if path not in OPEN and not desk.settings.no_auth:
                operation["security"] = [{"session": []}, {"token": []}]
                operation["responses"].setdefault("401", problem)
    for unused in ("HTTPValidationError", "ValidationError"):
        parts["schemas"].pop(unused, None)
    return found
