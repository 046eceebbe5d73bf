"""Every exception, raised by what raises it in real life, and its text.

Programs and log filters match these texts. One table holds them; a test sees to it that no exception is missing.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import pytest

from _kit import VirtualLoop, idle, run_virtual, virtual, wire
from _kit.asking import reach
from _kit.ends import open_end
from _kit.pair import ProtocolPair
from _kit.site import Answer, redirect, refuse, site
from websockets import exceptions
from websockets._rules import messages as _messages
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.client import ClientProtocol
from websockets.datastructures import Headers, MultipleValuesError
from websockets.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    DuplicateParameter,
    HeaderLineTooLong,
    InvalidHandshake,
    InvalidHeader,
    InvalidHeaderFormat,
    InvalidHeaderValue,
    InvalidMessage,
    InvalidMethod,
    InvalidOrigin,
    InvalidParameterName,
    InvalidParameterValue,
    InvalidProtocol,
    InvalidProxy,
    InvalidProxyMessage,
    InvalidProxyStatus,
    InvalidState,
    InvalidStatus,
    InvalidUpgrade,
    InvalidURI,
    NegotiationError,
    PayloadTooBig,
    ProtocolError,
    ProxyError,
    RequestLineTooLong,
    SecurityError,
    StatusLineTooLong,
    TooManyFragments,
    TooManyHeaders,
    WebSocketException,
)
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory
from websockets.frames import Close
from websockets.headers import parse_extension, parse_subprotocol, parse_upgrade
from websockets.protocol import Protocol, Side, State
from websockets.proxy import parse_proxy
from websockets.server import ServerProtocol
from websockets.testing import connected_pair
from websockets.uri import parse_uri

LIMIT = 8192


class Case(NamedTuple):
    """A call that raises or gives an exception; the exception; its text; the texts of its causes."""

    act: Callable[[], Any]
    kind: type[Exception]
    text: str
    causes: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------------- what raises, and how


def given(function: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[[], Any]:
    """A call that raises."""
    return lambda: function(*arguments, **options)


def asked(data: bytes, **options: Any) -> Callable[[], Exception]:
    """Why a server refuses a request."""

    def act() -> Exception:
        server = ServerProtocol(**options)
        server.receive_data(data)
        for request in server.events_received():
            server.accept(request)  # type: ignore[arg-type]
        assert server.handshake_exc is not None
        return server.handshake_exc

    return act


def answered(data: bytes, **options: Any) -> Callable[[], Exception]:
    """Why a client makes nothing of a response."""

    def act() -> Exception:
        client = ClientProtocol(parse_uri("ws://localhost/"), **options)
        client.key = wire.KEY
        client.receive_data(data)
        client.receive_eof()
        assert client.handshake_exc is not None
        return client.handshake_exc

    return act


def received(*frames: bytes, **options: Any) -> Callable[[], Exception]:
    """What a connection makes of frames of its peer."""

    def act() -> Exception:
        connection = Protocol(Side.CLIENT, **options)
        for frame in frames:
            connection.receive_data(frame)
        assert connection.parser_exc is not None
        return connection.parser_exc

    return act


def waiting(function: Callable[[], Awaitable[Any]]) -> Callable[[], Any]:
    """A coroutine function that raises, on a virtual loop."""

    async def main() -> Any:
        return await function()

    return lambda: run_virtual(main())


def connecting(answers: list[Answer], **options: Any) -> Callable[[], Any]:
    """A client that connects to a site."""

    async def main() -> None:
        async with site(answers) as here:
            await connect(here.uri(), **options)

    return waiting(main)


def proxied(answer: bytes) -> Callable[[], Any]:
    """A client behind a proxy over HTTP that gives this answer."""

    async def main() -> None:
        listener = running_loop().network.listen("proxy", 8080)
        connecting = asyncio.ensure_future(connect("ws://example.com/", proxy="http://proxy:8080").connect())
        peer = await listener.peer()
        await peer.read_until()
        await peer.send(answer)
        try:
            await connecting
        finally:
            peer.close()
            listener.close()

    return waiting(main)


def running_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


async def read_closed(*codes: int, reason: str = "") -> None:
    """Read from a connection that its peer closed."""
    async with open_end(Side.CLIENT) as (connection, peer):
        for code in codes:
            await peer.close(code, reason)
            await peer.frame()
        peer.raw.close()
        await connection.recv()


async def read_after_closing(code: int) -> None:
    """Read from a connection that was closed from this end."""
    async with connected_pair() as (client, _):
        await client.close(code, "bye")
        await client.recv()


async def read_unanswered() -> None:
    """Read from a connection whose peer doesn't answer a Close."""
    async with open_end(Side.CLIENT, close_timeout=1) as (connection, _):
        await connection.close()
        await connection.recv()


async def read_too_big() -> None:
    async with open_end(Side.CLIENT, max_size=10) as (connection, peer):
        await peer.text("x" * 11)
        await connection.recv()


async def receive_twice() -> None:
    async with open_end(Side.CLIENT) as (connection, _):
        first = asyncio.create_task(connection.recv())
        await idle()
        try:
            await connection.recv()
        finally:
            first.cancel()
            await asyncio.wait([first])


async def ping_twice() -> None:
    async with open_end(Side.CLIENT) as (connection, _):
        await connection.ping("same")
        await connection.ping("same")


async def ping_too_much() -> None:
    async with open_end(Side.CLIENT) as (connection, _):
        await connection.ping("x" * 126)


async def connect_while_shutting_down() -> None:
    """What the server notes of a request that comes too late; the client sees a status."""
    seen: list[Exception | None] = []
    async with serve(ServerConnection.wait_closed, "localhost", 0) as server:
        peer = await reach(server)
        await idle()
        (connection,) = server._ws_registry.all
        server.close()
        seen.append(connection.protocol.handshake_exc)
        await peer.read_until_eof()
        peer.close()
    assert isinstance(seen[0], Exception)
    raise seen[0]


async def fragment_without_end() -> None:
    async with open_end(Side.CLIENT) as (connection, peer):
        await peer.text("x", fin=False)
        for _ in range(6):
            await peer.send(wire.CONT, b"x", fin=False)
        await idle()
        peer.raw.reset()
        try:
            await connection.recv()
        except ConnectionClosed as exc:
            raise (exc.__cause__ or exc) from None


def use_closed() -> None:
    Protocol(Side.CLIENT, state=State.CLOSED).send_text(b"too late")


def use_before() -> None:
    ClientProtocol(parse_uri("ws://localhost/")).send_text(b"too early")


def send_out_of_order(name: str, *arguments: Any) -> Callable[[], Any]:
    def act() -> None:
        connection = Protocol(Side.CLIENT)
        if name != "send_continuation":
            connection.send_text(b"begun", fin=False)
        getattr(connection, name)(*arguments)

    return act


def inflate_too_much() -> Exception:
    pair = ProtocolPair(
        client={"extensions": [ClientPerMessageDeflateFactory()], "max_size": 100},
        server={"extensions": [ServerPerMessageDeflateFactory()]},
    )
    pair.server.send_text(b"x" * 1000)
    pair.settle()
    assert pair.client.parser_exc is not None
    return pair.client.parser_exc


def deflate_answer(*parameters: tuple[str, str | None]) -> Callable[[], Any]:
    return given(ClientPerMessageDeflateFactory().process_response_params, parameters, [])


UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade"}
HELLO = "received 3000 (registered) hello"

CASES = [
    # Connections that ended.
    Case(waiting(lambda: read_closed(1000)), ConnectionClosedOK, "received 1000 (OK); then sent 1000 (OK)"),
    Case(
        waiting(lambda: read_closed(1001, reason="bye")),
        ConnectionClosedOK,
        "received 1001 (going away) bye; then sent 1001 (going away) bye",
    ),
    Case(
        waiting(lambda: read_after_closing(1000)), ConnectionClosedOK, "sent 1000 (OK) bye; then received 1000 (OK) bye"
    ),
    Case(
        waiting(lambda: read_closed(3000, reason="hello")),
        ConnectionClosedError,
        f"{HELLO}; then sent 3000 (registered) hello",
    ),
    Case(
        waiting(lambda: read_closed(4000)),
        ConnectionClosedError,
        "received 4000 (private use); then sent 4000 (private use)",
    ),
    Case(waiting(read_closed), ConnectionClosedError, "no close frame received or sent", ("unexpected end of stream",)),
    Case(
        waiting(read_unanswered),
        ConnectionClosedError,
        "sent 1000 (OK); no close frame received",
        ("timed out while closing connection",),
    ),
    Case(
        waiting(read_too_big),
        ConnectionClosedError,
        "sent 1009 (message too big) frame with 11 bytes exceeds limit of 10 bytes; no close frame received",
        ("frame with 11 bytes exceeds limit of 10 bytes",),
    ),
    Case(
        given(ConnectionClosed, Close(1011, "oops"), None),
        ConnectionClosed,
        "received 1011 (internal error) oops; no close frame sent",
    ),
    # Addresses.
    Case(given(parse_uri, "http://a/"), InvalidURI, "http://a/ isn't a valid URI: scheme isn't ws or wss"),
    Case(given(parse_uri, "ws://a/#b"), InvalidURI, "ws://a/#b isn't a valid URI: fragment identifier is meaningless"),
    Case(
        given(connect, "ws://a:b@c:99999/"),
        InvalidURI,
        "ws://***@c:99999/ isn't a valid URI: port is out of range 0-65535",
    ),
    Case(given(parse_proxy, "ftp://a"), InvalidProxy, "ftp://a isn't a valid proxy: scheme ftp isn't supported"),
    Case(connecting([], proxy="http://a:b"), InvalidProxy, "http://a:b isn't a valid proxy: port isn't a number"),
    # Proxies.
    Case(
        proxied(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
        InvalidProxyStatus,
        "proxy rejected connection: HTTP 407",
    ),
    Case(
        proxied(b"garbage\r\n\r\n"),
        InvalidProxyMessage,
        "did not receive a valid HTTP response from proxy",
    ),
    # What is too long, or leads where it must not.
    Case(
        asked(b"GET /" + b"x" * LIMIT + b" HTTP/1.1\r\n"),
        RequestLineTooLong,
        "request line exceeds limit of 8192 bytes",
    ),
    Case(answered(b"HTTP/1.1 200 " + b"x" * LIMIT), StatusLineTooLong, "status line exceeds limit of 8192 bytes"),
    Case(asked(b"GET / HTTP/1.1\r\nX: " + b"x" * LIMIT), HeaderLineTooLong, "header line exceeds limit of 8192 bytes"),
    Case(asked(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 129), TooManyHeaders, "number of headers exceeds limit of 128"),
    Case(connecting([redirect("/again")]), SecurityError, "more than 10 redirects"),
    # What is no HTTP.
    Case(
        answered(b"SSH-2.0-OpenSSH_9.9\r\n"),
        InvalidMessage,
        "did not receive a valid HTTP response",
        ("invalid HTTP status line: SSH-2.0-OpenSSH_9.9",),
    ),
    Case(
        answered(b"HTTP/1.1 101"),
        InvalidMessage,
        "did not receive a valid HTTP response",
        ("connection closed while reading HTTP status line",),
    ),
    Case(asked(b"\x16\x03\x01\r\n\r\n"), InvalidMessage, "did not receive a valid HTTP request"),
    # What is another kind of HTTP.
    Case(asked(wire.request(method="POST")), InvalidMethod, "unsupported HTTP method: POST"),
    Case(asked(wire.request(http="HTTP/1.0")), InvalidProtocol, "unsupported HTTP version: HTTP/1.0"),
    Case(connecting([refuse(404)]), InvalidStatus, "server rejected WebSocket connection: HTTP 404"),
    Case(waiting(connect_while_shutting_down), InvalidHandshake, "server is shutting down"),
    # Headers.
    Case(asked(wire.request(headers={"Host": None})), InvalidHeader, "missing Host header"),
    Case(asked(wire.request(headers={"Sec-WebSocket-Key": None})), InvalidHeader, "missing Sec-WebSocket-Key header"),
    Case(
        asked(wire.request(headers={"Origin": ["http://a", "http://b"]})),
        InvalidHeader,
        "invalid Origin header: multiple values",
    ),
    Case(
        answered(wire.response(headers={"Sec-WebSocket-Accept": None})),
        InvalidHeader,
        "missing Sec-WebSocket-Accept header",
    ),
    Case(
        given(parse_extension, "a;b="),
        InvalidHeaderFormat,
        "invalid Sec-WebSocket-Extensions header: expected token at 4 in a;b=",
    ),
    Case(
        given(parse_subprotocol, "a b"),
        InvalidHeaderFormat,
        "invalid Sec-WebSocket-Protocol header: expected comma at 2 in a b",
    ),
    Case(given(parse_upgrade, "?"), InvalidHeaderFormat, "invalid Upgrade header: expected protocol at 0 in ?"),
    Case(asked(wire.request(key="x")), InvalidHeaderValue, "invalid Sec-WebSocket-Key header: x"),
    Case(
        asked(wire.request(headers={"Sec-WebSocket-Version": "8"})),
        InvalidHeaderValue,
        "invalid Sec-WebSocket-Version header: 8",
    ),
    Case(
        answered(wire.response(key="x")),
        InvalidHeaderValue,
        f"invalid Sec-WebSocket-Accept header: {wire.accept_key('x')}",
    ),
    Case(given(Headers, {"X": "a\nb"}), InvalidHeaderValue, "invalid X header: a\\nb"),
    Case(asked(wire.request(), origins=["http://a"]), InvalidOrigin, "missing Origin header"),
    Case(
        asked(wire.request(headers={"Origin": "http://b"}), origins=["http://a"]),
        InvalidOrigin,
        "invalid Origin header: http://b",
    ),
    Case(asked(wire.request(headers={"Upgrade": None})), InvalidUpgrade, "missing Upgrade header"),
    Case(asked(wire.request(headers={"Upgrade": "h2c"})), InvalidUpgrade, "invalid Upgrade header: h2c"),
    Case(answered(wire.response(headers={"Connection": "close"})), InvalidUpgrade, "invalid Connection header: close"),
    # Extensions and subprotocols.
    Case(
        answered(wire.response(headers={"Sec-WebSocket-Extensions": "x"})),
        NegotiationError,
        "no extensions supported",
    ),
    Case(
        answered(
            wire.response(headers={"Sec-WebSocket-Extensions": "x; y=z"}), extensions=[ClientPerMessageDeflateFactory()]
        ),
        NegotiationError,
        "Unsupported extension: name = x, params = [('y', 'z')]",
    ),
    Case(
        answered(wire.response(headers={"Sec-WebSocket-Protocol": "x"})), NegotiationError, "no subprotocols supported"
    ),
    Case(
        answered(wire.response(headers={"Sec-WebSocket-Protocol": "x"}), subprotocols=["y"]),
        NegotiationError,
        "unsupported subprotocol: x",
    ),
    Case(
        answered(wire.response(headers={"Sec-WebSocket-Protocol": "x, y"}), subprotocols=["x", "y"]),
        InvalidHeader,
        "invalid Sec-WebSocket-Protocol header: multiple values: x, y",
    ),
    Case(asked(wire.request(), subprotocols=["x"]), NegotiationError, "missing subprotocol"),
    Case(
        asked(wire.request(headers={"Sec-WebSocket-Protocol": "z"}), subprotocols=["x", "y"]),
        NegotiationError,
        "invalid subprotocol; expected one of x, y",
    ),
    Case(
        deflate_answer(*[("server_no_context_takeover", None)] * 2),
        DuplicateParameter,
        "duplicate parameter: server_no_context_takeover",
    ),
    Case(deflate_answer(("x", None)), InvalidParameterName, "invalid parameter name: x"),
    Case(
        deflate_answer(("server_max_window_bits", "7")),
        InvalidParameterValue,
        "invalid value for parameter server_max_window_bits: 7",
    ),
    Case(
        deflate_answer(("server_max_window_bits", None)),
        InvalidParameterValue,
        "missing value for parameter server_max_window_bits",
    ),
    Case(
        deflate_answer(("server_max_window_bits", "")),
        InvalidParameterValue,
        "empty value for parameter server_max_window_bits",
    ),
    # Frames.
    Case(received(wire.frame(3)), ProtocolError, "invalid opcode"),
    Case(received(wire.text("x", mask=True)), ProtocolError, "incorrect masking"),
    Case(received(wire.text("x", rsv=4)), ProtocolError, "reserved bits must be 0"),
    Case(received(wire.frame(wire.PING, b"x" * 126)), ProtocolError, "control frame too long"),
    Case(received(wire.frame(wire.PING, fin=False)), ProtocolError, "fragmented control frame"),
    Case(received(wire.text("x", fin=False), wire.text("y")), ProtocolError, "expected a continuation frame"),
    Case(received(wire.cont("x")), ProtocolError, "unexpected continuation frame"),
    Case(received(wire.frame(wire.CLOSE, b"x")), ProtocolError, "close frame too short"),
    Case(received(wire.close(1005)), ProtocolError, "invalid status code"),
    Case(given(Protocol(Side.CLIENT).send_close, 999), ProtocolError, "invalid status code"),
    Case(given(Protocol(Side.CLIENT).send_close, 1000, "x" * 124), ProtocolError, "control frame too long"),
    Case(waiting(ping_too_much), ProtocolError, "control frame too long"),
    Case(send_out_of_order("send_text", b""), ProtocolError, "expected a continuation frame"),
    Case(send_out_of_order("send_continuation", b"", True), ProtocolError, "unexpected continuation frame"),
    Case(received(wire.text("x" * 11), max_size=10), PayloadTooBig, "frame with 11 bytes exceeds limit of 10 bytes"),
    Case(
        received(wire.text("x" * 8, fin=False), wire.cont("x" * 3), max_size=10),
        PayloadTooBig,
        "frame with 3 bytes after reading 8 bytes exceeds limit of 10 bytes",
    ),
    Case(received(wire.text("x" * 6), max_size=(10, 5)), PayloadTooBig, "frame with 6 bytes exceeds limit of 5 bytes"),
    Case(inflate_too_much, PayloadTooBig, "frame exceeds limit of 100 bytes"),
    # Mistakes of the caller.
    Case(use_closed, InvalidState, "connection is closed"),
    Case(use_before, InvalidState, "connection is connecting"),
    Case(
        waiting(receive_twice),
        ConcurrencyError,
        "cannot call recv while another coroutine is already running recv or recv_streaming",
    ),
    Case(waiting(ping_twice), ConcurrencyError, "already waiting for a pong with the same data"),
    Case(given(Headers([("X", "a"), ("X", "b")]).__getitem__, "X"), MultipleValuesError, "'X'"),
]


@pytest.fixture(autouse=True)
def no_proxy_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def outcome(act: Callable[[], Any]) -> Exception:
    """The exception that is raised or given."""
    try:
        result = act()
    except Exception as exc:
        return exc
    assert isinstance(result, Exception), "nothing was raised"
    return result


def causes(exc: BaseException) -> Iterator[str]:
    while exc.__cause__ is not None:
        exc = exc.__cause__
        yield str(exc)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind.__name__}: {case.text}"[:70])
def test_error(case: Case) -> None:
    exc = outcome(case.act)
    # A class of a private module is as good as its base.
    public = next(kind for kind in type(exc).__mro__ if "._" not in kind.__module__)
    assert (public, str(exc)) == (case.kind, case.text)
    assert not case.causes or tuple(causes(exc)) == case.causes


def test_fragments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their number has no limit but by the environment."""
    monkeypatch.setattr(_messages, "MAX_FRAGMENTS", 5)
    exc = outcome(waiting(fragment_without_end))
    assert type(exc) is TooManyFragments
    assert str(exc) == "fragmented message exceeds limit of 5 frames"


async def connect_through_socks() -> None:
    """A proxy that doesn't speak SOCKS; python-socks wants real sockets.

    They are plain ones: on Windows, a transport of asyncio isn't closed when its client resets the connection.
    """
    loop = asyncio.get_running_loop()

    async def proxy(listening: socket.socket) -> None:
        sock, _ = await loop.sock_accept(listening)
        with sock:
            await loop.sock_recv(sock, 1)
            await loop.sock_sendall(sock, b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        played = asyncio.create_task(proxy(listening))
        try:
            await connect("ws://example.com/", proxy=f"socks5h://127.0.0.1:{listening.getsockname()[1]}")
        finally:
            await played


def test_socks_proxy() -> None:
    exc = outcome(lambda: asyncio.run(connect_through_socks()))
    assert type(exc) is ProxyError
    assert str(exc) == "failed to connect to SOCKS proxy"


def test_every_exception_is_raised() -> None:
    raised = {case.kind for case in CASES} | {TooManyFragments, ProxyError}
    # The root of the tree is never raised itself.
    expected = {getattr(exceptions, name) for name in exceptions.__all__} | {MultipleValuesError} - {WebSocketException}
    assert raised == expected - {WebSocketException}


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (InvalidState, AssertionError),
        (ConcurrencyError, RuntimeError),
        (MultipleValuesError, LookupError),
    ],
)
def test_built_in_bases(kind: type[Exception], also: type[Exception]) -> None:
    assert issubclass(kind, also)
    assert issubclass(kind, WebSocketException) is (kind is not MultipleValuesError)


@virtual
async def test_error_of_a_closed_connection() -> None:
    async with connected_pair() as (client, _):
        with pytest.raises(AssertionError, match="^connection isn't closed yet$"):
            assert client.close_exc
        await client.close(1000, "bye")
        assert type(client.close_exc) is ConnectionClosedOK
        assert str(client.close_exc) == "sent 1000 (OK) bye; then received 1000 (OK) bye"


def test_deprecated_attributes() -> None:
    for exc, code, reason in [
        (ConnectionClosedError(Close(1011, "oops"), None, None), 1011, "oops"),
        (ConnectionClosedError(None, None, None), 1006, ""),
    ]:
        for name, value in (("code", code), ("reason", reason)):
            text = f"ConnectionClosed.{name} is deprecated; use Protocol.close_{name} or ConnectionClosed.rcvd.{name}"
            with pytest.warns(DeprecationWarning, match=f"^{text}$"):
                assert getattr(exc, name) == value
