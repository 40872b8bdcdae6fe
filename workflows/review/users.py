"""The users of the desk: made, found, changed. What locks somebody out ends their sessions in the same step."""

import re
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, RowMapping, delete, func, insert, select, update

from workflows.review.accounts import api_tokens, sessions, users
from workflows.review.clock import utc_now
from workflows.review.database import writing
from workflows.review.desk import ROLES, Reader, Role
from workflows.review.passwords import check_password, hash_password
from wsi.errors import UsageError

NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
"""What a user signs in with. Other names belong to desks where nobody signs in, so that the two never meet."""

MAX_FULL_NAME = 200
OPEN_DOOR = "not signed in: "


@dataclass(frozen=True, slots=True)
class User:
    """A user as the list shows them; `tokens` counts those for scripts that are not revoked."""

    user_id: int
    name: str
    full_name: str
    role: Role
    sees_patients: bool
    disabled: bool
    created_at: str
    tokens: int


def sign_in_name(name: str) -> str:
    """A name as users type it to the one that is kept: small letters, no spaces around it."""
    return name.strip().lower()


def add_user(
    engine: Engine, name: str, role: Role, password: str, full_name: str = "", sees_patients: bool = False
) -> int:
    """Make a user; gives the number.

    Raises
    ------
    UsageError
        If the name is taken or cannot be one, there is no such role, or the password is too easy.
    """
    name = _check_name(name)
    row = {
        "name": name,
        "full_name": check_full_name(full_name or name),
        "role": check_role(role),
        "password_hash": hash_password(check_password(password, name)),
        "sees_patients": sees_patients,
    }
    with writing(engine) as connection:
        if connection.scalar(select(users.c.id).where(users.c.name == name)) is not None:
            raise UsageError(f"there is a user {name!r} already; take another name, or change that one")
        return _insert(connection, row)


def open_door_reader(engine: Engine, full_name: str) -> Reader:
    """The reader of a desk where nobody signs in: may read all, manages nobody, and cannot sign in."""
    full_name = check_full_name(full_name)
    name = (OPEN_DOOR + full_name)[:64]
    with writing(engine) as connection:
        found = connection.scalar(select(users.c.id).where(users.c.name == name))
        if found is None:
            row = {"name": name, "full_name": full_name, "role": "reviewer", "sees_patients": True}
            found = _insert(connection, row)
    return Reader(found, name, full_name, "reviewer", sees_patients=True, auth="none")


def all_users(engine: Engine) -> list[User]:
    """Everybody who can be signed in or could once, by name."""
    tokens = (
        select(func.count())
        .where(api_tokens.c.user_id == users.c.id, api_tokens.c.revoked.is_(False))
        .scalar_subquery()
        .label("tokens")
    )
    query = select(users, tokens).where(users.c.password_hash.is_not(None)).order_by(users.c.name)
    with engine.connect() as connection:
        return [
            User(
                row["id"], row["name"], row["full_name"], row["role"], row["sees_patients"], row["disabled"],
                row["created_at"], row["tokens"],
            )
            for row in connection.execute(query).mappings()
        ]  # fmt: skip


def find_user(connection: Connection, name: str) -> RowMapping | None:
    """A user who can have a password, by the name that was typed."""
    query = select(users).where(users.c.name == sign_in_name(name), users.c.password_hash.is_not(None))
    return connection.execute(query).mappings().first()


def set_password(engine: Engine, name: str, password: str) -> None:
    """Give a user another password; who is signed in under the old one is signed out."""
    kept = hash_password(check_password(password, sign_in_name(name)))
    with writing(engine) as connection:
        user = _known(connection, name)
        connection.execute(update(users).where(users.c.id == user["id"]).values(password_hash=kept))
        connection.execute(delete(sessions).where(sessions.c.user_id == user["id"]))


def set_disabled(engine: Engine, name: str, disabled: bool) -> None:
    """Lock a user out at once, sessions and tokens too; or let them in again, with new tokens if they need any."""
    with writing(engine) as connection:
        user = _known(connection, name)
        if disabled:
            _keep_an_admin(connection, user["id"])
            connection.execute(delete(sessions).where(sessions.c.user_id == user["id"]))
            connection.execute(update(api_tokens).where(api_tokens.c.user_id == user["id"]).values(revoked=True))
        connection.execute(update(users).where(users.c.id == user["id"]).values(disabled=disabled))


def set_rights(engine: Engine, name: str, role: Role | None, sees_patients: bool | None) -> None:
    """Change what a user may do; it holds from their next request on."""
    with writing(engine) as connection:
        user = _known(connection, name)
        if role is not None:
            if check_role(role) != "admin":
                _keep_an_admin(connection, user["id"])
            connection.execute(update(users).where(users.c.id == user["id"]).values(role=role))
        if sees_patients is not None:
            connection.execute(update(users).where(users.c.id == user["id"]).values(sees_patients=sees_patients))


def check_role(role: str) -> Role:
    """A role, or a `UsageError` that names those there are."""
    for known in ROLES:
        if role == known:
            return known
    raise UsageError(f"--role is {role!r}; there are: {', '.join(ROLES)}")


def check_full_name(full_name: str) -> str:
    """A name as people read it: one line of printable signs."""
    full_name = " ".join(full_name.split())
    if not full_name or len(full_name) > MAX_FULL_NAME or not full_name.isprintable():
        raise UsageError(f"a reader's name has 1 to {MAX_FULL_NAME} printable characters; found {full_name[:40]!r}")
    return full_name


def _check_name(name: str) -> str:
    name = sign_in_name(name)
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name[:80]!r} cannot be a user's name: use letters a to z, digits, '.', '_', '@', '-', 64 at most "
            "(--full-name takes any)"
        )
    return name


def _known(connection: Connection, name: str) -> RowMapping:
    user = find_user(connection, name)
    if user is None:
        raise UsageError(f"there is no user {sign_in_name(name)!r}; `histograde desk-users RUN` lists them")
    return user


def _keep_an_admin(connection: Connection, user_id: int) -> None:
    others = select(func.count()).where(
        users.c.role == "admin",
        users.c.disabled.is_(False),
        users.c.password_hash.is_not(None),
        users.c.id != user_id,
    )
    was = connection.scalar(select(users.c.role).where(users.c.id == user_id))
    if was == "admin" and not connection.scalar(others):
        raise UsageError("this is the last admin; make another one first")


def _insert(connection: Connection, row: dict[str, object]) -> int:
    row = {**row, "disabled": False, "created_at": utc_now()}
    return connection.scalars(insert(users).returning(users.c.id), row).one()
