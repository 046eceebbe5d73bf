"""Streams with TLS over memory, and what connections read from and write to streams of each kind."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import sys
from typing import Any

import pytest
import trio
import trio.testing

from _kit import wire
from _kit.certificates import client_context, server_context
from _kit.on_trio import on_network
from _kit.tls import every_version
from _kit.trio_ends import every_kind, open_pair, secured, socket_pair, stream_pair
from _kit.trio_network import TrioNetwork
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.protocol import State
from websockets.trio import _wire
from websockets.trio._wire import TLSStream, Wire, socket_of, start_tls, wire_for
from websockets.trio.connection import Connection

BIG = bytes(range(256)) * 4096


# ----------------------------------------------------------------------------------------------------- streams with TLS


@pytest.mark.parametrize("kind", ["TLS", "TLS in TLS"])
@on_network
async def test_stream(network: TrioNetwork, kind: str) -> None:
    client, server, _ = await stream_pair(network, kind)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, BIG)
        received = b""
        while len(received) < len(BIG):
            received += await server.receive_some()
    assert received == BIG
    await server.send_all(b"answer")
    assert [await client.receive_some(4), await client.receive_some(4)] == [b"answ", b"er"]
    await client.aclose()
    assert await server.receive_some(100) == b""
    assert server.ssl_object.version() == server.version() == "TLSv1.3"
    assert client.getpeercert()["subjectAltName"][0] == ("DNS", "localhost")
    assert client.cipher() is not None
    assert client.selected_alpn_protocol() is None
    assert (client.server_hostname, client.server_side, server.server_side) == ("localhost", False, True)
    assert isinstance(client.socket, trio.socket.SocketType)
    with pytest.raises(AttributeError, match="^'TLSStream' object has no attribute 'nothing'$"):
        _ = client.nothing
    await server.aclose()


@every_version
@on_network
async def test_handshake_fails(network: TrioNetwork, version: Any) -> None:
    """The peer learns of it, and both streams are closed."""
    client, server, link = socket_pair(network)
    failures: list[Exception] = []

    async def secure(stream: Any, context: ssl.SSLContext, **options: Any) -> None:
        try:
            await start_tls(stream, context, **options)
        except ssl.SSLError as exc:
            failures.append(exc)

    async def as_server() -> None:
        await secure(server, server_context(version=version), server_side=True)

    async def as_client() -> None:
        await secure(client, client_context(version=version), server_hostname="elsewhere")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(as_server)
        nursery.start_soon(as_client)
        await trio.testing.wait_all_tasks_blocked()
        link.server.close()
    assert any(isinstance(failure, ssl.SSLCertVerificationError) for failure in failures)
    assert link.client.closed


@on_network
async def test_handshake_that_ends_early(network: TrioNetwork) -> None:
    client, server, link = socket_pair(network)
    await server.aclose()
    with pytest.raises(ssl.SSLError, match="ended the connection during the TLS handshake"):
        await start_tls(client, client_context(), server_hostname="localhost")
    assert link.client.closed


@on_network
async def test_handshake_that_is_cancelled(network: TrioNetwork) -> None:
    client, _, link = socket_pair(network)
    with trio.move_on_after(1):
        await start_tls(client, client_context(), server_hostname="localhost")
    assert link.client.closed


@on_network
async def test_name_that_is_missing(network: TrioNetwork) -> None:
    client, _, link = socket_pair(network)
    with pytest.raises(ValueError, match="server_hostname is needed"):
        await start_tls(client, client_context())
    assert link.client.closed


@on_network
async def test_no_third_layer(network: TrioNetwork) -> None:
    client, _, link = await stream_pair(network, "TLS in TLS")
    with pytest.raises(ValueError, match="^there is TLS in TLS already$"):
        await start_tls(client, client_context(), server_hostname="localhost")
    assert link is not None
    assert link.client.closed


@on_network
async def test_closing_while_nothing_can_be_written(network: TrioNetwork) -> None:
    client, _, link = await stream_pair(network, "TLS")
    assert link is not None
    link.hold()
    with trio.move_on_after(1):
        await client.send_all(BIG)
    start = trio.current_time()
    await client.aclose()
    assert trio.current_time() == start
    assert link.client.closed


@on_network
async def test_other_streams_use_the_tls_of_trio(network: TrioNetwork) -> None:
    client, server = trio.testing.memory_stream_pair()
    streams: list[Any] = []

    async def secure(stream: Any, context: ssl.SSLContext, name: str | None) -> None:
        streams.append(await start_tls(stream, context, server_side=name is None, server_hostname=name))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(secure, client, client_context(), "localhost")
        nursery.start_soon(secure, server, server_context(), None)
    assert {type(stream) for stream in streams} == {trio.SSLStream}
    one, other = sorted(streams, key=lambda stream: stream.transport_stream is server)
    async with open_pair((one, other)) as (client_end, server_end):
        await client_end.send("over it")
        assert await server_end.recv() == "over it"
        # There is no half-closing, so the stream is closed.
        await client_end.aclose()
        assert client_end.close_code == 1000
    assert socket_of(one) is None


@on_network
async def test_socket_below(network: TrioNetwork) -> None:
    client, _, _ = await stream_pair(network, "TLS in TLS")
    assert socket_of(client) is client.socket
    assert socket_of(client.transport_stream.transport_stream) is client.socket


# ---------------------------------------------------------------------------------------------------------- connections


@pytest.mark.parametrize("kind", ["TLS", "TLS in TLS"])
@on_network
async def test_failure_of_tls(network: TrioNetwork, kind: str) -> None:
    """Garbage instead of a record: the peer gets an alert, and the connection ends with the cause."""
    client_stream, server_stream, link = await stream_pair(network, kind)
    assert link is not None
    async with open_pair((client_stream, server_stream)) as (client, server):
        link.server.send(bytes(100))
        with pytest.raises(ConnectionClosedError) as caught:
            await client.recv()
        assert isinstance(caught.value.__cause__, ssl.SSLError)
        with pytest.raises(ConnectionClosedError) as caught:
            await server.recv()
        assert isinstance(caught.value.__cause__, ssl.SSLError)
        assert "ALERT" in str(caught.value.__cause__).upper()


@on_network
async def test_sending_after_tls_failed(network: TrioNetwork) -> None:
    client_stream, server_stream, _ = await stream_pair(network, "TLS")
    async with open_pair((client_stream, server_stream)) as (client, _):
        client_stream.channel._interrupted(RuntimeError())
        with pytest.raises(ConnectionClosedError):
            await client.send("too late")
        assert client.state is State.CLOSED


@on_network
async def test_reading_waits_for_room_to_write(network: TrioNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer may ask for more than it reads of the answers: then nothing more is read."""
    client_stream, server_stream, _ = await stream_pair(network, "TLS")
    async with open_pair((client_stream, server_stream)) as (client, server):
        wants = [False]
        monkeypatch.setattr(_wire.TLSWire, "wants_data", property(lambda self: wants[0] or self is not client._ws_wire))
        await server.send("one")
        await server.send("two")
        await trio.testing.wait_all_tasks_blocked()
        assert client.statistics.messages_received == 0
        wants[0] = True
        # Progress of writing is what it waits for.
        await client.send("progress")
        assert [await client.recv(), await client.recv()] == ["one", "two"]


@on_network
async def test_end_of_a_stream_whose_tls_failed(network: TrioNetwork) -> None:
    client_stream, _, link = await stream_pair(network, "TLS")
    wire = wire_for(client_stream)
    await wire.write()
    assert not wire.pending
    client_stream.channel._interrupted(RuntimeError())
    wire.outbox.add([b""])
    assert wire.pending
    await wire.write()
    assert not wire.pending
    assert link is not None
    assert link.server.incoming._ended


@on_network
async def test_records_without_data(network: TrioNetwork) -> None:
    """The tickets of TLS 1.3, and a part of a record."""
    client, server, link = await stream_pair(network, "TLS")
    assert link is not None
    server.channel.send(b"in two pieces")
    record = b"".join(server.channel.data_to_send())
    async with trio.open_nursery() as nursery:

        async def receive() -> None:
            assert await client.receive_some() == b"in two pieces"

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        link.server.send(record[:10])
        await trio.testing.wait_all_tasks_blocked()
        link.server.send(record[10:])


@every_kind
@on_network
async def test_peer_that_ends_the_stream(network: TrioNetwork, kind: str) -> None:
    client_stream, server_stream, _ = await stream_pair(network, kind)
    async with open_pair((client_stream, server_stream)) as (client, _):
        await trio.testing.wait_all_tasks_blocked()
        await trio.aclose_forcefully(server_stream)
        with pytest.raises(ConnectionClosedError, match="^no close frame received or sent$"):
            await client.recv()


@every_kind
@on_network
async def test_last_words_to_a_peer_that_reads_late(network: TrioNetwork, kind: str) -> None:
    """The end of the stream is answered after everything before it is written."""
    client_stream, server_stream, _ = await stream_pair(network, kind)
    async with open_pair((client_stream, server_stream), max_queue=(1, 0), close_timeout=5) as (client, server):
        got: list[Any] = []

        async def send() -> None:
            with contextlib.suppress(ConnectionClosed):
                for _ in range(4):
                    await server.send(BIG)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.sleep(1)
            nursery.start_soon(server.aclose)
            await trio.sleep(1)
            with contextlib.suppress(ConnectionClosed):
                while True:
                    got.append(await client.recv())
        assert len(got) >= 1
        assert set(map(len, got)) == {len(BIG)}


class Broken(trio.abc.Stream):
    """A stream that raises."""

    def __init__(self, exc: Exception) -> None:
        self.exc = exc

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep(1)
        raise self.exc

    async def send_all(self, data: Any) -> None:
        await trio.lowlevel.checkpoint()
        raise self.exc

    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("calls", ["send", "recv"])
@pytest.mark.parametrize(
    ("exc", "cause", "line"),
    [
        (trio.BrokenResourceError("broken"), trio.BrokenResourceError, None),
        (ConnectionResetError("reset"), ConnectionResetError, None),
        (trio.ClosedResourceError("closed"), None, None),
        (KeyError("a fault"), KeyError, "unexpected internal error"),
    ],
)
@on_network
async def test_stream_that_raises(
    network: TrioNetwork,
    calls: str,
    exc: Exception,
    cause: type[Exception] | None,
    line: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_pair((Broken(exc), trio.testing.memory_stream_pair()[0])) as (client, _):
        with pytest.raises(ConnectionClosedError) as caught:
            await (client.send("x") if calls == "send" else client.recv())
        assert cause is None or isinstance(caught.value.__cause__, cause)
        await client.wait_closed()
    assert [record.getMessage() for record in caplog.records] == ([line] if line and calls == "recv" else [])


# ---------------------------------------------------------------------------------------------------------------- kinds


@on_network
async def test_readiness(network: TrioNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    client, _, link = socket_pair(network)
    wire = wire_for(client)
    assert wire.ready()
    link.hold()
    wire.outbox.add([bytes(2**17)])
    await wire.write()
    assert not wire.ready()
    wire.abort()
    assert not wire.ready()
    assert not Wire(client).ready()
    with pytest.raises(NotImplementedError):
        await Wire(client).write_frame(b"")


@pytest.mark.parametrize("polls", [True, False])
def test_readiness_of_real_sockets(polls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not polls:
        monkeypatch.delattr(select, "poll", raising=False)

    async def main() -> None:
        one, other = trio.socket.socketpair(socket.AF_UNIX if hasattr(socket, "AF_UNIX") else socket.AF_INET)
        wire = wire_for(trio.SocketStream(one))
        assert wire.ready()
        wire.outbox.add([bytes(2**24)])
        with trio.move_on_after(0.1):
            while wire.pending:
                await wire.write()
        assert wire.pending
        assert not wire.ready()
        wire.abort()
        assert not wire.ready()
        other.close()

    trio.run(main)


@pytest.mark.parametrize("tls", [False, True])
def test_over_real_sockets(tls: bool) -> None:
    async def main() -> None:
        one, other = trio.socket.socketpair(socket.AF_UNIX if hasattr(socket, "AF_UNIX") else socket.AF_INET)
        streams: list[Any] = [trio.SocketStream(one), trio.SocketStream(other)]
        if tls:

            async def secure(index: int, context: ssl.SSLContext, name: str | None) -> None:
                streams[index] = await start_tls(
                    streams[index], context, server_side=name is None, server_hostname=name
                )

            async with trio.open_nursery() as nursery:
                nursery.start_soon(secure, 0, client_context(), "localhost")
                nursery.start_soon(secure, 1, server_context(), None)
            assert isinstance(streams[0], TLSStream)
        await streams[0].wait_send_all_might_not_block()
        async with open_pair((streams[0], streams[1])) as (client, server):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.send, BIG)
                assert await server.recv() == BIG
            await server.send(["a", "b"])
            assert await client.recv() == "ab"
            await client.aclose()
            await server.wait_closed()
            assert (client.close_code, server.close_code) == (1000, 1000)

    trio.run(main)


async def until_paused(connection: Connection) -> None:
    while not connection._ws_session.intake.paused:
        await trio.lowlevel.checkpoint()


async def send_forever(connection: Connection) -> None:
    while True:
        await connection.send("text")


@pytest.mark.skipif(sys.platform == "win32", reason="the kernel forgets what came before a reset")
@pytest.mark.parametrize("tls", [False, True])
def test_what_came_before_a_reset_that_a_write_noticed(tls: bool) -> None:
    """What the kernel has received isn't lost, although the receive queue was full."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            one = socket.create_connection(listening.getsockname())
            other = listening.accept()[0]
        for each in (one, other):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        streams: Any = [trio.SocketStream(trio.socket.from_stdlib_socket(each)) for each in (one, other)]
        if tls:
            streams = await secured(*streams)
        texts = [str(number) for number in range(100)]
        async with open_pair(streams, of_server={"max_queue": 2}) as (client, server):
            # In one write: what the kernel of the peer hasn't sent yet would be lost by the reset.
            client._ws_put([b"".join(wire.text(text, mask=True) for text in texts[:5])])
            await client._ws_flush()
            await until_paused(server)
            client._ws_put([b"".join(wire.text(text, mask=True) for text in texts[5:])])
            await client._ws_flush()
            client.abort()
            with pytest.raises(ConnectionClosedError):
                await send_forever(server)
            assert [await server.recv() for _ in texts] == texts
            assert server._ws_bytes_received > 6 * 100

    trio.run(main)
