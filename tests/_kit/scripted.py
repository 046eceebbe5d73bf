"""A server on a real socket that plays a script for each connection, in a thread; TLS, and usual scripts.

May know: sockets, threads, ``ssl``, frames and requests on the wire. Must not know: the library.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from . import wire

__all__ = [
    "PATIENCE",
    "Asked",
    "Script",
    "Visitor",
    "echo",
    "let_in",
    "read_until",
    "refuse",
    "scripted",
    "secured",
]

# Seconds for which a script waits for bytes, or a test for a thread: more than a healthy run needs.
PATIENCE = 30

#: What a server does with one connection; the socket is closed afterwards.
Script: TypeAlias = Callable[[Any], None]


@contextlib.contextmanager
def scripted(*scripts: Script, path: str | None = None) -> Iterator[int]:
    """Play scripts, one for each connection; give the port, or 0 for a Unix socket.

    Every script must have been played at the end of the block. What a script raises, the block raises.
    """
    with _listen(path) as listening:
        listening.settimeout(PATIENCE)
        outcome: queue.Queue[BaseException | None] = queue.Queue()

        def play() -> None:
            try:
                for script in scripts:
                    sock, _ = listening.accept()
                    sock.settimeout(PATIENCE)
                    with sock:
                        script(sock)
            except BaseException as exc:
                outcome.put(exc)
            else:
                outcome.put(None)

        thread = threading.Thread(target=play, name="scripted server")
        thread.start()
        try:
            yield 0 if path else listening.getsockname()[1]
        except BaseException:
            # What is left of the scripts doesn't matter any more; this ends accept().
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            raise
        exc = outcome.get(timeout=2 * PATIENCE)
        thread.join()
        if exc is not None:
            raise exc


def _listen(path: str | None) -> socket.socket:
    if path is None:
        return socket.create_server(("127.0.0.1", 0))
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    return listening


def secured(context: ssl.SSLContext, script: Script) -> Script:
    """Play a script in TLS."""

    def play(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as inside:
            script(inside)

    return play


def read_until(sock: Any, separator: bytes = b"\r\n\r\n") -> bytes:
    """Return all bytes up to the end of ``separator``, and what came with them."""
    data = b""
    while separator not in data:
        piece = sock.recv(4096)
        if not piece:
            raise EOFError(f"the stream ended after {data!r}")
        data += piece
    return data


# ----------------------------------------------------------------------------------------------------------- WebSocket


@dataclasses.dataclass
class Asked:
    """A request.

    Attributes:
        target: the request target.
        headers: names and values, in their order.
    """

    target: str
    headers: list[tuple[str, str]]

    def __getitem__(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [value for key, value in self.headers if key == name]


class Visitor:
    """A client that has sent its request.

    Parameters:
        sock: the socket.

    Attributes:
        asked: the request.
    """

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        head, _, self._unread = read_until(sock).partition(b"\r\n\r\n")
        found = re.match(r"GET (\S+) HTTP/1\.1\r\n", head.decode("latin-1") + "\r\n")
        assert found is not None
        self.asked = Asked(found[1], re.findall(r"\r\n([^:\r]+): ([^\r]*)", head.decode("latin-1")))

    def accept(self, headers: wire.Headers | None = None, more: bytes = b"") -> None:
        """Open the connection; send more bytes with the response."""
        self.sock.sendall(wire.response(key=self.asked["Sec-WebSocket-Key"][0], headers=headers) + more)

    def read_frame(self) -> wire.Row:
        """Return the next frame."""
        while (found := wire.parse_one(self._unread)) is None:
            data = self.sock.recv(2**16)
            if not data:
                raise EOFError(f"the stream ended after {self._unread!r}")
            self._unread += data
        row, self._unread = found
        return row

    def part(self) -> int:
        """Wait for a Close frame, with nothing before it, and answer; return its code."""
        row = self.read_frame()
        assert row.opcode == wire.CLOSE
        self.sock.sendall(wire.frame(wire.CLOSE, row.payload))
        return int.from_bytes(row.payload[:2], "big")

    def wait_for_end(self) -> None:
        """Wait until the client ends the connection, however it does."""
        with contextlib.suppress(ConnectionError):
            while self.sock.recv(2**16):
                pass


def let_in(sock: Any) -> None:
    """Open a connection, and answer when the client closes it."""
    visitor = Visitor(sock)
    visitor.accept()
    visitor.part()


def echo(sock: Any) -> None:
    """Open a connection, and send all messages back until the client closes it."""
    visitor = Visitor(sock)
    visitor.accept()
    while (row := visitor.read_frame()).opcode != wire.CLOSE:
        sock.sendall(wire.frame(row.opcode, row.payload))
    sock.sendall(wire.frame(wire.CLOSE, row.payload))


def refuse(status: int, headers: wire.Headers | None = None, body: bytes = b"") -> Script:
    """Refuse a connection."""

    def play(sock: Any) -> None:
        visitor = Visitor(sock)
        length = {"Content-Length": str(len(body))}
        sock.sendall(wire.response(status, {**length, **(headers or {})}, reason="Refused", body=body))
        visitor.wait_for_end()

    return play
