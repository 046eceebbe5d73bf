"""Sockets for the raw side of a measurement: without asyncio, and with as little Python per message as possible.

Charter: moves bytes through non-blocking sockets, with TLS or without. Must not know what the bytes mean.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
from collections.abc import Callable

WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

HOST = "127.0.0.1"

# More than most reads find, also when many answers wait.
BUFFER = memoryview(bytearray(1 << 18))

# Seconds after which a silent peer has failed, rather than being slow.
PATIENCE = 20.0


class Poll:
    """What waits for the sockets of a process."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()

    def turn(self) -> None:
        """Wait for something to happen and let it be handled.

        Raises:
            TimeoutError: nothing happened for a long time.
        """
        ready = self.selector.select(PATIENCE)
        if not ready:
            raise TimeoutError(f"nothing arrived for {PATIENCE:.0f} s")
        for key, events in ready:
            if events & selectors.EVENT_READ:
                key.data.on_readable()
            if events & selectors.EVENT_WRITE:
                key.data.on_writable()


class Stream:
    """A socket that sends later what doesn't fit at once.

    Parameters:
        poll: what waits for it.
        sock: the socket; it becomes non-blocking.
        on_readable: called when there is something to read.
    """

    def __init__(self, poll: Poll, sock: socket.socket, on_readable: Callable[[], None]) -> None:
        sock.setblocking(False)
        self.poll = poll
        self.sock = sock
        self.on_readable = on_readable
        self.rest: list[bytes | memoryview] = []
        poll.selector.register(sock, selectors.EVENT_READ, self)

    def read(self) -> memoryview:
        """What there is to read, in a buffer that the next read overwrites.

        Raises:
            EOFError: the peer has ended.
        """
        try:
            size = self.sock.recv_into(BUFFER)
        except WOULD_BLOCK:
            return BUFFER[:0]
        except ConnectionError:
            size = 0
        if not size:
            raise EOFError("the connection was closed by the other side")
        return BUFFER[:size]

    def write(self, data: bytes | memoryview) -> None:
        """Send some bytes, the rest of them when there is room."""
        if self.rest:
            self.rest.append(data)
            return
        try:
            size = self.sock.send(data)
        except WOULD_BLOCK:
            size = 0
        if size < len(data):
            self._send_later(memoryview(data)[size:])

    def _send_later(self, data: memoryview) -> None:
        # With TLS a call sends no more than one record, however much room there is.
        rest = self._send(data)
        if rest:
            self.rest.append(rest)
            self.poll.selector.modify(self.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, self)

    def _send(self, data: bytes | memoryview) -> bytes | memoryview:
        """Send what fits; returns the rest."""
        while data:
            try:
                size = self.sock.send(data)
            except WOULD_BLOCK:
                break
            data = memoryview(data)[size:]
        return data

    def on_writable(self) -> None:
        """Send more of what didn't fit."""
        while self.rest:
            rest = self._send(self.rest[0])
            if rest:
                self.rest[0] = rest
                return
            del self.rest[0]
        self.poll.selector.modify(self.sock, selectors.EVENT_READ, self)

    def close(self) -> None:
        """Have done with the socket."""
        self.poll.selector.unregister(self.sock)
        self.sock.close()


def prepare(sock: socket.socket) -> None:
    """What any library does to a new TCP connection."""
    sock.settimeout(PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def dial(port: int, tls: bool) -> socket.socket:
    """Connect to a server on this machine; whose certificate it is does not matter here."""
    sock = socket.create_connection((HOST, port), PATIENCE)
    prepare(sock)
    if not tls:
        return sock
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock)


def read_until(sock: socket.socket, end: bytes) -> bytes:
    """Read from a blocking socket until something arrives that ends so.

    Raises:
        EOFError: the peer ended before.
    """
    have = b""
    while not have.endswith(end):
        more = sock.recv(4096)
        if not more:
            raise EOFError(f"the other side closed the connection after {have[:80]!r}")
        have += more
    return have


def allow_many_files() -> None:
    """Raise the limit of open files as far as this user may."""
    with contextlib.suppress(ImportError):
        import resource

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        # Some systems report no limit and refuse to set none.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard > 0 else 65536, hard))
