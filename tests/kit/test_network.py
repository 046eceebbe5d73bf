"""The network in memory: what a loop offers, and where it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from _kit import START, MemoryServer, Network, VirtualLoop, advance, idle, run_virtual, steps, virtual


def loop() -> VirtualLoop:
    running = asyncio.get_running_loop()
    assert isinstance(running, VirtualLoop)
    return running


def network() -> Network:
    return loop().network


class Echo(asyncio.Protocol):
    """Sends back what it gets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Collect(asyncio.Protocol):
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


@contextlib.asynccontextmanager
async def echo_server(
    host: str | list[str] | None = "localhost", port: int = 80, **options: Any
) -> AsyncIterator[MemoryServer]:
    server = await loop().create_server(Echo, host, port, **options)
    async with server:
        yield server
        server.close_clients()


async def check_echo(host: str, port: int, **options: Any) -> asyncio.Transport:
    transport: asyncio.Transport
    transport, protocol = await loop().create_connection(Collect, host, port, **options)
    transport.write(b"hello")
    await idle()
    assert protocol.received == b"hello"
    transport.close()
    assert await protocol.lost is None
    return transport


# Connections.


@virtual
async def test_a_client_reaches_a_server() -> None:
    async with echo_server() as server:
        transport = await check_echo("localhost", 80)
        assert transport.get_extra_info("peername") == ("127.0.0.1", 80)
        assert transport.get_extra_info("sockname") == ("127.0.0.1", 50000)
        assert server.sockets[0].getsockname() == ("127.0.0.1", 80)
        assert server.sockets[0].family == socket.AF_INET
        [link] = network().links
        assert repr(link) == "<Link ('127.0.0.1', 50000) -> ('127.0.0.1', 80)>"


@virtual
async def test_streams_work() -> None:
    async with echo_server():
        reader, writer = await asyncio.open_connection("localhost", 80)
        writer.write(b"one\ntwo\n")
        await writer.drain()
        assert await reader.readline() == b"one\n"
        assert await reader.readline() == b"two\n"
        writer.close()
        await writer.wait_closed()


@virtual
async def test_a_stream_server_works() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readexactly(3)).upper())
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(handle, "localhost", 80) as server:
        peer = await network().connect()
        await peer.send(b"abc")
        assert await peer.read_until_eof() == b"ABC"
        peer.close()
        server.close()


@virtual
async def test_two_connections_do_not_mix() -> None:
    async with echo_server():
        first, second = await network().connect(), await network().connect()
        await first.send(b"1")
        await second.send(b"2")
        assert (await first.read_exactly(1), await second.read_exactly(1)) == (b"1", b"2")
        assert first.sock.getsockname() != second.sock.getsockname()
        assert [link.client for link in network().links] == [first.sock, second.sock]


@virtual
async def test_connecting_takes_a_round_trip() -> None:
    network().delay = 0.25
    async with echo_server():
        peer = await network().connect()
        assert loop().time() == START + 0.5
        await peer.send(b"x")
        assert await peer.read_exactly(1) == b"x"
        assert loop().time() == START + 1


@virtual
async def test_new_links_take_the_settings_of_the_network() -> None:
    network().chunk, network().capacity = 1, 2
    async with echo_server():
        peer = await network().connect()
        assert peer.sock.send(b"abc") == 2
        assert peer.link.to_client.chunk == 1


@virtual
async def test_nobody_listens() -> None:
    with pytest.raises(ConnectionRefusedError, match=r"Connect call failed \('127.0.0.1', 80\)"):
        await loop().create_connection(Collect, "localhost", 80)
    assert network().links == []


@virtual
async def test_nobody_answers() -> None:
    network().blackhole("example.com", 80)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10):
            await loop().create_connection(Collect, "example.com", 80)
    assert loop().time() == START + 10


@virtual
async def test_connecting_can_be_cancelled() -> None:
    async with echo_server():
        for count in range(4):
            task = asyncio.create_task(loop().create_connection(Collect, "localhost", 80))
            await steps(count)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                transport, _ = await task
                transport.close()
        await idle()
    assert all(link.closed for link in network().links)


@virtual
async def test_a_connected_socket_can_be_given() -> None:
    async with echo_server():
        sock = await network().open("localhost", 80)
        transport, protocol = await loop().create_connection(Collect, sock=sock)
        transport.write(b"x")
        await idle()
        assert protocol.received == b"x"
        transport.close()


CONTRADICTIONS: list[Any] = [
    pytest.param({}, "exactly one of sock and host/port", id="nothing"),
    pytest.param({"host": "a", "port": 1, "sock": object()}, "exactly one of sock and host/port", id="both"),
    pytest.param({"host": "a", "port": 1, "server_hostname": "a"}, "only meaningful with ssl", id="name without ssl"),
    pytest.param({"sock": object(), "ssl": True}, "set server_hostname", id="ssl without name"),
]


@pytest.mark.parametrize(("arguments", "message"), CONTRADICTIONS)
@virtual
async def test_contradictions(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        await loop().create_connection(Collect, **arguments)


@virtual
async def test_contradictions_of_unix_connections() -> None:
    with pytest.raises(ValueError, match="exactly one of sock and path"):
        await loop().create_unix_connection(Collect)


@virtual
async def test_misspelt_options_are_errors() -> None:
    with pytest.raises(TypeError, match="keepalive"):
        await loop().create_connection(Collect, "localhost", 80, keepalive=True)
    with pytest.raises(TypeError, match="keepalive"):
        await loop().create_server(Collect, "localhost", 80, keepalive=True)


# Addresses.


@virtual
async def test_names_get_addresses_of_their_own() -> None:
    assert network()._resolve("example.com") == ["10.0.0.1"]
    assert network()._resolve("EXAMPLE.com") == ["10.0.0.1"]
    assert network()._resolve("example.org") == ["10.0.0.2"]
    assert network()._resolve("192.0.2.1") == ["192.0.2.1"]
    assert network()._resolve("2001:db8::1") == ["2001:db8::1"]


@virtual
async def test_names_that_cannot_be_resolved() -> None:
    network().hosts["nowhere"] = []
    with pytest.raises(socket.gaierror, match="Name or service not known"):
        await loop().create_connection(Collect, "nowhere", 80)
    with pytest.raises(socket.gaierror):
        network()._resolve("127.0.0.1", socket.AF_INET6)


@virtual
async def test_the_next_address_is_tried() -> None:
    network().hosts["both"] = ["2001:db8::1", "192.0.2.1"]
    async with echo_server("192.0.2.1"):
        transport = await check_echo("both", 80)
        assert transport.get_extra_info("peername") == ("192.0.2.1", 80)
    async with echo_server("2001:db8::1"):
        transport = await check_echo("both", 80)
        assert transport.get_extra_info("peername") == ("2001:db8::1", 80, 0, 0)
        assert transport.get_extra_info("sockname")[0] == "::1"


@virtual
async def test_the_next_address_is_tried_while_the_first_does_not_answer() -> None:
    network().hosts["both"] = ["2001:db8::1", "192.0.2.1"]
    network().blackhole("2001:db8::1", 80)
    async with echo_server("192.0.2.1"):
        for options, seconds in [({}, 0.25), ({"happy_eyeballs_delay": 2}, 2.25)]:
            transport = await check_echo("both", 80, **options)
            assert transport.get_extra_info("peername") == ("192.0.2.1", 80)
            assert loop().time() == START + seconds
        assert (await network().open("both", 80)).getpeername() == ("192.0.2.1", 80)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await loop().create_connection(Collect, "both", 80, happy_eyeballs_delay=None)


@virtual
async def test_no_address_is_right() -> None:
    network().hosts["both"] = ["2001:db8::1", "192.0.2.1"]
    with pytest.raises(ConnectionRefusedError, match="2001:db8::1.*192.0.2.1"):
        await loop().create_connection(Collect, "both", 80)
    with pytest.raises(ExceptionGroup, match="create_connection failed"):
        await loop().create_connection(Collect, "both", 80, all_errors=True)


@pytest.mark.parametrize("host", [None, "", ["0.0.0.0", "::"]])
@virtual
async def test_listening_everywhere(host: str | list[str] | None) -> None:
    async with echo_server(host) as server:
        assert [sock.family for sock in server.sockets] == [socket.AF_INET, socket.AF_INET6]
        for reached in ("localhost", "192.0.2.1", "::1", "example.com"):
            await check_echo(reached, 80)


@virtual
async def test_listening_on_one_family() -> None:
    async with echo_server(None, family=socket.AF_INET) as server:
        assert [sock.getsockname() for sock in server.sockets] == [("0.0.0.0", 80)]


@virtual
async def test_port_zero_is_a_free_port() -> None:
    async with echo_server(None, 0) as first, echo_server("localhost", 0) as second:
        ports = {sock.getsockname()[1] for server in (first, second) for sock in server.sockets}
        assert ports == {20000, 20001}
        assert len(first.sockets) == 2
        async with echo_server("localhost", 20002), echo_server("localhost", 0) as third:
            assert third.sockets[0].getsockname() == ("127.0.0.1", 20003)


@virtual
async def test_an_address_is_used_once_at_a_time() -> None:
    async with echo_server():
        with pytest.raises(OSError, match=r"bind on address \('127.0.0.1', 80\): address already in use"):
            await loop().create_server(Echo, "localhost", 80)
    async with echo_server():
        pass


@virtual
async def test_the_local_address_can_be_chosen() -> None:
    async with echo_server():
        transport = await check_echo("localhost", 80, local_addr=("127.0.0.7", 0))
        assert transport.get_extra_info("sockname") == ("127.0.0.7", 50000)
        transport = await check_echo("localhost", 80, local_addr=("127.0.0.1", 4321))
        assert transport.get_extra_info("sockname") == ("127.0.0.1", 4321)


# Unix sockets.


@virtual
async def test_unix_sockets() -> None:
    server = await loop().create_unix_server(Echo, "/tmp/echo")
    assert server.sockets[0].getsockname() == "/tmp/echo"
    assert server.sockets[0].family == getattr(socket, "AF_UNIX", 1)
    transport, protocol = await loop().create_unix_connection(Collect, "/tmp/echo")
    assert (transport.get_extra_info("peername"), transport.get_extra_info("sockname")) == ("/tmp/echo", "")
    transport.write(b"x")
    await idle()
    assert protocol.received == b"x"
    with pytest.raises(OSError, match="already in use"):
        await loop().create_unix_server(Echo, "/tmp/echo")
    sock = await network().open_unix("/tmp/echo")
    other, _ = await loop().create_unix_connection(Collect, sock=sock)
    other.close()
    transport.close()
    server.close()
    await server.wait_closed()


@virtual
async def test_unix_paths_without_a_server() -> None:
    with pytest.raises(FileNotFoundError):
        await loop().create_unix_connection(Collect, "/nothing")
    server = await loop().create_unix_server(Echo, "/tmp/echo", start_serving=False)
    with pytest.raises(ConnectionRefusedError):
        await loop().create_unix_connection(Collect, "/tmp/echo")
    server.close()


# The server object.


@virtual
async def test_the_life_of_a_server() -> None:
    assert issubclass(MemoryServer, asyncio.AbstractServer)
    server: MemoryServer = await loop().create_server(Echo, "localhost", 80, start_serving=False)
    assert server.get_loop() is loop()
    assert not server.is_serving()
    with pytest.raises(ConnectionRefusedError):
        await network().connect()
    await server.start_serving()
    await server.start_serving()
    assert server.is_serving()
    assert "('127.0.0.1', 80)" in repr(server)
    await network().connect()
    server.close()
    server.close()
    assert not server.is_serving()
    assert server.sockets == ()
    with pytest.raises(ConnectionRefusedError):
        await network().connect()
    with pytest.raises(RuntimeError, match="is closed"):
        await server.start_serving()


@virtual
async def test_wait_closed_waits_for_the_last_connection() -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = await loop().create_server(Echo, "localhost", 80)
        stack.callback(server.close)
        peers = [await network().connect(), await network().connect()]
        waiting = asyncio.create_task(server.wait_closed())
        await idle()
        assert not waiting.done()
        server.close()
        await idle()
        for peer in peers:
            assert not waiting.done()
            peer.close()
            await idle()
        await waiting
        await server.wait_closed()


@virtual
async def test_a_cancelled_wait_closed_disturbs_nobody() -> None:
    server = await loop().create_server(Echo, "localhost", 80)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await server.wait_closed()
    server.close()
    await server.wait_closed()


@virtual
async def test_serve_forever_ends_by_close() -> None:
    server = await loop().create_server(Echo, "localhost", 80, start_serving=False)
    serving = asyncio.create_task(server.serve_forever())
    await idle()
    assert server.is_serving()
    with pytest.raises(RuntimeError, match="already being awaited"):
        await server.serve_forever()
    server.close()
    with pytest.raises(asyncio.CancelledError):
        await serving
    with pytest.raises(RuntimeError, match="is closed"):
        await server.serve_forever()


@virtual
async def test_serve_forever_ends_by_cancellation() -> None:
    server = await loop().create_server(Echo, "localhost", 80)
    serving = asyncio.create_task(server.serve_forever())
    await idle()
    serving.cancel()
    await asyncio.wait([serving])
    assert serving.cancelled()
    assert not server.is_serving()


@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
@virtual
async def test_ending_all_connections(method: str) -> None:
    async with echo_server() as server:
        peer = await network().connect()
        await idle()
        getattr(server, method)()
        assert await peer.read_until_eof() == b""


@virtual
async def test_a_connection_that_comes_too_late_is_reset() -> None:
    server = await loop().create_server(Echo, "localhost", 80)
    peer = await network().connect()
    server.close()
    with pytest.raises(ConnectionResetError):
        await peer.read_until_eof()
    await server.wait_closed()


@virtual
async def test_a_factory_that_fails_is_reported_and_the_client_reset() -> None:
    def fail() -> asyncio.Protocol:
        raise LookupError("no protocol today")

    server = await loop().create_server(fail, "localhost", 80)
    peer = await network().connect()
    with pytest.raises(ConnectionResetError):
        await peer.read_until_eof()
    [context] = loop().errors
    loop().errors.clear()
    assert isinstance(context["exception"], LookupError)
    server.close()


@virtual
async def test_the_server_side_runs_in_the_context_of_the_server() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[str] = []

    class Curious(Echo):
        def data_received(self, data: bytes) -> None:
            seen.append(variable.get())

    variable.set("server")
    server = await loop().create_server(Curious, "localhost", 80)
    variable.set("client")
    peer = await network().connect()
    await peer.send(b"x")
    await idle()
    assert seen == ["server"]
    peer.close()
    server.close()


# Raw peers.


@virtual
async def test_a_client_reaches_a_raw_peer() -> None:
    listener = network().listen()
    transport, protocol = await loop().create_connection(Collect, "localhost", listener.port)
    peer = await listener.peer()
    transport.write(b"to the peer")
    assert await peer.read_exactly(11) == b"to the peer"
    await peer.send(b"to the client")
    peer.close()
    assert await protocol.lost is None
    assert protocol.received == b"to the client"
    listener.close()
    assert not listener.is_serving()
    with pytest.raises(ConnectionRefusedError):
        await network().connect("localhost", listener.port)


@virtual
async def test_raw_peers_on_unix_sockets() -> None:
    listener = network().listen_unix("/tmp/raw")
    with pytest.raises(ValueError, match="has no port"):
        _ = listener.port
    ours = await network().connect_unix("/tmp/raw")
    theirs = await listener.peer()
    await ours.send(b"x")
    assert await theirs.read_exactly(1) == b"x"


@virtual
async def test_a_reset_reaches_both_protocols() -> None:
    accepted: list[Collect] = []

    def factory() -> Collect:
        accepted.append(Collect())
        return accepted[-1]

    server = await loop().create_server(factory, "localhost", 80)
    _, client = await loop().create_connection(Collect, "localhost", 80)
    await idle()
    network().links[0].reset()
    assert isinstance(await client.lost, ConnectionResetError)
    assert isinstance(await accepted[0].lost, ConnectionResetError)
    server.close()


# TLS: with an anonymous cipher, so that no certificate is needed.


def anonymous(side: int) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("AECDH:@SECLEVEL=0")
    return context


@virtual
async def test_tls_over_memory() -> None:
    network().delay, network().chunk = 0.01, 7
    async with echo_server(ssl=anonymous(ssl.PROTOCOL_TLS_SERVER)):
        transport, protocol = await loop().create_connection(
            Collect, "localhost", 80, ssl=anonymous(ssl.PROTOCOL_TLS_CLIENT)
        )
        assert transport.get_extra_info("ssl_object") is not None
        assert transport.get_extra_info("peername") == ("127.0.0.1", 80)
        transport.write(b"hello")
        await advance(1)
        assert protocol.received == b"hello"
        transport.close()
        assert await protocol.lost is None


@virtual
async def test_tls_that_the_server_does_not_speak() -> None:
    listener = network().listen("localhost", 80)
    connecting = asyncio.create_task(loop().create_connection(Collect, "localhost", 80, ssl=True))
    peer = await listener.peer()
    await peer.send(b"this is not TLS")
    with pytest.raises(ssl.SSLError):
        await connecting
    await idle()
    assert peer.ended == "eof"


@virtual
async def test_tls_that_the_client_does_not_speak() -> None:
    async with echo_server(ssl=anonymous(ssl.PROTOCOL_TLS_SERVER)):
        peer = await network().connect()
        await peer.send(b"this is not TLS")
        await peer.read_until_eof()
        peer.close()


@virtual
async def test_a_tls_handshake_that_takes_too_long() -> None:
    listener = network().listen("localhost", 80)
    with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer than 5 seconds"):
        await loop().create_connection(Collect, "localhost", 80, ssl=True, ssl_handshake_timeout=5)
    assert loop().time() == START + 5
    listener.close()


@virtual
async def test_start_tls_over_memory() -> None:
    async with echo_server(ssl=anonymous(ssl.PROTOCOL_TLS_SERVER)):
        plain, _ = await loop().create_connection(asyncio.Protocol, "localhost", 80)
        protocol = Collect()
        transport = await loop().start_tls(plain, protocol, anonymous(ssl.PROTOCOL_TLS_CLIENT))
        assert transport is not None
        transport.write(b"hello")
        await idle()
        assert protocol.received == b"hello"
        transport.close()
        await protocol.lost


def test_a_connection_left_hanging_is_a_deadlock() -> None:
    async def main() -> None:
        network().blackhole("localhost", 80)
        await loop().create_connection(Collect, "localhost", 80)

    with pytest.raises(RuntimeError, match=r"deadlock: .*network\.py"):
        run_virtual(main())
