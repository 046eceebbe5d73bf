"""Clients for threads as typed programs write them; nothing here runs: see test_typing.py."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, assert_type

import websockets
from websockets import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect, reconnect, unix_connect, unix_reconnect
from websockets.typing import Data, LoggerLike, Origin, Subprotocol


def receive(connection: ClientConnection) -> None:
    assert_type(connection.recv(), str | bytes)
    assert_type(connection.recv(timeout=5), str | bytes)
    assert_type(connection.recv(5, decode=None), str | bytes)
    assert_type(connection.recv(decode=True), str)
    assert_type(connection.recv(timeout=None, decode=False), bytes)
    for message in connection:
        assert_type(message, str | bytes)
    for fragment in connection.recv_streaming():
        assert_type(fragment, str | bytes)
    for text in connection.recv_streaming(decode=True):
        assert_type(text, str)
    for data in connection.recv_streaming(decode=False):
        assert_type(data, bytes)


def lines() -> Iterator[str]:
    yield "a line"


def send(connection: ClientConnection, stream: Iterable[bytes], data: Data) -> None:
    connection.send("text")
    connection.send(b"binary")
    connection.send(data)
    connection.send(b"text", text=True)
    connection.send(stream)
    connection.send(lines())
    connection.send(5)  # type: ignore[arg-type]


def rest(connection: ClientConnection) -> None:
    assert_type(connection.ping(), threading.Event)
    assert_type(connection.ping("x", ack_on_close=True), threading.Event)
    connection.pong()
    connection.close()
    connection.close(1001, "bye")
    assert_type(connection.wait_closed(), bool)
    assert_type(connection.wait_closed(timeout=5), bool)
    assert_type(connection.state, State)
    assert_type(connection.request, Request | None)
    assert_type(connection.response, Response | None)
    assert_type(connection.latency, float)
    assert_type(connection.subprotocol, Subprotocol | None)
    assert_type(connection.close_code, int | None)
    assert_type(connection.close_exc, ConnectionClosed)
    connection.handshake({"X": "1"}, user_agent_header=None, timeout=5)


def ways(uri: str, flag: bool | None) -> None:
    with connect(uri) as websocket:
        assert_type(websocket, ClientConnection)
    assert_type(connect(uri), ClientConnection)
    assert_type(connect(uri, legacy=None), ClientConnection)
    assert_type(connect(uri, legacy=True), ClientConnection)
    assert_type(connect(uri, legacy=False), reconnect)
    assert_type(connect(uri, legacy=flag), ClientConnection | reconnect)
    with connect(uri, legacy=False, open_timeout=5) as websocket:
        assert_type(websocket, ClientConnection)
    with reconnect(uri) as websocket:
        assert_type(websocket, ClientConnection)
    for websocket in reconnect(uri):
        assert_type(websocket, ClientConnection)
    assert_type(reconnect(uri).connect(), ClientConnection)
    assert_type(unix_connect("/run/server"), ClientConnection)
    assert_type(unix_connect(legacy=False), reconnect)
    assert_type(unix_connect(b"/run/server", uri, legacy=flag), ClientConnection | reconnect)
    assert_type(unix_reconnect("/run/server", uri), reconnect)


def delays() -> Generator[float, None, None]:
    yield 1.0


def fatal(exc: Exception) -> Exception | None:
    return None if isinstance(exc, OSError) else exc


class Mine(ClientConnection):
    """A connection with an attribute of its own."""

    attribute = "mine"


class Other(reconnect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        return "ws://localhost" if isinstance(exc, InvalidStatus) else super().process_redirect(exc)


def options(uri: str, sock: socket.socket, logger: LoggerLike, given: dict[str, Any]) -> None:
    context = ssl.create_default_context()
    connect(uri, origin=Origin("https://example.com"), subprotocols=[Subprotocol("chat")])
    connect(uri, additional_headers=Headers(Cookie="a=b"), user_agent_header=None)
    connect(uri, sock=sock, ssl=context, server_hostname="example.com")
    connect(uri, proxy="https://proxy", proxy_ssl=context, proxy_server_hostname="proxy")
    connect(uri, open_timeout=None, ping_interval=None, ping_timeout=5, close_timeout=1.5)
    connect(uri, max_size=(2**20, 2**16), max_queue=(16, None), compression=None)
    connect(uri, logger=logger, create_connection=Mine)
    connect(uri, logger=logging.getLogger("mine"))
    connect(uri, address=("localhost", 80), source_address=("", 0), timeout=5, all_errors=True)
    connect(uri, **given)
    reconnect(uri, process_exception=fatal, reconnect_delays=delays, open_timeout=5)
    connect(uri, open_timeout="x")  # type: ignore[call-overload]
    reconnect(uri, origin=42)  # type: ignore[arg-type]


Connect: Callable[..., Any] = websockets.sync.client.connect
