"""How the addresses of sockets look in the log.

May know: what sockets give for an address. Must not know: sockets.
"""

from __future__ import annotations

import os
from typing import Any

__all__ = ["shown_address"]


def shown_address(address: Any) -> str:
    """Return how an address looks in the log; that of a Unix socket is a path, mostly empty for clients.

    Parameters:
        address: address, as sockets give it.
    """
    if isinstance(address, str | bytes):
        return os.fsdecode(address)
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
