"""TLS over memory, on asyncio: its settings, and the transport that a protocol gets, with TLS or without.

TLS is asyncio's own; it runs on a :class:`~._transport.MemoryTransport` as on any other transport.

May know: asyncio, memory transports. Must not know: names, addresses, who listens where, WebSocket.
"""

from __future__ import annotations

import asyncio
from asyncio import sslproto
from typing import TYPE_CHECKING, NamedTuple

from ._link import MemorySocket
from ._transport import MemoryTransport, TransportOwner

if TYPE_CHECKING:
    import ssl as tls

__all__ = ["Security", "client_security", "start_transport"]


class Security(NamedTuple):
    """TLS settings of a connection or a server.

    Attributes:
        context: the TLS context.
        hostname: the name that the server's certificate must have; None on a server.
        handshake_timeout: seconds; None for asyncio's default.
        shutdown_timeout: seconds; None for asyncio's default.
    """

    context: tls.SSLContext
    hostname: str | None
    handshake_timeout: int | None
    shutdown_timeout: float | None


def client_security(
    ssl: tls.SSLContext | bool | None,
    server_hostname: str | None,
    host: str | None,
    handshake_timeout: int | None,
    shutdown_timeout: float | None,
) -> Security | None:
    """Check and complete the TLS settings of a client, by the rules of asyncio.

    Raises:
        ValueError: the settings contradict each other.
    """
    if not ssl:
        if server_hostname is not None:
            raise ValueError("server_hostname is only meaningful with ssl")
        return None
    hostname = host if server_hostname is None else server_hostname
    if hostname is None:
        raise ValueError("You must set server_hostname when using ssl without a host")
    return Security(_default_context() if ssl is True else ssl, hostname, handshake_timeout, shutdown_timeout)


def _default_context() -> tls.SSLContext:
    # Some interpreters, such as Pyodide, have no TLS. So it is imported only when it is used.
    from ssl import create_default_context

    return create_default_context()


def start_transport(
    loop: asyncio.AbstractEventLoop,
    sock: MemorySocket,
    protocol: asyncio.BaseProtocol,
    security: Security | None,
    waiter: asyncio.Future[None],
    server: TransportOwner | None = None,
) -> asyncio.Transport:
    """Make a transport.

    Parameters:
        loop: the loop that calls the protocol.
        sock: the end of a link; the transport closes it.
        protocol: gets what arrives.
        security: TLS settings; None for no TLS.
        waiter: resolved when the connection can be used, or has failed.
        server: the server that accepted the connection; None on a client.
    """
    if security is None:
        return MemoryTransport(loop, sock, protocol, waiter=waiter, owner=server)
    secure = sslproto.SSLProtocol(
        loop,
        protocol,
        security.context,
        waiter,
        server_side=server is not None,
        server_hostname=security.hostname,
        ssl_handshake_timeout=security.handshake_timeout,
        ssl_shutdown_timeout=security.shutdown_timeout,
    )
    MemoryTransport(loop, sock, secure, owner=server)
    # This is the one private name of asyncio that is used here: only asyncio's loops make TLS transports in public.
    transport: asyncio.Transport = secure._app_transport
    return transport
