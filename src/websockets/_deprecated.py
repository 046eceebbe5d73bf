"""Names of old that modules still answer to: each warns and leads to where the name lives now.

May know: names and modules, as strings, since most lead to floors above the module that answers to them. Must not know:
what any of them is.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = ["LEGACY", "names_of_old"]

# What lives in the legacy API, and where.
LEGACY: Final[Mapping[str, str]] = {
    "AbortHandshake": "legacy.exceptions",
    "BasicAuthWebSocketServerProtocol": "legacy.auth",
    "InvalidStatusCode": "legacy.exceptions",
    "RedirectHandshake": "legacy.exceptions",
    "WebSocketClientProtocol": "legacy.client",
    "WebSocketCommonProtocol": "legacy.protocol",
    "WebSocketServer": "legacy.server",
    "WebSocketServerProtocol": "legacy.server",
    "basic_auth_protocol_factory": "legacy.auth",
    "broadcast": "legacy.server",
    "connect": "legacy.client",
    "serve": "legacy.server",
    "unix_connect": "legacy.client",
    "unix_serve": "legacy.server",
}

# What only has another name today.
_RENAMED: Final[Mapping[str, tuple[str, str]]] = {"WebSocketProtocolError": ("exceptions", "ProtocolError")}


def names_of_old(module: str, *names: str, stacklevel: int = 2) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a module that answers to names of old.

    Parameters:
        module: the module.
        names: the names.
        stacklevel: how far away the program is that asked, for the warning.
    """

    def getattr_of_module(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(f"{module}.{name} is deprecated", DeprecationWarning, stacklevel=stacklevel)
        home, name_of_today = _RENAMED.get(name) or (LEGACY[name], name)
        return getattr(importlib.import_module(f"websockets.{home}"), name_of_today)

    return getattr_of_module
