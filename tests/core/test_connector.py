"""What ``connect`` keeps, and its members that never wait."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from websockets._session.connector import Connector, unix_uri, use_network
from websockets._session.options import ClientOptions
from websockets.client import ClientProtocol, backoff, process_exception
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response
from websockets.uri import parse_uri

URI = "ws://example.com/"

OF_PROTOCOL: dict[str, Any] = {
    "origin": None,
    "extensions": None,
    "subprotocols": None,
    "max_size": None,
    "logger": logging.getLogger("x"),
}


def options(**changed: Any) -> ClientOptions:
    plain = ClientOptions(
        uri=parse_uri(URI),
        open_timeout=5,
        proxy=True,
        additional_headers={"X": "1"},
        user_agent_header="me",
        process_exception=None,
        reconnect_delays=None,
        create_connection=None,
        arguments={"family": 0},
        of_connection={"max_queue": 1},
        of_protocol=OF_PROTOCOL,
    )
    return plain._replace(**changed)


def make(protocol: ClientProtocol, **options: Any) -> tuple[ClientProtocol, dict[str, Any]]:
    return protocol, options


def other(protocol: ClientProtocol, **options: Any) -> str:
    return "other"


def test_attributes() -> None:
    connector = Connector(URI, options(), make)
    assert (connector.uri, connector.ws_uri) == (URI, parse_uri(URI))
    assert (connector.open_timeout, connector.proxy, connector.user_agent_header) == (5, True, "me")
    assert (connector.additional_headers, connector.create_connection_kwargs) == ({"X": "1"}, {"family": 0})
    assert (connector.process_exception, connector.reconnect_delays) == (process_exception, backoff)
    assert connector.logger is OF_PROTOCOL["logger"]


def test_hooks_of_the_user() -> None:
    def process(exc: Exception) -> None:
        return None

    def delays() -> Any:
        return iter(())

    connector = Connector(URI, options(process_exception=process, reconnect_delays=delays), make)
    assert (connector.process_exception, connector.reconnect_delays) == (process, delays)


def test_connections() -> None:
    uri = parse_uri("ws://example.org/")
    protocol, given = Connector(URI, options(), make)._ws_connector_state.connection(uri)
    assert (type(protocol), protocol.uri, given) == (ClientProtocol, uri, {"max_queue": 1})
    chosen = Connector(URI, options(create_connection=other), make)
    assert chosen._ws_connector_state.connection(uri) == "other"


def test_one_block_at_a_time() -> None:
    connecting = Connector(URI, options(), make)._ws_connector_state
    connecting.enter()
    with pytest.raises(RuntimeError, match=r"^connect\(\) isn't reentrant$"):
        connecting.enter()
    connecting.entered = False
    connecting.enter()


def test_hook_for_redirects() -> None:
    connector = Connector(URI, options(), make)
    exc = InvalidStatus(Response(302, "", Headers(Location="/x")))
    assert connector.process_redirect(exc) == "ws://example.com/x"
    assert connector.process_redirect(other_error := OSError()) is other_error


def test_network() -> None:
    connector, network = Connector(URI, options(), make), object()
    assert connector._ws_connector_state.network is None
    use_network(connector, network)
    assert connector._ws_connector_state.network is network


def test_nothing_but_one_private_name() -> None:
    """Classes that derive from it have names of their own."""
    connector = Connector(URI, options(), make)
    private = {name for name in (*dir(Connector), *vars(connector)) if name.startswith("_") and name[:2] != "__"}
    assert private == {"_ws_connector_state"}


@pytest.mark.parametrize(
    ("uri", "arguments", "result"),
    [
        (None, {}, "ws://localhost/"),
        (None, {"ssl": None}, "ws://localhost/"),
        (None, {"ssl": object()}, "wss://localhost/"),
        ("ws://x/", {"ssl": object()}, "ws://x/"),
    ],
)
def test_uri_of_a_unix_socket(uri: str | None, arguments: dict[str, Any], result: str) -> None:
    assert unix_uri(uri, arguments) == result
