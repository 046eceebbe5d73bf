"""The TLS handshakes of a server's clients, before there are connections: who failed, and their end with the server.

May know: transports of asyncio that do TLS, and tell of it. Must not know: how TLS is done, servers, WebSocket.

In Python 3.12, a server isn't closed before the handshakes of all its clients are over. Event loops tell nobody of
their own; those over memory are known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Handshakes"]


class Handshakes:
    """The TLS handshakes under way on a server.

    Parameters:
        failed: function that is called with the transport and the exception when a handshake fails.
    """

    def __init__(self, failed: Callable[[asyncio.BaseTransport, Exception], None]) -> None:
        self._failed = failed
        self._under_way: set[asyncio.Transport] = set()
        self._closing = False

    def begin(self, transport: asyncio.Transport) -> None:
        """Note that the handshake on a transport begins; abort it if the server closes."""
        self._under_way.add(transport)
        if self._closing:
            transport.abort()

    def end(self, transport: asyncio.Transport, exc: Exception | None = None) -> None:
        """Note that the handshake on a transport has succeeded, or failed with an exception."""
        self._under_way.discard(transport)
        if exc is not None:
            self._failed(transport, ConnectionAbortedError("the server closes") if self._closing else exc)

    def abort(self) -> None:
        """Abort all handshakes, and those that begin later, because the server closes."""
        self._closing = True
        for transport in [*self._under_way]:
            transport.abort()
