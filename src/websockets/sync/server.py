"""WebSocket servers for threads: ``serve()``, and the server's end of a connection with its opening handshake.

May know: threads, the arguments of :func:`serve`. Must not know: how a response is chosen, which requests are valid, or
the text of a refusal: ``_session`` and ``server`` decide that.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from .._compat.deprecated import deprecated_names
from .._rules.addresses import shown_address
from .._rules.statistics import TLS, ServerStatistics
from .._session.answering import Answering
from .._session.arriving import CLOSING, Arriving, Refusal, log_end
from .._session.options import SYNC_SERVER, ServerOptions, connection_maker, renamed_argument
from .._session.properties import later
from .._session.server_session import HandlerState, ServerSession
from ..datastructures import HeadersLike
from ..extensions.base import ServerExtensionFactory
from ..http11 import SERVER, Request, Response
from ..server import ServerProtocol
from ..typing import BytesLike, HostsLike, LoggerLike, Origin, StatusLike, Subprotocol
from ._auth import basic_auth
from ._broadcast import broadcast
from ._hooks import carry_out
from ._listening import listen
from ._serving import Server, answering_of, forget, serve_with, start_handler
from .connection import Connection

if TYPE_CHECKING:
    import ssl as ssl_module
    from concurrent.futures import Executor

__all__ = ["Server", "ServerConnection", "ServerStatistics", "basic_auth", "broadcast", "serve", "unix_serve"]

Handler = Callable[["ServerConnection"], None]
ProcessRequest = Callable[["ServerConnection", Request], Response | None]
ProcessResponse = Callable[["ServerConnection", Request, Response], Response | None]
SelectSubprotocol = Callable[["ServerConnection", Sequence[Subprotocol]], Subprotocol | None]


class ServerConnection(Connection):
    """The server's end of a WebSocket connection; handlers receive it.

    Parameters:
        sock: socket that was accepted.
        protocol: sans-I/O connection.
        server: the server that accepted the connection.
        ping_interval, ping_timeout, close_timeout, max_queue, idle_timeout: as for
            :class:`~websockets.sync.connection.Connection`.
    """

    protocol: ServerProtocol
    username: str
    """The user name of the client, after :func:`basic_auth` has accepted it."""
    handler: Callable[..., None]
    """The handler that :func:`~websockets.sync.router.route` chose."""
    handler_kwargs: Mapping[str, Any]
    """Variables that :func:`~websockets.sync.router.route` found in the path: keyword arguments of the handler."""
    if not TYPE_CHECKING:
        username = later("basic_auth sets it when it has accepted the client")
        handler = later("route sets it")
        handler_kwargs = later("route sets it")

    def __init__(
        self,
        sock: socket.socket,
        protocol: ServerProtocol,
        server: Server,
        *,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = 10,
        max_queue: int | tuple[int | None, int | None] | None = 16,
        idle_timeout: float | None = None,
    ) -> None:
        self.server = server
        super().__init__(
            sock,
            protocol,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            close_timeout=close_timeout,
            max_queue=max_queue,
            idle_timeout=idle_timeout,
        )

    _ws_session: ServerSession
    _ws_make_session = ServerSession
    # The name of the thread that runs the handler.
    _ws_thread_name: str = ""
    # What waits for the header of the PROXY protocol; None if there is none, or if it has arrived.
    _ws_arriving: Arriving | None = None

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
        with self._ws_lock:
            return self.protocol.reject(status, text, headers=headers)

    def handshake(
        self,
        process_request: ProcessRequest | None = None,
        process_response: ProcessResponse | None = None,
        server_header: str | None = SERVER,
        timeout: float | None = None,
    ) -> None:
        """Answer the request of the client. The server calls this once, in the thread that runs the handler.

        Subclasses may override this. The server has read the request before.

        Parameters:
            process_request, process_response, server_header: as for :func:`serve`.
            timeout: without effect: the server limits the time of the opening handshake.

        Raises:
            InvalidHandshake: the request was refused, other than by ``process_request`` or ``process_response``.
        """
        ours = self._ws_answering
        options = ours.options._replace(
            process_request=process_request, process_response=process_response, server_header=server_header
        )
        carry_out(Answering(options, ours.registry).answer(self, self._ws_session), self._ws_lock, self.server._ws_lock)
        with self._ws_lock:
            self._ws_pause_reading(False)
            self._ws_process_events()
        self._ws_flush()
        if self.protocol.handshake_exc is not None:
            raise self.protocol.handshake_exc

    # Called under the lock, mostly by the steward.

    def _ws_process_events(self) -> None:
        if self._ws_session.handler is HandlerState.ABSENT and not self._ws_lost and self._ws_arriving is None:
            with self.server._ws_lock:
                request = self._ws_answering.take_request(self, self._ws_session)
                if request is not None:
                    self._ws_take_request(request)
        super()._ws_process_events()

    @property
    def _ws_answering(self) -> Answering:
        """The rules of the server for responses to requests."""
        return answering_of(self.server)

    def _ws_take_request(self, request: Request) -> None:
        """Answer a request: at once, or in a thread if a function of the user may choose the response."""
        answering = self._ws_answering
        if answering.asks(self._ws_session) or type(self).handshake is not ServerConnection.handshake:
            # Data after the request isn't read until the response is sent.
            self._ws_pause_reading(True)
        elif not answering.answer_at_once(self, self._ws_session, request):
            return
        # The thread starts only now, so that a client that sends nothing costs no thread.
        start_handler(self.server, self)

    def _ws_ended(self) -> None:
        super()._ws_ended()
        if self._ws_arriving is not None:
            with self.server._ws_lock:
                self._ws_arriving.lose()
                self.server._ws_shutdown.connection_ended()
            return
        session, channel = self._ws_session, self._ws_channel
        if session.response is None and channel is not None and channel.failure is not None:
            session.tls_failed = True
            log_end(self.logger, self.remote_address, f"{TLS}: {channel.failure}")
        elif channel is not None and not channel.handshake_complete and channel.ended:
            log_end(self.logger, self.remote_address, f"{TLS}: the peer ended the connection during the TLS handshake")
        # The handler may still run; then the connection is forgotten when the handler ends.
        if session.finished:
            forget(self.server, self)

    def _ws_abort(self) -> None:
        arriving, timeout = self._ws_arriving, self._ws_answering.options.open_timeout
        if arriving is None and self._ws_session.answerable:
            self.logger.info("opening handshake failed: %s", self._ws_session.cause)
        elif arriving is not None and timeout is not None and isinstance(self._ws_session.cause, TimeoutError):
            with self.server._ws_lock:
                arriving.refuse(arriving.time_out(timeout), self.remote_address)
        super()._ws_abort()

    # The PROXY protocol.

    def _ws_enter(self) -> bool:
        """Enter the registry of the server; return False if the connection may not stay."""
        server = self.server
        proxies = self._ws_answering.options.proxies
        if proxies is None:
            return server._ws_registry.enter(self, self._ws_session)
        self._ws_arriving = Arriving(server._ws_registry, proxies, server.logger)
        refusal = self._ws_arriving.admit(self, self.remote_address)
        if refusal is not None:
            self._ws_arriving.refuse(refusal, self.remote_address)
        return refusal is None

    def _ws_receive_bytes(self, data: bytes) -> None:
        arriving = self._ws_arriving
        while arriving is not None and data:
            size = arriving.read_size
            refusal = arriving.receive_data(data[:size])
            data = data[size:]
            if refusal is not None:
                self._ws_refuse_arrival(refusal)
                return
            if arriving.addresses is not None:
                self._ws_arrive(arriving)
                break
        if self._ws_arriving is None and not self._ws_lost:
            super()._ws_receive_bytes(data)

    def _ws_arrive(self, arriving: Arriving) -> None:
        """Become a connection like others, after the header has arrived."""
        with self.server._ws_lock:
            registry = self.server._ws_registry
            if registry.closing:
                # The shutdown has listed the connections, and will refuse this one.
                self._ws_refuse_arrival(CLOSING)
                return
            self._ws_session.proxied = arriving.addresses
            arriving.leave()
            self._ws_arriving = None
            if not registry.enter(self, self._ws_session):
                super()._ws_abort()

    def _ws_refuse_arrival(self, refusal: Refusal) -> None:
        """End a connection before the header of the PROXY protocol has arrived."""
        with self._ws_lock, self.server._ws_lock:
            if self._ws_arriving is not None and self._ws_arriving.waiting:
                self._ws_arriving.refuse(refusal, self.remote_address)
            super()._ws_abort()


def serve(
    handler: Handler,
    host: str | None = None,
    port: int | None = None,
    *,
    sock: socket.socket | None = None,
    ssl: ssl_module.SSLContext | None = None,
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
    executor: Executor | None = None,
    daemon_threads: bool = False,
    **kwargs: Any,
) -> Server:
    """Create a WebSocket server that listens; call ``serve_forever()`` to accept connections.

    Use the server as a context manager, which shuts it down on exit::

        with serve(handler, "localhost", 8765) as server:
            server.serve_forever()

    When a client connects, the server does the opening handshake, runs the handler in a thread, and closes the
    connection when the handler ends: with code 1000, or 1011 if the handler raises an exception. A client that sends
    nothing costs no thread.

    Parameters:
        handler: function that is called with the connection, in a thread.
        host: address to listen on; None for all interfaces.
        port: TCP port; 0 for any free port, see ``server.socket``.
        sock: listening socket, instead of ``host`` and ``port``.
        ssl: TLS context.
        origins: origins to accept: strings, compiled patterns that must match in full, None for no ``Origin`` header.
        extensions: extensions supported, in the order to try them.
        subprotocols: subprotocols supported, in order of preference.
        select_subprotocol: ``f(connection, offered) -> subprotocol or None``, instead of the default choice. Clients
            that follow RFC 6455 refuse a subprotocol that they didn't offer.
        compression: "deflate" for permessage-deflate (RFC 7692), None for no compression.
        process_request: ``f(connection, request) -> response or None``; a response is sent instead of opening the
            connection. This function and the next one are called in the thread of the handler.
        process_response: ``f(connection, request, response) -> response or None``; it may change the response or return
            another one.
        server_header: value of the ``Server`` header; None to leave it out.
        open_timeout: seconds that TLS and the opening handshake may take; None for no limit.
        ping_interval, ping_timeout, close_timeout: timeouts of a connection in seconds; see
            :class:`~websockets.sync.connection.Connection`.
        max_size: maximum size of incoming messages in bytes; None for no limit; or a tuple of the limits of a message
            and of a fragment.
        max_queue: buffer of a connection; see :class:`~websockets.sync.connection.Connection`.
        logger: where to log; ``websockets.server`` by default.
        create_connection: class or factory of connections, called like :class:`ServerConnection`.
        hosts: values of the ``Host`` header to accept; other requests are refused with 421. Strings without a port, or
            compiled patterns that must match in full; upper and lower case are equal. None to accept any value. A
            response from ``process_request`` takes precedence.
        max_connections: maximum number of connections; further requests are refused with 503 and ``Retry-After``. None
            for no limit. A connection counts from when it is accepted until the connection and its handler have ended.
        max_connections_per_host: the same limit for one IPv4 address, or for the addresses of one IPv6 network of 64
            bits. Not for servers behind a proxy without ``proxy_protocol``, because all connections have the address of
            the proxy. Connections to Unix sockets don't count.
        idle_timeout: seconds without data after which a connection is closed with code 1001; see
            :class:`~websockets.sync.connection.Connection`.
        max_rate: how many messages a second are received on a connection, and how many may come at once, such as
            ``(100, 500)``; control frames don't count. None for no limit.
        max_bytes_rate: the same for bytes, with frame headers, before decompression.
        on_rate: what happens beyond these limits: ``"wait"`` to read on later, so that the client has to wait
            (back-pressure), or ``"close"`` to close the connection with code 1008. ``statistics.limited`` counts how
            often.
        proxy_protocol: addresses and networks of the proxies that send a header of the PROXY protocol, version 1 or 2,
            such as ``["10.0.0.0/8", "::1"]``; "unix:" for all connections to a Unix socket. Only these proxies may
            connect; they must send a header, before TLS; ``remote_address`` and ``local_address`` are the addresses in
            the header. All other connections are closed without a response. None to expect no header.
        executor: :class:`concurrent.futures.Executor` that runs handlers, instead of a new thread for each. The server
            doesn't shut it down. While all its threads are busy, requests wait, for at most ``open_timeout``.
        daemon_threads: True to let the program end while handlers still run; their threads end without cleaning up.
        **kwargs: passed to :func:`socket.create_server`: ``family``, ``backlog``, ``reuse_port``, ``dualstack_ipv6``.

    Returns:
        The server.

    Raises:
        OSError: the server can't listen on the address.
        TypeError: an option has a wrong type, or doesn't exist.
        ValueError: an option has a wrong value, or options contradict each other.
    """
    kwargs["ssl"] = renamed_argument(kwargs, "ssl_context", "ssl", ssl)
    kwargs["sock"] = sock
    options = ServerOptions.of(locals(), logging.getLogger("websockets.server"), SYNC_SERVER)
    context = options.arguments.pop("ssl")
    make_connection: Callable[..., ServerConnection] = connection_maker(options, ServerConnection)

    def make(sock: socket.socket) -> ServerConnection:
        connection = make_connection(sock, options.protocol(), server)
        if context is not None:
            from .._session.tls import TLSChannel

            connection._ws_adopt(TLSChannel(context, server_side=True))
        return connection

    listener = listen(options.arguments)
    server = Server(listener.socket, handler, options.logger)
    server._ws_executor, server._ws_daemon_threads = executor, bool(daemon_threads)
    serve_with(server, options, listener, make)
    server.logger.info("server listening on %s", shown_address(listener.socket.getsockname()))
    return server


def unix_serve(handler: Handler, path: str | bytes | os.PathLike[str] | None = None, **kwargs: Any) -> Server:
    """Create a WebSocket server that listens on a Unix socket; otherwise like :func:`serve`.

    The file of the socket is removed when the server is shut down. A file that a server left behind, and at which
    nobody listens, is replaced.

    Parameters:
        handler: as for :func:`serve`.
        path: path of the socket; None if ``sock`` is given.
        **kwargs: as for :func:`serve`, except ``host``, ``port``, and the arguments of :func:`socket.create_server`
            other than ``backlog``.

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
    _quiet = deprecated_names(__name__)

    def __getattr__(name):
        if name == "WebSocketServer":
            warnings.warn("WebSocketServer was renamed to Server", DeprecationWarning, stacklevel=2)
            return Server
        return _quiet(name)
