"""Bytes to and from a socket that doesn't belong to a connection yet: each step waits, until a deadline; TLS.

May know: sockets, the system's clock, channels of :mod:`websockets._session.tls`. Must not know: WebSocket; the meaning
of the bytes; which host to connect to.

The steps of opening a connection share one deadline: connecting, asking a proxy, TLS. Each step has a text for the
error when the time is up. TLS isn't done by ``ssl.SSLSocket`` but in memory, because a connection may read in one
thread and write in another one, and because TLS may be inside of TLS.
"""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Literal

from ._system import LONGEST_WAIT, current

if TYPE_CHECKING:
    from ssl import SSLContext

    from .._session.tls_in_tls import Channel

__all__ = ["Line", "is_late", "seconds_until", "step"]

# Bytes of one read.
READ: Final = 2**16


def seconds_until(deadline: float | None, text: str) -> float:
    """Return the seconds that are left, more than 0; infinity for no limit, and if there are more than a million.

    Parameters:
        deadline: a time of the system's clock; None for no limit.
        text: text of the error.

    Raises:
        TimeoutError: the deadline has passed.
    """
    if deadline is None:
        return math.inf
    left = deadline - current().now()
    if left <= 0:
        raise TimeoutError(text)
    # Sockets refuse centuries.
    return left if left < LONGEST_WAIT else math.inf


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Give the error for a deadline that passes in the block a text that names the step."""
    try:
        yield
    except TimeoutError as exc:
        if not is_late(exc):
            raise
        raise TimeoutError(text) from None


def is_late(exc: BaseException) -> bool:
    """Return whether an exception says that a deadline has passed; a timeout of the system has a number instead."""
    return isinstance(exc, TimeoutError) and exc.errno is None


class Line:
    """A connected socket, with TLS if it was started, until a connection takes over.

    Parameters:
        sock: the socket; it is closed by :meth:`close` only.
        deadline: the time until which each step waits; None for no limit.

    Attributes:
        channel: TLS; None without it.
        received: data that was read too early, without TLS; the channel has it otherwise.
    """

    def __init__(self, sock: socket.socket, deadline: float | None) -> None:
        self.sock = sock
        self.channel: Channel | None = None
        self.received = b""
        self._deadline = deadline

    def send(self, data: bytes, text: str) -> None:
        """Send data, encrypted if TLS was started.

        Parameters:
            data: the bytes.
            text: text of the error when the deadline passes.

        Raises:
            TimeoutError: the deadline has passed.
            OSError: the TCP connection is lost, or TLS fails.
        """
        if self.channel is None:
            self._send_all(data, text)
        else:
            while data:
                data = data[self.channel.send(data) :]
                self._flush(self.channel, text)

    def receive(self, text: str) -> bytes:
        """Return data from the peer, at least one byte; none at the end of the stream.

        Parameters:
            text: text of the error when the deadline passes.

        Raises:
            TimeoutError: the deadline has passed.
            OSError: the TCP connection is lost, or TLS fails.
        """
        channel = self.channel
        if channel is None:
            return self._receive_some(text)
        while not (data := channel.read()) and not channel.ended:
            self._feed(channel, text)
        # Reading may have failed, and then there is an alert to send.
        self._flush(channel, text)
        return data

    def unread(self, data: bytes) -> None:
        """Leave data to the connection."""
        if self.channel is None:
            self.received = data
        else:
            self.channel.unread(data)

    def start_tls(self, text: str, *, ssl: SSLContext | Literal[True], server_hostname: str | None = None) -> None:
        """Start TLS as a client; inside of TLS, if there is TLS already. Return when the handshake is complete.

        Parameters:
            text: text of the error when the deadline passes.
            ssl: a context, or True for the default one.
            server_hostname: the name in the certificate of the peer; empty or None for none.

        Raises:
            TimeoutError: the deadline has passed.
            OSError: the TCP connection is lost, or TLS fails.
            ValueError: the context checks the name, and there is none.
        """
        # Import these only here, because some interpreters, such as Pyodide, don't have TLS.
        from ssl import create_default_context

        from .._session.tls import TLSChannel
        from .._session.tls_in_tls import NestedChannel

        context = create_default_context() if ssl is True else ssl
        channel: Channel
        channel = inner = TLSChannel(context, server_side=False, server_hostname=server_hostname or None)
        if self.channel is not None:
            assert isinstance(self.channel, TLSChannel), "there is only one proxy"
            channel = NestedChannel(inner, self.channel)
        channel.start()
        self._flush(channel, text)
        while not channel.handshake_complete:
            self._feed(channel, text)
        self.channel = channel

    def release(self) -> socket.socket:
        """Return the socket, in blocking mode."""
        self.sock.settimeout(None)
        return self.sock

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    # Ciphertext.

    def _feed(self, channel: Channel, text: str) -> None:
        """Wait for ciphertext, and send what the channel answers."""
        if data := self._receive_some(text):
            channel.receive_data(data)
        else:
            channel.receive_eof()
        self._flush(channel, text)

    def _flush(self, channel: Channel, text: str) -> None:
        """Send the ciphertext of a channel; after a failure, try to send its alert, and raise."""
        try:
            while pieces := channel.data_to_send():
                self._send_all(b"".join(pieces), text)
        except OSError:
            if channel.failure is None:
                raise
        if channel.failure is not None:
            raise channel.failure

    # The socket.

    def _send_all(self, data: bytes, text: str) -> None:
        self._limit(text)
        with step(text):
            self.sock.sendall(data)

    def _receive_some(self, text: str) -> bytes:
        self._limit(text)
        with step(text):
            return self.sock.recv(READ)

    def _limit(self, text: str) -> None:
        left = seconds_until(self._deadline, text)
        self.sock.settimeout(None if left == math.inf else left)
