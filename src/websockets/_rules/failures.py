"""What a failure of the peer is answered with, and what the end of a connection is told with: RFC 6455 section 7.1.

May know: errors found in what was received, and close codes. Must not know: connections, or what is done about it.
"""

from __future__ import annotations

from typing import Any

from ..exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    PayloadTooBig,
    ProtocolError,
    TooManyFragments,
)
from ..frames import OK_CLOSE_CODES, Close, CloseCode

__all__ = ["InvalidText", "as_exception", "closed", "explain"]


class InvalidText(ProtocolError):
    """Text that isn't UTF-8; the connection fails with 1007 (RFC 6455 section 8.1)."""

    close_code = CloseCode.INVALID_DATA


def as_exception(code: int, *details: Any) -> Exception:
    """The error that a decoder found, which it tells as a close code and what it depends on."""
    if code == CloseCode.MESSAGE_TOO_BIG:
        size, limit, received = details
        return PayloadTooBig(size, limit - received, received or None)
    return (InvalidText if code == CloseCode.INVALID_DATA else ProtocolError)(*details)


def explain(exc: Exception) -> tuple[int, str]:
    """The close code and the reason for an error found in what the peer sent."""
    if isinstance(exc, ProtocolError):
        return getattr(exc, "close_code", CloseCode.PROTOCOL_ERROR), str(exc)
    if isinstance(exc, TooManyFragments):
        return CloseCode.MESSAGE_TOO_BIG, "too many fragments"
    if isinstance(exc, PayloadTooBig):
        return CloseCode.MESSAGE_TOO_BIG, str(exc)
    if isinstance(exc, UnicodeDecodeError):
        return CloseCode.INVALID_DATA, f"{exc.reason} at position {exc.start}"
    # Never tell the peer about our bugs.
    return CloseCode.INTERNAL_ERROR, ""


def closed(rcvd: Close | None, sent: Close | None, rcvd_then_sent: bool | None) -> ConnectionClosed:
    """The exception for whoever uses a connection after it closed with these Close frames."""
    ok = rcvd is not None and sent is not None and rcvd.code in OK_CLOSE_CODES and sent.code in OK_CLOSE_CODES
    return (ConnectionClosedOK if ok else ConnectionClosedError)(rcvd, sent, rcvd_then_sent)
