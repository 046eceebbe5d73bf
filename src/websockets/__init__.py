"""WebSocket clients and servers for Python: RFC 6455, with compression by RFC 7692, on asyncio.

Public names load when they are first used, so that ``import websockets`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import version as __version__

# Where each public name lives.
_HOMES = {
    name: module
    for module, names in {
        "asyncio.client": "ClientConnection connect unix_connect",
        "asyncio.server": "Server ServerConnection broadcast serve unix_serve",
        "client": "ClientProtocol",
        "datastructures": "Headers HeadersLike MultipleValuesError",
        "exceptions": (
            "ConcurrencyError ConnectionClosed ConnectionClosedError ConnectionClosedOK DuplicateParameter "
            "HeaderLineTooLong InvalidHandshake InvalidHeader InvalidHeaderFormat InvalidHeaderValue InvalidMessage "
            "InvalidMethod InvalidOrigin InvalidParameterName InvalidParameterValue InvalidProtocol InvalidProxy "
            "InvalidProxyMessage InvalidProxyStatus InvalidState InvalidStatus InvalidUpgrade InvalidURI "
            "NegotiationError PayloadTooBig ProtocolError ProxyError RequestLineTooLong SecurityError "
            "StatusLineTooLong TooManyFragments TooManyHeaders WebSocketException"
        ),
        "frames": "Close CloseCode Frame Opcode",
        "http11": "Request Response",
        "protocol": "Protocol Side State",
        "server": "ServerProtocol",
        "typing": "Data ExtensionName ExtensionParameter LoggerLike Origin StatusLike Subprotocol",
    }.items()
    for name in names.split()
}

# Modules that are reachable as attributes without being imported first.
_MODULES = frozenset(_HOMES.values()) | {"asyncio", "extensions", "headers", "uri", "version"}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is not None:
        value = getattr(importlib.import_module(f".{home}", __name__), name)
    elif name in _MODULES:
        value = importlib.import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES})
