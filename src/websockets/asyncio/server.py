"""WebSocket servers on asyncio: ``serve()``, and a server's end of a connection with its opening handshake.

May know: the loop, tasks, what users pass to :func:`serve`. Must not know: what a good request is, or what a refusal
says: that is for the protocol.
"""

from __future__ import annotations

import asyncio
import functools
import http
import inspect
import logging
import os
import re
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .._compat.deprecated import names_of_old
from .._compat.layout import share_names
from .._rules.capacity import RETRY_AFTER
from .._rules.statistics import FAILURE, GONE, TIMEOUT, ServerStatistics
from .._session.options import ServerOptions, renamed_argument
from ..datastructures import HeadersLike
from ..exceptions import ConnectionClosed
from ..extensions.base import ServerExtensionFactory
from ..frames import CloseCode
from ..http11 import SERVER, Request, Response
from ..protocol import State
from ..server import BROKEN, ServerProtocol, refusal_reason
from ..typing import BytesLike, HostsLike, LoggerLike, Origin, StatusLike, Subprotocol
from ._auth import basic_auth
from ._broadcast import broadcast
from ._proxy_protocol import Arrival
from ._serving import Server
from .connection import Connection

__all__ = ["Server", "ServerConnection", "ServerStatistics", "basic_auth", "broadcast", "serve", "unix_serve"]

Handler = Callable[["ServerConnection"], Awaitable[None]] | Callable[["ServerConnection", str], Awaitable[None]]
ProcessRequest = Callable[["ServerConnection", Request], Awaitable[Response | None] | Response | None]
ProcessResponse = Callable[["ServerConnection", Request, Response], Awaitable[Response | None] | Response | None]
SelectSubprotocol = Callable[
    ["ServerConnection", Sequence[Subprotocol]], Awaitable[Subprotocol | None] | Subprotocol | None
]

SHUTTING_DOWN = "Server is shutting down.\n"


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

    _task: asyncio.Task[None] | None = None
    _ended: bool = False  # whether that task is over
    _asking: bool = False  # whether it waits for a hook of the user
    _choosing: Awaitable[Subprotocol | None] | None = None  # a choice of subprotocol that takes its time
    _closer: asyncio.Task[None] | None = None  # what closes it as its class does
    _beyond: bool = False  # whether there was no room for it when it was accepted

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
        self.server._connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: the TCP connection is over."""
        super().connection_lost(exc)
        if self._task is None or self._ended:
            self._forget()
        # Otherwise its handler may go on.
        if self._asking and self._task is not None:
            # Too late for an answer, and the deadline for it ended with the connection.
            self._task.cancel()

    def _attend(self) -> None:
        request = self.protocol._unanswered
        waiting = request is not None and self._task is None and not self._lost
        if request is not None and waiting and (not self._beyond or self._find_room(request)):
            self._take_request(request)
        super()._attend()

    @property
    def _counted_by(self) -> Server | None:
        """The server that keeps account of the connection."""
        return self.server

    def _find_room(self, request: Request) -> bool:
        """Whether there is room by now for a connection that came when there was none; else tell it."""
        server = self._counted_by
        reason = None if server is None else server._no_room(self)
        if server is None or reason is None:
            self._beyond = False
            return True
        self._session.request = request
        text = f"Failed to open a WebSocket connection: {reason}.\n"
        response = self.protocol._turn_away(reason, text, {"Retry-After": str(RETRY_AFTER)})
        if server._options.server_header:
            response.headers["Server"] = server._options.server_header
        self._send_response(response)
        return False

    def _take_request(self, request: Request) -> None:
        """Answer a request, at once unless the user has a say in the answer."""
        self._session.request = request
        options = self.server._options
        if options.asks or self.protocol._select is not None:
            # Until the answer is sent, nothing of what follows counts.
            self._mute(True)
            self.transport.pause_reading()
        else:
            response = self._shut() if self.server._closing else self.protocol.accept(request)
            # A protocol of ours never has the header already; looking for it costs as much as all others together.
            if options.server_header and (type(self.protocol) is ServerProtocol or "Server" not in response.headers):
                response.headers["Server"] = options.server_header
            self._send_response(response)
            if self.protocol.state is State.CONNECTING:
                return
        # A task is made once there is something for it to do: a client that says nothing costs none.
        self._task = self.loop.create_task(self.server._run(self))
        self._task.add_done_callback(self._ran)

    def _ran(self, task: asyncio.Task[None]) -> None:
        """The task is over, be it that it was cancelled before it began."""
        self._ended = True
        if self._lost:
            self._forget()
        else:
            # The client should know, but nobody is left to wait for its answer.
            self._start_closing(CloseCode.INTERNAL_ERROR)
            self.transport.close()

    def _forget(self) -> None:
        """The connection is over, and its handler too."""
        self.server._forget(self)

    async def _open(self, options: ServerOptions) -> bool:
        """Answer the request; return whether the connection is open."""
        request = self._session.request
        assert request is not None
        response = await self._ask("process_request", options.process_request, request)
        if response is None:
            response = self._shut() if self.server._closing else await self._accept(request)
        if options.server_header and "Server" not in response.headers:
            response.headers["Server"] = options.server_header
        response = await self._ask("process_response", options.process_response, request, response) or response
        if self.server._closing and response.status_code == 101:
            response = self._shut()
        if self._refused:
            return False
        self._answer(response)
        return self.protocol.state is not State.CONNECTING

    async def _accept(self, request: Request) -> Response:
        """The answer of the protocol; if a coroutine of the user chooses the subprotocol, with its choice."""
        response = self.protocol.accept(request)
        choosing, self._choosing = self._choosing, None
        if choosing is None:
            return response
        self._asking = True
        try:
            subprotocol = await choosing
        except Exception as exc:
            return self.protocol._decline(exc)
        finally:
            self._asking = False
        return self.protocol._add_subprotocol(response, subprotocol)

    @property
    def _refused(self) -> bool:
        """Whether there is nothing to answer any more: the client is gone, or was given up on."""
        return self.protocol.state is not State.CONNECTING or self.protocol.close_expected()

    def _answer(self, response: Response) -> None:
        self._send_response(response)
        self._resume_reading()
        self._attend()

    def _send_response(self, response: Response) -> None:
        try:
            self.protocol.send_response(response)
        except Exception as exc:
            response = self._broken(exc, "opening handshake failed")
            self.protocol.send_response(response)
        self._session.response = response
        server = self._counted_by
        if server is not None:
            server._answered(response.status_code == 101, self.protocol.handshake_exc)

    async def _ask(self, name: str, hook: Callable[..., Any] | None, *arguments: Any) -> Response | None:
        """What a hook of the user answers; its failure is an answer too."""
        if hook is None:
            return None
        try:
            response = hook(self, *arguments)
            if inspect.isawaitable(response):
                self._asking = True
                response = await response
            if not isinstance(response, Response | None):
                raise TypeError(f"{name} must return a Response or None, not {response!r}")
        except Exception as exc:
            return self._broken(exc, f"{name} failed")
        finally:
            self._asking = False
        return response

    def _broken(self, exc: Exception, line: str) -> Response:
        """The answer to a failure of the application; see :meth:`ServerProtocol.accept` for others."""
        self.protocol.handshake_exc = exc
        self.logger.error(line, exc_info=exc)
        return self.protocol.reject(http.HTTPStatus.INTERNAL_SERVER_ERROR, BROKEN)

    def _shut(self) -> Response:
        """The answer while the server closes."""
        return self.protocol._turn_away("server is shutting down", SHUTTING_DOWN)

    def _handler_failed(self, exc: Exception) -> bool:
        """Whether an exception that ended the handler is a failure of it, and not the end of this connection."""
        if self._ended_by(exc):
            self.logger.info("connection handler ended: %s", self._session.close_exc())
            return False
        self.logger.error("connection handler failed", exc_info=True)
        server = self._counted_by
        if server is not None:
            server._tally.handler_failures += 1
        return True

    def _refuse_unless_asked(self) -> None:
        """The server closes: who has not sent a request gets the refusal now; others when it is their turn."""
        if self._task is None and not self._refused:
            self.protocol.send_response(self._shut())
            self._attend()

    def _close_for_server(self, code: int | None, reason: str) -> None:
        """The server closes, and so does this connection: by its own ``close()``, if its class or a program has one."""
        if getattr(self.close, "__func__", None) is Connection.close:
            self._start_closing(code, reason)
        else:
            close: Any = self.close
            self._closer = self.loop.create_task(self._close_by(close(code, reason), code, reason))

    async def _close_by(self, closing: Awaitable[None], code: int | None, reason: str) -> None:
        try:
            await closing
        except Exception as exc:
            self.logger.error("closing failed", exc_info=exc)
            self._start_closing(code, reason)

    def _cut_off(self, code: int | None, reason: str) -> None:
        """The server can't wait any longer."""
        if self._task is not None:
            self._task.cancel()
        if self.protocol.state is State.OPEN and not self._lost:
            # There may be time to say why, though none to hear the answer.
            self._start_closing(code, reason)
        super()._abort()

    def _never_asked(self) -> str:
        """Why the connection is over without an answer to a request."""
        exc = self.protocol.handshake_exc
        if isinstance(self._session.cause, TimeoutError):
            return TIMEOUT
        if exc is None or isinstance(exc.__cause__, EOFError):
            return GONE
        return refusal_reason(exc) or FAILURE

    def _ended_by(self, exc: BaseException) -> bool:
        """Whether ``exc`` tells the end of this connection, and not of another one that its handler uses.

        So does a group, as a handler with several tasks raises, of nothing but such exceptions.
        """
        if isinstance(exc, BaseExceptionGroup):
            return all(map(self._ended_by, exc.exceptions))
        protocol = self.protocol
        return (
            self._lost
            and isinstance(exc, ConnectionClosed)
            and exc.rcvd is protocol.close_rcvd
            and exc.sent is protocol.close_sent
        )

    def _abort(self) -> None:
        if not self._refused:
            self.logger.info("opening handshake failed: %s", self._session.cause)
        super()._abort()


# fmt: off
share_names(
    ServerConnection,
    "server", "protocol", "loop", "_shared", "_write_limit", "_session", "transport", "_entry", "_task", "_beyond",
    "_receiver", "_burst", "_corked", "_closing", "_lost", "_drainers", "_ended", "_queue", "_buffer", "_client",
    "_life", "_may_send", "_high", "_decoder", "_pack", "_inflate", "_plain", "_quick", "_muted", "_addresses",
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
            protocol = options.protocol()
            connection = make(protocol, server)
            if options.select_subprotocol is not None:
                protocol._select = _selector(connection, options.select_subprotocol)
            return connection

        first: Callable[[], asyncio.BaseProtocol] = factory
        if options.proxies is not None:
            first = functools.partial(Arrival, server, factory, options.proxies, options.tls)
        streams = server._streams or asyncio.get_running_loop()
        made: asyncio.Server
        create = streams.create_unix_server if "path" in options.arguments else streams.create_server
        made = await create(server._prepare(first, options.arguments), **options.arguments)
        return made

    server = Server(create_server, handler, options.logger)
    server._options = options
    server._capacity = options.capacity
    return server


def _selector(
    connection: ServerConnection, select: SelectSubprotocol
) -> Callable[[ServerProtocol, Sequence[Subprotocol]], Subprotocol | None]:
    """``select``, which wants the connection, as the protocol calls it."""
    reference = weakref.ref(connection)

    def selector(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        connection = reference()
        assert connection is not None
        choice = select(connection, offered)
        if inspect.isawaitable(choice):
            # The protocol doesn't wait: it answers without a subprotocol, which is added once it is known.
            connection._choosing, choice = choice, None
        return choice

    return selector


def unix_serve(handler: Handler, path: str | bytes | os.PathLike[str] | None = None, **kwargs: Any) -> Server:
    """Make a WebSocket server that listens on a Unix socket; otherwise like :func:`serve`.

    Parameters:
        handler: as for :func:`serve`.
        path: path of the socket; None if ``sock`` is given.
        **kwargs: as for :func:`serve`; what is left is passed to :meth:`asyncio.loop.create_unix_server`.
    """
    return serve(handler, path=path, **kwargs)


# Names of old.
if not TYPE_CHECKING:
    __getattr__ = names_of_old(__name__)
