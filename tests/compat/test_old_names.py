"""Names that programs import from modules which only had them for their own use, or have them no more.

Release 17.4 answered to each, without a warning: this is what ``dir()`` of its modules listed, apart from modules, what
is for type checkers, and what can be of no use to a program. Where a module of ours no longer has a name for its own
use, a row of ``websockets._compat.deprecated.QUIET`` says where it lives.
"""

from __future__ import annotations

import importlib
import types
import warnings
from typing import Any

import pytest

from websockets import datastructures, exceptions, frames
from websockets._compat import deprecated as _deprecated
from websockets.protocol import Side, State

NAMES = {
    "websockets.asyncio.client": (
        "CONNECTING ClientConnection ClientExtensionFactory ClientProtocol Connection Event Headers HeadersLike "
        "InvalidProxyMessage InvalidProxyStatus InvalidStatus LoggerLike MAX_REDIRECTS Origin PathLike Proxy "
        "ProxyError Response SecurityError Subprotocol USER_AGENT WebSocketURI backoff connect "
        "enable_client_permessage_deflate get_proxy parse_proxy parse_uri prepare_connect_request process_exception "
        "unix_connect validate_subprotocols"
    ),
    "websockets.asyncio.connection": (
        "BytesLike CLOSED CloseCode ConcurrencyError Connection ConnectionClosed ConnectionClosedOK DATA_OPCODES Data "
        "DataLike Event Frame LoggerLike OPEN PONG Protocol ProtocolError Request Response State Subprotocol "
        "TooManyFragments broadcast"
    ),
    "websockets.asyncio.router": "PathLike Request Response Router Server ServerConnection route serve unix_route",
    "websockets.asyncio.server": (
        "CONNECTING CloseCode Connection Event InvalidHeader LoggerLike OPEN Origin PathLike Request Response SERVER "
        "Server ServerConnection ServerExtensionFactory ServerProtocol StatusLike Subprotocol basic_auth broadcast "
        "build_www_authenticate_basic enable_server_permessage_deflate get_socket_name is_credentials "
        "parse_authorization_basic serve unix_serve validate_subprotocols"
    ),
    "websockets.auth": "BasicAuthWebSocketServerProtocol basic_auth_protocol_factory",
    "websockets.client": (
        "BACKOFF_FACTOR BACKOFF_INITIAL_DELAY BACKOFF_MAX_DELAY BACKOFF_MIN_DELAY CLIENT CONNECTING ClientConnection "
        "ClientExtensionFactory ClientProtocol ConnectionOption Extension ExtensionHeader Headers InvalidHandshake "
        "InvalidHeader InvalidHeaderValue InvalidMessage InvalidStatus InvalidUpgrade LoggerLike MultipleValuesError "
        "NegotiationError OPEN Origin Protocol Request Response State StatusLineTooLong Subprotocol UpgradeProtocol "
        "WebSocketURI accept_key backoff build_authorization_basic build_extension build_host build_subprotocol "
        "generate_key parse_connection parse_extension parse_subprotocol parse_upgrade process_exception"
    ),
    "websockets.connection": "Connection SEND_EOF Side State",
    "websockets.datastructures": (
        "Headers HeadersLike InvalidHeaderValue MultipleValuesError SupportsKeysAndGetItem is_valid_header_value"
    ),
    "websockets.exceptions": (
        "ConcurrencyError ConnectionClosed ConnectionClosedError ConnectionClosedOK DuplicateParameter "
        "HeaderLineTooLong InvalidHandshake InvalidHeader InvalidHeaderFormat InvalidHeaderValue InvalidMessage "
        "InvalidMethod InvalidOrigin InvalidParameterName InvalidParameterValue InvalidProtocol InvalidProxy "
        "InvalidProxyMessage InvalidProxyStatus InvalidState InvalidStatus InvalidURI InvalidUpgrade NegotiationError "
        "PayloadTooBig ProtocolError ProxyError RequestLineTooLong SecurityError StatusLineTooLong TooManyFragments "
        "TooManyHeaders WebSocketException"
    ),
    "websockets.extensions": "ClientExtensionFactory Extension ServerExtensionFactory",
    "websockets.extensions.base": (
        "ClientExtensionFactory Extension ExtensionName ExtensionParameter Frame ServerExtensionFactory"
    ),
    "websockets.extensions.permessage_deflate": (
        "BytesLike CONT CTRL_OPCODES ClientExtensionFactory ClientPerMessageDeflateFactory DuplicateParameter "
        "Extension ExtensionName ExtensionParameter Frame InvalidParameterName InvalidParameterValue NegotiationError "
        "PayloadTooBig PerMessageDeflate ProtocolError ServerExtensionFactory ServerPerMessageDeflateFactory "
        "enable_client_permessage_deflate enable_server_permessage_deflate"
    ),
    "websockets.frames": (
        "BINARY BytesLike CLOSE CLOSE_CODE_EXPLANATIONS CONT CTRL_OPCODES Close CloseCode DATA_OPCODES "
        "EXTERNAL_CLOSE_CODES Frame OK_CLOSE_CODES Opcode PING PONG PayloadTooBig ProtocolError TEXT apply_mask"
    ),
    "websockets.headers": (
        "ConnectionOption ExtensionHeader ExtensionName ExtensionParameter InvalidHeaderFormat InvalidHeaderValue "
        "Subprotocol T UpgradeProtocol build_authorization_basic build_extension build_extension_list build_host "
        "build_subprotocol build_subprotocol_list build_www_authenticate_basic parse_authorization_basic "
        "parse_connection parse_connection_option parse_extension parse_extension_item parse_extension_list "
        "parse_subprotocol parse_subprotocol_item parse_subprotocol_list parse_token parse_upgrade "
        "parse_upgrade_protocol validate_subprotocols"
    ),
    "websockets.http11": (
        "HeaderLineTooLong Headers MAX_BODY_SIZE MAX_LINE_LENGTH MAX_NUM_HEADERS Request RequestLineTooLong Response "
        "SERVER SecurityError StatusLineTooLong TooManyHeaders USER_AGENT"
    ),
    "websockets.legacy.auth": (
        "BasicAuthWebSocketServerProtocol Headers InvalidHeader WebSocketServerProtocol basic_auth_protocol_factory "
        "build_www_authenticate_basic is_credentials parse_authorization_basic"
    ),
    "websockets.legacy.client": (
        "ClientExtensionFactory Connect Extension ExtensionHeader Headers HeadersLike InvalidHeader "
        "InvalidHeaderValue InvalidMessage InvalidStatusCode LoggerLike NegotiationError Origin RedirectHandshake "
        "SecurityError Subprotocol USER_AGENT WebSocketClientProtocol WebSocketCommonProtocol WebSocketURI "
        "build_authorization_basic build_extension build_host build_request build_subprotocol check_response connect "
        "enable_client_permessage_deflate parse_extension parse_subprotocol parse_uri read_response unix_connect "
        "validate_subprotocols"
    ),
    "websockets.legacy.exceptions": (
        "AbortHandshake InvalidHandshake InvalidMessage InvalidStatusCode RedirectHandshake StatusLike "
        "WebSocketProtocolError"
    ),
    "websockets.legacy.framing": (
        "BytesLike Close DataLike Frame PayloadTooBig ProtocolError apply_mask encode_data parse_close prepare_ctrl "
        "prepare_data serialize_close"
    ),
    "websockets.legacy.handshake": (
        "ConnectionOption Headers InvalidHeader InvalidHeaderValue InvalidUpgrade MultipleValuesError UpgradeProtocol "
        "accept build_request build_response check_request check_response generate_key parse_connection parse_upgrade"
    ),
    "websockets.legacy.http": "Headers MAX_LINE_LENGTH MAX_NUM_HEADERS SecurityError read_request read_response",
    "websockets.legacy.protocol": (
        "BytesLike Close CloseCode ConnectionClosed ConnectionClosedError ConnectionClosedOK Data DataLike Extension "
        "Frame Headers InvalidState LoggerLike OK_CLOSE_CODES OP_BINARY OP_CLOSE OP_CONT OP_PING OP_PONG OP_TEXT "
        "Opcode PayloadTooBig ProtocolError State Subprotocol TooManyFragments WebSocketCommonProtocol broadcast "
        "prepare_ctrl prepare_data"
    ),
    "websockets.legacy.server": (
        "AbortHandshake Extension ExtensionHeader Headers HeadersLike InvalidHandshake InvalidHeader InvalidMessage "
        "InvalidOrigin InvalidUpgrade LoggerLike MultipleValuesError NegotiationError Origin SERVER Serve "
        "ServerExtensionFactory State StatusLike Subprotocol WebSocketCommonProtocol WebSocketServer "
        "WebSocketServerProtocol broadcast build_extension build_response check_request "
        "enable_server_permessage_deflate parse_extension parse_subprotocol read_request remove_path_argument serve "
        "unix_serve validate_subprotocols"
    ),
    "websockets.protocol": (
        "BINARY BytesLike CLIENT CLOSE CLOSED CLOSING CONNECTING CONT Close CloseCode ConnectionClosed "
        "ConnectionClosedError ConnectionClosedOK Event Extension Frame InvalidState LoggerLike OK_CLOSE_CODES OPEN "
        "Origin PING PONG PayloadTooBig Protocol ProtocolError Request Response SEND_EOF SERVER Side State "
        "Subprotocol TEXT"
    ),
    "websockets.proxy": (
        "Headers InvalidProxy Proxy USER_AGENT WebSocketURI build_authorization_basic build_host get_proxy "
        "parse_proxy prepare_connect_request"
    ),
    "websockets.server": (
        "CONNECTING ConnectionOption Extension ExtensionHeader HeaderLineTooLong Headers InvalidHandshake "
        "InvalidHeader InvalidHeaderValue InvalidMessage InvalidMethod InvalidOrigin InvalidProtocol InvalidUpgrade "
        "LoggerLike MultipleValuesError NegotiationError OPEN Origin Protocol Request RequestLineTooLong Response "
        "SERVER ServerConnection ServerExtensionFactory ServerProtocol State StatusLike Subprotocol TooManyHeaders "
        "UpgradeProtocol accept_key build_extension parse_connection parse_extension parse_subprotocol parse_upgrade"
    ),
    "websockets.typing": (
        "BytesLike ConnectionOption Data DataLike ExtensionHeader ExtensionName ExtensionParameter LoggerLike Origin "
        "PathLike StatusLike Subprotocol UpgradeProtocol"
    ),
    "websockets.uri": "DELIMS InvalidURI WebSocketURI parse_uri",
    "websockets.utils": "BytesLike GUID accept_key apply_mask generate_key get_socket_name",
    "websockets.version": "commit released tag version",
}

EACH_NAME = [(module, name) for module, names in NAMES.items() for name in names.split()]


@pytest.mark.parametrize("module", NAMES)
def test_old_names(module: str) -> None:
    with warnings.catch_warnings():
        # The packages that are deprecated warn when they are imported, which is tested elsewhere.
        warnings.filterwarnings("ignore", "websockets.legacy|websockets.auth|websockets.connection", DeprecationWarning)
        found = importlib.import_module(module)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in NAMES[module].split():
            namespace: dict[str, Any] = {}
            exec(f"from {module} import {name}", namespace)
            assert namespace[name] is getattr(found, name)


def test_the_tables_are_about_modules_of_ours() -> None:
    for table in (_deprecated.DEPRECATED, _deprecated.QUIET):
        for module, homes in table.items():
            answers = importlib.import_module(f"websockets.{module}".rstrip("."))
            assert callable(vars(answers)["__getattr__"])
            for home, names in homes.items():
                assert isinstance(importlib.import_module(f"websockets.{home}"), types.ModuleType)
                assert names.split() == sorted(set(names.split()))


def test_every_name_in_the_tables_is_tested() -> None:
    tested = {(module.partition(".")[2], name) for module, name in EACH_NAME}
    names = {
        (module, name.partition("=")[0])
        for module, homes in _deprecated.QUIET.items()
        for text in homes.values()
        for name in text.split()
    }
    assert names <= tested


def test_names_stand_for_what_they_stood_for() -> None:
    def named(module: str, name: str) -> Any:
        return getattr(importlib.import_module(f"websockets.{module}"), name)

    assert [named("protocol", name) for name in ("CONNECTING", "OPEN", "CLOSING", "CLOSED")] == list(State)
    assert [named("protocol", name) for name in ("SERVER", "CLIENT")] == list(Side)
    assert named("server", "SERVER") is Side.SERVER
    assert named("asyncio.connection", "ConnectionClosed") is exceptions.ConnectionClosed
    assert named("legacy.protocol", "OP_TEXT") is frames.Opcode.TEXT
    assert named("legacy.exceptions", "WebSocketProtocolError") is exceptions.ProtocolError
    assert named("legacy.server", "Headers") is datastructures.Headers
    assert named("headers", "parse_token")("ab, c", 0, "X") == ("ab", 2)
    assert named("headers", "parse_extension_list")("a; b=c") == [("a", [("b", "c")])]
    assert named("asyncio.server", "is_credentials")(("user", "password")) is True
    assert named("version", "released") is True


@pytest.mark.parametrize("module", ["asyncio.client", "protocol", "legacy.http"])
def test_unknown_names(module: str) -> None:
    with pytest.raises(AttributeError, match=rf"^module 'websockets.{module}' has no attribute 'nothing'$"):
        _ = importlib.import_module(f"websockets.{module}").nothing


PROMISED = (
    "asyncio.client asyncio.router asyncio.server client datastructures exceptions frames http11 protocol server typing"
)
NOT_AT_THE_TOP = {"SEND_EOF", "SERVER", "USER_AGENT"}


def test_what_modules_export_is_at_the_top() -> None:
    """Programs rely on either both or none."""
    package = importlib.import_module("websockets")
    exported = {name for module in PROMISED.split() for name in importlib.import_module(f"websockets.{module}").__all__}
    assert exported - {*package.__all__} == NOT_AT_THE_TOP
