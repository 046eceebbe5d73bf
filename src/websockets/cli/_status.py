"""Exit status of the command.

May know: numbers, and missing features of the system. Must not know: anything else.
"""

from __future__ import annotations

import socket

__all__ = ["ABNORMAL", "HANDSHAKE", "INTERRUPTED", "OK", "USAGE", "UsageError", "check_unix", "of_close"]

OK = 0
HANDSHAKE = 1
USAGE = 2
ABNORMAL = 3
INTERRUPTED = 130  # as in shells: 128 plus the number of the signal


class UsageError(Exception):
    """The options or arguments are invalid; the text says why."""


def check_unix(path: object) -> None:
    """Check that the system has Unix sockets, if an option asks for one.

    Raises:
        UsageError: the system has none.
    """
    if path is not None and not hasattr(socket, "AF_UNIX"):
        raise UsageError("--unix needs Unix sockets, which Python doesn't have on this system")


def of_close(code: int | None) -> int:
    """Return the status for a close code: 1000, 1001 and no code are normal (RFC 6455 section 7.4.1)."""
    # Imported here, so that the command can tell of a wrong environment, which makes this import fail.
    from ..frames import OK_CLOSE_CODES

    return OK if code in OK_CLOSE_CODES else ABNORMAL
