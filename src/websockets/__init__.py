"""WebSocket clients and servers for Python: RFC 6455, with compression by RFC 7692, on asyncio and in threads.

Public names load at their first use, so that ``import websockets`` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from .version import version as _version

if TYPE_CHECKING:
    from . import anyio as anyio
    from . import asgi as asgi
    from . import asyncio as asyncio
    from . import auth as auth
    from . import cli as cli
    from . import client as client
    from . import datastructures as datastructures
    from . import exceptions as exceptions
    from . import extensions as extensions
    from . import frames as frames
    from . import headers as headers
    from . import http11 as http11
    from . import legacy as legacy
    from . import protocol as protocol
    from . import proxy as proxy
    from . import rooms as rooms
    from . import server as server
    from . import sync as sync
    from . import testing as testing
    from . import trio as trio
    from . import typing as typing
    from . import uri as uri
    from . import utils as utils
    from . import version as version
    from ._rules.statistics import Statistics as Statistics
    from .asyncio.client import ClientConnection as ClientConnection
    from .asyncio.client import connect as connect
    from .asyncio.client import unix_connect as unix_connect
    from .asyncio.router import Router as Router
    from .asyncio.router import route as route
    from .asyncio.router import unix_route as unix_route
    from .asyncio.server import Server as Server
    from .asyncio.server import ServerConnection as ServerConnection
    from .asyncio.server import ServerStatistics as ServerStatistics
    from .asyncio.server import basic_auth as basic_auth
    from .asyncio.server import broadcast as broadcast
    from .asyncio.server import serve as serve
    from .asyncio.server import unix_serve as unix_serve
    from .client import ClientProtocol as ClientProtocol
    from .datastructures import Headers as Headers
    from .datastructures import HeadersLike as HeadersLike
    from .datastructures import MultipleValuesError as MultipleValuesError
    from .exceptions import ConcurrencyError as ConcurrencyError
    from .exceptions import ConnectionClosed as ConnectionClosed
    from .exceptions import ConnectionClosedError as ConnectionClosedError
    from .exceptions import ConnectionClosedOK as ConnectionClosedOK
    from .exceptions import DuplicateParameter as DuplicateParameter
    from .exceptions import HeaderLineTooLong as HeaderLineTooLong
    from .exceptions import InvalidHandshake as InvalidHandshake
    from .exceptions import InvalidHeader as InvalidHeader
    from .exceptions import InvalidHeaderFormat as InvalidHeaderFormat
    from .exceptions import InvalidHeaderValue as InvalidHeaderValue
    from .exceptions import InvalidMessage as InvalidMessage
    from .exceptions import InvalidMethod as InvalidMethod
    from .exceptions import InvalidOrigin as InvalidOrigin
    from .exceptions import InvalidParameterName as InvalidParameterName
    from .exceptions import InvalidParameterValue as InvalidParameterValue
    from .exceptions import InvalidProtocol as InvalidProtocol
    from .exceptions import InvalidProxy as InvalidProxy
    from .exceptions import InvalidProxyMessage as InvalidProxyMessage
    from .exceptions import InvalidProxyStatus as InvalidProxyStatus
    from .exceptions import InvalidState as InvalidState
    from .exceptions import InvalidStatus as InvalidStatus
    from .exceptions import InvalidUpgrade as InvalidUpgrade
    from .exceptions import InvalidURI as InvalidURI
    from .exceptions import NegotiationError as NegotiationError
    from .exceptions import PayloadTooBig as PayloadTooBig
    from .exceptions import ProtocolError as ProtocolError
    from .exceptions import ProxyError as ProxyError
    from .exceptions import RequestLineTooLong as RequestLineTooLong
    from .exceptions import SecurityError as SecurityError
    from .exceptions import StatusLineTooLong as StatusLineTooLong
    from .exceptions import TooManyFragments as TooManyFragments
    from .exceptions import TooManyHeaders as TooManyHeaders
    from .exceptions import WebSocketException as WebSocketException
    from .frames import Close as Close
    from .frames import CloseCode as CloseCode
    from .frames import Frame as Frame
    from .frames import Opcode as Opcode
    from .http11 import Request as Request
    from .http11 import Response as Response
    from .protocol import Protocol as Protocol
    from .protocol import Side as Side
    from .protocol import State as State
    from .protocol._prepared import PreparedMessage as PreparedMessage
    from .server import ServerProtocol as ServerProtocol
    from .typing import Data as Data
    from .typing import ExtensionName as ExtensionName
    from .typing import ExtensionParameter as ExtensionParameter
    from .typing import LoggerLike as LoggerLike
    from .typing import Origin as Origin
    from .typing import StatusLike as StatusLike
    from .typing import Subprotocol as Subprotocol

__version__ = _version

ACCELERATOR: str
"""The accelerator in use: ``"native"``, which is compiled, or ``"python"``, which is slower."""

# The module of each public name.
_HOMES = {
    name: module
    for module, names in {
        "_codec": "ACCELERATOR",
        "_rules.statistics": "Statistics",
        "asyncio.client": "ClientConnection connect unix_connect",
        "asyncio.router": "Router route unix_route",
        "asyncio.server": "Server ServerConnection ServerStatistics basic_auth broadcast serve unix_serve",
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
        "protocol._prepared": "PreparedMessage",
        "server": "ServerProtocol",
        "typing": "Data ExtensionName ExtensionParameter LoggerLike Origin StatusLike Subprotocol",
    }.items()
    for name in names.split()
}

# Modules that are available as attributes without an import.
_MODULES = {home for home in _HOMES.values() if "._" not in f".{home}"} | {
    "anyio",
    "asgi",
    "asyncio",
    "auth",
    "cli",
    "extensions",
    "headers",
    "legacy",
    "proxy",
    "rooms",
    "sync",
    "testing",
    "trio",
    "uri",
    "utils",
    "version",
}


def __dir__() -> list[str]:
    deprecated = importlib.import_module("._compat.deprecated", __name__).list_deprecated(__name__)
    return sorted({*globals(), *_HOMES, *_MODULES, *deprecated})


# Type checkers know the public names from above. They must not conclude from __getattr__ that every name exists.
if not TYPE_CHECKING:
    __all__ = [*_HOMES, "__version__"]

    def __getattr__(name):
        if name in _HOMES:
            value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
        elif name in _MODULES:
            value = importlib.import_module(f".{name}", __name__)
        else:
            return importlib.import_module("._compat.deprecated", __name__).deprecated_names(__name__, stacklevel=3)(
                name
            )
        globals()[name] = value
        return value
