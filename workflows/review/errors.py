"""What goes wrong over HTTP: one clear line of JSON, `{"error": "..."}`, never a stack trace."""

import logging
import traceback
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

logger = logging.getLogger("workflows.review")


class DeskError(Exception):
    """An answer that is not the one asked for: a status, one line for a person, and facts for the page.

    `DeskError(409, "Dr. Grey has this case", claimed_by="Dr. Grey", until="...")`.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None, **facts: Any):
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers
        self.facts = facts


class Problem(BaseModel):
    """The body of every answer of 4xx and 5xx."""

    error: str


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: which statuses come with a `Problem`."""
    return {status: {"model": Problem} for status in statuses}


def answer_errors(app: FastAPI) -> None:
    """Make every error of an app the one line of JSON."""
    app.add_exception_handler(DeskError, _desk_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)


async def _desk_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DeskError)
    return JSONResponse({"error": error.message, **error.facts}, error.status, error.headers)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Where a request is wrong and how, without what was sent: that may be a password."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return JSONResponse({"error": f"{where}: {first['msg']}"}, 422)


def place_of(error: BaseException) -> str:
    """Class of an error and where it was raised. Its message is left out: it may name a slide or a patient."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
