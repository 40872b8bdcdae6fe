"""The proof that somebody is who they say: name and password, tried slowly; to sign in, and to sign decisions."""

import math

from sqlalchemy import RowMapping, update

from workflows.review.accounts import users
from workflows.review.database import writing
from workflows.review.desk import Desk, Reader
from workflows.review.errors import DeskError
from workflows.review.passwords import hash_password, is_outdated, is_password
from workflows.review.throttle import begin_try, forget_failures
from workflows.review.users import find_user, sign_in_name


def prove(desk: Desk, name: str, password: str, address: str) -> Reader:
    """The user whose name and password these are.

    Raises
    ------
    DeskError
        401, which does not say what of the two is wrong; 429 where there were too many tries.
    """
    name = sign_in_name(name)
    made = begin_try(desk.engine, name, address)
    if made.wait_s > 0:
        wait_s = math.ceil(made.wait_s)
        raise DeskError(429, f"too many tries; wait {wait_s} s", {"Retry-After": str(wait_s)}, wait_s=wait_s)
    with desk.engine.connect() as connection:
        user = find_user(connection, name)
    right = is_password(password, user["password_hash"] if user is not None else None)
    if user is None or not right or user["disabled"]:
        raise DeskError(401, "name or password is wrong", {"WWW-Authenticate": "Bearer"})
    forget_failures(desk.engine, name, made)
    _renew(desk, user, password)
    return Reader(user["id"], user["name"], user["full_name"], user["role"], user["sees_patients"])


def _renew(desk: Desk, user: RowMapping, password: str) -> None:
    """Hash a password again where the library's parameters have grown since."""
    if is_outdated(user["password_hash"]):
        with writing(desk.engine) as connection:
            kept = hash_password(password)
            connection.execute(update(users).where(users.c.id == user["id"]).values(password_hash=kept))
