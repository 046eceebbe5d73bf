"""Tokens: a user and a time of expiry, signed by a key that only the server has.

A token is ``<payload>.<signature>``, both in Base64: JSON with the user and the time of expiry, and its HMAC. Its
owner can read it, but can't change it, and can't make another one. The server needs no list of tokens.
"""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass

MAX_LENGTH = 1000  # characters


class InvalidToken(Exception):
    """A token isn't valid; the text says why."""


@dataclass(frozen=True)
class Token:
    """The content of a token.

    Attributes:
        user: the owner.
        expires: the time of expiry, in seconds since the epoch.
    """

    user: str
    expires: float


def issue(key: bytes, token: Token) -> str:
    """Make the token in the form that the user gets."""
    payload = _encode(json.dumps([token.user, token.expires]).encode())
    return f"{payload}.{_sign(key, payload)}"


def verify(key: bytes, text: str, now: float) -> Token:
    """Return the content of a token, if it is one of ours and hasn't expired.

    Raises:
        InvalidToken: it isn't ours, or has expired.
    """
    payload, _, signature = text.partition(".")
    if len(text) > MAX_LENGTH or not text.isascii():
        raise InvalidToken("malformed token")
    # Check the signature first, so that nothing else of a forged token is read. Compare in constant time: otherwise
    # the time would reveal how much of a guess is right.
    if not hmac.compare_digest(signature, _sign(key, payload)):
        raise InvalidToken("wrong signature")
    user, expires = json.loads(_decode(payload))
    if now >= expires:
        raise InvalidToken("token expired")
    return Token(user, expires)


def _sign(key: bytes, payload: str) -> str:
    return _encode(hmac.digest(key, payload.encode(), hashlib.sha256))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
