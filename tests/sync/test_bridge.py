"""Sockets that a program brings: TLS of ``ssl.SSLSocket``, and objects that have only the usual methods."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from _kit.certificates import client_context, server_context
from websockets.exceptions import ConnectionClosedError
from websockets.protocol import Protocol, Side
from websockets.sync._bridge import _TLSCarrier, bridge
from websockets.sync._system import System
from websockets.sync.connection import Connection

BIG = "x" * 900_000


class Tunnel:
    """An object with the methods of a socket that a tunnel in Python would have."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def recv(self, size: int) -> bytes:
        return self.sock.recv(size)

    def sendall(self, data: bytes) -> None:
        self.sock.sendall(data)

    def shutdown(self, how: int) -> None:
        self.sock.shutdown(how)

    def close(self) -> None:
        self.sock.close()


class Numbered(Tunnel):
    """Such an object that says it has no descriptor."""

    def fileno(self) -> int:
        return -1


def tls_pair() -> tuple[socket.socket, socket.socket]:
    """Two sockets with TLS between them."""
    one, other = socket.socketpair()
    secured: list[socket.socket] = []
    shaking = threading.Thread(
        target=lambda: secured.append(server_context().wrap_socket(other, server_side=True)), daemon=True
    )
    shaking.start()
    client = client_context().wrap_socket(one, server_hostname="localhost")
    shaking.join()
    return client, secured[0]


def tunnels() -> tuple[Any, Any]:
    one, other = socket.socketpair()
    return Tunnel(one), Numbered(other)


each_kind = pytest.mark.parametrize("sockets", [tls_pair, tunnels])


def connections(sockets: Any, **options: Any) -> tuple[Connection, Connection]:
    one, other = sockets()
    return Connection(one, Protocol(Side.CLIENT), **options), Connection(other, Protocol(Side.SERVER), **options)


def echo(connection: Connection) -> None:
    for message in connection:
        connection.send(message)


@each_kind
def test_messages_both_ways(sockets: Any) -> None:
    client, server = connections(sockets)
    echoing = threading.Thread(target=echo, args=(server,), daemon=True)
    echoing.start()
    for message in ("one", BIG, "two"):
        client.send(message)
        assert client.recv(timeout=10) == message
    assert client.ping().wait(10)
    client.close()
    echoing.join(10)
    assert client.close_code == server.close_code == 1000


@each_kind
def test_both_send_at_once(sockets: Any) -> None:
    client, server = connections(sockets)
    sending = [threading.Thread(target=end.send, args=(BIG,), daemon=True) for end in (client, server)]
    for thread in sending:
        thread.start()
    assert client.recv(timeout=10) == server.recv(timeout=10) == BIG
    for thread in sending:
        thread.join(10)
    client.abort()
    assert server.wait_closed(10)


@each_kind
def test_the_peer_is_gone(sockets: Any) -> None:
    client, server = connections(sockets)
    server.abort()
    with pytest.raises(ConnectionClosedError):
        client.recv(timeout=10)
    assert client.wait_closed(10)


@each_kind
def test_the_socket_is_the_one_that_was_given(sockets: Any) -> None:
    one, other = sockets()
    connection = Connection(one, Protocol(Side.CLIENT))
    assert connection.socket is one
    connection.abort()
    other.close()


def test_both_directions_end() -> None:
    """What came before the end of each direction is carried, and then the thread ends."""
    tls, peer = tls_pair()
    connection, far = socket.socketpair()
    carrying = threading.Thread(target=_TLSCarrier(tls, far, System()).run, daemon=True)
    carrying.start()
    with peer, connection:
        connection.sendall(b"last words")
        connection.shutdown(socket.SHUT_WR)
        assert peer.recv(100) == b"last words"
        peer.sendall(b"and mine")
        peer.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b"and mine"
        assert connection.recv(100) == peer.recv(100) == b""
        carrying.join(10)
        assert not carrying.is_alive()


class Foreign(Tunnel):
    """TLS of another package, which has methods of ``ssl.SSLSocket`` and isn't one."""

    def pending(self) -> int:
        return 0

    def setblocking(self, blocking: bool) -> None:
        self.sock.setblocking(blocking)

    def shutdown(self, how: int) -> None:
        raise TypeError("shutdown() takes no argument")


def test_tls_of_another_package() -> None:
    one, other = socket.socketpair()
    client, server = connections(lambda: (Foreign(one), other))
    server.send("hello")
    assert client.recv(timeout=10) == "hello"
    client.send("hi")
    assert server.recv(timeout=10) == "hi"
    client.close()
    server.close()


class Limited(Tunnel):
    """Such an object that has a timeout."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.late = 2

    def recv(self, size: int) -> bytes:
        self.late -= 1
        if self.late >= 0:
            raise TimeoutError
        return super().recv(size)

    def settimeout(self, seconds: float | None) -> None:
        self.sock.settimeout(seconds)


def test_silence_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever timeout the sockets of the program have by default."""
    pairs: list[tuple[socket.socket, socket.socket]] = []

    def socketpair() -> tuple[socket.socket, socket.socket]:
        pairs.append(socket.socketpair())
        return pairs[-1]

    system = System()
    monkeypatch.setattr(system, "socketpair", socketpair)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)
    try:
        one, other = socket.socketpair()
        near = bridge(Limited(one), system)
    finally:
        socket.setdefaulttimeout(before)
    assert [one.gettimeout(), pairs[0][1].gettimeout()] == [None, None]
    other.sendall(b"late")
    assert near.recv(4) == b"late"
    near.close()
    assert other.recv(4) == b""
    other.close()
