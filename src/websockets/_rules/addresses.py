"""How the addresses of sockets look in the log, and in errors.

May know: what sockets give for an address. Must not know: sockets.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

__all__ = ["naming_path", "shown_address"]


def shown_address(address: Any) -> str:
    """Return how an address looks in the log; that of a Unix socket is a path, mostly empty for clients.

    Parameters:
        address: address, as sockets give it.
    """
    if isinstance(address, str | bytes):
        return os.fsdecode(address)
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


@contextlib.contextmanager
def naming_path(path: Any) -> Iterator[None]:
    """Add the path of a Unix socket to the error of an attempt to connect, as the system doesn't.

    Parameters:
        path: path of the socket; None if the program brings a socket.
    """
    try:
        yield
    except (FileNotFoundError, ConnectionRefusedError, PermissionError) as exc:
        if exc.filename is None and path is not None:
            exc.filename = os.fsdecode(path)
        raise
