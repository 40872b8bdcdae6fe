"""Passwords: kept as Argon2id with the library's own parameters, compared without saying more than yes or no.

Biryukov, Dinu, Khovratovich: Argon2, RFC 9106. https://www.rfc-editor.org/rfc/rfc9106
Which passwords are taken follows NIST SP 800-63B: length counts, rules about signs do not.
"""

import unicodedata
from functools import lru_cache
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from wsi.errors import UsageError

MIN_LENGTH, MAX_LENGTH = 12, 256

_at_once = BoundedSemaphore(2)
"""A hash takes 64 MiB and a core for a while: a crowd at the door must not take the machine."""


def check_password(password: str, name: str) -> str:
    """The password as it is hashed, if it is one.

    Raises
    ------
    UsageError
        If it is too short or too long, one sign over and over, or the user's own name.
    """
    plain = _plain(password)
    if not MIN_LENGTH <= len(plain) <= MAX_LENGTH:
        raise UsageError(
            f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters, this one has {len(plain)}; a few words will do"
        )
    if len(set(plain)) < 4 or plain.casefold().strip() == name.casefold():
        raise UsageError("this password would be the first to be tried; take a few words that nobody connects with you")
    return plain


def hash_password(password: str) -> str:
    """A password as it is kept: algorithm, parameters, salt and hash in one string."""
    with _at_once:
        return PasswordHasher().hash(_plain(password))


def is_password(password: str, kept: str | None) -> bool:
    """Whether a password is the one that is kept.

    Takes as long for a user who does not exist (None): the answer's time must not tell who does.
    """
    with _at_once:
        try:
            right = PasswordHasher().verify(kept or _nobodys(), _plain(password)[: MAX_LENGTH + 1])
        except (VerificationError, InvalidHashError):
            return False
    return right and kept is not None


def is_outdated(kept: str) -> bool:
    """Whether a hash was made with other parameters than are used now, and should be made again at the next login."""
    return PasswordHasher().check_needs_rehash(kept)


def _plain(password: str) -> str:
    """The same letters however a keyboard composes them."""
    return unicodedata.normalize("NFKC", password)


@lru_cache(maxsize=1)
def _nobodys() -> str:
    return PasswordHasher().hash("the password of nobody")
