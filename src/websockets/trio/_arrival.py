"""A stream that a server on trio accepted, until a WebSocket connection may begin: PROXY protocol, TLS handshake.

May know: streams, cancel scopes, TLS on a stream. Must not know: the format of a header, the peers that may send one,
what the log says: ``_session`` decides that.

The header of the PROXY protocol comes before TLS. No read asks for more bytes than certainly belong to the header.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import trio

from .._session.arriving import LEFT, Arriving, Refusal
from ._wire import socket_of, start_tls

if TYPE_CHECKING:
    from ssl import SSLContext

    from .._codec.proxy_protocol import Addresses, TrustedProxies
    from .._session.registry import Registry
    from ..typing import LoggerLike

__all__ = ["Arrival"]

# What streams raise when they are broken.
BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class Arrival:
    """A stream before it is a WebSocket connection.

    Parameters:
        stream: the stream that was accepted.
        registry: connections of the server.
        proxies: the peers that may connect, if they must send a header of the PROXY protocol; None to expect no header.
        logger: where the server logs.

    Attributes:
        stream: the stream for the WebSocket connection; the caller closes it if it isn't needed.
    """

    def __init__(
        self, stream: trio.abc.Stream, registry: Registry[Any, Any], proxies: TrustedProxies | None, logger: LoggerLike
    ) -> None:
        self.stream = stream
        self._peer = _peer_of(stream)
        self._proxied = proxies is not None
        self._arriving = Arriving(registry, proxies, logger)
        self._scope = trio.CancelScope()

    @property
    def addresses(self) -> Addresses | None:
        """The addresses in the header; None if there is no header."""
        return self._arriving.addresses

    def refuse(self, refusal: Refusal) -> None:
        """End the stream before a WebSocket connection exists.

        Parameters:
            refusal: the reason.
        """
        self._arriving.refuse(refusal, self._peer)
        self._scope.cancel()

    async def arrive(self, context: SSLContext | None, timeout: float | None) -> bool:
        """Read the header, if the server expects one, and do the TLS handshake, if there is TLS.

        Parameters:
            context: TLS context; None without TLS.
            timeout: seconds that each of these may take; None for no limit.

        Returns:
            Whether a WebSocket connection may begin; if not, the reason is logged and counted.
        """
        arrived = False
        with self._scope:
            try:
                arrived = await self._read_header(timeout) and await self._start_tls(context, timeout)
            finally:
                # From here on it is a WebSocket connection, or nothing.
                if arrived:
                    self._arriving.leave()
                else:
                    self._arriving.lose()
        return arrived

    async def _read_header(self, timeout: float | None) -> bool:
        """Read the header of the PROXY protocol, if the server expects one; return whether the stream may stay."""
        if not self._proxied:
            return True
        refusal = self._arriving.admit(self, self._peer)
        with trio.move_on_after(math.inf if timeout is None else timeout) as limit:
            while refusal is None and self.addresses is None:
                refusal = await self._read()
        if limit.cancelled_caught and timeout is not None:
            refusal = self._arriving.time_out(timeout)
        if refusal is not None:
            self.refuse(refusal)
        return refusal is None

    async def _read(self) -> Refusal | None:
        """Read some bytes of the header; return the refusal, if there is any."""
        try:
            data = bytes(await self.stream.receive_some(self._arriving.read_size))
        except BROKEN:
            data = b""
        return self._arriving.receive_data(data) if data else LEFT

    async def _start_tls(self, context: SSLContext | None, timeout: float | None) -> bool:
        """Do the TLS handshake, if there is TLS; return whether the stream may stay."""
        if context is None:
            return True
        failure: BaseException | None = None
        with trio.move_on_after(math.inf if timeout is None else timeout) as limit:
            try:
                self.stream = await start_tls(self.stream, context, server_side=True)
            except BROKEN as exc:
                failure = exc.__cause__ if isinstance(exc, trio.BrokenResourceError) else exc
                self.refuse(self._arriving.tls_failed(failure))
                return False
        if limit.cancelled_caught:
            self.refuse(self._arriving.tls_failed(TimeoutError(f"it takes longer than {timeout} s")))
        return not limit.cancelled_caught


def _peer_of(stream: trio.abc.Stream) -> Any:
    """Return the address of the peer; None if there is none, or if the peer has gone."""
    sock = socket_of(stream)
    try:
        return None if sock is None else sock.getpeername()
    except OSError:
        return None
