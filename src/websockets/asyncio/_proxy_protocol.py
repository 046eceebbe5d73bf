"""A connection to a server until the header of the PROXY protocol is there and, with TLS, the handshake is over.

May know: the loop, transports, the server that the connection is for. Must not know: what a header looks like, who may
send one: that is decided further down.

The header comes before TLS. Loops can start TLS on a connection, but not give it bytes that were read already. Some
loops read more than they were asked for, such as the proactor of asyncio: without TLS the connection gets the rest, and
with TLS it is refused, as the rest must not pass for protected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from .._codec.proxy_protocol import TrustedProxies
from .._session.arriving import Arriving, Refusal
from ._serving import Server, created

if TYPE_CHECKING:
    from .server import ServerConnection

__all__ = ["Arrival"]


class Arrival(asyncio.BufferedProtocol):
    """What the loop calls for a connection that comes from a proxy, until the connection itself takes over.

    Parameters:
        server: the server that accepted it.
        factory: makes the connection.
        proxies: the peers that may connect.
        tls: arguments of ``start_tls()``; None without TLS.
    """

    transport: asyncio.Transport
    _deadline: asyncio.TimerHandle | None = None
    _securing: asyncio.Task[asyncio.Transport | None] | None = None
    _connection: ServerConnection | None = None  # once it took over, without TLS

    def __init__(
        self,
        server: Server,
        factory: Callable[[], ServerConnection],
        proxies: TrustedProxies,
        tls: dict[str, Any] | None,
    ) -> None:
        self._server, self._factory, self._tls = server, factory, tls
        self._loop = asyncio.get_running_loop()
        self._arriving = Arriving(server._ws_registry, proxies, server.logger)
        self._buffer = memoryview(b"")
        self._decrypted = _Decrypted()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        # Other loops have transports of their own, which keep the contract without the base class.
        self.transport = cast(asyncio.Transport, transport)
        timeout = self._server._ws_answering.options.open_timeout
        refusal = self._arriving.admit(self, transport.get_extra_info("peername"))
        if refusal is not None:
            self.refuse(refusal)
        elif timeout is not None:
            self._deadline = self._loop.call_later(timeout, self.refuse, self._arriving.time_out(timeout))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Called by the loop: where the next bytes go."""
        self._buffer = memoryview(bytearray(self._arriving.read_size))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Called by the loop: bytes arrived."""
        data = bytes(self._buffer[:nbytes])
        if self.transport.is_closing():
            return
        if self._connection is not None:
            self._connection.data_received(data)
        elif (refusal := self._arriving.receive_data(data)) is not None:
            self.refuse(refusal)
        elif self._arriving.addresses is not None:
            self._go_on()

    def eof_received(self) -> None:
        """Called by the loop: nothing else will come. The transport closes."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: the connection is over."""
        self._end_deadline()
        self._arriving.lose()

    # What follows.

    def refuse(self, refusal: Refusal) -> None:
        """End the connection before anything is known of it.

        Parameters:
            refusal: why.
        """
        self._end_deadline()
        self._arriving.refuse(refusal, self.transport.get_extra_info("peername"))
        if self._securing is not None:
            self._securing.cancel()
        self.transport.abort()

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def _go_on(self) -> None:
        """The header is there: let the connection take over, or TLS begin."""
        # The TLS handshake has a limit of its own.
        self._end_deadline()
        if self._tls is None:
            self._connection = self._hand_over(self.transport)
            return
        self.transport.pause_reading()
        self._securing = self._loop.create_task(self._secure(self._tls))
        self._securing.add_done_callback(self._secured)

    async def _secure(self, tls: dict[str, Any]) -> asyncio.Transport | None:
        """Wait for the TLS handshake; return the transport on top of it, or None if it is gone already."""
        if self.transport.is_closing():
            return None
        return await self._loop.start_tls(self.transport, self._decrypted, server_side=True, **tls)

    def _secured(self, task: asyncio.Task[asyncio.Transport | None]) -> None:
        """The TLS handshake is over."""
        failure = None if task.cancelled() else task.exception()
        transport = None if task.cancelled() or failure is not None else task.result()
        refused = not self._arriving.waiting
        if transport is None or refused or self._decrypted.lost or transport.is_closing():
            self._not_secured(failure)
            # Some transports have to be told although what is below them is over.
            (transport or self.transport).abort()
            return
        connection = self._hand_over(transport)
        if connection is not None and self._decrypted.received and not transport.is_closing():
            connection.data_received(self._decrypted.received)

    def _not_secured(self, failure: BaseException | None) -> None:
        """Refuse a client that isn't there behind TLS, unless it was refused in the meantime."""
        if failure is not None and not isinstance(failure, OSError):
            self._loop.call_exception_handler({"message": "starting TLS failed", "exception": failure})
        if self._arriving.waiting:
            self.refuse(self._arriving.tls_failed(failure))

    def _hand_over(self, transport: asyncio.Transport) -> ServerConnection | None:
        """Let the connection have the transport; without one that can be made, end it."""
        self._arriving.leave()
        try:
            connection = created(self._server, self._factory)
            if connection is None:
                transport.abort()
                return None
            connection._ws_session.proxied = self._arriving.addresses
            transport.set_protocol(connection)
            connection.connection_made(transport)
        except BaseException:
            transport.abort()
            raise
        return connection


class _Decrypted(asyncio.Protocol):
    """What TLS calls until the connection takes over, in the next turn of the loop."""

    received: bytes = b""
    lost: bool = False

    def data_received(self, data: bytes) -> None:
        """Called by TLS: the client doesn't wait."""
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by TLS: the connection is over."""
        self.lost = True
