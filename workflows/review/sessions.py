"""Sessions: who signed in, kept on the server. The browser has a random token, the database only its digest."""

from dataclasses import dataclass

from sqlalchemy import Engine, delete, insert, select, update

from workflows.review.accounts import api_tokens, sessions, users
from workflows.review.clock import utc_in, utc_now
from workflows.review.database import writing
from workflows.review.desk import Auth, Reader
from workflows.review.secrets_kept import digest, new_secret

IDLE_S = 60 * 60.0
"""How long a session lasts without a request."""

LONGEST_S = 12 * 60 * 60.0
"""How long it lasts at all: a working day."""

TOUCH_S = 60.0
"""How often a session that is used says so in the database."""


@dataclass(frozen=True, slots=True)
class Visit:
    """Somebody at the desk. `csrf_token` is empty where no browser sends credentials by itself."""

    reader: Reader
    csrf_token: str = ""


def new_session(engine: Engine, user_id: int) -> tuple[str, str]:
    """Begin a session: the token for the cookie, and the token that proves that a request comes from the page."""
    token, csrf_token = new_secret(), new_secret()
    now = utc_now()
    row = {"token_hash": digest(token), "user_id": user_id, "csrf_token": csrf_token}
    with writing(engine) as connection:
        connection.execute(
            delete(sessions).where((sessions.c.expires_at <= now) | (sessions.c.seen_at <= utc_in(-IDLE_S)))
        )
        connection.execute(insert(sessions).values(**row, created_at=now, seen_at=now, expires_at=utc_in(LONGEST_S)))
    return token, csrf_token


def end_session(engine: Engine, token: str) -> None:
    """End a session; a token that is none is no fault."""
    with writing(engine) as connection:
        connection.execute(delete(sessions).where(sessions.c.token_hash == digest(token)))


def visit_by_session(engine: Engine, token_hash: str) -> Visit | None:
    """Who has this session, unless it has ended, its user is locked out, or there is none."""
    query = select(users, sessions.c.csrf_token, sessions.c.seen_at).join_from(sessions, users).where(
        sessions.c.token_hash == token_hash,
        sessions.c.expires_at > utc_now(),
        sessions.c.seen_at > utc_in(-IDLE_S),
        users.c.disabled.is_(False),
    )  # fmt: skip
    with engine.connect() as connection:
        row = connection.execute(query).mappings().first()
    if row is None:
        return None
    if row["seen_at"] < utc_in(-TOUCH_S):
        with writing(engine) as connection:
            connection.execute(update(sessions).where(sessions.c.token_hash == token_hash).values(seen_at=utc_now()))
    return Visit(_reader(row, "password"), row["csrf_token"])


def visit_by_token(engine: Engine, token_hash: str) -> Visit | None:
    """Whose token for scripts this is, unless it is revoked, its user is locked out, or there is none."""
    query = select(users).join_from(api_tokens, users).where(
        api_tokens.c.token_hash == token_hash, api_tokens.c.revoked.is_(False), users.c.disabled.is_(False)
    )  # fmt: skip
    with engine.connect() as connection:
        row = connection.execute(query).mappings().first()
    return None if row is None else Visit(_reader(row, "token"))


def _reader(row: object, auth: Auth) -> Reader:
    user: dict = dict(row)  # type: ignore[call-overload]
    return Reader(user["id"], user["name"], user["full_name"], user["role"], user["sees_patients"], auth)
