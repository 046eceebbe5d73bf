"""What the command tells the shell when it ends.

May know: numbers, and what the system doesn't have. Must not know: anything else.
"""

from __future__ import annotations

import socket

from ..frames import OK_CLOSE_CODES

__all__ = ["ABNORMAL", "HANDSHAKE", "INTERRUPTED", "OK", "USAGE", "UsageError", "check_unix", "of_close"]

OK = 0
HANDSHAKE = 1
USAGE = 2
ABNORMAL = 3
INTERRUPTED = 130  # as shells have it: 128 and the number of the signal


class UsageError(Exception):
    """What was asked for makes no sense; the text says why."""


def check_unix(path: object) -> None:
    """Check that there are Unix sockets, if an option asks for one.

    Raises:
        UsageError: there are none.
    """
    if path is not None and not hasattr(socket, "AF_UNIX"):
        raise UsageError("--unix needs Unix sockets, which Python doesn't have on this system")


def of_close(code: int | None) -> int:
    """The status for a close code: 1000, 1001 and none at all are normal (RFC 6455 section 7.4.1)."""
    return OK if code in OK_CLOSE_CODES else ABNORMAL
