"""WebSocket servers on trio: ``serve()``.

May know: the arguments of :func:`serve`, trio's listeners. Must not know: tasks and handlers, which :mod:`._serving`
runs; how a response is chosen: ``_session`` decides that.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import trio

from .._awaiting.basic_auth import basic_auth
from .._rules.statistics import ServerStatistics
from .._session.options import TRIO_SERVER, ServerOptions
from ..extensions.base import ServerExtensionFactory
from ..http11 import SERVER, Request, Response
from ..typing import HostsLike, LoggerLike, Origin, Subprotocol
from ._broadcast import broadcast
from ._server_connection import ServerConnection
from ._serving import Server, server_with

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["Server", "ServerConnection", "ServerStatistics", "basic_auth", "broadcast", "serve"]

Handler = Callable[[ServerConnection], Awaitable[None]]
ProcessRequest = Callable[[ServerConnection, Request], Awaitable[Response | None] | Response | None]
ProcessResponse = Callable[[ServerConnection, Request, Response], Awaitable[Response | None] | Response | None]
SelectSubprotocol = Callable[
    [ServerConnection, Sequence[Subprotocol]], Awaitable[Subprotocol | None] | Subprotocol | None
]


async def serve(
    handler: Handler,
    port: int | None = None,
    *,
    host: str | bytes | None = None,
    backlog: int | None = None,
    listeners: Sequence[trio.abc.Listener[Any]] | None = None,
    ssl: SSLContext | None = None,
    origins: Sequence[Origin | re.Pattern[str] | None] | None = None,
    extensions: Sequence[ServerExtensionFactory] | None = None,
    subprotocols: Sequence[Subprotocol] | None = None,
    select_subprotocol: SelectSubprotocol | None = None,
    compression: str | None = "deflate",
    process_request: ProcessRequest | None = None,
    process_response: ProcessResponse | None = None,
    server_header: str | None = SERVER,
    open_timeout: float | None = 10,
    ping_interval: float | None = 20,
    ping_timeout: float | None = 20,
    close_timeout: float | None = 10,
    max_size: int | tuple[int | None, int | None] | None = 2**20,
    max_queue: int | tuple[int | None, int | None] | None = 16,
    logger: LoggerLike | None = None,
    create_connection: Callable[..., ServerConnection] | None = None,
    hosts: HostsLike | None = None,
    max_connections: int | None = None,
    max_connections_per_host: int | None = None,
    idle_timeout: float | None = None,
    max_rate: tuple[float, int] | None = None,
    max_bytes_rate: tuple[float, int] | None = None,
    on_rate: Literal["wait", "close"] = "wait",
    proxy_protocol: Iterable[str] | None = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a WebSocket server until it is closed.

    When a client connects, the server does the opening handshake, runs the handler, and closes the connection when the
    handler ends: with code 1000, or 1011 if the handler raises an exception. Start it in a nursery, and close it with
    :meth:`Server.aclose`::

        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve, handler, 8765)
            ...
            await server.aclose()

    Cancelling the nursery ends all handlers at once.

    Parameters:
        handler: coroutine function that is called with the connection.
        port: TCP port; 0 for any free port, see ``server.listeners``. Required unless ``listeners`` is given.
        host: address to listen on, as for :func:`trio.open_tcp_listeners`; None for all interfaces.
        backlog: number of connections that may wait to be accepted; None for the default of trio.
        listeners: listeners of trio instead of a port: a :class:`trio.SocketListener` for a Unix socket...
        ssl: TLS context; None for no TLS.
        origins: origins to accept: strings, compiled patterns that must match in full, None for no ``Origin`` header.
        extensions: extensions supported, in the order to try them.
        subprotocols: subprotocols supported, in order of preference.
        select_subprotocol: ``f(connection, offered) -> subprotocol or None``, a function or a coroutine function,
            instead of the default choice. Clients that follow RFC 6455 refuse a subprotocol that they didn't offer.
        compression: "deflate" for permessage-deflate (RFC 7692), None for no compression.
        process_request: ``f(connection, request) -> response or None``, a function or a coroutine function; a response
            is sent instead of opening the connection.
        process_response: ``f(connection, request, response) -> response or None``, a function or a coroutine function;
            it may change the response or return another one.
        server_header: value of the ``Server`` header; None to leave it out.
        open_timeout: seconds that the opening handshake may take; with ``ssl``, also the TLS handshake. None for no
            limit.
        ping_interval, ping_timeout, close_timeout, max_queue: see :class:`~websockets.trio.connection.Connection`.
        max_size: maximum size of incoming messages in bytes; None for no limit; or a tuple of the limits of a message
            and of a fragment.
        logger: where to log; ``websockets.server`` by default.
        create_connection: class or factory of connections, called like :class:`ServerConnection`.
        hosts: values of the ``Host`` header to accept; other requests are refused with 421. Strings without a port, or
            compiled patterns that must match in full; upper and lower case are equal. None to accept any value. A
            response from ``process_request`` takes precedence.
        max_connections: maximum number of connections; further requests are refused with 503 and ``Retry-After``. None
            for no limit. A connection counts until it and its handler have ended.
        max_connections_per_host: the same limit for one IPv4 address, or for the addresses of one IPv6 network of 64
            bits. Not for servers behind a proxy without ``proxy_protocol``, because all connections have the address of
            the proxy. Connections to Unix sockets don't count.
        idle_timeout: seconds without data after which a connection is closed with code 1001; see
            :class:`~websockets.trio.connection.Connection`.
        max_rate: how many messages a second are received on a connection, and how many may come at once, such as
            ``(100, 500)``; control frames don't count. None for no limit.
        max_bytes_rate: the same for bytes, with frame headers, before decompression.
        on_rate: what happens beyond these limits: ``"wait"`` to read on later, so that the client has to wait
            (back-pressure), or ``"close"`` to close the connection with code 1008. ``statistics.limited`` counts how
            often.
        proxy_protocol: addresses and networks of the proxies that send a header of the PROXY protocol, version 1 or 2,
            such as ``["10.0.0.0/8", "::1"]``; "unix:" for all connections to a Unix socket. Only these proxies may
            connect; they must send a header within ``open_timeout``. With ``ssl``, the TLS handshake follows the
            header. None to expect no header.
        task_status: for :meth:`trio.Nursery.start`, which returns the :class:`Server` when it accepts connections.

    Raises:
        OSError: the server can't listen on the address.
        TypeError: an option has a wrong type.
        ValueError: an option has a wrong value, or options contradict each other.
    """
    options = ServerOptions.of({**locals(), "kwargs": {}}, logging.getLogger("websockets.server"), TRIO_SERVER)
    place = options.arguments
    if place["listeners"] is None:
        listening: Sequence[trio.abc.Listener[Any]] = await trio.open_tcp_listeners(
            place["port"], host=place["host"], backlog=place["backlog"]
        )
    else:
        listening = place["listeners"]
    await server_with(listening, handler, options).serve_forever(task_status)
