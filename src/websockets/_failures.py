"""What a failure of the peer is answered with: RFC 6455 section 7.1.7.

May know: errors found in what was received, and close codes. Must not know: connections, or what is done about it.
"""

from __future__ import annotations

from .exceptions import PayloadTooBig, ProtocolError, TooManyFragments
from .frames import CloseCode

__all__ = ["InvalidText", "explain"]


class InvalidText(ProtocolError):
    """Text that isn't UTF-8; the connection fails with 1007 (RFC 6455 section 8.1)."""

    close_code = CloseCode.INVALID_DATA


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
