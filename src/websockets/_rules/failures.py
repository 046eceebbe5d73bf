"""Close codes for errors of the peer, and the exceptions that report the end of a connection: RFC 6455 section 7.1.

May know: errors in received data, and close codes. Must not know: connections, or the reaction to an error.
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

__all__ = ["InvalidText", "as_exception", "close_for", "closed"]


class InvalidText(ProtocolError):
    """A text message isn't UTF-8; the connection fails with 1007 (RFC 6455 section 8.1)."""

    close_code = CloseCode.INVALID_DATA


def as_exception(code: int, *details: Any) -> Exception:
    """Return the exception for an error that a decoder reports as a close code and details."""
    if code == CloseCode.MESSAGE_TOO_BIG:
        size, limit, received = details
        return PayloadTooBig(size, limit - received, received or None)
    return (InvalidText if code == CloseCode.INVALID_DATA else ProtocolError)(*details)


def close_for(exc: Exception) -> tuple[int, str]:
    """Return the close code and the reason for an error in data from the peer."""
    if isinstance(exc, ProtocolError):
        return getattr(exc, "close_code", CloseCode.PROTOCOL_ERROR), str(exc)
    if isinstance(exc, TooManyFragments):
        return CloseCode.MESSAGE_TOO_BIG, "too many fragments"
    if isinstance(exc, PayloadTooBig):
        return CloseCode.MESSAGE_TOO_BIG, str(exc)
    if isinstance(exc, UnicodeDecodeError):
        return CloseCode.INVALID_DATA, f"{exc.reason} at position {exc.start}"
    # Any other exception is a mistake of ours, whose text the peer must not see.
    return CloseCode.INTERNAL_ERROR, ""


def closed(rcvd: Close | None, sent: Close | None, rcvd_then_sent: bool | None) -> ConnectionClosed:
    """Return the exception that later calls raise, after a connection closed with these Close frames."""
    ok = rcvd is not None and sent is not None and rcvd.code in OK_CLOSE_CODES and sent.code in OK_CLOSE_CODES
    return (ConnectionClosedOK if ok else ConnectionClosedError)(rcvd, sent, rcvd_then_sent)
