"""A connection to a server until the header of the PROXY protocol is there and, with TLS, the handshake is over.

May know: the loop, transports, the server that the connection is for. Must not know: what a header looks like.

The header comes before TLS. Loops can start TLS on a connection, but not give it bytes that were read already. So no
more is asked for than what surely belongs to the header. Some loops read more all the same, such as the proactor of
asyncio: without TLS the connection gets the rest, and with TLS it is refused, as the rest must not pass for protected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from .._codec.proxy_protocol import Addresses, ProxyHeaderReader, TrustedProxies
from .._rules.capacity import CROWDED
from .._rules.statistics import FAILURE, GONE, PROXY_HEADER, TIMEOUT, TLS
from ._serving import Server, shown_address

if TYPE_CHECKING:
    from .server import ServerConnection

__all__ = ["Arrival"]

# Bytes that a loop may bring at a time after the header.
READ_SIZE: Final = 2**14

READ_TOO_MUCH: Final = "the event loop reads beyond the PROXY protocol header, so TLS can't start; use another loop"


class Arrival(asyncio.BufferedProtocol):
    """What the loop calls for a connection that comes from a proxy, until the connection itself takes over.

    Parameters:
        server: the server that accepted it.
        factory: makes the connection.
        proxies: the peers that may connect.
        tls: arguments of ``start_tls()``; None without TLS.
    """

    transport: asyncio.Transport
    _addresses: Addresses | None = None
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
        self._server, self._factory, self._proxies, self._tls = server, factory, proxies, tls
        self._loop = asyncio.get_running_loop()
        self._reader = ProxyHeaderReader()
        self._buffer = memoryview(b"")
        self._decrypted = _Decrypted()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        # Other loops have transports of their own, which keep the contract without the base class.
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if peer is None:
            # It is gone already, as after the plain health check of a proxy.
            self._server._tally.refuse(GONE)
            self.transport.abort()
        elif self._server._closing:
            # It was accepted just before the server stopped listening.
            self.refuse("server is shutting down")
        elif peer not in self._proxies:
            self.refuse("not a trusted proxy", "its address isn't in proxy_protocol")
        elif not self._server._arrived(self):
            self.refuse(CROWDED)
        elif (timeout := self._server._options.open_timeout) is not None:
            text = f"no complete PROXY protocol header within {timeout} s"
            self._deadline = self._loop.call_later(timeout, self.refuse, TIMEOUT, text)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Called by the loop: where the next bytes go."""
        self._buffer = memoryview(bytearray(self._reader.missing if self._addresses is None else READ_SIZE))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Called by the loop: bytes arrived."""
        data = bytes(self._buffer[:nbytes])
        if self.transport.is_closing():
            return
        if self._addresses is None:
            self._read(data)
        elif self._connection is not None:
            self._connection.data_received(data)
        else:
            self.refuse(FAILURE, READ_TOO_MUCH)

    def eof_received(self) -> None:
        """Called by the loop: nothing else will come. The transport closes."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: the connection is over."""
        if self._leave():
            self._server._tally.refuse(GONE)

    # What follows.

    def refuse(self, reason: str, text: str | None = None) -> None:
        """End the connection before anything is known of it.

        Parameters:
            reason: for the statistics of the server.
            text: for the log, if it is to say more than the reason.
        """
        self._leave()
        self._server._tally.refuse(reason)
        peer = shown_address(self.transport.get_extra_info("peername")) or "a Unix socket"
        self._server.logger.info("connection from %s closed: %s", peer, text or reason)
        if self._securing is not None:
            self._securing.cancel()
        self.transport.abort()

    def _leave(self) -> bool:
        """The connection isn't arriving any more; return whether it was."""
        self._end_deadline()
        return self._server._arrives_no_more(self)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def _read(self, data: bytes) -> None:
        try:
            self._addresses = self._reader.feed(data)
        except ValueError as exc:
            self.refuse(PROXY_HEADER, f"invalid PROXY protocol header: {exc}")
            return
        if self._addresses is None:
            return
        if self._tls is None:
            self._connection = self._hand_over(self.transport)
            return
        # The TLS handshake has a limit of its own.
        self._end_deadline()
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
        refused = self not in self._server._arriving
        if transport is None or refused or self._decrypted.lost or transport.is_closing():
            self._not_secured(failure)
            # Some transports have to be told although what is below them is over.
            (transport or self.transport).abort()
            return
        connection = self._hand_over(transport)
        if connection is not None and self._decrypted.received and not transport.is_closing():
            connection.data_received(self._decrypted.received)

    def _not_secured(self, failure: BaseException | None) -> None:
        """Count a client that isn't there behind TLS, unless it was refused meanwhile."""
        if failure is not None and not isinstance(failure, OSError):
            self._loop.call_exception_handler({"message": "starting TLS failed", "exception": failure})
        if self not in self._server._arriving:
            return
        if failure is None or isinstance(failure, ConnectionResetError | BrokenPipeError):
            self._leave()
            self._server._tally.refuse(GONE)
        else:
            self.refuse(TLS, f"{TLS}: {failure}")

    def _hand_over(self, transport: asyncio.Transport) -> ServerConnection | None:
        """Let the connection have the transport; without one that can be made, end it."""
        self._leave()
        try:
            connection = self._server._created(self._factory)
            if connection is None:
                transport.abort()
                return None
            connection._session.proxied = self._addresses
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
