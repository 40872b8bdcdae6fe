"""The reader's password under a decision, at a desk that asks for one."""

import math

from workflows.review.desk import Desk, Reader
from workflows.review.errors import DeskError
from workflows.review.passwords import is_password
from workflows.review.throttle import begin_try, forget_failures
from workflows.review.users import find_user


def check_signature(desk: Desk, reader: Reader, password: str | None, address: str) -> None:
    """Nothing where the desk asks for no password; else it is the reader's own.

    Raises
    ------
    DeskError
        403 for a missing or wrong password and for scripts, which have none; 429 after too many wrong ones.
    """
    if not desk.settings.sign_with_password or reader.auth == "none":
        return
    if reader.auth == "token":
        raise DeskError(403, "this desk wants decisions signed with a password, and a token has none")
    if not password:
        raise DeskError(403, "this desk wants decisions signed: give your password")
    made = begin_try(desk.engine, reader.name, address)
    if made.wait_s > 0:
        wait_s = math.ceil(made.wait_s)
        raise DeskError(429, f"too many tries; wait {wait_s} s", {"Retry-After": str(wait_s)}, wait_s=wait_s)
    with desk.engine.connect() as connection:
        user = find_user(connection, reader.name)
    if not is_password(password, user["password_hash"] if user is not None else None):
        raise DeskError(403, "the password is not yours; nothing was signed")
    forget_failures(desk.engine, reader.name, made)
