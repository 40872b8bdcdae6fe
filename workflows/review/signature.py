"""The reader's password under a decision, at a desk that asks for one."""

from workflows.review.desk import Desk, Reader
from workflows.review.errors import DeskError
from workflows.review.proof import prove


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
    try:
        prove(desk, reader.name, password, address)
    except DeskError as error:
        if error.status == 401:  # to a page that would say that the session has ended
            raise DeskError(403, "the password is not yours; nothing was signed") from None
        raise
