"""The program closes or detaches the socket of a connection while threads use the connection.

Charter: real sockets of the kernel, where the number of a closed descriptor is used again at once.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from _kit.blocking import PATIENCE, serving, wait_for
from _kit.certificates import client_context, server_context
from sync.test_bridge import Tunnel, tls_pair
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.protocol import State
from websockets.sync._system import DONTWAIT
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection
from websockets.uri import parse_uri

# In seconds of real time: less than any timeout of a connection, and enough for a busy machine.
SOON = 5.0


@contextlib.contextmanager
def connected() -> Iterator[tuple[Any, socket.socket]]:
    """A client's connection without its opening handshake, and the socket of its peer."""
    here, there = socket.socketpair()
    protocol = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN)
    connection = ClientConnection(here, protocol, ping_interval=None, close_timeout=60)
    try:
        yield connection, there
    finally:
        connection.abort()
        there.close()


class Outcome(threading.Thread):
    """A thread that calls a function; its error."""

    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._function, self.error = function, None
        self.start()

    error: BaseException | None

    def run(self) -> None:
        try:
            self._function()
        except Exception as exc:
            self.error = exc

    def end(self) -> BaseException | None:
        self.join(SOON)
        assert not self.is_alive(), "the thread still waits"
        return self.error


def is_waiting(connection: Any) -> bool:
    """Whether a thread waits for the socket, or is just about to."""
    return bool(connection._ws_reading_thread)


def close(sock: socket.socket) -> Callable[[], None]:
    sock.close()
    return lambda: None


def detach(sock: socket.socket) -> Callable[[], None]:
    return socket.socket(fileno=sock.detach()).close


@pytest.mark.parametrize("end", [close, detach])
@pytest.mark.parametrize("timeout", [None, 3600])
def test_thread_that_receives(end: Callable[[Any], Callable[[], None]], timeout: float | None) -> None:
    with connected() as (connection, _):
        receiving = Outcome(lambda: connection.recv(timeout))
        wait_for(lambda: is_waiting(connection))
        clean_up = end(connection.socket)
        strangers = [socket.socketpair() for _ in range(4)]
        error = receiving.end()
        assert isinstance(error, ConnectionClosedError)
        assert isinstance(error.__cause__, OSError)
        assert connection.close_code == 1006
        begun = time.monotonic()
        connection.close()
        assert time.monotonic() - begun < SOON
        clean_up()
        everybody = [sock for pair in strangers for sock in pair]
        for sock in everybody:
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(100)
        for sock in everybody:
            sock.close()


def test_closing_while_another_thread_receives() -> None:
    with connected() as (connection, _):
        receiving = Outcome(connection.recv)
        wait_for(lambda: is_waiting(connection))
        connection.socket.close()
        begun = time.monotonic()
        connection.close()
        assert time.monotonic() - begun < SOON
        assert isinstance(receiving.end(), ConnectionClosed)
        assert connection.close_code == 1006


def test_thread_that_sends() -> None:
    with connected() as (connection, there):
        sending = Outcome(lambda: connection.send(bytes(2**24)))
        assert there.recv(1)
        wait_for(lambda: connection.buffered_amount > 0 and connection._ws_full)
        connection.socket.close()
        assert isinstance(sending.end(), ConnectionClosedError)


class Watched(Tunnel):
    """A tunnel that has a descriptor."""

    def fileno(self) -> int:
        return self.sock.fileno()

    def pending(self) -> int:
        return 0


def tunnels() -> tuple[Any, Any]:
    one, other = socket.socketpair()
    return Watched(one), other


@pytest.mark.parametrize("sockets", [tls_pair, tunnels])
@pytest.mark.parametrize("timeout", [None, 3600])
def test_thread_that_receives_over_a_bridge(sockets: Callable[[], Any], timeout: float | None) -> None:
    """The socket is one of ``ssl``, or an object, and a thread of ours carries its bytes."""
    one, other = sockets()
    protocol = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN)
    connection = ClientConnection(one, protocol, ping_interval=None, close_timeout=60)
    receiving = Outcome(lambda: connection.recv(timeout))
    wait_for(lambda: is_waiting(connection))
    connection.socket.close()
    error = receiving.end()
    assert isinstance(error, ConnectionClosedError)
    assert isinstance(error.__cause__, OSError | EOFError)
    assert connection.close_code == 1006
    with pytest.raises(ConnectionClosedError):
        connection.send("too late")
    begun = time.monotonic()
    connection.close()
    assert time.monotonic() - begun < SOON
    other.close()


def test_thread_that_sends_over_a_bridge() -> None:
    one, other = tls_pair()
    protocol = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN)
    connection = ClientConnection(one, protocol, ping_interval=None, close_timeout=60)
    sending = Outcome(lambda: connection.send(bytes(2**24)))
    assert other.recv(1)
    wait_for(lambda: connection.buffered_amount > 0 and connection._ws_full)
    connection.socket.close()
    assert isinstance(sending.end(), ConnectionClosedError)
    other.close()


@pytest.mark.parametrize("role", ["client", "server"])
def test_thread_that_receives_with_tls(role: str) -> None:
    """TLS of our own: the socket that programs see is a plain one below it."""
    running: queue.Queue[ServerConnection] = queue.Queue()
    errors: list[BaseException | None] = []

    def handler(connection: ServerConnection) -> None:
        running.put(connection)
        try:
            connection.recv()
        except ConnectionClosedError as exc:
            errors.append(exc)

    with serving(handler, ssl=server_context(), close_timeout=0.1) as server:
        uri = f"wss://localhost:{server.socket.getsockname()[1]}"
        client = connect(
            uri, ssl=client_context(), address=server.socket.getsockname(), proxy=None, legacy=True, close_timeout=0.1
        )
        theirs = running.get(timeout=PATIENCE)
        receiving = Outcome(client.recv)
        wait_for(lambda: is_waiting(client) and is_waiting(theirs))
        (client if role == "client" else theirs).socket.close()
        if role == "client":
            assert isinstance(receiving.end(), ConnectionClosedError)
        else:
            wait_for(lambda: bool(errors))
        client.abort()
        receiving.end()


@pytest.mark.skipif(not DONTWAIT, reason="the system waits first, and calls then")
def test_message_after_a_long_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that looks now and then loses nothing."""
    with connected() as (connection, there):
        looks: list[BaseException | None] = []
        received = connection._ws_received

        def look(data: bytes | None, error: BaseException | None) -> None:
            looks.append(error)
            received(data, error)
            if len(looks) == 2:
                there.send(b"\x81\x02hi")

        monkeypatch.setattr(connection, "_ws_received", look)
        assert connection.recv() == "hi"
        assert [type(error) for error in looks[:2]] == [BlockingIOError, BlockingIOError]
