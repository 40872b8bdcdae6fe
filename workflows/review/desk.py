"""What every part of the desk shares: its settings, who asks, and what a route may count on.

A route takes `reader: Asking` (anybody who is signed in) or `Annotated[Reader, Depends(require("reviewer"))]`, and
finds the rest at `desk_of(request)`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from fastapi import Depends, Request

from workflows.review.errors import DeskError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from workflows.review.doors import Doors

Role = Literal["reader", "reviewer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""From least to most; each may do what those before it may."""

Auth = Literal["password", "token", "none"]
"""How somebody came in. With `none` nobody signed in: the desk was started with `--no-auth`."""


PORT = 8765
"""Where the desk listens unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What `histograde review` was asked for.

    Attributes
    ----------
    run : Path
        The run folder, absolute.
    database : str or None
        SQLAlchemy URL; None for `run/review/review.sqlite`.
    host, port
        Where the desk listens.
    slides : Path or None
        Where the slides lie now, if they moved since the run.
    no_auth : bool
        Nobody signs in; everybody who reaches the port is `reader_name`.
    double_reading : bool
        A case is finished when two different readers have decided.
    sign_with_password : bool
        A decision is signed with the reader's password, not with the name alone.
    url : str or None
        Where readers find the desk, if something stands before it: `https://desk.example`.
    """

    run: Path
    database: str | None = None
    host: str = "127.0.0.1"
    port: int = PORT
    slides: Path | None = None
    no_auth: bool = False
    reader_name: str = "reader"
    double_reading: bool = False
    sign_with_password: bool = False
    url: str | None = None

    @property
    def database_url(self) -> str:
        """The database as SQLAlchemy names it."""
        return self.database or f"sqlite:///{self.run / 'review' / 'review.sqlite'}"


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks: a user of the desk. `sees_patients` decides over patient identifiers and label images."""

    user_id: int
    name: str
    full_name: str
    role: Role
    sees_patients: bool
    auth: Auth = "password"

    def may(self, role: Role) -> bool:
        """Whether the reader has at least this role."""
        return ROLES.index(self.role) >= ROLES.index(role)


@dataclass(slots=True)
class Desk:
    """What lies on the desk while it is open; routes get it by `desk_of(request)`.

    `shelf` are the open slides, and belongs to the routes of pixels.
    """

    run: Path
    engine: "Engine"
    settings: Settings
    doors: "Doors"
    shelf: Any = None


def desk_of(request: Request) -> Desk:
    """The desk that a request is for."""
    desk: Desk = request.app.state.desk
    return desk


def address_of(request: Request) -> str:
    """The network address that a request came from."""
    return request.client.host if request.client else ""


async def current_reader(request: Request) -> Reader:
    """Who asks, by session cookie or bearer token: a FastAPI dependency.

    Raises
    ------
    DeskError
        401 for nobody, 403 for a cookie whose request cannot be proved to come from the desk's own page.
    """
    reader = await desk_of(request).doors.reader_of(request)
    request.state.user_id = reader.user_id  # for the log, which knows readers by number
    return reader


Asking = Annotated[Reader, Depends(current_reader)]
"""The parameter of a route that is for everybody who signed in."""


async def reader_or_nobody(request: Request) -> Reader | None:
    """The same for pages that show themselves to anybody."""
    try:
        return await current_reader(request)
    except DeskError:
        return None


def require(role: Role) -> Callable[[Reader], Awaitable[Reader]]:
    """A dependency for routes that are not for everybody: at least this role, else 403."""

    async def allowed(reader: Asking) -> Reader:
        if not reader.may(role):
            raise DeskError(403, f"this is for the role {role}; you are signed in as {reader.role}")
        return reader

    return allowed
