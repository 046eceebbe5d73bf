"""Clients behind a proxy on asyncio: the hand-over, TLS in the tunnel and around it, SOCKS, sockets."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import re
import socket
import ssl
import sys
import threading
import types
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from _kit import START, MemorySocket, RawPeer, VirtualLoop, idle, steps, transport_pair, virtual, wire
from _kit import site as kit_site
from scenarios._proxies import OPEN, REACHING, TIMED_OUT, chain, named, set_environment
from websockets._session.tunnel import plan_tunnel
from websockets.asyncio import _proxy
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import (
    InvalidMessage,
    InvalidProxyMessage,
    InvalidStatus,
    ProxyError,
)
from websockets.http11 import USER_AGENT
from websockets.protocol import State
from websockets.uri import parse_uri

# How far a connection came.
REACHING_SOCKS = "while reaching the proxy or waiting for its reply"


def running_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


@pytest.fixture(autouse=True)
def no_proxy_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, {})


@contextlib.asynccontextmanager
async def reached(
    uri: str = "ws://example.com/", proxy: Any = "http://proxy:8080", at: str = "proxy", **options: Any
) -> AsyncIterator[tuple[asyncio.Task[ClientConnection], RawPeer]]:
    """A client that connects, and the proxy that it reached; in the end the proxy breaks the connection."""
    listener = running_loop().network.listen(at, 8080)
    connecting = asyncio.create_task(connect(uri, proxy=proxy, **options).connect())
    peer = await listener.peer()
    listener.close()
    try:
        yield connecting, peer
    finally:
        await idle()
        peer.reset()
        with contextlib.suppress(Exception, asyncio.CancelledError):
            await (await connecting).wait_closed()


async def let_in(peer: RawPeer) -> str:
    """Play the server at the other end of the tunnel; return the head of the request."""
    head = (await peer.read_until()).decode()
    key = re.search(r"Sec-WebSocket-Key: (\S+)", head)
    assert key is not None
    await peer.send(wire.response(key=key[1]))
    return head


class Recording(ClientConnection):
    """A connection that remembers how it began."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.made: list[asyncio.BaseTransport] = []
        self.received = b""
        recorded.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made.append(transport)
        super().connection_made(transport)

    def data_received(self, data: bytes | bytearray | memoryview) -> None:
        assert self.made
        self.received += data
        super().data_received(data)


recorded: list[Recording] = []


@pytest.fixture(autouse=True)
def nothing_recorded() -> None:
    recorded.clear()


# ---------------------------------------------------------------------------------------------------------- the tunnel


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@virtual
async def test_tunnel(version: str, chunk: int | None) -> None:
    running_loop().network.chunk = chunk
    async with reached("ws://example.com:8765/path", create_connection=Recording) as (connecting, peer):
        assert (await peer.read_until()).decode() == (
            f"CONNECT example.com:8765 HTTP/1.1\r\nHost: example.com:8765\r\nUser-Agent: {USER_AGENT}\r\n\r\n"
        )
        await peer.send(f"HTTP/{version} 200 OK\r\nVia: proxy\r\n\r\n".encode())
        assert (await let_in(peer)).startswith("GET /path HTTP/1.1\r\nHost: example.com:8765\r\n")
        connection = await connecting
        assert recorded == [connection]
        assert recorded[0].made == [connection.transport]
        assert recorded[0].received.startswith(b"HTTP/1.1 101 ")
        assert connection.remote_address == peer.link.server.getsockname()

        await connection.send("there")
        assert (await peer.read_frame()).payload == b"there"
        await peer.send(wire.text(b"back"))
        assert await connection.recv() == "back"

        closing = asyncio.create_task(connection.close())
        await peer.send(wire.frame(wire.CLOSE, (await peer.read_frame()).payload))
        peer.close()
        await closing
        assert (connection.state, connection.close_code) == (State.CLOSED, 1000)


@virtual
async def test_other_arguments_apply_to_the_proxy() -> None:
    async with reached(local_addr=("127.0.0.1", 4000), happy_eyeballs_delay=0.1, unix=False) as (_, peer):
        assert peer.sock.getpeername() == ("127.0.0.1", 4000)
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        await connect("ws://example.com/", proxy="http://proxy:8080", nonsense=1)


# ------------------------------------------------------------------------------------------------------------- failures


@virtual
async def test_proxy_that_cannot_be_connected_in_time() -> None:
    running_loop().network.blackhole("proxy", 8080)
    with pytest.raises(TimeoutError) as raised:
        await connect("ws://example.com/", proxy="http://proxy:8080", open_timeout=3)
    assert str(raised.value) == TIMED_OUT
    assert named(raised.value, REACHING)


@virtual
async def test_connection_that_cannot_be_made() -> None:
    def factory(*args: Any, **kwargs: Any) -> ClientConnection:
        raise LookupError

    async with reached(create_connection=factory) as (connecting, peer):
        await peer.read_until()
        await peer.send(OPEN)
        with pytest.raises(LookupError):
            await connecting
        await idle()
        assert peer.link.client.closed


# -------------------------------------------------------------------------------------------------------- the hand-over


@virtual
async def test_bytes_behind_the_answer_reach_the_connection() -> None:
    """Such as those of a server that refuses before it was asked."""
    async with reached(create_connection=Recording) as (connecting, peer):
        await peer.read_until()
        await peer.send(OPEN + b"HTTP/1.1 ")
        await peer.send(b"50")
        await peer.send(b"3 x\r\nContent-Length: 4\r\n\r\nbo")
        await idle()
        await peer.send(b"dy")
        with pytest.raises(InvalidStatus) as raised:
            await connecting
        assert recorded[0].received == b"HTTP/1.1 503 x\r\nContent-Length: 4\r\n\r\nbody"
        assert (raised.value.response.status_code, raised.value.response.body) == (503, b"body")
        assert (await peer.read_until()).startswith(b"GET / HTTP/1.1\r\n")


REFUSAL = b"HTTP/1.1 503 x\r\nContent-Length: 4\r\n\r\nbody"


@pytest.mark.parametrize("split", [0, 1, 10])
@virtual
async def test_answer_and_refusal_and_end_at_once(split: int) -> None:
    async with reached() as (connecting, peer):
        await peer.read_until()
        peer.link.to_client.chunk = len(OPEN) + split
        await peer.send(OPEN + REFUSAL)
        peer.close()
        with pytest.raises(InvalidStatus) as raised:
            await connecting
        assert raised.value.response.body == b"body"


@virtual
async def test_bytes_behind_the_answer_are_late() -> None:
    """The connection was given up meanwhile."""
    async with reached(create_connection=Recording) as (connecting, peer):
        await peer.read_until()
        await peer.send(OPEN + b"more")
        while not recorded:
            await steps(1)
        recorded[0].transport.abort()
        with pytest.raises(InvalidMessage):
            await connecting
        assert recorded[0].received == b""


@virtual
async def test_reading_pauses_at_the_answer() -> None:
    """Some loops read again before anybody can react to what they read: uvloop does."""
    route = await _proxy.choose_route("http://proxy", parse_uri("ws://localhost/"), {})
    assert route is not None
    tunnel = _proxy.Tunnel(plan_tunnel(route, {}, None))
    transport, _, link = transport_pair(tunnel, asyncio.Protocol())
    await idle()
    assert transport.is_reading()
    tunnel.data_received(OPEN)
    assert not transport.is_reading()
    await tunnel.answered
    transport.abort()
    await idle()
    assert link.client.closed


@pytest.mark.parametrize("exc", [None, BrokenPipeError("gone")])
@virtual
async def test_connection_lost_before_the_hand_over(exc: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Losing(_proxy.Tunnel):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.connection_lost(exc)

    monkeypatch.setattr(_proxy, "Tunnel", Losing)
    async with reached(create_connection=Recording) as (connecting, peer):
        await peer.read_until()
        await peer.send(OPEN)
        with pytest.raises((ConnectionResetError, BrokenPipeError)) as raised:
            await connecting
        assert str(raised.value) == "connection lost while it was being set up" if exc is None else raised.value is exc
        assert [connection.made for connection in recorded] == [[]]


@virtual
async def test_answer_that_goes_on_after_an_error() -> None:
    async with reached() as (connecting, peer):
        await peer.read_until()
        peer.link.to_client.chunk = 1
        await peer.send(b"nonsense\r\n" + b"x" * 100)
        with pytest.raises(InvalidProxyMessage):
            await connecting


# ----------------------------------------------------------------------------------------------------------------- TLS


def anonymous(side: int) -> ssl.SSLContext:
    """TLS with an anonymous cipher, so that no certificate is needed."""
    context = ssl.SSLContext(side)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("AECDH:@SECLEVEL=0")
    return context


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
    writer.close()


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection to a proxy."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        _, host, port, _ = re.split("[ :]", head.decode(), maxsplit=3)
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        writer.write(OPEN)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))
    writer.close()


@contextlib.asynccontextmanager
async def proxy_and_server(secure_proxy: bool, secure: bool) -> AsyncIterator[dict[str, Any]]:
    """A proxy that works and an echo server; gives what ``connect`` needs to reach the latter through the former."""
    proxy_tls = anonymous(ssl.PROTOCOL_TLS_SERVER) if secure_proxy else None
    tls = anonymous(ssl.PROTOCOL_TLS_SERVER) if secure else None
    options: dict[str, Any] = {
        "uri": "wss://example.com:8765/" if secure else "ws://example.com:8765/",
        "proxy": "https://proxy:8080" if secure_proxy else "http://proxy:8080",
    }
    if secure_proxy:
        options["proxy_ssl"] = anonymous(ssl.PROTOCOL_TLS_CLIENT)
    if secure:
        options["ssl"] = anonymous(ssl.PROTOCOL_TLS_CLIENT)
    async with serve(echo, "example.com", 8765, ssl=tls):
        server = await asyncio.start_server(relay, "proxy", 8080, ssl=proxy_tls)
        yield options
        await idle()
        server.close()


both_ways = pytest.mark.parametrize("secure_proxy", [False, True], ids=["http proxy", "https proxy"])
to_both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])


@pytest.mark.parametrize("chunk", [None, 1])
@both_ways
@to_both
@virtual
async def test_layers(secure_proxy: bool, secure: bool, chunk: int | None) -> None:
    running_loop().network.chunk = chunk
    async with proxy_and_server(secure_proxy, secure) as options:
        async with connect(create_connection=Recording, **options) as connection:
            assert recorded == [connection]
            assert recorded[0].made == [connection.transport]
            # A large one is several records of TLS.
            for message in ("text", b"binary", b"x" * (20_000 if chunk else 100_000)):
                await connection.send(message)
                assert await connection.recv() == message
            assert (connection.transport.get_extra_info("ssl_object") is not None) is (secure or secure_proxy)
        assert connection.close_code == 1000
        await idle()
        assert all(link.closed for link in running_loop().network.links)


@both_ways
@to_both
@pytest.mark.parametrize("step", [*range(60), 90, 200])
@virtual
async def test_cancelled_at_every_step(step: int, secure_proxy: bool, secure: bool) -> None:
    loop = running_loop()
    async with proxy_and_server(secure_proxy, secure) as options:
        connecting = asyncio.create_task(connect(**options).connect())
        await steps(step)
        connecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await connecting).close()
        await idle()
        assert all(link.closed for link in loop.network.links)


@both_ways
@to_both
@virtual
async def test_a_broken_connection_is_noticed(secure_proxy: bool, secure: bool) -> None:
    loop = running_loop()
    async with proxy_and_server(secure_proxy, secure) as options:
        connection = await connect(**options)
        loop.network.links[0].reset()
        await connection.wait_closed()
        assert connection.close_code == 1006


@both_ways
@to_both
@virtual
async def test_abort_reaches_through_all_layers(secure_proxy: bool, secure: bool) -> None:
    loop = running_loop()
    async with proxy_and_server(secure_proxy, secure) as options:
        connection = await connect(close_timeout=1, **options)
        loop.network.links[0].to_server.drop()
        await connection.close()
        assert loop.time() == START + 1
        await idle()
        assert loop.network.links[0].client.closed
        loop.network.links[0].reset()


@contextlib.asynccontextmanager
async def told_to_start_tls(monkeypatch: pytest.MonkeyPatch, **options: Any) -> AsyncIterator[dict[str, Any]]:
    """What the loop is told when a tunnel is open and TLS begins."""
    told: dict[str, Any] = {}

    async def start_tls(transport: Any, protocol: Any, context: ssl.SSLContext, **kwargs: Any) -> None:
        told.update(kwargs, context=context)

    monkeypatch.setattr(running_loop(), "start_tls", start_tls)
    async with reached("wss://example.com/", **options) as (connecting, peer):
        assert (await peer.read_until()).startswith(b"CONNECT ")
        await peer.send(OPEN)
        # The loop has no transport to give any more.
        with pytest.raises(ConnectionResetError) as raised:
            await connecting
        assert str(raised.value) == "connection lost in the TLS handshake"
        await idle()
        assert peer.link.client.closed
        yield told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, {"server_hostname": "example.com"}),
        ({"ssl": True}, {"server_hostname": "example.com"}),
        ({"host": "elsewhere", "port": 1}, {"server_hostname": "example.com"}),
        ({"server_hostname": "other.com"}, {"server_hostname": "other.com"}),
        (
            {"ssl_handshake_timeout": 1, "ssl_shutdown_timeout": 2},
            {"server_hostname": "example.com", "ssl_handshake_timeout": 1, "ssl_shutdown_timeout": 2},
        ),
    ],
)
@virtual
async def test_tls_verifies_the_server(options: Any, told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with told_to_start_tls(monkeypatch, **options) as seen:
        context = seen.pop("context")
        assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
        assert seen == told


@virtual
async def test_tls_as_the_user_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    context = anonymous(ssl.PROTOCOL_TLS_CLIENT)
    async with told_to_start_tls(monkeypatch, ssl=context) as seen:
        assert seen["context"] is context


@pytest.mark.scenario(75)
@pytest.mark.parametrize("layer", ["ssl", "proxy_ssl"])
@virtual
async def test_no_certificate_no_connection(layer: str) -> None:
    async with proxy_and_server(secure_proxy=True, secure=True) as options:
        del options[layer]
        # The server takes no cipher with a certificate, and the client no other. Ours tells, asyncio's just ends.
        with pytest.raises((ConnectionResetError, ssl.SSLError)):
            await connect(**options)


@pytest.mark.scenario(75)
@pytest.mark.parametrize("layer", ["ssl", "proxy_ssl"])
@virtual
async def test_tls_cannot_be_turned_off_by_accident(layer: str) -> None:
    async with proxy_and_server(secure_proxy=True, secure=True) as options:
        options[layer] = False
        with pytest.raises((TypeError, ValueError)):
            await connect(**options)


@pytest.mark.scenario(74)
@virtual
async def test_proxy_cannot_speak_for_the_server() -> None:
    async with reached("wss://example.com/") as (connecting, peer):
        await peer.read_until()
        await peer.send(OPEN + b"abc")
        with pytest.raises(ProxyError) as raised:
            await connecting
        assert str(raised.value) == "proxy sent 3 bytes before the TLS handshake"
        await idle()
        assert peer.unread == b""


@virtual
async def test_tls_handshake_that_takes_too_long() -> None:
    async with reached("wss://example.com/", ssl_handshake_timeout=5) as (connecting, peer):
        await peer.read_until()
        await peer.send(OPEN)
        with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer than 5 seconds"):
            await connecting
        assert running_loop().time() == START + 5
        await idle()
        assert peer.link.client.closed


@virtual
async def test_tls_handshake_with_the_proxy_that_takes_too_long() -> None:
    async with reached(proxy="https://proxy:8080", proxy_ssl_handshake_timeout=5) as (connecting, _):
        with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer than 5 seconds"):
            await connecting
        assert running_loop().time() == START + 5


@pytest.mark.parametrize("size", [1, 10, 100])
@both_ways
@virtual
async def test_server_that_speaks_first_in_tls(secure_proxy: bool, size: int) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for index in range(0, len(REFUSAL), size):
            writer.write(REFUSAL[index : index + size])
            await steps(1)
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    async with proxy_and_server(secure_proxy, secure=True) as options:
        options["uri"] = "wss://example.com:9999/"
        server = await asyncio.start_server(refuse, "example.com", 9999, ssl=anonymous(ssl.PROTOCOL_TLS_SERVER))
        with pytest.raises(InvalidStatus) as raised:
            await connect(create_connection=Recording, **options)
        assert raised.value.response.body == b"body"
        assert len(recorded[0].made) == 1
        server.close()


@pytest.mark.parametrize("helped", [_proxy.TLS_IN_TLS_FAILS_BADLY, True])
@both_ways
@virtual
async def test_server_that_speaks_no_tls(secure_proxy: bool, helped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"this is no TLS record")
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    monkeypatch.setattr(_proxy, "TLS_IN_TLS_FAILS_BADLY", helped)
    async with proxy_and_server(secure_proxy, secure=True) as options:
        options["uri"] = "wss://example.com:9999/"
        server = await asyncio.start_server(speak, "example.com", 9999)
        with pytest.raises(ssl.SSLError):
            await connect(**options)
        await idle()
        assert all(link.closed for link in running_loop().network.links)
        server.close()


@pytest.mark.parametrize("helped", [_proxy.TLS_IN_TLS_FAILS_BADLY, True])
@both_ways
@virtual
async def test_server_that_is_silent(secure_proxy: bool, helped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    monkeypatch.setattr(_proxy, "TLS_IN_TLS_FAILS_BADLY", helped)
    async with proxy_and_server(secure_proxy, secure=True) as options:
        options["uri"] = "wss://example.com:9999/"
        server = await asyncio.start_server(say_nothing, "example.com", 9999)
        with pytest.raises(ConnectionError):
            await connect(ssl_handshake_timeout=5, open_timeout=None, **options)
        assert running_loop().time() == START + 5
        await idle()
        assert all(link.closed for link in running_loop().network.links)
        server.close()


@both_ways
@virtual
async def test_server_that_hangs_up_after_the_tls_handshake(secure_proxy: bool) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with proxy_and_server(secure_proxy, secure=True) as options:
        options["uri"] = "wss://example.com:9999/"
        server = await asyncio.start_server(hang_up, "example.com", 9999, ssl=anonymous(ssl.PROTOCOL_TLS_SERVER))
        with pytest.raises((ConnectionError, InvalidMessage)):
            await connect(**options)
        await idle()
        assert all(link.closed for link in running_loop().network.links)
        server.close()


PROXY_TLS = [
    ("http://proxy:8080", {"proxy_ssl": True}, "proxy_ssl argument is incompatible with an http:// proxy"),
    ("socks5h://proxy:8080", {"proxy_ssl": True}, "proxy_ssl argument is incompatible with a socks5h:// proxy"),
    ("https://proxy:8080", {"proxy_ssl": None}, "proxy_ssl=None is incompatible with an https:// proxy"),
    ("http://proxy:8080", {"proxy_server_hostname": "other"}, "server_hostname is only meaningful with ssl"),
    ("https://proxy:8080", {"proxy_ssl": False}, "server_hostname is only meaningful with ssl"),
]


@pytest.mark.parametrize(("proxy", "options", "text"), PROXY_TLS)
@virtual
async def test_tls_that_contradicts_the_proxy(proxy: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        await connect("ws://example.com/", proxy=proxy, **options)
    assert running_loop().network.links == []


CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, {"ssl": True, "server_hostname": "proxy"}),
        ({"proxy_ssl": CONTEXT}, {"ssl": CONTEXT, "server_hostname": "proxy"}),
        (
            {"proxy_server_hostname": "other", "proxy_ssl_handshake_timeout": 1, "proxy_ssl_shutdown_timeout": 2},
            {"ssl": True, "server_hostname": "other", "ssl_handshake_timeout": 1, "ssl_shutdown_timeout": 2},
        ),
        ({"local_addr": ("127.0.0.1", 1)}, {"ssl": True, "server_hostname": "proxy", "local_addr": ("127.0.0.1", 1)}),
    ],
)
@virtual
async def test_tls_verifies_the_proxy(options: Any, told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def create_connection(factory: Any, host: str, port: int, **kwargs: Any) -> Any:
        seen.append((host, port, kwargs))
        raise ConnectionRefusedError

    seen: list[Any] = []
    monkeypatch.setattr(running_loop(), "create_connection", create_connection)
    with pytest.raises(ConnectionRefusedError):
        await connect("wss://example.com/", proxy="https://proxy:8080", ssl_handshake_timeout=99, **options)
    assert seen == [("proxy", 8080, told)]


# --------------------------------------------------------------------------------------------------------- which proxy


@contextlib.asynccontextmanager
async def directly(host: str = "example.com") -> AsyncIterator[kit_site.Site]:
    """A server that is reached without a proxy."""
    async with kit_site.site([kit_site.let_in], host) as site:
        yield site


@virtual
async def test_no_proxy_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    async with directly() as site, connect(site.uri(host="example.com")) as connection:
        assert connection.remote_address == ("10.0.0.1", site.port)


@virtual
async def test_proxy_is_ignored_with_a_socket() -> None:
    async with directly("localhost") as site:
        sock = await running_loop().network.open("localhost", site.port)
        async with connect("ws://example.com/", sock=sock, proxy="http://proxy:8080", proxy_ssl=None):
            assert site.targets == ["/"]


@virtual
async def test_proxy_is_ignored_with_a_unix_socket() -> None:
    listener = running_loop().network.listen_unix("/run/a")
    connecting = asyncio.create_task(unix_connect("/run/a", proxy="nonsense", proxy_server_hostname="x").connect())
    peer = await listener.peer()
    await let_in(peer)
    connection = await connecting
    peer.reset()
    await connection.wait_closed()


@virtual
async def test_arguments_for_a_proxy_that_is_not_there() -> None:
    names = ("proxy_ssl", "proxy_server_hostname", "proxy_ssl_handshake_timeout", "proxy_ssl_shutdown_timeout")
    options: dict[str, Any] = dict.fromkeys(names)
    async with directly() as site:
        async with connect(site.uri(host="example.com"), **options):
            pass
        with pytest.raises(TypeError, match="unexpected keyword argument 'proxy_port'"):
            await connect(site.uri(host="example.com"), proxy_port=1)


@pytest.mark.parametrize("waits", [False, True])
@virtual
async def test_system_that_is_slow_to_tell(waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_proxy(uri: Any) -> None:
        threads.append(threading.current_thread())

    threads: list[threading.Thread] = []
    monkeypatch.setattr(_proxy, "SYSTEM_WAITS", waits)
    monkeypatch.setattr(_proxy, "find_proxy", find_proxy)
    async with directly() as site, connect(site.uri(host="example.com")):
        assert [thread is not threading.main_thread() for thread in threads] == [waits]


@virtual
async def test_attempts_at_the_same_time_have_a_note_each(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, {"http_proxy": "http://proxy:8080"})
    monkeypatch.setattr(_proxy, "SYSTEM_WAITS", True)
    connecting = connect("ws://example.com/")
    errors = await asyncio.gather(connecting.connect(), connecting.connect(), return_exceptions=True)
    for error in errors:
        assert isinstance(error, ConnectionRefusedError)
        assert named(error, REACHING)


# --------------------------------------------------------------------------------------------------------------- SOCKS

Connect = Callable[[str, int], Awaitable[MemorySocket]]


class Kind(enum.Enum):
    """What python-socks calls ``ProxyType``."""

    SOCKS4 = enum.auto()
    SOCKS5 = enum.auto()


class Socks:
    """What stands in for python-socks: it remembers what it was told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, connect: Connect) -> None:
        self.told: list[Any] = []
        self.socks: list[MemorySocket] = []
        self._connect = connect
        names = ["python_socks", "python_socks.async_", "python_socks.async_.asyncio"]
        modules: list[Any] = [types.ModuleType(name) for name in names]
        modules[0].ProxyType = Kind
        modules[2].Proxy = self.proxy
        for name, module in zip(names, modules, strict=True):
            monkeypatch.setitem(sys.modules, name, module)

    def proxy(self, kind: Kind, *args: Any) -> Socks:
        self.told.append((kind.name, *args))
        return self

    async def connect(self, host: str, port: int, **options: Any) -> MemorySocket:
        assert options.pop("timeout") > 24 * 3600
        self.told.append((host, port, options))
        self.socks.append(await self._connect(host, port))
        return self.socks[-1]


@pytest.mark.parametrize(
    ("proxy", "told"),
    [
        ("socks4://proxy", ("SOCKS4", "proxy", 1080, None, None, False)),
        ("socks4a://proxy", ("SOCKS4", "proxy", 1080, None, None, True)),
        ("socks5://user:secret@proxy:9", ("SOCKS5", "proxy", 9, "user", "secret", False)),
        ("socks5h://proxy", ("SOCKS5", "proxy", 1080, None, None, True)),
    ],
)
@virtual
async def test_socks(proxy: str, told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    socks = Socks(monkeypatch, running_loop().network.open)
    async with directly() as site:
        uri = site.uri(host="example.com")
        async with connect(uri, proxy=proxy, local_addr=("127.0.0.1", 1), create_connection=Recording) as connection:
            assert recorded[0].made == [connection.transport]
        assert socks.told == [told, ("example.com", site.port, {"local_addr": ("127.0.0.1", 1)})]
        assert site.asked[0].headers["Host"] == [f"example.com:{site.port}"]
        assert socks.socks[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


@virtual
async def test_socks_leads_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    socks = Socks(monkeypatch, running_loop().network.open)
    async with directly("elsewhere") as site:
        async with connect("ws://example.com/", proxy="socks5h://proxy", host="elsewhere", port=site.port):
            assert site.asked[0].headers["Host"] == ["example.com"]
        assert socks.told[1] == ("elsewhere", site.port, {})


@virtual
async def test_socks_and_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    socks = Socks(monkeypatch, running_loop().network.open)
    async with serve(echo, "example.com", 8765, ssl=anonymous(ssl.PROTOCOL_TLS_SERVER)):
        options = {"uri": "wss://example.com:8765/", "proxy": "socks5h://proxy"}
        async with connect(ssl=anonymous(ssl.PROTOCOL_TLS_CLIENT), **options) as connection:  # type: ignore[arg-type]
            await connection.send("text")
            assert await connection.recv() == "text"
        with pytest.raises((ConnectionResetError, ssl.SSLError)):
            await connect(**options)  # type: ignore[arg-type]
        await idle()
        assert [sock.closed for sock in socks.socks] == [True, True]


@virtual
async def test_socks_and_a_server_that_is_gone_already(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect_to_nobody(host: str, port: int) -> MemorySocket:
        sock = await running_loop().network.open(host, port)
        sock.link.server.reset()
        monkeypatch.setattr(sock, "setsockopt", refuse)
        return sock

    def refuse(*args: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    Socks(monkeypatch, connect_to_nobody)
    async with directly() as site:
        with pytest.raises(InvalidMessage):
            await connect(site.uri(host="example.com"), proxy="socks5h://proxy")


@pytest.mark.parametrize("step", range(30))
@to_both
@virtual
async def test_socks_cancelled_at_every_step(step: int, secure: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    Socks(monkeypatch, running_loop().network.open)
    async with proxy_and_server(secure_proxy=False, secure=secure) as options:
        options["proxy"] = "socks5h://proxy"
        connecting = asyncio.create_task(connect(**options).connect())
        await steps(step)
        connecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await connecting).close()
        await idle()
        assert all(link.closed for link in running_loop().network.links)


@pytest.mark.parametrize(
    ("exc", "kinds"),
    [
        (ConnectionRefusedError("no"), [ConnectionRefusedError]),
        (LookupError("no"), [ProxyError, LookupError]),
        (AssertionError("no"), [ProxyError, AssertionError]),
    ],
)
@virtual
async def test_socks_fails(exc: Exception, kinds: list[type[Exception]], monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(host: str, port: int) -> MemorySocket:
        raise exc

    Socks(monkeypatch, fail)
    with pytest.raises(kinds[0]) as raised:
        await connect("ws://example.com/", proxy="socks5h://user:secret@proxy")
    assert [type(error) for error in chain(raised.value)] == kinds
    assert chain(raised.value)[-1] is exc
    assert named(raised.value, REACHING_SOCKS, "socks5h://proxy:1080")
    if kinds[0] is ProxyError:
        assert str(raised.value) == "failed to connect to SOCKS proxy"


@virtual
async def test_socks_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(host: str, port: int) -> MemorySocket:
        await asyncio.sleep(3600)
        raise AssertionError("never reached")

    Socks(monkeypatch, hang)
    with pytest.raises(TimeoutError) as raised:
        await connect("ws://example.com/", proxy="socks5h://proxy")
    assert str(raised.value) == TIMED_OUT
    assert named(raised.value, REACHING_SOCKS, "socks5h://proxy:1080")
    assert running_loop().time() == START + 10


@virtual
async def test_socks_without_python_socks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)
    with pytest.raises(ImportError) as raised:
        await connect("ws://example.com/", proxy="socks5h://proxy")
    assert str(raised.value) == "connecting through a SOCKS proxy requires python-socks"
