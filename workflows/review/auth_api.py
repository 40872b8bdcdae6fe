"""Signing in and out, and who one is."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from workflows.review.desk import Asking, Auth, Desk, Role, address_of, desk_of
from workflows.review.doors import is_https
from workflows.review.errors import DeskError, problems
from workflows.review.proof import prove
from workflows.review.sessions import LONGEST_S, Visit, end_session, new_session
from workflows.review.users import set_password
from wsi.errors import UsageError

router = APIRouter(prefix="/api", tags=["signing in"])


class Credentials(BaseModel):
    """A name and its password."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=200)
    password: str = Field(min_length=1, max_length=1024)


class NewPassword(BaseModel):
    """The password that holds, and the one that is to hold."""

    model_config = ConfigDict(extra="forbid")
    old: str = Field(min_length=1, max_length=1024)
    new: str = Field(min_length=1, max_length=1024)


class Me(BaseModel):
    """The reader as the page shows them, and the token that their unsafe requests carry."""

    name: str
    full_name: str
    role: Role
    sees_patients: bool
    csrf_token: str
    auth: Auth
    sign_with_password: bool


class SignedIn(BaseModel):
    """What comes of a login."""

    reader: Me
    csrf_token: str


class Done(BaseModel):
    """Nothing more to say."""

    done: Literal[True] = True


@router.post("/login", responses=problems(401, 429))
def login(said: Credentials, request: Request, response: Response) -> SignedIn:
    """Sign in: gives the session's cookie. A session that the browser had ends; the new one has a new token."""
    desk = desk_of(request)
    if desk.settings.no_auth:
        raise DeskError(404, "nobody signs in at this desk: it was started with --no-auth")
    reader = prove(desk, said.name, said.password, address_of(request))
    if old := request.cookies.get(desk.doors.cookie):
        end_session(desk.engine, old)
    token, csrf_token = new_session(desk.engine, reader.user_id)
    desk.doors.forget()
    response.set_cookie(
        desk.doors.cookie, token, max_age=int(LONGEST_S), path="/", secure=is_https(desk.settings), httponly=True,
        samesite="strict",
    )  # fmt: skip
    return SignedIn(reader=_me(desk, Visit(reader, csrf_token)), csrf_token=csrf_token)


@router.post("/logout")
def logout(request: Request, response: Response, reader: Asking) -> Done:
    """Sign out: the session ends on the server, so that a copy of its cookie is worth nothing."""
    desk = desk_of(request)
    if reader.auth == "password":
        end_session(desk.engine, request.cookies[desk.doors.cookie])
        desk.doors.forget()
        response.delete_cookie(
            desk.doors.cookie, path="/", secure=is_https(desk.settings), httponly=True, samesite="strict"
        )
    return Done()


@router.get("/me", responses=problems(401))
async def me(request: Request) -> Me:
    """Who asks."""
    desk = desk_of(request)
    return _me(desk, await desk.doors.visit_of(request))


@router.post("/password", responses=problems(401, 403, 422, 429))
def change_password(said: NewPassword, request: Request, reader: Asking) -> Done:
    """Take another password; all sessions of the reader end, this one too."""
    desk = desk_of(request)
    if reader.auth != "password":
        raise DeskError(403, "a password is changed by who signed in with it")
    prove(desk, reader.name, said.old, address_of(request))
    try:
        set_password(desk.engine, reader.name, said.new)
    except UsageError as error:
        raise DeskError(422, str(error)) from None
    desk.doors.forget()
    return Done()


def _me(desk: Desk, visit: Visit) -> Me:
    reader = visit.reader
    return Me(
        name=reader.name,
        full_name=reader.full_name,
        role=reader.role,
        sees_patients=reader.sees_patients,
        csrf_token=visit.csrf_token,
        auth=reader.auth,
        sign_with_password=desk.settings.sign_with_password,
    )
