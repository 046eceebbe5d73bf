"""A connection to a server until the header of the PROXY protocol has arrived and, with TLS, the handshake is over.

May know: the event loop, transports, the server of the connection. Must not know: the format of a header, the peers
that
may send one: ``_session`` decides that.

The header comes before TLS. Event loops can start TLS on a connection, but can't pass it bytes that were already read.
Some loops read more bytes than requested, such as asyncio's proactor loop. Without TLS the connection gets these bytes.
With TLS the connection is refused, because the bytes would be treated as if TLS had protected them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from .._codec.proxy_protocol import TrustedProxies
from .._session.arriving import Arriving, Refusal
from ._secure import start_tls
from ._serving import Server, created

if TYPE_CHECKING:
    from .server import ServerConnection

__all__ = ["Arrival"]


class Arrival(asyncio.BufferedProtocol):
    """The asyncio protocol for a connection from a proxy, until the WebSocket connection takes over.

    Parameters:
        server: the server that accepted the connection.
        factory: function that makes the WebSocket connection.
        proxies: the peers that may connect.
        tls: arguments of ``start_tls()``; None without TLS.
        tls_transport: name of the transport for TLS; None for the best one.
    """

    transport: asyncio.Transport
    _deadline: asyncio.TimerHandle | None = None
    _securing: asyncio.Task[asyncio.Transport | None] | None = None
    _connection: ServerConnection | None = None  # after it took over, without TLS

    def __init__(
        self,
        server: Server,
        factory: Callable[[], ServerConnection],
        proxies: TrustedProxies,
        tls: dict[str, Any] | None,
        tls_transport: str | None = None,
    ) -> None:
        self._server, self._factory, self._tls, self._tls_transport = server, factory, tls, tls_transport
        self._loop = asyncio.get_running_loop()
        self._arriving = Arriving(server._ws_registry, proxies, server.logger)
        self._buffer = memoryview(b"")
        self._decrypted = _Decrypted()

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Check the peer, and begin to wait for the header; the event loop calls this."""
        # Other event loops have transports of their own, which have the same methods but not the base class.
        self.transport = cast(asyncio.Transport, transport)
        timeout = self._server._ws_answering.options.open_timeout
        refusal = self._arriving.admit(self, transport.get_extra_info("peername"))
        if refusal is not None:
            self.refuse(refusal)
        elif timeout is not None:
            self._deadline = self._loop.call_later(timeout, self.refuse, self._arriving.time_out(timeout))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer for the next bytes; the event loop calls this."""
        self._buffer = memoryview(bytearray(self._arriving.read_size))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Process bytes in the buffer; the event loop calls this."""
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
        """Process the end of the stream; the event loop calls this, and closes the transport."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Process the end of the connection; the event loop calls this."""
        self._end_deadline()
        self._arriving.lose()

    # Called by the methods above.

    def refuse(self, refusal: Refusal) -> None:
        """End the connection before a WebSocket connection exists.

        Parameters:
            refusal: the reason.
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
        """Let the WebSocket connection take over, or start TLS, after the header has arrived."""
        # The TLS handshake has its own timeout.
        self._end_deadline()
        if self._tls is None:
            self._connection = self._hand_over(self.transport)
            return
        self.transport.pause_reading()
        self._securing = self._loop.create_task(self._secure(self._tls))
        self._securing.add_done_callback(self._secured)

    async def _secure(self, tls: dict[str, Any]) -> asyncio.Transport | None:
        """Wait for the TLS handshake; return its transport, or None if the connection is already over."""
        if self.transport.is_closing():
            return None
        return await start_tls(self._tls_transport, self.transport, self._decrypted, server_side=True, **tls)

    def _secured(self, task: asyncio.Task[asyncio.Transport | None]) -> None:
        """Process the result of the TLS handshake."""
        failure = None if task.cancelled() else task.exception()
        transport = None if task.cancelled() or failure is not None else task.result()
        refused = not self._arriving.waiting
        if transport is None or refused or self._decrypted.lost or transport.is_closing():
            self._not_secured(failure)
            # Some transports must be closed even if the transport below them is closed.
            (transport or self.transport).abort()
            return
        connection = self._hand_over(transport)
        if connection is not None and self._decrypted.received and not transport.is_closing():
            connection.data_received(self._decrypted.received)

    def _not_secured(self, failure: BaseException | None) -> None:
        """Refuse a client whose TLS handshake failed, unless it was refused in the meantime."""
        if failure is not None and not isinstance(failure, OSError):
            self._loop.call_exception_handler({"message": "starting TLS failed", "exception": failure})
        if self._arriving.waiting:
            self.refuse(self._arriving.tls_failed(failure))

    def _hand_over(self, transport: asyncio.Transport) -> ServerConnection | None:
        """Pass the transport to a new WebSocket connection; close it if that can't be made."""
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
    """The asyncio protocol of the TLS transport until the WebSocket connection takes over, in the next turn."""

    received: bytes = b""
    lost: bool = False

    def data_received(self, data: bytes) -> None:
        """Keep data from a client that sends at once; TLS calls this."""
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        """Process the end of the connection; TLS calls this."""
        self.lost = True
