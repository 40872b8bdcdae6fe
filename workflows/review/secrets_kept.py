"""Secrets that are handed out once and kept only as a digest: session tokens, tokens for scripts."""

import secrets
from hashlib import sha256


def new_secret() -> str:
    """256 random bits, as text for a cookie or a header."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """What is kept of a secret. It is random and long, so that a plain hash cannot be turned back."""
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def same(one: str, other: str) -> bool:
    """Whether two secrets are equal, in a time that does not tell where they differ."""
    return secrets.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))
