"""Servers behind a proxy that speaks the PROXY protocol: whose address a connection has, and who is refused."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from asyncio import protocols
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from _kit import RawPeer, VirtualLoop, advance, idle, request, virtual, wire
from _kit.asking import port_of, reach
from _kit.platforms import PROACTOR, needs_unix_sockets
from _kit.proxy_header import Place, line, version_2
from _kit.sockets import anonymous_tls
from robustness.worlds import each_loop
from websockets._session.arriving import READ_TOO_MUCH
from websockets.asyncio._proxy_protocol import Arrival
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve, unix_serve

CLIENT: Place = ("203.0.113.7", 40000)
SERVICE: Place = ("198.51.100.1", 443)
PROXY = ["127.0.0.1"]

HEADERS = {"version 1": line(CLIENT, SERVICE), "version 2": version_2(CLIENT, SERVICE)}
each_version = pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
each_layer = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])

Ends = tuple[Any, Any]


class Site:
    """The addresses that a server sees of each connection that was opened, those of its socket last."""

    def __init__(self) -> None:
        self.ends: list[Ends] = []
        self.sockets: list[Ends] = []

    async def echo(self, connection: ServerConnection) -> None:
        self.ends.append((connection.remote_address, connection.local_address))
        transport = connection.transport
        self.sockets.append((transport.get_extra_info("peername"), transport.get_extra_info("sockname")))
        async for message in connection:
            await connection.send(message)


@contextlib.asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[Site, Server]]:
    site = Site()
    async with serve(
        site.echo, "127.0.0.1", 0, **{"proxy_protocol": PROXY, "ping_interval": None, **options}
    ) as server:
        yield site, server


async def opened(peer: RawPeer) -> None:
    assert (await peer.read_until()).startswith(b"HTTP/1.1 101 ")


async def refused(server: Server, data: bytes, caplog: pytest.LogCaptureFixture) -> str:
    """Send what is no header; return what the log says of it. No byte is answered."""
    caplog.set_level(logging.INFO, "websockets.server")
    caplog.clear()
    peer = await reach(server)
    await peer.send(data)
    await idle()
    assert peer.received == b""
    assert peer.ended is not None
    peer.close()
    (message,) = caplog.messages
    beginning, _, text = message.partition(" closed: ")
    assert beginning.startswith("connection from 127.0.0.1:")
    return text


# ---------------------------------------------------------------------------------------------------------- in memory


@each_version
@virtual
async def test_address_of_the_client(header: bytes) -> None:
    async with serving() as (site, server):
        peer = await reach(server)
        await peer.send(header + request())
        await opened(peer)
        await peer.send(wire.text("hello", mask=True))
        assert (await peer.read_frame()).payload == b"hello"
        peer.close()
        assert site.ends == [(CLIENT, SERVICE)]
        assert site.sockets[0][0][0] == "127.0.0.1"
        assert site.sockets[0][1] == ("127.0.0.1", port_of(server))


@each_version
@virtual
async def test_byte_by_byte(header: bytes) -> None:
    async with serving() as (site, server):
        peer = await reach(server)
        for byte in header + request():
            await peer.send(bytes([byte]))
            await idle()
        await opened(peer)
        peer.close()
    assert site.ends == [(CLIENT, SERVICE)]


@each_version
@virtual
async def test_every_cut(header: bytes) -> None:
    async with serving(max_queue=None) as (site, server):
        for at in range(1, len(header)):
            peer = await reach(server)
            await peer.send(header[:at])
            await idle()
            await peer.send(header[at:] + request())
            await opened(peer)
            peer.close()
    assert site.ends == [(CLIENT, SERVICE)] * (len(header) - 1)


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", version_2(command=0), version_2()])
@virtual
async def test_own_addresses_where_the_header_has_none(header: bytes) -> None:
    async with serving() as (site, server):
        peer = await reach(server)
        await peer.send(header + request())
        await opened(peer)
        peer.close()
    assert site.ends == site.sockets
    assert site.ends[0][0][0] == "127.0.0.1"


@virtual
async def test_health_checks_leave_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    """HAProxy connects and closes, with a header of its own or without one."""
    caplog.set_level(logging.DEBUG, "websockets.server")
    async with serving() as (_, server):
        caplog.clear()
        for data in (b"", line(CLIENT, SERVICE)[:20], version_2(command=0), line(CLIENT, SERVICE)):
            peer = await reach(server)
            await peer.send(data)
            await idle()
            peer.close()
            await idle()
        assert [record for record in caplog.records if record.levelno > logging.INFO] == []
        assert server.statistics.refused == {"client gone": 4}
        assert not server._ws_registry.arriving
        assert not server._ws_registry.all


@virtual
async def test_peer_that_is_gone_before_it_is_accepted(caplog: pytest.LogCaptureFixture) -> None:
    """The kernel has no address of it any more."""
    caplog.set_level(logging.INFO, "websockets.server")
    async with serving() as (site, server):
        caplog.clear()
        peer = await reach(server)
        peer.link.server.getpeername = lambda: None  # type: ignore[method-assign,assignment,return-value]
        await idle()
        assert peer.ended is not None
        assert server.statistics.refused == {"client gone": 1}
        assert caplog.messages == []
        peer.close()
    assert site.ends == []


@virtual
async def test_what_is_no_header(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as (site, server):
        text = await refused(server, request(), caplog)
        assert text.startswith(
            "invalid PROXY protocol header: connection begins with b'GET / HTTP/1.1\\r', which is no "
        )
        text = await refused(server, b"PROXY TCP4 nobody nowhere 1 2\r\n" + request(), caplog)
        assert text == "invalid PROXY protocol header: malformed line: b'PROXY TCP4 nobody nowhere 1 2'"
        text = await refused(server, version_2(CLIENT, SERVICE, command=7) + request(), caplog)
        assert text == "invalid PROXY protocol header: unknown command 7"
        assert server.statistics.refused == {"invalid PROXY header": 3}
    assert site.ends == []


@pytest.mark.parametrize("data", [request(), line(CLIENT, SERVICE) + request(), b""])
@virtual
async def test_nobody_else_may_connect(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(proxy_protocol=["127.0.0.2", "::/0"]) as (site, server):
        assert await refused(server, data, caplog) == "its address isn't in proxy_protocol"
        assert server.statistics.refused == {"not a trusted proxy": 1}
    assert site.ends == []


@pytest.mark.parametrize("sent", [0, 20])
@virtual
async def test_slow_header(sent: int, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(open_timeout=5) as (_, server):
        caplog.set_level(logging.INFO, "websockets.server")
        caplog.clear()
        peer = await reach(server)
        await peer.send(line(CLIENT, SERVICE)[:sent])
        await advance(4.9)
        assert peer.ended is None
        await advance(0.2)
        assert peer.ended is not None
        assert peer.received == b""
        (message,) = caplog.messages
        assert message.endswith("closed: no complete PROXY protocol header within 5 s")
        assert server.statistics.refused == {"timeout": 1}
        peer.close()


@virtual
async def test_slow_header_without_a_limit() -> None:
    async with serving(open_timeout=None) as (site, server):
        peer = await reach(server)
        await advance(3600)
        await peer.send(line(CLIENT, SERVICE) + request())
        await opened(peer)
        peer.close()
    assert site.ends == [(CLIENT, SERVICE)]


@virtual
async def test_the_opening_handshake_has_its_own_time() -> None:
    async with serving(open_timeout=5) as (_, server):
        peer = await reach(server)
        await advance(4.9)
        await peer.send(line(CLIENT, SERVICE))
        await advance(4.9)
        assert peer.ended is None
        await advance(0.2)
        assert peer.ended is not None
        peer.close()


@virtual
async def test_limit_of_a_host_counts_clients() -> None:
    async with serving(max_connections_per_host=1) as (site, server):
        peers = [await reach(server) for _ in range(3)]
        for peer, host in zip(peers, ("203.0.113.7", "203.0.113.8", "203.0.113.7"), strict=True):
            await peer.send(line((host, 1), SERVICE) + request())
        await opened(peers[0])
        await opened(peers[1])
        assert (await peers[2].read_until()).startswith(b"HTTP/1.1 503 ")
        for peer in peers:
            peer.close()
    assert [ends[0][0] for ends in site.ends] == ["203.0.113.7", "203.0.113.8"]


@virtual
async def test_a_class_knows_the_address_from_the_first_moment() -> None:
    seen = []

    class Watching(ServerConnection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            seen.append(self.remote_address)

    async with serving(create_connection=Watching) as (_, server):
        peer = await reach(server)
        await peer.send(line(CLIENT, SERVICE))
        await idle()
        assert seen == [CLIENT]
        peer.close()


@virtual
async def test_unix_sockets_trust_nobody_unless_told() -> None:
    site = Site()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    async with unix_serve(site.echo, "/run/trusting", proxy_protocol=["unix:"]):
        peer = await loop.network.connect_unix("/run/trusting")
        await peer.send(line(CLIENT, SERVICE) + request())
        await opened(peer)
        peer.close()
    assert site.ends == [(CLIENT, SERVICE)]
    async with unix_serve(site.echo, "/run/wary", proxy_protocol=["0.0.0.0/0", "::/0"]) as server:
        peer = await loop.network.connect_unix("/run/wary")
        await peer.send(line(CLIENT, SERVICE) + request())
        await idle()
        assert (peer.received, peer.ended is None) == (b"", False)
        assert server.statistics.refused == {"not a trusted proxy": 1}
        peer.close()


@virtual
async def test_client_with_a_unix_socket() -> None:
    async with serving() as (site, server):
        peer = await reach(server)
        await peer.send(version_2(b"", b"/run/service") + request())
        await opened(peer)
        peer.close()
    assert site.ends == [("", "/run/service")]


@virtual
async def test_limit_counts_those_that_have_yet_to_say_whose_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("websockets._rules.capacity.WAITING_LIMIT", 2)
    async with serving(max_connections=1, max_connections_per_host=1, open_timeout=5) as (_, server):
        silent = [await reach(server) for _ in range(5)]
        await idle()
        assert server.statistics.counted == 1
        assert server.statistics.refused == {"too many connections to be told": 2}
        assert [peer.ended is None for peer in silent] == [True] * 3 + [False] * 2
        # Behind its header, one that came when there was no room is told; the first has its place still.
        for peer in silent[1::-1]:
            await peer.send(line(CLIENT, SERVICE) + request())
            await idle()
        assert silent[1].received.startswith(b"HTTP/1.1 503 ")
        await opened(silent[0])
        await advance(5.1)
        assert server.statistics.counted == 1
        assert silent[2].ended is not None
        for peer in silent:
            peer.close()
        await idle()
        assert server.statistics.counted == 0
        peer = await reach(server)
        await peer.send(line(CLIENT, SERVICE) + request())
        await opened(peer)
        peer.close()


def no_connection(*args: Any, **options: Any) -> Any:
    raise ValueError("no connection today")


def nonsense(*args: Any, **options: Any) -> Any:
    return "a connection"


class Broken(ServerConnection):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        raise ValueError("no connection today")


@each_layer
@pytest.mark.parametrize("create", [no_connection, nonsense])
@virtual
async def test_a_factory_that_fails(create: Any, tls: bool, caplog: pytest.LogCaptureFixture) -> None:
    server_context, client_context = tls_13() if tls else (None, None)
    async with serving(create_connection=create, ssl=server_context) as (_, server):
        for _ in range(2):
            peer = await reach(server)
            await peer.send(line(CLIENT, SERVICE))
            if client_context is not None:
                _, _, outgoing = await tls_over(peer, client_context)
                await peer.send(outgoing.read())
            await idle()
            assert peer.ended is not None
            assert not server._ws_registry.arriving
            peer.close()
        assert server.statistics.refused == {"failure": 2}
        assert [record.message for record in caplog.records] == ["creating a connection failed"] * 2


@virtual
async def test_a_class_that_fails_leaves_nothing_open() -> None:
    reported: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    async with serving(create_connection=Broken) as (_, server):
        handler = loop.get_exception_handler()
        loop.set_exception_handler(lambda _, context: reported.append(context))
        peer = await reach(server)
        await peer.send(line(CLIENT, SERVICE))
        await idle()
        loop.set_exception_handler(handler)
        assert (peer.received, peer.ended is None) == (b"", False)
        peer.close()
    assert [str(context["exception"]) for context in reported] == ["no connection today"]


@pytest.mark.parametrize(
    ("option", "error", "text"),
    [
        ([], ValueError, "proxy_protocol is empty: it must name the proxies that are trusted"),
        ("127.0.0.1", TypeError, "proxy_protocol must be a list of addresses of proxies or None, not '127.0.0.1'"),
    ],
)
def test_mistakes_show_at_once(option: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as raised:
        serve(Site().echo, "localhost", 0, proxy_protocol=option)
    assert str(raised.value) == text
    with pytest.raises(TypeError, match="^ssl must be an ssl.SSLContext, or None, not True$"):
        serve(Site().echo, "localhost", 0, proxy_protocol=PROXY, ssl=True)


# ----------------------------------------------------------------------------------------------------------- shutdown


@virtual
async def test_shutdown_ends_those_without_a_header(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.server")
    async with serving() as (_, server):
        peer = await reach(server)
        await idle()
        server.close()
        await server.wait_closed()
        await idle()
        assert (peer.received, peer.ended is None) == (b"", False)
        assert server.statistics.refused == {"server is shutting down": 1}
        peer.close()
    assert sum(message.endswith("closed: server is shutting down") for message in caplog.messages) == 1


@virtual
async def test_accepted_while_the_server_stops_listening() -> None:
    async with serving() as (_, server):
        peer = await reach(server)
        # In this turn its transport is made, and connection_made() comes in the next one.
        await asyncio.sleep(0)
        server.close()
        await server.wait_closed()
        await idle()
        assert (peer.received, peer.ended is None) == (b"", False)
        assert server.statistics.refused == {"server is shutting down": 1}
        peer.close()


# ----------------------------------------------------------------------------------------------------- TLS, in memory


async def tls_over(peer: RawPeer, context: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
    """Do the TLS handshake of a client on a peer, but for what the client says last, which waits to be sent."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing)
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            await peer.send(outgoing.read())
            await idle()
            incoming.write(await peer.read_exactly(len(peer.unread)))
        else:
            return tls, incoming, outgoing


def tls_13() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server and of a client that believes anybody, for TLS 1.3."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(Path(__file__).parents[1] / "cli" / "localhost.pem")
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.minimum_version = ssl.TLSVersion.TLSv1_3
    return server, client


@virtual
async def test_request_together_with_the_end_of_the_tls_handshake() -> None:
    server_context, client_context = tls_13()
    async with serving(ssl=server_context) as (site, server):
        peer = await reach(server)
        await peer.send(line(CLIENT, SERVICE))
        tls, incoming, outgoing = await tls_over(peer, client_context)
        tls.write(request())
        await peer.send(outgoing.read())
        await idle()
        incoming.write(peer.unread)
        assert tls.read(2**16).startswith(b"HTTP/1.1 101 ")
        assert site.ends == [(CLIENT, SERVICE)]
        peer.close()


@virtual
async def test_client_that_leaves_with_the_end_of_the_tls_handshake() -> None:
    server_context, client_context = tls_13()
    async with serving(ssl=server_context) as (site, server):
        peer = await reach(server)
        await peer.send(line(CLIENT, SERVICE))
        _, _, outgoing = await tls_over(peer, client_context)
        await peer.send(outgoing.read())
        peer.close()
        await idle()
        assert not server._ws_registry.arriving
        assert not server._ws_registry.all
    assert site.ends == []


@pytest.mark.parametrize(
    ("how", "reason", "logged"),
    [
        ("garbage", "TLS handshake failed", "TLS handshake failed: "),
        ("end", "client gone", ""),
        ("reset", "client gone", ""),
        ("silence", "TLS handshake failed", "TLS handshake failed: SSL handshake is taking longer than 5"),
    ],
)
@virtual
async def test_tls_handshake_that_fails(how: str, reason: str, logged: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets")
    async with serving(ssl=anonymous_tls()[0], open_timeout=5) as (_, server):
        caplog.clear()
        peer = await reach(server)
        await peer.send(version_2(CLIENT, SERVICE))
        await idle()
        if how == "garbage":
            await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        elif how == "end":
            peer.close()
        elif how == "reset":
            peer.link.reset()
        else:
            await advance(5.1)
        await idle()
        assert not server._ws_registry.arriving
        assert b"HTTP" not in peer.received
        peer.close()
        assert server.statistics.refused == {reason: 1}
        assert len(caplog.messages) == bool(logged)
        assert all(f" closed: {logged}" in message for message in caplog.messages)


@virtual
async def test_shutdown_between_the_tls_handshake_and_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    server_context, client_context = tls_13()
    secured = Arrival._secured

    def late(self: Arrival, task: Any) -> None:
        self._server.close()
        secured(self, task)

    monkeypatch.setattr(Arrival, "_secured", late)
    async with serving(ssl=server_context) as (site, server):
        peer = await reach(server)
        await peer.send(line(CLIENT, SERVICE))
        _, _, outgoing = await tls_over(peer, client_context)
        await peer.send(outgoing.read())
        await idle()
        assert peer.ended is not None
        await server.wait_closed()
        assert server.statistics.refused == {"server is shutting down": 1}
        peer.close()
    assert site.ends == []


@virtual
async def test_shutdown_ends_tls_handshakes() -> None:
    async with serving(ssl=anonymous_tls()[0]) as (_, server):
        peer = await reach(server)
        await peer.send(version_2(CLIENT, SERVICE))
        await idle()
        server.close()
        await server.wait_closed()
        await idle()
        assert (peer.received, peer.ended is None) == (b"", False)
        assert server.statistics.refused == {"server is shutting down": 1}
        peer.close()


@virtual
async def test_connection_lost_before_tls_begins() -> None:
    async with serving(ssl=anonymous_tls()[0]) as (_, server):
        arrival, transport = await arrive(server)
        feed(arrival, line(CLIENT, SERVICE))
        transport.abort()
        await idle()
        assert not server._ws_registry.arriving


@virtual
async def test_loop_that_can_not_start_tls() -> None:
    reported: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    async with serving(ssl=anonymous_tls()[0], tls_transport="loop") as (_, server):
        arrival, transport = await arrive(server)
        handler = loop.get_exception_handler()
        loop.set_exception_handler(lambda _, context: reported.append(context))
        transport._start_tls_compatible = False
        feed(arrival, line(CLIENT, SERVICE))
        await idle()
        loop.set_exception_handler(handler)
        assert transport.is_closing()
        assert not server._ws_registry.arriving
    assert [(context["message"], type(context["exception"])) for context in reported] == [
        ("starting TLS failed", TypeError)
    ]


# --------------------------------------------------------------------------------------------- loops that read too much


async def arrive(server: Server) -> tuple[Arrival, Any]:
    """A connection that says nothing, and its transport."""
    before = set(server._ws_registry.arriving)
    await reach(server)
    await idle()
    (arrival,) = server._ws_registry.arriving - before
    return arrival, arrival.transport


def feed(arrival: Arrival, data: bytes) -> None:
    """Bring bytes in the way of loops that read as they like, such as asyncio's for Windows."""
    protocols._feed_data_to_buffered_proto(arrival, data)  # type: ignore[attr-defined]


@virtual
async def test_what_was_read_beyond_the_header_is_not_lost() -> None:
    async with serving() as (site, server):
        arrival, transport = await arrive(server)
        feed(arrival, line(CLIENT, SERVICE) + request() + wire.text("hello", mask=True))
        await idle()
        assert site.ends == [(CLIENT, SERVICE)]
        (connection,) = server.connections
        assert connection.statistics.messages_sent == 1
        transport.abort()


@virtual
async def test_nothing_read_beyond_the_header_passes_for_tls(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.server")
    async with serving(ssl=anonymous_tls()[0]) as (site, server):
        caplog.clear()
        arrival, transport = await arrive(server)
        feed(arrival, line(CLIENT, SERVICE) + request())
        await idle()
        assert transport.is_closing()
        assert [message.partition(" closed: ")[2] for message in caplog.messages] == [READ_TOO_MUCH]
        assert server.statistics.refused == {"failure": 1}
    assert site.ends == []


@virtual
async def test_what_was_read_beyond_a_wrong_header_is_not_looked_at() -> None:
    async with serving() as (_, server):
        arrival, _ = await arrive(server)
        feed(arrival, b"PROXY TCP4 nobody nowhere 1 2\r\n" + line(CLIENT, SERVICE) + request())
        await idle()
        assert server.statistics.refused == {"invalid PROXY header": 1}


# ---------------------------------------------------------------------------------------------------- over real sockets


async def dial(server: Server, header: bytes, context: ssl.SSLContext | None, **options: Any) -> Any:
    """Connect as through a proxy that sends a header."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    await loop.sock_connect(sock, ("127.0.0.1", port_of(server)))
    await loop.sock_sendall(sock, header)
    if context is not None:
        options |= {"ssl": context, "server_hostname": "localhost"}
    uri = "ws://localhost/" if context is None else "wss://localhost/"
    return await connect(uri, sock=sock, proxy=None, **options)


@each_layer
@each_version
@each_loop
async def test_over_sockets(header: bytes, tls: bool) -> None:
    if tls and PROACTOR:
        pytest.skip("Windows' loop reads beyond the header, so TLS is refused")
    server_context, client_context = anonymous_tls() if tls else (None, None)
    async with serving(ssl=server_context) as (site, server):
        clients = await asyncio.gather(*(dial(server, header, client_context) for _ in range(3)))
        for client in clients:
            for message in ("hello", b"x" * 300_000):
                await client.send(message)
                assert await client.recv() == message
            await client.close(3000, "bye")
            assert (client.close_code, client.close_reason) == (3000, "bye")
    assert site.ends == [(CLIENT, SERVICE)] * 3
    assert {ends[0][0] for ends in site.sockets} == {"127.0.0.1"}


async def answer(server: Server, data: bytes) -> bytes:
    """Send bytes, and read what a server answers before it ends the connection."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port_of(server)))
        await loop.sock_sendall(sock, data)
        received = b""
        # What is left unread makes a reset of it.
        with contextlib.suppress(ConnectionResetError):
            while piece := await loop.sock_recv(sock, 2**16):
                received += piece
        return received


@each_layer
@each_loop
async def test_refused_over_sockets(tls: bool) -> None:
    context = anonymous_tls()[0] if tls else None
    async with serving(ssl=context) as (site, server):
        for data in (request(), b"PROXY TCP4 1 2 3 4\r\n" + request()):
            assert await answer(server, data) == b""
        assert server.statistics.refused == {"invalid PROXY header": 2}
    async with serving(ssl=context, proxy_protocol=["127.0.0.2"]) as (_, server):
        assert await answer(server, line(CLIENT, SERVICE) + request()) == b""
        assert server.statistics.refused == {"not a trusted proxy": 1}
    assert site.ends == []


@each_loop
async def test_in_clear_where_tls_belongs() -> None:
    """A request behind the header, in clear, gets no answer of ours."""
    async with serving(ssl=anonymous_tls()[0]) as (site, server):
        assert b"HTTP" not in await answer(server, line(CLIENT, SERVICE) + request())
    assert site.ends == []


@each_loop
async def test_not_expected_over_sockets() -> None:
    async with serving(proxy_protocol=None) as (_, server):
        for header in HEADERS.values():
            received = await answer(server, header + request())
            assert received.startswith(b"HTTP/1.1 400 ")
            assert b"PROXY protocol header, which isn't expected" in received


@each_version
@virtual
async def test_not_expected_byte_by_byte(header: bytes) -> None:
    async with serving(proxy_protocol=None) as (_, server):
        peer = await reach(server)
        for byte in header:
            await peer.send(bytes([byte]))
            await idle()
        assert peer.received.startswith(b"HTTP/1.1 400 ")
        assert b"PROXY protocol header" in peer.received
        assert b"see the option proxy_protocol" in peer.received
        peer.close()


@needs_unix_sockets
@each_loop
async def test_over_a_unix_socket(tmp_path: Path) -> None:
    site, path = Site(), str(tmp_path / "s")
    loop = asyncio.get_running_loop()
    async with unix_serve(site.echo, path, proxy_protocol=["unix:"]):
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        await loop.sock_connect(sock, path)
        await loop.sock_sendall(sock, version_2(CLIENT, SERVICE))
        async with connect("ws://localhost/", sock=sock, proxy=None) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
    assert site.ends == [(CLIENT, SERVICE)]
