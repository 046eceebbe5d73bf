"""What a server answers to requests that it refuses: status, headers, what the log and the statistics say.

May know: what can be wrong with a request (RFC 6455 section 4.2.2), statuses of HTTP (RFC 9110 section 15). Must not
know: how a request is judged, how a response is made.
"""

from __future__ import annotations

from http import HTTPStatus as Status
from typing import Final, NamedTuple

from ..exceptions import (
    HeaderLineTooLong,
    InvalidHandshake,
    InvalidHeaderValue,
    InvalidMessage,
    InvalidMethod,
    InvalidOrigin,
    InvalidProtocol,
    InvalidUpgrade,
    RequestLineTooLong,
    TooManyHeaders,
)
from .handshake import VERSION

__all__ = ["Refusal", "Unavailable", "UnsupportedVersion", "WrongHost", "refusal_of", "refusal_reason"]

BROWSER_HINT: Final = "\n\nYou cannot access a WebSocket server directly with a browser. You need a WebSocket client.\n"


class UnsupportedVersion(InvalidHeaderValue):
    """A version of the protocol that isn't 13; its refusal names the one that is (RFC 6455 section 4.4)."""


class WrongHost(InvalidHeaderValue):
    """A name that the server doesn't answer to (RFC 9110 section 7.4)."""


class Unavailable(InvalidHandshake):
    """Nothing is wrong with the request, but the server can't take it now."""


class Refusal(NamedTuple):
    """What a refusal answers.

    Attributes:
        reason: for the log and the statistics, in a few words.
        status: status of the response.
        headers: headers beside the usual.
        ending: what the body adds to the text of the error.
    """

    reason: str
    status: Status
    headers: dict[str, str]
    ending: str = ".\n"


NEEDED: Final = {"Upgrade": "websocket"}

# The first that fits counts.
REFUSALS: Final[dict[type[Exception], Refusal]] = {
    UnsupportedVersion: Refusal(
        "invalid handshake", Status.UPGRADE_REQUIRED, NEEDED | {"Sec-WebSocket-Version": VERSION}
    ),
    InvalidOrigin: Refusal("invalid origin", Status.FORBIDDEN, {}),
    WrongHost: Refusal("invalid host", Status.MISDIRECTED_REQUEST, {}),
    InvalidUpgrade: Refusal("invalid upgrade", Status.UPGRADE_REQUIRED, NEEDED, "." + BROWSER_HINT),
    InvalidMethod: Refusal("invalid method", Status.METHOD_NOT_ALLOWED, {"Allow": "GET"}),
    InvalidProtocol: Refusal("invalid protocol", Status.HTTP_VERSION_NOT_SUPPORTED, {}),
    RequestLineTooLong: Refusal("request line too long", Status.REQUEST_URI_TOO_LONG, {}),
    HeaderLineTooLong: Refusal("header fields too large", Status.REQUEST_HEADER_FIELDS_TOO_LARGE, {}),
    TooManyHeaders: Refusal("header fields too large", Status.REQUEST_HEADER_FIELDS_TOO_LARGE, {}),
    InvalidMessage: Refusal("no valid HTTP request", Status.BAD_REQUEST, {}),
    InvalidHandshake: Refusal("invalid handshake", Status.BAD_REQUEST, {}),
}


def refusal_of(exc: Exception) -> Refusal | None:
    """Return what is answered to a request with which something is wrong; None if it isn't at fault.

    Parameters:
        exc: what is wrong.
    """
    return next((refusal for kind, refusal in REFUSALS.items() if isinstance(exc, kind)), None)


def refusal_reason(exc: Exception) -> str | None:
    """Return in a few words why a request was refused; None for a failure that isn't its fault.

    Parameters:
        exc: what is wrong.
    """
    if isinstance(exc, Unavailable):
        return str(exc)
    refusal = refusal_of(exc)
    return None if refusal is None else refusal.reason
