"""Tokens for scripts: shown once when they are made, revoked by number."""

from dataclasses import dataclass

from sqlalchemy import Engine, insert, select, update

from workflows.review.accounts import api_tokens, users
from workflows.review.clock import utc_now
from workflows.review.database import writing
from workflows.review.secrets_kept import digest, new_secret
from workflows.review.users import find_user
from wsi.errors import UsageError

MAX_LABEL = 100


@dataclass(frozen=True, slots=True)
class Token:
    """A token that is not revoked; of itself nothing is kept but a digest."""

    token_id: int
    name: str
    label: str
    created_at: str


def new_token(engine: Engine, name: str, label: str) -> str:
    """Make a token with the rights of a user; what is returned is the only copy.

    Raises
    ------
    UsageError
        If there is no such user, they are locked out, or the label is too long.
    """
    if len(label) > MAX_LABEL or not label.isprintable():
        raise UsageError(f"--label has at most {MAX_LABEL} printable characters")
    token = new_secret()
    with writing(engine) as connection:
        user = find_user(connection, name)
        if user is None or user["disabled"]:
            raise UsageError(f"there is no user {name!r} who may come in; `histograde desk-users RUN` lists them")
        row = {"token_hash": digest(token), "user_id": user["id"], "label": label}
        connection.execute(insert(api_tokens).values(**row, created_at=utc_now(), revoked=False))
    return token


def revoke_token(engine: Engine, token_id: int) -> None:
    """Make a token worthless, from the next seconds on."""
    with writing(engine) as connection:
        done = connection.execute(
            update(api_tokens).where(api_tokens.c.id == token_id, api_tokens.c.revoked.is_(False)).values(revoked=True)
        )
        if not done.rowcount:
            raise UsageError(f"there is no token {token_id}; `histograde desk-users RUN` lists them")


def standing_tokens(engine: Engine) -> list[Token]:
    """Those that are not revoked, in the order in which they were made."""
    query = (
        select(api_tokens.c.id, users.c.name, api_tokens.c.label, api_tokens.c.created_at)
        .join_from(api_tokens, users)
        .where(api_tokens.c.revoked.is_(False))
        .order_by(api_tokens.c.id)
    )
    with engine.connect() as connection:
        return [Token(*row) for row in connection.execute(query)]
