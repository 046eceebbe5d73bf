"""A server in memory with the interface of asyncio's servers.

May know: asyncio, links, memory transports and TLS over them. Must not know: names, how clients connect, WebSocket.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable

from ._addresses import FakeSocket
from ._asyncio_tls import Security, start_transport
from ._link import Link, MemorySocket
from ._transport import MemoryTransport

__all__ = ["MemoryServer"]

_Factory = Callable[[], asyncio.BaseProtocol]


class MemoryServer(asyncio.AbstractServer):
    """A server in memory, with the interface that ``asyncio.Server`` has in Python 3.13, on every version of Python.

    Parameters:
        factory: makes the protocol of each connection.
        security: TLS settings; None for no TLS.
        unbind: frees the addresses of the server.

    Attributes:
        links: all connections that were made to the server, in order.
    """

    def __init__(self, factory: _Factory, security: Security | None, unbind: Callable[[MemoryServer], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._factory, self._security, self._unbind = factory, security, unbind
        self.links: list[Link] = []
        self._sockets: list[FakeSocket] | None = []
        self._transports: set[MemoryTransport] = set()
        self._serving = False
        self._context = contextvars.copy_context()
        self._forever: asyncio.Future[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def bound(self, sockets: list[FakeSocket]) -> None:
        """Remember the listening sockets; called by the network only."""
        self._sockets = sockets

    def __repr__(self) -> str:
        return f"<MemoryServer sockets={self.sockets!r}>"

    # The interface of asyncio.Server.

    @property
    def sockets(self) -> tuple[FakeSocket, ...]:
        """The listening sockets; none after :meth:`close`."""
        return tuple(self._sockets or ())

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop."""
        return self._loop

    def is_serving(self) -> bool:
        """Return whether connections are accepted."""
        return self._serving

    async def start_serving(self) -> None:
        """Accept connections from now on.

        Raises:
            RuntimeError: the server is closed.
        """
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        if not self._serving:
            self._serving = True
            self._context = contextvars.copy_context()
        await asyncio.sleep(0)

    async def serve_forever(self) -> None:
        """Accept connections until cancelled, or until :meth:`close`, then close the server.

        Raises:
            RuntimeError: the server is closed, or another task is in this method.
        """
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        await self.start_serving()
        self._forever = self._loop.create_future()
        try:
            await self._forever
        finally:
            self._forever = None
            self.close()
            await self.wait_closed()

    def close(self) -> None:
        """Stop listening; connections go on."""
        if self._sockets is None:
            return
        self._sockets, self._serving = None, False
        self._unbind(self)
        if self._forever is not None:
            self._forever.cancel()
        self._wake()

    def close_clients(self) -> None:
        """Close the transports of all connections."""
        for transport in self._transports.copy():
            transport.close()

    def abort_clients(self) -> None:
        """Abort the transports of all connections."""
        for transport in self._transports.copy():
            transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the server is closed and its last connection has ended."""
        while self._sockets is not None or self._transports:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    # For the network and for transports.

    def accept(self, sock: MemorySocket) -> None:
        """Take a new connection, in the next iteration of the loop and in the context of :meth:`start_serving`."""
        self.links.append(sock.link)
        self._loop.call_soon(self._accept, sock, context=self._context.copy())

    def _accept(self, sock: MemorySocket) -> None:
        if not self._serving:
            sock.reset()
            return
        try:
            protocol = self._factory()
        except Exception as exc:
            sock.reset()
            message = "Error on transport creation for incoming connection"
            self._loop.call_exception_handler({"message": message, "exception": exc})
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        # If a TLS handshake fails, the client learns of it. Here nobody waits, so the exception is marked as seen.
        waiter.add_done_callback(lambda waiter: waiter.cancelled() or waiter.exception())
        start_transport(self._loop, sock, protocol, self._security, waiter, self)

    def attach(self, transport: MemoryTransport) -> None:
        """Take note of a new transport."""
        self._transports.add(transport)

    def detach(self, transport: MemoryTransport) -> None:
        """Take note of the end of a transport."""
        self._transports.discard(transport)
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
