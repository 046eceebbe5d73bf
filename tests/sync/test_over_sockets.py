"""Connections on real sockets and real threads: what a system in memory can't show."""

from __future__ import annotations

import itertools
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from _kit import wire
from _kit.blocking import wait_for
from _kit.platforms import needs_fork, needs_signals
from _kit.threads import stop_steward
from websockets.exceptions import ConcurrencyError, ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from websockets.protocol import Protocol, Side, State
from websockets.sync._system import current
from websockets.sync.client import connect
from websockets.sync.connection import Connection
from websockets.sync.server import serve


@pytest.fixture
def pair() -> Iterator[tuple[Connection, Connection]]:
    one, other = socket.socketpair()
    client, server = Connection(one, Protocol(Side.CLIENT)), Connection(other, Protocol(Side.SERVER))
    yield client, server
    client.abort()
    server.abort()


@pytest.fixture
def end() -> Iterator[tuple[Connection, socket.socket]]:
    """A client, and the socket of its peer."""
    one, other = socket.socketpair()
    connection = Connection(one, Protocol(Side.CLIENT))
    yield connection, other
    connection.abort()
    other.close()


def start(function: Any, *args: Any) -> threading.Thread:
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


def until_it_waits(connection: Connection) -> None:
    """Wait until a thread receives."""
    wait_for(lambda: connection._ws_reading_thread != 0)


def echo(connection: Connection) -> None:
    for message in connection:
        connection.send(message)


def test_messages_and_a_clean_close(pair: tuple[Connection, Connection]) -> None:
    client, server = pair
    echoing = start(echo, server)
    for size in (0, 1, 5000, 70_000, 900_000):
        client.send("x" * size)
        assert client.recv(timeout=10) == "x" * size
    sockets = client.socket, server.socket
    client.close()
    echoing.join(10)
    assert (client.close_code, server.close_code) == (1000, 1000)
    assert sockets[0].fileno() == -1
    server.close()
    assert sockets[1].fileno() == -1


def test_one_descriptor_and_no_thread_each(end: tuple[Connection, socket.socket]) -> None:
    # The steward is there already.
    threads = threading.active_count()
    sockets = [socket.socketpair() for _ in range(10)]
    before = len(os.listdir("/dev/fd")) if os.path.isdir("/dev/fd") else 0
    connections = [Connection(one, Protocol(Side.CLIENT)) for one, _ in sockets]
    for connection, (_, other) in zip(connections, sockets, strict=True):
        other.sendall(wire.ping(b"p"))
        assert other.recv(100)
        assert connection.state is State.OPEN
    assert threading.active_count() == threads
    assert (len(os.listdir("/dev/fd")) if os.path.isdir("/dev/fd") else 0) == before
    for connection, (_, other) in zip(connections, sockets, strict=True):
        connection.abort()
        other.close()


def test_recv_with_a_timeout(end: tuple[Connection, socket.socket]) -> None:
    connection, peer = end
    with pytest.raises(TimeoutError, match=r"^timed out in 0\.0s$"):
        connection.recv(timeout=0)
    with pytest.raises(TimeoutError, match=r"^timed out in 0\.1s$"):
        connection.recv(timeout=0.1)
    peer.sendall(wire.text("one") + wire.text("two", fin=False))
    assert connection.recv(timeout=5) == "one"
    with pytest.raises(TimeoutError):
        connection.recv(timeout=0.01)
    peer.sendall(wire.cont("three"))
    assert connection.recv(timeout=5) == "twothree"


@pytest.mark.scenario(80)
def test_close_ends_recv_at_once(pair: tuple[Connection, Connection]) -> None:
    client, server = pair
    ended: list[Any] = []

    def receive() -> None:
        with pytest.raises(ConnectionClosedOK) as caught:
            client.recv()
        ended.append(caught.value)

    thread = start(receive)
    until_it_waits(client)
    with pytest.raises(ConcurrencyError, match="^cannot call recv while another thread is already running recv"):
        client.recv()
    closing = start(client.close)
    with pytest.raises(ConnectionClosedOK):
        server.recv()
    thread.join(5)
    closing.join(5)
    assert len(ended) == 1


def test_abort_ends_everything(end: tuple[Connection, socket.socket]) -> None:
    connection, _ = end
    failed: list[BaseException] = []

    def run(function: Any) -> None:
        with pytest.raises(ConnectionClosedError) as caught:
            function()
        failed.append(caught.value)

    threads = [start(run, connection.recv), start(run, lambda: connection.send(bytes(10_000_000)))]
    until_it_waits(connection)
    wait_for(lambda: connection.buffered_amount > 0)
    connection.abort()
    for thread in threads:
        thread.join(5)
    assert len(failed) == 2
    assert connection.wait_closed(5)


def test_a_socket_that_does_not_block(end: tuple[Connection, socket.socket]) -> None:
    one, other = socket.socketpair()
    one.setblocking(False)
    connection = Connection(one, Protocol(Side.CLIENT))
    thread = start(other.sendall, wire.text("one"))
    assert connection.recv() == "one"
    thread.join()
    connection.abort()
    other.close()


def test_a_socket_that_the_program_closes(end: tuple[Connection, socket.socket]) -> None:
    """Its number may belong to another connection soon."""
    connection, peer = end
    peer.sendall(wire.ping(b"p"))
    assert peer.recv(100)
    # Now the steward watches it.
    number = connection.socket.fileno()
    connection.socket.close()
    pairs = [socket.socketpair()]
    while number not in (numbers := [sock.fileno() for sock in pairs[-1]]) and len(pairs) < 50:
        pairs.append(socket.socketpair())  # the kernel gives the lowest number that is free
    one, other = pairs.pop() if numbers[0] == number else reversed(pairs.pop())
    assert one.fileno() == number
    for sock in itertools.chain(*pairs):
        sock.close()
    later = Connection(one, Protocol(Side.CLIENT))
    other.sendall(wire.ping(b"q"))
    assert other.recv(100)
    assert later.state is State.OPEN
    with pytest.raises(ConnectionClosed):
        connection.recv(timeout=5)
    later.abort()
    other.close()


# ----------------------------------------------------------------------------------------------------------- interrupts


class Interrupted(BaseException):
    """What the signal handler raises."""


@pytest.fixture
def interrupt() -> Iterator[Any]:
    """A function that has the main thread interrupted, a moment later."""

    def handler(*args: Any) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, handler)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, 0.05)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.scenario(78)
@needs_signals
@pytest.mark.parametrize("timeout", [None, 10])
def test_an_interrupted_recv_loses_nothing(
    end: tuple[Connection, socket.socket], interrupt: Any, timeout: float | None
) -> None:
    connection, peer = end
    interrupt()
    with pytest.raises(Interrupted):
        connection.recv(timeout)
    peer.sendall(wire.text("message"))
    assert connection.recv(timeout=5) == "message"


@pytest.mark.scenario(78)
@needs_signals
def test_an_interrupted_send_tears_no_frame(end: tuple[Connection, socket.socket], interrupt: Any) -> None:
    connection, peer = end
    interrupt()
    with pytest.raises(Interrupted):
        connection.send(bytes(2_000_000))
    reading = start(lambda: read_frames(peer, 2))
    connection.send("next")
    reading.join(10)
    assert not reading.is_alive()


def read_frames(peer: socket.socket, count: int) -> list[wire.Row]:
    data = b""
    while len(wire.parse(data)[0]) < count:
        data += peer.recv(1_000_000)
    return wire.parse(data)[0]


@needs_signals
def test_signal_handlers_may_use_the_connection_that_they_interrupt(end: tuple[Connection, socket.socket]) -> None:
    connection, peer = end
    done: list[str] = []

    def handler(*args: Any) -> None:
        connection.send("from the handler")
        with pytest.raises(ConcurrencyError):
            connection.recv()
        done.append("sent")
        connection.close(timeout=0.1)
        done.append("closed")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(ConnectionClosed):
            connection.recv()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert done == ["sent", "closed"]
    assert wire.parse(peer.recv(1000))[0][0].payload == b"from the handler"
    connection.close()  # the steward may be about to close the descriptor
    assert connection.socket.fileno() == -1


@needs_signals
def test_a_signal_handler_sends_while_it_interrupts_a_send(end: tuple[Connection, socket.socket]) -> None:
    connection, peer = end

    def handler(*args: Any) -> None:
        connection.send("from the handler")

    before = signal.signal(signal.SIGALRM, handler)
    rows: list[wire.Row] = []
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(TimeoutError):
            connection.send(bytes(2_000_000), timeout=0.2)
    finally:
        signal.signal(signal.SIGALRM, before)
    rows += read_frames(peer, 2)
    assert [len(row.payload) for row in rows] == [2_000_000, 16]


@needs_signals
def test_leaving_a_block_by_two_interrupts(end: tuple[Connection, socket.socket]) -> None:
    """The first one closes with 1011; whoever interrupts that doesn't wait for the peer."""
    connection, peer = end

    def handler(*args: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)

    def leave() -> None:
        with connection:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            leave()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert wire.parse(peer.recv(100))[0][0].payload == (1011).to_bytes(2, "big")
    assert connection.state is State.CLOSED


# ------------------------------------------------------------------------------------------------------- forks, the end


@pytest.mark.scenario(85)
@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_leaves_the_connections_of_its_parent_alone(pair: tuple[Connection, Connection]) -> None:
    client, server = pair
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        said = []
        try:
            for call in (client.recv, lambda: client.send("x"), client.ping):
                try:
                    call()
                except RuntimeError as exc:
                    said.append(str(exc))
            client.close()
            client.abort()
            client.close_socket()
            # Its own connections have their own steward.
            one, other = socket.socketpair()
            own = Connection(one, Protocol(Side.CLIENT))
            other.sendall(wire.ping(b"p"))
            said.append(f"{len(other.recv(100))} bytes, {own._ws_steward is not client._ws_steward}")
            os.write(writing, "\n".join(said).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    said = os.read(reading, 1000).decode().split("\n")
    assert said == ["connection was opened in another process"] * 3 + ["7 bytes, True"]
    for descriptor in (reading, writing):
        os.close(descriptor)
    echoing = start(echo, server)
    client.send("still here")
    assert client.recv(timeout=5) == "still here"
    client.close()
    echoing.join(5)


PROGRAM = """
import socket, threading
from websockets.protocol import CLIENT, Protocol
from websockets.sync.connection import Connection
one, other = socket.socketpair()
connection = Connection(one, Protocol(CLIENT))
threading.Thread(target=connection.recv, daemon=True).start()
print("end")
"""


@pytest.mark.scenario(83)
def test_a_program_ends_with_open_connections() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "end\n", "")


def test_a_steward_that_was_stopped_has_a_successor(end: tuple[Connection, socket.socket]) -> None:
    connection, _ = end
    stop_steward(current())
    one, other = socket.socketpair()
    later = Connection(one, Protocol(Side.CLIENT))
    assert later._ws_steward is not connection._ws_steward
    other.sendall(wire.ping(b"p"))
    assert other.recv(100)
    later.abort()
    other.close()


@pytest.mark.parametrize("timeout", [1e12, math.inf])
def test_times_that_no_call_of_the_system_can_wait(timeout: float) -> None:
    stop_steward(current())  # a new one has no other deadline
    one, other = socket.socketpair()
    connection = Connection(one, Protocol(Side.CLIENT), ping_interval=timeout)
    other.sendall(wire.ping(b"p"))
    assert other.recv(100)
    results: list[bool] = []
    waiting = threading.Thread(target=lambda: results.append(connection.wait_closed(timeout)))
    waiting.start()
    receiving = threading.Thread(target=lambda: results.append(_ends(lambda: connection.recv(timeout))))
    receiving.start()
    other.sendall(wire.ping(b"q"))
    assert other.recv(100)
    other.close()
    for thread in (waiting, receiving):
        thread.join(10)
    assert results == [True, True]


def _ends(call: Callable[[], object]) -> bool:
    with pytest.raises(ConnectionClosed):
        call()
    return True


def test_a_shutdown_with_such_a_time() -> None:
    def handler(connection: Connection) -> None:
        connection.wait_closed()

    server = serve(handler, "127.0.0.1", 0)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    with connect(f"ws://127.0.0.1:{server.socket.getsockname()[1]}") as connection:
        threading.Thread(target=lambda: server.shutdown(timeout=1e12)).start()
        assert connection.wait_closed(10)
    serving.join(10)
    assert not serving.is_alive()
