"""What both sides of the opening handshake hold each other to: RFC 6455 sections 4.1 and 4.2. And how it is logged.

May know: requests, responses and their headers. Must not know: which side asks, state, I/O.
"""

from __future__ import annotations

import binascii
import hashlib
from typing import Final

from .datastructures import Headers
from .exceptions import InvalidHeader, InvalidUpgrade, printable
from .headers import parse_connection, parse_upgrade
from .typing import LoggerLike

__all__ = ["VERSION", "accept_key", "check_upgrade", "log_headers", "single_value"]

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
VERSION: Final = "13"

# What nearly every client and server has in ``Connection``; anything else is looked at more closely.
USUAL_OPTIONS: Final = ("Upgrade", "keep-alive, Upgrade", "upgrade")

# What opens doors has no place in a log.
SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})


def accept_key(key: str) -> str:
    """The answer to a ``Sec-WebSocket-Key`` (RFC 6455 section 4.2.2)."""
    digest = hashlib.sha1(key.encode() + GUID, usedforsecurity=False).digest()
    return binascii.b2a_base64(digest, newline=False).decode()


def single_value(headers: Headers, name: str) -> str:
    """The value of a header that must be there once.

    Raises:
        InvalidHeader: it is missing or repeated.
    """
    value = headers._by_name().get(name.lower())
    if isinstance(value, str):
        return value
    raise InvalidHeader(name) if value is None else InvalidHeader(name, "multiple values")


def check_upgrade(headers: Headers) -> None:
    """Hold a request or a response to an upgrade to WebSocket and nothing else.

    Raises:
        InvalidUpgrade: it asks for something else, or for nothing.
        InvalidHeader: a header is malformed.
    """
    names = headers._by_name()
    if names.get("upgrade") == "websocket" and names.get("connection") in USUAL_OPTIONS:
        return
    values = headers.get_all("Connection")
    if "upgrade" not in [option.lower() for value in values for option in parse_connection(value)]:
        raise InvalidUpgrade("Connection", ", ".join(values) or None)
    values = headers.get_all("Upgrade")
    if [protocol.lower() for value in values for protocol in parse_upgrade(value)] != ["websocket"]:
        raise InvalidUpgrade("Upgrade", ", ".join(values) or None)


def log_headers(logger: LoggerLike, arrow: str, headers: Headers) -> None:
    """Log headers at DEBUG, one a line, without secrets and without control characters."""
    for name, value in headers.raw_items():
        shown = "[redacted]" if name.lower() in SECRET_HEADERS else printable(value)
        logger.debug("%s %s: %s", arrow, name, shown)
