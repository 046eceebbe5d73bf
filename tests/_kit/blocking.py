"""Servers for threads on real sockets, and scripted clients of theirs, which block.

May know: the public API of ``websockets.sync.server``, frames and requests on the wire.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

from websockets.sync.server import Server, ServerConnection, serve

from . import wire
from .asking import Answered, answered
from .logs import lines
from .wire import Row

__all__ = [
    "PATIENCE",
    "BlockingPeer",
    "Logged",
    "Made",
    "ask",
    "echo",
    "enter",
    "knock",
    "running",
    "serving",
    "wait_for",
    "waiting",
]

# Seconds for which a peer waits for bytes, or a test for a thread: more than a healthy run needs.
PATIENCE = 30


class BlockingPeer:
    """A client of a server, in the hands of a test; each method blocks.

    Parameters:
        sock: its socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        self.sock = sock
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.sock.sendall(data)

    def text(self, text: str) -> None:
        """Send a message."""
        self.send(wire.text(text, mask=True))

    def read_until(self, separator: bytes = b"\r\n\r\n") -> bytes:
        """Return all bytes up to the end of ``separator``; by default, the head of an HTTP message."""
        while separator not in self._unread:
            self._more()
        end = self._unread.index(separator) + len(separator)
        data, self._unread = self._unread[:end], self._unread[end:]
        return data

    def read_until_eof(self) -> bytes:
        """Return all bytes up to the end of the stream."""
        with contextlib.suppress(EOFError):
            while True:
                self._more()
        data, self._unread = self._unread, b""
        return data

    def read_frame(self) -> Row:
        """Return the next frame."""
        while (found := wire.parse_one(self._unread)) is None:
            self._more()
        row, self._unread = found
        return row

    def read_close(self) -> tuple[int, str]:
        """Return code and reason of the Close frame, which comes next."""
        row = self.read_frame()
        assert row.opcode == 8
        return int.from_bytes(row.payload[:2], "big"), row.payload[2:].decode()

    def answer_close(self) -> tuple[int, str]:
        """Do the closing handshake that the server began; return code and reason."""
        code, reason = self.read_close()
        self.send(wire.close(code, mask=True))
        assert self.read_until_eof() == b""
        self.close()
        return code, reason

    def leave(self, code: int = 1000) -> None:
        """Close as a client should."""
        self.send(wire.close(code, mask=True))
        self.read_until_eof()
        self.close()

    def reset(self) -> None:
        """Close with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def _more(self) -> None:
        data = self.sock.recv(2**16)
        if not data:
            raise EOFError(f"the stream ended after {self._unread!r}")
        self._unread += data


class Made:
    """A ``create_connection`` that tells which connections it made.

    Parameters:
        kind: the class of connections.
    """

    def __init__(self, kind: Callable[..., ServerConnection] = ServerConnection) -> None:
        self._kind = kind
        self._made: queue.Queue[ServerConnection] = queue.Queue()

    def __call__(self, *arguments: Any, **options: Any) -> ServerConnection:
        connection = self._kind(*arguments, **options)
        self._made.put(connection)
        return connection

    def next(self) -> ServerConnection:
        """Return the next connection, as soon as it is there."""
        return self._made.get(timeout=PATIENCE)


class Logged(logging.Handler):
    """The lines of a logger, each of which a test can wait for.

    Parameters:
        name: its name.
        level: the lowest level that counts.
    """

    def __init__(self, name: str = "websockets.server", level: int = logging.INFO) -> None:
        super().__init__()
        self._lowest = level
        self.records: list[logging.LogRecord] = []
        self._logger = logging.getLogger(name)
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self._level = self._logger.level
        self._logger.addHandler(self)
        self._logger.setLevel(self._lowest)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._logger.setLevel(self._level)
        self._logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        with self._changed:
            self.records.append(record)
            self._changed.notify_all()

    @property
    def lines(self) -> list[str]:
        """The texts so far."""
        return lines(self.records)

    def find(self, text: str) -> logging.LogRecord:
        """Wait for a line that begins with a text, and return it."""
        with self._changed:
            found = self._changed.wait_for(lambda: self._first(text), PATIENCE)
        assert found is not None, (text, self.lines)
        return found

    def _first(self, text: str) -> logging.LogRecord | None:
        return next((record for record in self.records if record.getMessage().startswith(text)), None)


def echo(connection: ServerConnection) -> None:
    """Send every message back."""
    for message in connection:
        connection.send(message)


def waiting(connection: ServerConnection) -> None:
    """Receive until the end."""
    for _ in connection:
        pass


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """Run ``serve_forever()`` in a thread during a block, and shut down the server; raise what it raised."""
    outcome: queue.Queue[BaseException | None] = queue.Queue()

    def run() -> None:
        try:
            server.serve_forever()
        except BaseException as exc:
            outcome.put(exc)
        else:
            outcome.put(None)

    thread = threading.Thread(target=run, name="serving")
    thread.start()
    try:
        yield server
    finally:
        server.shutdown(timeout=PATIENCE)
        exc = outcome.get(timeout=PATIENCE)
        thread.join()
        if exc is not None:
            raise exc


@contextlib.contextmanager
def serving(handler: Any = echo, **options: Any) -> Iterator[Server]:
    """Run a server during a block, at a free port; no compression and no keepalive, unless asked for."""
    with running(serve(handler, "127.0.0.1", 0, **{"compression": None, "ping_interval": None, **options})) as server:
        yield server


def knock(server: Server, tls: ssl.SSLContext | None = None) -> BlockingPeer:
    """Connect to a server, and say nothing, except for the handshake of TLS."""
    place = server.socket.getsockname()
    sock = socket.socket(server.socket.family)
    sock.settimeout(PATIENCE)
    sock.connect(place if isinstance(place, str | bytes) else place[:2])
    return BlockingPeer(sock if tls is None else tls.wrap_socket(sock, server_hostname="localhost"))


def enter(server: Server, data: bytes | None = None, tls: ssl.SSLContext | None = None) -> BlockingPeer:
    """Connect to a server that accepts, and read the head of its response."""
    peer = knock(server, tls)
    peer.send(wire.request() if data is None else data)
    assert peer.read_until().startswith(b"HTTP/1.1 101 ")
    return peer


def ask(server: Server, data: bytes) -> Answered:
    """Return what a server answers before it ends the connection."""
    with knock(server) as peer:
        peer.send(data)
        return answered(peer.read_until_eof())


def wait_for(ready: Callable[[], bool]) -> None:
    """Give other threads turns until something holds that only an attribute tells, such as who waits for a socket."""
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0)
