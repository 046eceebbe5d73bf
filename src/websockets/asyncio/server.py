"""WebSocket servers on asyncio: ``serve()``, and the server's end of a connection with its opening handshake.

May know: the event loop, tasks, the arguments of :func:`serve`. Must not know: how a response is chosen, which requests
are valid, or the text of a refusal: ``_session`` and ``server`` decide that.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from .._awaiting.basic_auth import basic_auth
from .._compat.deprecated import deprecated_names
from .._compat.layout import share_names
from .._rules.statistics import ServerStatistics
from .._session.answering import Answering
from .._session.options import ServerOptions, connection_maker, renamed_argument
from .._session.properties import later
from .._session.server_session import ServerSession
from ..datastructures import HeadersLike
from ..extensions.base import ServerExtensionFactory
from ..http11 import SERVER, Request, Response
from ..server import ServerProtocol
from ..typing import BytesLike, HostsLike, LoggerLike, Origin, StatusLike, Subprotocol
from ._broadcast import broadcast
from ._proxy_protocol import Arrival
from ._secure import method_for_tls
from ._serving import (
    Server,
    connected,
    forget,
    handshakes_of,
    prepare,
    respond_to,
    run_handler,
    serve_with,
    start_handler,
)
from .connection import Connection

__all__ = ["Server", "ServerConnection", "ServerStatistics", "basic_auth", "broadcast", "serve", "unix_serve"]

Handler = Callable[["ServerConnection"], Awaitable[None]] | Callable[["ServerConnection", str], Awaitable[None]]
ProcessRequest = Callable[["ServerConnection", Request], Awaitable[Response | None] | Response | None]
ProcessResponse = Callable[["ServerConnection", Request, Response], Awaitable[Response | None] | Response | None]
SelectSubprotocol = Callable[
    ["ServerConnection", Sequence[Subprotocol]], Awaitable[Subprotocol | None] | Subprotocol | None
]


class ServerConnection(Connection):
    """The server's end of a WebSocket connection; handlers receive it.

    Parameters:
        protocol: sans-I/O connection.
        server: the server that accepted the connection.
        ping_interval, ping_timeout, close_timeout, max_queue, write_limit, idle_timeout: as for
            :class:`~websockets.asyncio.connection.Connection`.
    """

    protocol: ServerProtocol
    username: str
    """The user name of the client, after :func:`basic_auth` has accepted it."""
    handler: Callable[..., Awaitable[None]]
    """The handler that :func:`~websockets.asyncio.router.route` chose."""
    handler_kwargs: Mapping[str, Any]
    """Variables that :func:`~websockets.asyncio.router.route` found in the path: keyword arguments of the handler."""
    if not TYPE_CHECKING:
        username = later("basic_auth sets it when it has accepted the client")
        handler = later("route sets it")
        handler_kwargs = later("route sets it")

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
            headers: headers to add; they replace the default ones, such as ``Content-Type``.

        Returns:
            The response, with ``Connection: close``; its headers may be changed.

        Raises:
            ValueError: the status is unknown, or ``headers`` has ``Connection``, ``Content-Length`` or
                ``Transfer-Encoding``, which follow from the body and the connection.
            TypeError: ``text`` is neither ``str`` nor bytes.
        """
        return self.protocol.reject(status, text, headers=headers)

    async def handshake(
        self,
        process_request: ProcessRequest | None = None,
        process_response: ProcessResponse | None = None,
        server_header: str | None = SERVER,
    ) -> None:
        """Answer the request of the client; the server calls this once, in the task that runs the handler.

        Subclasses may override this. The server has read the request before, and limits the time.

        Parameters:
            process_request, process_response, server_header: as for :func:`serve`.

        Raises:
            InvalidHandshake: the request was refused, other than by ``process_request`` or ``process_response``.
        """
        await respond_to(self, process_request, process_response, server_header)

    @property
    def _ws_has_own_handshake(self) -> bool:
        """Whether somebody has replaced :meth:`handshake`; if not, no call of it is needed."""
        return getattr(self.handshake, "__func__", None) is not _HANDSHAKE

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to use a transport; the event loop calls this."""
        super().connection_made(transport)
        connected(self.server, self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Process the end of the TCP connection; the event loop calls this."""
        super().connection_lost(exc)
        # The handler may still run; then the connection is forgotten when the handler ends.
        if self._ws_session.finished:
            self._ws_forget()
        if self._ws_session.asking and self._ws_task is not None:
            # A response can't be sent any more, and ``open_timeout`` no longer limits the task that computes it.
            self._ws_task.cancel()

    def _ws_process_events(self) -> None:
        if self._ws_task is None and not self._ws_lost:
            request = self._ws_answering.take_request(self, self._ws_session)
            if request is not None:
                self._ws_answer(request)
        super()._ws_process_events()

    @property
    def _ws_answering(self) -> Answering:
        """The rules of the server for responses to requests."""
        return self.server._ws_answering

    def _ws_answer(self, request: Request) -> None:
        """Answer a request: at once, or in a task if a function of the user may choose the response."""
        answering = self._ws_answering
        if answering.asks(self._ws_session) or self._ws_has_own_handshake:
            # Data after the request isn't read until the response is sent.
            self._ws_pause_reading(True)
            self.transport.pause_reading()
        elif not answering.answer_at_once(self, self._ws_session, request):
            return
        # The task starts only now, so that a client that sends nothing costs no task.
        start_handler(self, run_handler(self.server, self))

    def _ws_forget(self) -> None:
        """Remove the connection from its server, after the connection and its handler ended."""
        forget(self.server, self)

    def _ws_abort(self) -> None:
        if self._ws_session.answerable:
            self.logger.info("opening handshake failed: %s", self._ws_session.cause)
        super()._ws_abort()


# A program may replace the method of the class.
_HANDSHAKE: Final = ServerConnection.handshake

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
    max_rate: tuple[float, int] | None = None,
    max_bytes_rate: tuple[float, int] | None = None,
    on_rate: Literal["wait", "close"] = "wait",
    proxy_protocol: Iterable[str] | None = None,
    tls_transport: Literal["loop", "memory", "aiofastnet"] | None = None,
    **kwargs: Any,
) -> Server:
    """Create a WebSocket server; await it, or use it as an async context manager that closes it on exit.

    When a client connects, the server does the opening handshake, runs the handler, and closes the connection when the
    handler ends: with code 1000, or 1011 if the handler raises an exception.

    Parameters:
        handler: coroutine function that is called with the connection; if it takes two parameters, with the connection
            and the path of the request.
        host: addresses to listen on, as for :meth:`asyncio.loop.create_server`; None for all interfaces.
        port: TCP port; 0 for any free port, see ``server.sockets``.
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
        open_timeout: seconds that the opening handshake may take; None for no limit.
        ping_interval, ping_timeout, close_timeout: timeouts of a connection in seconds; see
            :class:`~websockets.asyncio.connection.Connection`.
        max_size: maximum size of incoming messages in bytes; None for no limit; or a tuple of the limits of a message
            and of a fragment.
        max_queue, write_limit: buffers of a connection; see :class:`~websockets.asyncio.connection.Connection`.
        logger: where to log; ``websockets.server`` by default.
        create_connection: class or factory of connections, called like :class:`ServerConnection`.
        hosts: values of the ``Host`` header to accept; other requests are refused with 421. Strings without a port, or
            compiled patterns that must match in full; upper and lower case are equal. None to accept any value. A
            response from ``process_request`` takes precedence.
        max_connections: maximum number of connections; further requests are refused with 503 and ``Retry-After``. None
            for no limit. A connection counts from when it is accepted, or with TLS from the end of the TLS handshake,
            until the connection and its handler have ended. With ``proxy_protocol`` it also counts before the header
            and during the TLS handshake.
        max_connections_per_host: the same limit for one IPv4 address, or for the addresses of one IPv6 network of 64
            bits. Not for servers behind a proxy without ``proxy_protocol``, because all connections have the address of
            the proxy. Connections to Unix sockets don't count.
        idle_timeout: seconds without data after which a connection is closed with code 1001; see
            :class:`~websockets.asyncio.connection.Connection`.
        max_rate: how many messages a second are received on a connection, and how many may come at once, such as
            ``(100, 500)``; control frames don't count. None for no limit.
        max_bytes_rate: the same for bytes, with frame headers, before decompression.
        on_rate: what happens beyond these limits: ``"wait"`` to read on later, so that the client has to wait
            (back-pressure), or ``"close"`` to close the connection with code 1008. ``statistics.limited`` counts how
            often.
        proxy_protocol: addresses and networks of the proxies that send a header of the PROXY protocol, version 1 or 2,
            such as ``["10.0.0.0/8", "::1"]``; "unix:" for all connections to a Unix socket. Only these proxies may
            connect; they must send a header within ``open_timeout``; ``remote_address`` and ``local_address`` are the
            addresses in the header. All other connections are closed without a response. With ``ssl``, the TLS
            handshake follows the header. None to expect no header.
        tls_transport: what encrypts: "loop" for the transport of the event loop, "memory" for ours, "aiofastnet" for
            that of the extra ``fast``; None for the best one that there is.
        **kwargs: passed to :meth:`asyncio.loop.create_server`: ``ssl``, ``sock``, ``reuse_port``...

    Returns:
        The server.

    Raises:
        OSError: the server can't listen on the address.
        TypeError: an option has a wrong type, or doesn't exist.
        ValueError: an option has a wrong value, or options contradict each other.
    """
    create_connection = renamed_argument(kwargs, "create_protocol", "create_connection", create_connection)
    options = ServerOptions.of(locals(), logging.getLogger("websockets.server"))
    make: Callable[..., ServerConnection] = connection_maker(options, ServerConnection)

    async def create_server(server: Server) -> asyncio.Server:
        def factory() -> ServerConnection:
            return make(options.protocol(), server)

        first: Callable[[], asyncio.BaseProtocol] = factory
        if options.proxies is not None:
            first = functools.partial(Arrival, server, factory, options.proxies, options.tls, options.tls_transport)
        streams = server._ws_streams or asyncio.get_running_loop()
        made: asyncio.Server
        name = "create_unix_server" if "path" in options.arguments else "create_server"
        handshakes = handshakes_of(server)
        create = method_for_tls(streams, name, options.tls_transport, options.arguments.get("ssl"), handshakes)
        made = await create(prepare(server, first, options.arguments), **options.arguments)
        return made

    server = Server(create_server, handler, options.logger)
    serve_with(server, options)
    return server


def unix_serve(handler: Handler, path: str | bytes | os.PathLike[str] | None = None, **kwargs: Any) -> Server:
    """Create a WebSocket server that listens on a Unix socket; otherwise like :func:`serve`.

    Parameters:
        handler: as for :func:`serve`.
        path: path of the socket; None if ``sock`` is given.
        **kwargs: as for :func:`serve`; other arguments are passed to :meth:`asyncio.loop.create_unix_server`.

    Returns:
        The server.

    Raises:
        OSError: the server can't listen on the path.
        TypeError: an option has a wrong type, or doesn't exist.
        ValueError: an option has a wrong value, or options contradict each other.
    """
    return serve(handler, path=path, **kwargs)


# Names from earlier releases.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
