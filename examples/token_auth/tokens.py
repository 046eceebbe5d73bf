"""Tokens: who somebody is, and until when, signed by a key that only the server has.

A token is ``<payload>.<signature>``, both in Base64: JSON with the user and the time of expiry, and its HMAC. Whoever
has it can read it, but can't change it, and can't make another one. The server needs no list of tokens.
"""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass

MAX_LENGTH = 1000  # characters


class InvalidToken(Exception):
    """A token proves nothing; the text says why."""


@dataclass(frozen=True)
class Token:
    """What a token says.

    Attributes:
        user: whose it is.
        expires: until when, in seconds since the epoch.
    """

    user: str
    expires: float


def issue(key: bytes, token: Token) -> str:
    """The token in the form that is given to the user."""
    payload = _encode(json.dumps([token.user, token.expires]).encode())
    return f"{payload}.{_sign(key, payload)}"


def verify(key: bytes, text: str, now: float) -> Token:
    """What a token says, if it is one of ours and still counts.

    Raises:
        InvalidToken: it isn't, or doesn't.
    """
    payload, _, signature = text.partition(".")
    if len(text) > MAX_LENGTH or not text.isascii():
        raise InvalidToken("malformed token")
    # The signature first: nothing else of a token that isn't ours deserves a look. Compared in constant time, or the
    # time it takes would tell how much of a guess is right.
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
