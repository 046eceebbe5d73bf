"""WebSocket servers on asyncio: ``serve()``, and a server's end of a connection with its opening handshake.

May know: the loop, tasks, what users pass to :func:`serve`. Must not know: how an answer comes about, what a good
request is, or what a refusal says: that is decided further down.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .._compat.deprecated import deprecated_names
from .._compat.layout import share_names
from .._rules.statistics import ServerStatistics
from .._session.answering import Answering
from .._session.options import ServerOptions, renamed_argument
from .._session.server_session import ServerSession
from ..datastructures import HeadersLike
from ..extensions.base import ServerExtensionFactory
from ..http11 import SERVER, Request, Response
from ..server import ServerProtocol
from ..typing import BytesLike, HostsLike, LoggerLike, Origin, StatusLike, Subprotocol
from ._auth import basic_auth
from ._broadcast import broadcast
from ._proxy_protocol import Arrival
from ._serving import Server, answering_of, connected, forget, prepare, run_handler, serve_with, start_handler
from .connection import Connection

__all__ = ["Server", "ServerConnection", "ServerStatistics", "basic_auth", "broadcast", "serve", "unix_serve"]

Handler = Callable[["ServerConnection"], Awaitable[None]] | Callable[["ServerConnection", str], Awaitable[None]]
ProcessRequest = Callable[["ServerConnection", Request], Awaitable[Response | None] | Response | None]
ProcessResponse = Callable[["ServerConnection", Request, Response], Awaitable[Response | None] | Response | None]
SelectSubprotocol = Callable[
    ["ServerConnection", Sequence[Subprotocol]], Awaitable[Subprotocol | None] | Subprotocol | None
]


class ServerConnection(Connection):
    """The server's end of a WebSocket connection; what a handler gets.

    Parameters:
        protocol: sans-I/O connection.
        server: the server that accepted the connection.
        ping_interval, ping_timeout, close_timeout, max_queue, write_limit, idle_timeout: as for
            :class:`~websockets.asyncio.connection.Connection`.
    """

    protocol: ServerProtocol
    username: str
    """Who the client says it is, after :func:`basic_auth` let it in."""
    handler: Callable[..., Awaitable[None]]
    """The handler that :func:`~websockets.asyncio.router.route` chose."""
    handler_kwargs: Mapping[str, Any]
    """What :func:`~websockets.asyncio.router.route` captured of the path; the handler gets it as keyword arguments."""

    def __init__(
        self,
        protocol: ServerProtocol,
        server: Server,
        *,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = 10,
        max_queue: int | tuple[int | None, int | None] | None = 16,
        write_limit: int | tuple[int, int | None] = 2**15,
        idle_timeout: float | None = None,
    ) -> None:
        self.server = server
        super().__init__(
            protocol,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            close_timeout=close_timeout,
            max_queue=max_queue,
            write_limit=write_limit,
            idle_timeout=idle_timeout,
        )

    _ws_session: ServerSession
    _ws_make_session = ServerSession
    _ws_task: asyncio.Task[None] | None = None

    def respond(self, status: StatusLike, text: str | BytesLike, *, headers: HeadersLike | None = None) -> Response:
        """Make an HTTP response, for ``process_request`` or ``process_response`` to return.

        Parameters:
            status: HTTP status.
            text: body; a ``str`` is sent in UTF-8, as ``text/plain``, and bytes as ``application/octet-stream``.
            headers: more headers, or others than the usual, such as ``Content-Type``.

        Returns:
            The response, with ``Connection: close``; its headers may be changed.

        Raises:
            ValueError: the status is unknown, or ``headers`` has one that only the body or the connection decides:
                ``Connection``, ``Content-Length``, ``Transfer-Encoding``.
            TypeError: ``text`` is neither ``str`` nor bytes.
        """
        return self.protocol.reject(status, text, headers=headers)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        super().connection_made(transport)
        connected(self.server, self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: the TCP connection is over."""
        super().connection_lost(exc)
        if self._ws_session.finished:
            self._ws_forget()
        # Otherwise its handler may go on.
        if self._ws_session.asking and self._ws_task is not None:
            # Too late for an answer, and the deadline for it ended with the connection.
            self._ws_task.cancel()

    def _ws_process_events(self) -> None:
        if self._ws_task is None and not self._ws_lost:
            request = self._ws_answering.take_request(self, self._ws_session)
            if request is not None:
                self._ws_answer(request)
        super()._ws_process_events()

    @property
    def _ws_answering(self) -> Answering:
        """What decides how its request is answered."""
        return answering_of(self.server)

    def _ws_answer(self, request: Request) -> None:
        """Answer a request, at once unless the user has a say in the answer."""
        answering = self._ws_answering
        if answering.asks(self._ws_session):
            # Until the answer is sent, nothing of what follows counts.
            self._ws_pause_reading(True)
            self.transport.pause_reading()
        elif not answering.answer_at_once(self, self._ws_session, request):
            return
        # A task is made once there is something for it to do: a client that says nothing costs none.
        start_handler(self, run_handler(self.server, self))

    def _ws_forget(self) -> None:
        """Take in that the connection is over, and its handler too."""
        forget(self.server, self)

    def _ws_abort(self) -> None:
        if self._ws_session.answerable:
            self.logger.info("opening handshake failed: %s", self._ws_session.cause)
        super()._ws_abort()


# fmt: off
share_names(
    ServerConnection,
    "server", "protocol", "loop", "_ws_shared", "_ws_write_limit", "_ws_session", "transport", "_ws_entry",
    "_ws_task", "_ws_receiver", "_ws_burst", "_ws_corked", "_ws_closing", "_ws_lost", "_ws_write_waiters",
    "_ws_queue", "_ws_buffer", "_ws_client", "_ws_life", "_ws_may_send", "_ws_high", "_ws_decoder", "_ws_pack",
    "_ws_inflate", "_ws_plain", "_ws_quick", "_ws_reading_paused", "_ws_addresses",
)
# fmt: on


def serve(
    handler: Handler,
    host: str | Sequence[str] | None = None,
    port: int | None = None,
    *,
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
    write_limit: int | tuple[int, int | None] = 2**15,
    logger: LoggerLike | None = None,
    create_connection: Callable[..., ServerConnection] | None = None,
    hosts: HostsLike | None = None,
    max_connections: int | None = None,
    max_connections_per_host: int | None = None,
    idle_timeout: float | None = None,
    proxy_protocol: Iterable[str] | None = None,
    **kwargs: Any,
) -> Server:
    """Make a WebSocket server; await it, or use it as an async context manager that closes it on exit.

    Whenever a client connects, the server does the opening handshake, runs the handler, and closes the connection when
    the handler ends: with code 1000, or 1011 if it raises.

    Parameters:
        handler: coroutine function that is called with the connection; if it takes two parameters, with the connection
            and the path of the request.
        host: where to listen, as for :meth:`asyncio.loop.create_server`; None for all interfaces.
        port: TCP port; 0 for a free one, which ``server.sockets`` tells.
        origins: acceptable origins: strings, compiled patterns that must match in full, None for no ``Origin`` header.
        extensions: extensions supported, in the order to try them.
        subprotocols: subprotocols supported, in the order of preference.
        select_subprotocol: ``f(connection, offered) -> subprotocol or None``, a function or a coroutine function,
            instead of the default choice. Clients that keep to RFC 6455 refuse what they didn't offer.
        compression: "deflate" for permessage-deflate (RFC 7692), None for none.
        process_request: ``f(connection, request) -> response or None``, a function or a coroutine function; a response
            is sent instead of opening the connection.
        process_response: ``f(connection, request, response) -> response or None``, likewise; it may change the response
            or replace it.
        server_header: value of the ``Server`` header; None to leave it out.
        open_timeout: seconds that the opening handshake may take; None for no limit.
        ping_interval, ping_timeout, close_timeout: times of a connection in seconds; see
            :class:`~websockets.asyncio.connection.Connection`.
        max_size: limit of incoming messages in bytes, None for no limit, or a tuple of the limits of a message and of
            a fragment.
        max_queue, write_limit: buffers of a connection; see :class:`~websockets.asyncio.connection.Connection`.
        logger: where to log; ``websockets.server`` by default.
        create_connection: class or factory of connections, called like :class:`ServerConnection`.
        hosts: names that the ``Host`` header may have, else the client gets 421: strings without a port, compiled
            patterns that must match in full, whatever the case; None for any. What ``process_request`` answers comes
            before.
        max_connections: connections at once, beyond which requests are answered with 503 and ``Retry-After``; None for
            no limit. A connection counts from the moment at which it is accepted, with TLS at the end of the TLS
            handshake, to its end and that of its handler. With ``proxy_protocol`` it counts before the header and
            during the TLS handshake, too.
        max_connections_per_host: likewise, from one IPv4 address or from the addresses of one IPv6 network of 64 bits;
            not for servers behind a proxy without ``proxy_protocol``, where all have the address of the proxy. Unix
            sockets have no host.
        idle_timeout: seconds without data after which a connection is closed with 1001; see
            :class:`~websockets.asyncio.connection.Connection`.
        proxy_protocol: addresses and networks of the proxies that send a header of the PROXY protocol, version 1 or 2,
            such as ``["10.0.0.0/8", "::1"]``; "unix:" stands for whoever connects to a Unix socket. Then only they may
            connect; a header is required, within ``open_timeout``; and ``remote_address`` and ``local_address`` are
            what it says. All other connections are closed without an answer. With ``ssl``, TLS begins behind the
            header. None for no header.
        **kwargs: passed to :meth:`asyncio.loop.create_server`: ``ssl``, ``sock``, ``reuse_port``...

    Raises:
        OSError: it isn't possible to listen there.
        TypeError: an option has a wrong type, or nobody takes it.
        ValueError: an option has a wrong value, or options contradict each other.
    """
    create_connection = renamed_argument(kwargs, "create_protocol", "create_connection", create_connection)
    options = ServerOptions.of(locals(), logging.getLogger("websockets.server"))
    make: Callable[..., ServerConnection] = functools.partial(
        options.create_connection or ServerConnection, **options.of_connection
    )

    async def create_server(server: Server) -> asyncio.Server:
        def factory() -> ServerConnection:
            return make(options.protocol(), server)

        first: Callable[[], asyncio.BaseProtocol] = factory
        if options.proxies is not None:
            first = functools.partial(Arrival, server, factory, options.proxies, options.tls)
        streams = server._ws_streams or asyncio.get_running_loop()
        made: asyncio.Server
        create = streams.create_unix_server if "path" in options.arguments else streams.create_server
        made = await create(prepare(server, first, options.arguments), **options.arguments)
        return made

    server = Server(create_server, handler, options.logger)
    serve_with(server, options)
    return server


def unix_serve(handler: Handler, path: str | bytes | os.PathLike[str] | None = None, **kwargs: Any) -> Server:
    """Make a WebSocket server that listens on a Unix socket; otherwise like :func:`serve`.

    Parameters:
        handler: as for :func:`serve`.
        path: path of the socket; None if ``sock`` is given.
        **kwargs: as for :func:`serve`; what is left is passed to :meth:`asyncio.loop.create_unix_server`.
    """
    return serve(handler, path=path, **kwargs)


# Names from earlier releases.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
