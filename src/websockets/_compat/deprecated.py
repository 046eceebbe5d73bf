"""Names that modules of earlier releases had, and that still work: for each module, the present place of each name.

May know: names and modules, as strings, because most of the names are defined in modules above the one that offers
them. Must not know: the purpose of any name.

Some names are deprecated, and warn. The others exist because a module of an earlier release imported them for its own
use, and programs import them from that module.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = ["deprecated_names", "list_deprecated"]

# Names that warn: for each module, the modules where names are defined now, and the names. ``name=name_now`` means that
# the name is different there.
DEPRECATED: Final[Mapping[str, Mapping[str, str]]] = {
    "": {
        "exceptions": "WebSocketProtocolError=ProtocolError",
        "legacy.auth": "BasicAuthWebSocketServerProtocol basic_auth_protocol_factory",
        "legacy.client": "WebSocketClientProtocol",
        "legacy.exceptions": "AbortHandshake InvalidStatusCode RedirectHandshake",
        "legacy.protocol": "WebSocketCommonProtocol",
        "legacy.server": "WebSocketServer WebSocketServerProtocol",
    },
    "client": {"legacy.client": "WebSocketClientProtocol connect unix_connect"},
    "exceptions": {
        "exceptions": "WebSocketProtocolError=ProtocolError",
        "legacy.exceptions": "AbortHandshake InvalidStatusCode RedirectHandshake",
    },
    "server": {"legacy.server": "WebSocketServer WebSocketServerProtocol broadcast serve unix_serve"},
}

_DEFLATE: Final = "extensions.permessage_deflate"

# Names that don't warn, in the same form.
QUIET: Final[Mapping[str, Mapping[str, str]]] = {
    "asyncio.client": {
        "_session.redirects": "MAX_REDIRECTS",
        "datastructures": "Headers",
        "exceptions": "InvalidProxyMessage InvalidProxyStatus InvalidStatus ProxyError SecurityError",
        _DEFLATE: "enable_client_permessage_deflate",
        "headers": "validate_subprotocols",
        "http11": "Response",
        "protocol": "CONNECTING=State.CONNECTING Event",
        "proxy": "Proxy get_proxy parse_proxy prepare_connect_request=build_connect_request",
        "typing": "PathLike",
        "uri": "WebSocketURI parse_uri",
    },
    "asyncio.connection": {
        "asyncio.server": "broadcast",
        "exceptions": "ConcurrencyError ConnectionClosed ProtocolError TooManyFragments",
        "frames": "DATA_OPCODES Frame PONG",
        "http11": "Request Response",
        "protocol": "CLOSED=State.CLOSED Event OPEN=State.OPEN Protocol State",
        "typing": "BytesLike LoggerLike Subprotocol",
    },
    "asyncio.router": {"typing": "PathLike"},
    "asyncio.server": {
        "_session.basic_auth": "is_credentials=_is_pair",
        "exceptions": "InvalidHeader",
        "frames": "CloseCode",
        _DEFLATE: "enable_server_permessage_deflate",
        "headers": "build_www_authenticate_basic parse_authorization_basic validate_subprotocols",
        "protocol": "CONNECTING=State.CONNECTING Event OPEN=State.OPEN",
        "typing": "PathLike",
        "utils": "get_socket_name",
    },
    "client": {
        "datastructures": "MultipleValuesError",
        "exceptions": "InvalidHeaderValue InvalidUpgrade",
        "headers": "parse_connection parse_upgrade",
        "protocol": "CLIENT=Side.CLIENT CONNECTING=State.CONNECTING OPEN=State.OPEN",
        "typing": "ConnectionOption ExtensionHeader UpgradeProtocol",
        "utils": "accept_key generate_key",
    },
    _DEFLATE: {
        "exceptions": "PayloadTooBig ProtocolError",
        "frames": "CONT CTRL_OPCODES Frame",
        "typing": "BytesLike ExtensionName",
    },
    "datastructures": {"datastructures": "is_valid_header_value=is_value"},
    "frames": {"exceptions": "PayloadTooBig", "utils": "apply_mask"},
    "headers": {
        "headers": (
            "build_extension_list=build_extension build_subprotocol_list=build_subprotocol "
            "parse_connection_option=_read_token parse_extension_item=_read_extension "
            "parse_extension_list=parse_extension parse_subprotocol_item=_read_token "
            "parse_subprotocol_list=parse_subprotocol parse_token=_read_token parse_upgrade_protocol=_read_protocol"
        ),
    },
    "legacy.auth": {
        "_session.basic_auth": "is_credentials=_is_pair",
        "exceptions": "InvalidHeader",
        "headers": "parse_authorization_basic",
    },
    "legacy.client": {
        "exceptions": "InvalidHeader InvalidHeaderValue NegotiationError SecurityError",
        _DEFLATE: "enable_client_permessage_deflate",
        "headers": (
            "build_authorization_basic build_extension build_host build_subprotocol parse_extension "
            "parse_subprotocol validate_subprotocols"
        ),
        "legacy.handshake": "build_request check_response",
        "legacy.http": "read_response",
        "typing": "ExtensionHeader",
        "uri": "parse_uri",
    },
    "legacy.exceptions": {"exceptions": "WebSocketProtocolError=ProtocolError"},
    "legacy.handshake": {
        "datastructures": "MultipleValuesError",
        "exceptions": "InvalidHeader InvalidUpgrade",
        "headers": "parse_connection parse_upgrade",
        "typing": "ConnectionOption UpgradeProtocol",
        "utils": "accept=accept_key generate_key",
    },
    "legacy.http": {"exceptions": "SecurityError"},
    "legacy.protocol": {
        "exceptions": "ConnectionClosedError ConnectionClosedOK PayloadTooBig ProtocolError TooManyFragments",
        "frames": (
            "OK_CLOSE_CODES OP_BINARY=Opcode.BINARY OP_CLOSE=Opcode.CLOSE OP_CONT=Opcode.CONT OP_PING=Opcode.PING "
            "OP_PONG=Opcode.PONG OP_TEXT=Opcode.TEXT"
        ),
        "legacy.framing": "Frame prepare_ctrl prepare_data",
        "legacy.server": "broadcast",
        "typing": "BytesLike DataLike Subprotocol",
    },
    "legacy.server": {
        "datastructures": "Headers HeadersLike MultipleValuesError",
        "exceptions": ("InvalidHandshake InvalidHeader InvalidMessage InvalidOrigin InvalidUpgrade NegotiationError"),
        "extensions": "Extension",
        _DEFLATE: "enable_server_permessage_deflate",
        "headers": "build_extension parse_extension parse_subprotocol validate_subprotocols",
        "legacy.handshake": "build_response check_request",
        "legacy.http": "read_request",
        "protocol": "State",
        "typing": "ExtensionHeader StatusLike",
    },
    "protocol": {
        "exceptions": "ConnectionClosedError ConnectionClosedOK",
        "frames": "BINARY CLOSE CONT OK_CLOSE_CODES PING PONG TEXT",
        "protocol": (
            "CLIENT=Side.CLIENT CLOSED=State.CLOSED CLOSING=State.CLOSING CONNECTING=State.CONNECTING OPEN=State.OPEN "
            "SERVER=Side.SERVER"
        ),
    },
    "proxy": {"http11": "USER_AGENT", "proxy": "prepare_connect_request=build_connect_request"},
    "server": {
        "datastructures": "MultipleValuesError",
        "exceptions": "InvalidHeaderValue InvalidMethod InvalidProtocol InvalidUpgrade",
        "headers": "parse_connection parse_upgrade",
        "protocol": "CONNECTING=State.CONNECTING OPEN=State.OPEN SERVER=Side.SERVER",
        "typing": "ConnectionOption UpgradeProtocol",
        "utils": "accept_key",
    },
    "uri": {"uri": "DELIMS=DELIMITERS"},
}


def deprecated_names(module: str, stacklevel: int = 2) -> Callable[[str], Any]:
    """Return a ``__getattr__`` for a module that offers names from earlier releases.

    Parameters:
        module: full name of the module.
        stacklevel: as for :func:`warnings.warn`; 2 by default, for the caller of ``__getattr__``.
    """
    short = module.partition(".")[2]
    deprecated, quiet = DEPRECATED.get(short, {}), QUIET.get(short, {})

    def getattr_of_module(name: str) -> Any:
        place = _find(deprecated, name)
        if place is not None:
            warnings.warn(f"{module}.{name} is deprecated", DeprecationWarning, stacklevel=stacklevel)
        else:
            place = _find(quiet, name)
        if place is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, path = place
        return functools.reduce(getattr, path.split("."), importlib.import_module(f"websockets.{home}"))

    return getattr_of_module


def list_deprecated(module: str) -> list[str]:
    """Return the deprecated names of a module.

    Parameters:
        module: full name of the module.
    """
    names = " ".join(DEPRECATED.get(module.partition(".")[2], {}).values()).split()
    return [name.partition("=")[0] for name in names]


def _find(homes: Mapping[str, str], name: str) -> tuple[str, str] | None:
    """Return the module that defines a name now, and the name there; None if there is none."""
    for home, names in homes.items():
        for each in names.split():
            old, _, now = each.partition("=")
            if old == name:
                return home, now or old
    return None
