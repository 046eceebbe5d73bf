"""Connections with TLS, in a system in memory."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from _kit import wire
from _kit.certificates import client_context, server_context
from _kit.threads import VirtualSystem, run_threads
from websockets._session.tls import TLSChannel
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.protocol import Protocol, Side, State
from websockets.sync.connection import Connection


def in_memory(test: Callable[[VirtualSystem], None]) -> Callable[..., None]:
    @pytest.mark.parametrize("kernel", [True, False])
    def run(kernel: bool) -> None:
        run_threads(test, kernel=kernel, look_every=0)

    return run


def secured(system: VirtualSystem, **conditions: Any) -> tuple[Connection, Connection]:
    """A client and a server that have shaken hands."""
    client, server = system.link(**conditions)
    ends = Connection(client, Protocol(Side.CLIENT)), Connection(server, Protocol(Side.SERVER))
    ends[1]._ws_adopt(TLSChannel(server_context(), server_side=True))
    channel = TLSChannel(client_context(), server_side=False, server_hostname="localhost")
    ends[0]._ws_adopt(channel)
    assert ends[0]._ws_wait_until(lambda: channel.handshake_complete, system.now() + 5)
    return ends


def send_all(connection: Connection, messages: Iterable[Any]) -> None:
    for message in messages:
        connection.send(message)


@in_memory
def test_messages_both_ways(system: VirtualSystem) -> None:
    client, server = secured(system)
    thread = system.start_thread(lambda: send_all(server, server), name="echo")
    for size in (1, 1000, 200_000):
        client.send("x" * size)
        assert client.recv(timeout=5) == "x" * size
    assert client.ping().wait(5)
    client.close()
    thread.join()
    assert (client.close_code, server.close_code) == (1000, 1000)
    assert client.statistics.payload_sent == 201_001
    with pytest.raises(ConnectionClosedOK):
        client.recv()


@in_memory
def test_questions_about_tls(system: VirtualSystem) -> None:
    """The socket answers like an ``ssl.SSLSocket``."""
    client, server = secured(system)
    assert client.ssl_object is not None
    assert client.socket.version() == client.ssl_object.version() == "TLSv1.3"
    assert ("DNS", "localhost") in client.socket.getpeercert()["subjectAltName"]
    assert client.socket.getpeercert(binary_form=True) == client.ssl_object.getpeercert(True)
    assert (client.socket.server_hostname, client.socket.server_side, server.socket.server_side) == (
        *("localhost", False),
        True,
    )
    assert isinstance(client.socket.context, ssl.SSLContext)
    # What isn't about TLS is asked of the socket.
    assert client.socket.fileno() > 0
    assert client.socket.getpeername() == client.remote_address
    assert repr(client.socket).startswith("<SecuredSocket of <")
    with pytest.raises(AttributeError):
        client.socket.pending()
    client.abort()
    server.abort()
    assert client.socket.fileno() == -1


def test_no_questions_without_tls() -> None:
    def test(system: VirtualSystem) -> None:
        client, server = system.link()
        connection = Connection(client, Protocol(Side.CLIENT))
        assert connection.ssl_object is None
        assert connection.socket is client
        connection.abort()
        server.end.close()

    run_threads(test, look_every=0)


@in_memory
def test_a_timeout_and_a_slow_peer(system: VirtualSystem) -> None:
    client, server = secured(system, capacity=20_000)
    with pytest.raises(TimeoutError):
        server.recv(timeout=1)
    sizes = (30_000, 100_000)
    thread = system.start_thread(lambda: send_all(client, map(bytes, sizes)), name="sender")
    assert [len(server.recv(timeout=5)) for _ in sizes] == [*sizes]
    thread.join()
    client.abort()
    server.abort()


def test_data_that_came_before_the_connection() -> None:
    def test(system: VirtualSystem) -> None:
        client, server = system.link()
        connection = Connection(client, Protocol(Side.CLIENT))
        connection._ws_adopt(received=b"\x81\x05early")
        assert connection.recv(timeout=0) == "early"
        connection.abort()
        server.end.close()

    run_threads(test, look_every=0)


@in_memory
def test_no_tls_at_all(system: VirtualSystem) -> None:
    client, server = system.link()
    connection = Connection(server, Protocol(Side.SERVER))
    connection._ws_adopt(TLSChannel(server_context(), server_side=True))
    client.send(b"GET / HTTP/1.1\r\n\r\n")
    assert connection.wait_closed(5)
    assert isinstance(connection.close_exc.__cause__, ssl.SSLError)
    client.end.close()


@in_memory
def test_an_alert_is_the_last_thing_that_is_sent(system: VirtualSystem) -> None:
    client, server = system.link()
    connection, peer = Connection(client, Protocol(Side.CLIENT)), TLSChannel(server_context(), server_side=True)
    # The usual authorities don't know ours.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    connection._ws_adopt(TLSChannel(context, server_side=False, server_hostname="localhost"))
    peer.receive_data(server.recv(10_000))
    server.send(b"".join(peer.data_to_send()))
    assert connection.wait_closed(5)
    assert isinstance(connection.close_exc.__cause__, ssl.SSLCertVerificationError)
    peer.receive_data(server.recv(10_000))
    assert "unknown ca" in str(peer.failure)
    server.end.close()


@in_memory
def test_the_peer_ends_without_close_notify(system: VirtualSystem) -> None:
    client, server = secured(system)
    server._ws_wire.cut()
    assert client.wait_closed(5)
    assert client.close_code == 1006
    server.abort()


@in_memory
def test_nothing_can_be_said_before_tls(system: VirtualSystem) -> None:
    client, server = system.link()
    connection = Connection(server, Protocol(Side.SERVER))
    connection._ws_adopt(TLSChannel(server_context(), server_side=True))
    with pytest.raises(ConnectionClosedError) as caught:
        connection.send("too early")
    assert str(caught.value.__cause__) == "TLS handshake isn't complete"
    assert connection.state is State.CLOSED
    client.end.close()


class Interrupted(BaseException):
    """What a signal handler raises."""


def with_the_kernel(test: Callable[[VirtualSystem], None]) -> Callable[[], None]:
    def run() -> None:
        run_threads(test, look_every=0)

    return run


def used(system: VirtualSystem) -> tuple[Connection, Connection]:
    """A client and a server that have exchanged messages, so that each can take the fast path."""
    client, server = secured(system)
    system.idle()
    for sender, receiver in ((client, server), (server, client)):
        sender.send("first")
        assert receiver.recv() == "first"
    return client, server


@with_the_kernel
def test_a_message_and_the_end_in_one_read(system: VirtualSystem) -> None:
    client, server = used(system)
    channel = server._ws_channel
    assert channel is not None
    channel.send(wire.text("last"))
    channel.close()
    server._ws_wire.sock.send(b"".join(channel.data_to_send()))
    assert client.recv() == "last"
    with pytest.raises(ConnectionClosedError):
        client.recv()
    server.abort()


@with_the_kernel
def test_an_end_in_a_read_of_its_own(system: VirtualSystem) -> None:
    client, server = used(system)
    channel = server._ws_channel
    assert channel is not None
    channel.close()
    server._ws_wire.sock.send(b"".join(channel.data_to_send()))
    with pytest.raises(ConnectionClosedError):
        client.recv()
    server.abort()


@with_the_kernel
def test_ciphertext_that_is_none(system: VirtualSystem) -> None:
    """The alert is sent before the connection ends."""
    client, server = used(system)
    server._ws_wire.sock.send(bytes(100))
    with pytest.raises(ConnectionClosedError) as caught:
        client.recv()
    assert isinstance(caught.value.__cause__, ssl.SSLError)
    assert server.wait_closed(5)
    assert isinstance(server.close_exc.__cause__, ssl.SSLError)


@with_the_kernel
def test_tls_that_fails_while_a_message_is_sent(system: VirtualSystem) -> None:
    client, server = used(system)
    channel = client._ws_channel
    assert isinstance(channel, TLSChannel)
    channel._fail(ssl.SSLError(1, "broken"))
    channel.send = lambda data: 0  # type: ignore[method-assign]
    with pytest.raises(ConnectionClosedError) as caught:
        client.send("x")
    assert caught.value.__cause__ is channel.failure
    server.abort()


@with_the_kernel
def test_an_interruption_while_a_message_is_encrypted(system: VirtualSystem) -> None:
    """What was encrypted would be missing, so the connection ends."""
    client, server = used(system)
    channel = client._ws_channel
    assert channel is not None

    def interrupted(data: bytes) -> Any:
        raise Interrupted

    channel.encrypt = interrupted  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        client.send("x")
    with pytest.raises(ConnectionClosedError) as caught:
        client.recv()
    assert str(caught.value.__cause__) == "interrupted by Interrupted"
    server.abort()


@pytest.mark.parametrize("slowly", [False, True])
@pytest.mark.parametrize("before", [False, True])
def test_a_signal_handler_sends_while_a_message_is_encrypted(slowly: bool, before: bool) -> None:
    """Records are sent in the order in which they were encrypted."""

    def test(system: VirtualSystem) -> None:
        client, server = used(system)
        channel = client._ws_channel
        assert channel is not None
        encrypt = channel.encrypt

        def interrupted(data: bytes) -> Any:
            channel.encrypt = encrypt  # type: ignore[method-assign]
            result = None if before else encrypt(data)
            client.send("from the handler")
            return encrypt(data) if before else result

        channel.encrypt = interrupted  # type: ignore[method-assign]
        client.send("message", timeout=5 if slowly else None)
        client.send("next")
        assert [server.recv() for _ in range(3)] == ["message", "from the handler", "next"]
        assert client.buffered_amount == 0
        client.abort()
        server.abort()

    run_threads(test, kernel=True, look_every=0)
