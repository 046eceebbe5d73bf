"""The hand-over between threads and the steward, in every order of two or three threads.

Each test is run again and again; see :func:`_kit.threads.every_order`. With ``WEBSOCKETS_EVERY_ORDER=2``, threads are
interrupted twice where they could go on, which takes a lot longer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from _kit import wire
from _kit.threads import VirtualSystem, every_order, run_threads
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from websockets.protocol import Protocol, Side, State
from websockets.sync._system import DONTWAIT
from websockets.sync.connection import Connection

SWITCHES = int(os.environ.get("WEBSOCKETS_EVERY_ORDER", "1"))


def pair(system: VirtualSystem, **conditions: Any) -> tuple[Connection, Connection]:
    """Two connections that are open: a client, a server."""
    client, server = system.link(**conditions)
    return Connection(client, Protocol(Side.CLIENT)), Connection(server, Protocol(Side.SERVER))


def one_end(system: VirtualSystem, **conditions: Any) -> tuple[Connection, Any]:
    """A client's connection, and the socket of its peer."""
    client, server = system.link(**conditions)
    return Connection(client, Protocol(Side.CLIENT)), server


def part(system: VirtualSystem, connection: Connection, peer: Any) -> None:
    """End a connection from its peer, and wait until it is over."""
    peer.end.reset()
    connection.wait_closed()
    assert connection.state is State.CLOSED


def in_every_order(test: Callable[[VirtualSystem], None]) -> Callable[..., None]:
    """Run a test in every order; with more switches, also with sockets that aren't the kernel's."""

    @pytest.mark.parametrize("kernel", [True] if SWITCHES < 2 else [True, False])
    def run(kernel: bool) -> None:
        assert every_order(test, SWITCHES, 1_000_000, kernel=kernel, look_every=0) > 1

    run.__doc__ = test.__doc__
    return run


@in_every_order
def test_receiving_while_the_steward_takes_over(system: VirtualSystem) -> None:
    """Messages and pings come while a thread receives now and then: nothing is lost, doubled or reordered."""
    connection, peer = one_end(system)
    got: list[Any] = []

    def receive() -> None:
        while len(got) < 3:
            got.append(connection.recv())

    thread = system.start_thread(receive, name="receiver")
    peer.send(wire.text("one"))
    peer.send(wire.ping(b"p") + wire.text("two"))
    peer.send(wire.text("three"))
    thread.join()
    assert got == ["one", "two", "three"]
    assert wire.parse(peer.recv(100))[0][0].payload == b"p"
    part(system, connection, peer)


@in_every_order
def test_polling_while_the_steward_reads(system: VirtualSystem) -> None:
    connection, peer = one_end(system)
    thread = system.start_thread(lambda: peer.send(wire.text("one") + wire.text("two")), name="peer")
    got: list[Any] = []
    while len(got) < 2:
        try:
            got.append(connection.recv(timeout=0))
        except TimeoutError:
            system.sleep(0.1)
    assert got == ["one", "two"]
    thread.join()
    part(system, connection, peer)


@in_every_order
def test_two_times_are_up_at_once(system: VirtualSystem) -> None:
    """The thread that reads leaves that to the one that waits for it, which has no time left, either."""
    connection, peer = one_end(system)

    def wait() -> None:
        assert not connection._ws_wait_until(lambda: False, 1003)

    thread = system.start_thread(wait, name="reader")
    system.idle()
    with pytest.raises(TimeoutError):
        connection.recv(3)
    thread.join()
    peer.send(wire.ping(b"p"))
    system.sleep(0.1)
    assert wire.parse(peer.recv(100, DONTWAIT))[0][0].payload == b"p"
    part(system, connection, peer)


@pytest.mark.scenario(79)
@in_every_order
def test_two_senders_and_a_ping(system: VirtualSystem) -> None:
    """All frames are whole, and those of one thread are in order."""
    connection, peer = one_end(system)

    def send() -> None:
        connection.send("a")
        connection.send("b")

    thread = system.start_thread(send, name="sender")
    peer.send(wire.ping(b"p"))
    connection.send("1")
    thread.join()
    connection.wait_closed(0.1)
    rows, rest = wire.parse(peer.recv(1000))
    assert rest == b""
    assert sorted(row.payload for row in rows) == [b"1", b"a", b"b", b"p"]
    texts = [row.payload for row in rows if row.opcode == wire.TEXT and row.payload != b"1"]
    assert texts == [b"a", b"b"]
    part(system, connection, peer)


@in_every_order
def test_senders_of_a_peer_that_is_slow(system: VirtualSystem) -> None:
    connection, peer = one_end(system, capacity=20)
    thread = system.start_thread(lambda: connection.send(b"a" * 9), name="sender")
    other = system.start_thread(lambda: connection.send(b"b" * 9), name="other")
    system.sleep(1)
    data = peer.recv(100)
    while len(data) < 30:
        data += peer.recv(100)
    thread.join()
    other.join()
    rows, rest = wire.parse(data)
    assert sorted(row.payload for row in rows) == [b"a" * 9, b"b" * 9]
    assert rest == b""
    assert connection.buffered_amount == 0
    part(system, connection, peer)


@in_every_order
def test_a_sender_without_time(system: VirtualSystem) -> None:
    """Its bytes go out all the same, before those of others."""
    connection, peer = one_end(system, capacity=10)

    def send() -> None:
        with pytest.raises(TimeoutError, match=r"^timed out in 0\.5s$"):
            connection.send(b"a" * 9, timeout=0.5)

    thread = system.start_thread(send, name="sender")
    thread.join()
    other = system.start_thread(lambda: connection.send(b"b" * 9), name="other")
    data = b""
    while len(data) < 30:
        data += peer.recv(7)
    other.join()
    rows, rest = wire.parse(data)
    assert [row.payload for row in rows] == [b"a" * 9, b"b" * 9]
    assert rest == b""
    part(system, connection, peer)


@pytest.mark.scenario(80)
@in_every_order
def test_closing_while_another_thread_receives(system: VirtualSystem) -> None:
    client, server = pair(system)

    def receive() -> None:
        with pytest.raises(ConnectionClosedOK):
            server.recv()

    thread = system.start_thread(receive, name="receiver")
    client.close()
    thread.join()
    assert system.now() == 1000
    assert client.close_code == server.close_code == 1000


@in_every_order
def test_both_ends_close(system: VirtualSystem) -> None:
    client, server = pair(system)
    thread = system.start_thread(server.close, name="server")
    client.close()
    thread.join()
    assert system.now() == 1000
    assert client.close_code == server.close_code == 1000


@in_every_order
def test_aborting_while_another_thread_receives(system: VirtualSystem) -> None:
    connection, peer = one_end(system)

    def receive() -> None:
        with pytest.raises(ConnectionClosedError):
            connection.recv()

    thread = system.start_thread(receive, name="receiver")
    connection.abort()
    assert connection.state is State.CLOSED
    thread.join()
    system.idle()
    assert connection.socket.closed
    assert peer.recv(10) == b""


@in_every_order
def test_aborting_while_another_thread_sends(system: VirtualSystem) -> None:
    connection, peer = one_end(system, capacity=10)

    def send() -> None:
        with pytest.raises(ConnectionClosed):
            connection.send(b"a" * 100)

    thread = system.start_thread(send, name="sender")
    connection.abort()
    thread.join()
    system.idle()
    assert connection.socket.closed
    assert system.now() == 1000
    peer.end.reset()


@in_every_order
def test_the_peer_leaves_while_threads_receive_and_send(system: VirtualSystem) -> None:
    connection, peer = one_end(system, capacity=10)

    def send() -> None:
        with pytest.raises(ConnectionClosed):
            connection.send(b"a" * 100)

    thread = system.start_thread(send, name="sender")
    other = system.start_thread(peer.end.reset, name="peer")
    with pytest.raises(ConnectionClosed):
        connection.recv()
    thread.join()
    other.join()
    system.idle()
    assert connection.socket.closed
    assert system.now() == 1000


@in_every_order
def test_the_keepalive_of_a_connection_that_a_thread_uses(system: VirtualSystem) -> None:
    client, server = system.link()
    connection = Connection(client, Protocol(Side.CLIENT), ping_interval=1, ping_timeout=1)

    def answer() -> None:
        (row,), _ = wire.parse(server.recv(100))
        server.send(wire.pong(row.payload) + wire.text("x"))

    thread = system.start_thread(answer, name="peer")
    assert connection.recv() == "x"
    assert connection.latency == pytest.approx(0, abs=1e-5)
    thread.join()
    part(system, connection, server)


@pytest.mark.parametrize("kernel", [True, False])
def test_a_pong_within_a_tenth_of_a_second(kernel: bool) -> None:
    def test(system: VirtualSystem) -> None:
        connection, peer = one_end(system)
        peer.send(wire.text("one"))
        assert connection.recv() == "one"
        for _ in range(5):
            peer.send(wire.ping(b"p"))
            start = system.now()
            assert wire.parse(peer.recv(100))[0][0].payload == b"p"
            assert system.now() - start < 0.1
            # Whoever receives takes over, and leaves again.
            peer.send(wire.text("two"))
            assert connection.recv(timeout=1) == "two"
        part(system, connection, peer)

    run_threads(test, kernel=kernel, look_every=0.04)
