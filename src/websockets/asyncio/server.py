"""WebSocket servers on asyncio: opening handshakes, handlers and shutdown, in as far as they wait.

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
import socket
import weakref
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, cast

from .._layout import share_names
from .._options import checked_subprotocols, queue_marks, renamed_argument, server_extensions, takes_path, tls_times
from ..datastructures import HeadersLike
from ..exceptions import ConnectionClosed, InvalidHandshake
from ..extensions.base import ServerExtensionFactory
from ..frames import Close, CloseCode, Frame, Opcode
from ..http11 import SERVER, Request, Response
from ..protocol import State
from ..server import BROKEN, ServerProtocol
from ..typing import BytesLike, LoggerLike, Origin, StatusLike, Subprotocol
from ._auth import basic_auth
from ._broadcast import broadcast
from .connection import Connection

__all__ = ["Server", "ServerConnection", "basic_auth", "broadcast", "serve", "unix_serve"]

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
        ping_interval, ping_timeout, close_timeout, max_queue, write_limit: as for
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
    ) -> None:
        self.server = server
        super().__init__(
            protocol,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            close_timeout=close_timeout,
            max_queue=max_queue,
            write_limit=write_limit,
        )

    _task: asyncio.Task[None] | None = None
    _ended: bool = False  # whether that task is over
    _asking: bool = False  # whether it waits for a hook of the user
    _choosing: Awaitable[Subprotocol | None] | None = None  # a choice of subprotocol that takes its time

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
        if request is not None and self._task is None and not self._lost:
            self._take_request(request)
        super()._attend()

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

    async def _open(self, options: _Options) -> bool:
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
        self.protocol.handshake_exc = InvalidHandshake("server is shutting down")
        return self.protocol.reject(http.HTTPStatus.SERVICE_UNAVAILABLE, SHUTTING_DOWN)

    def _handler_failed(self, exc: Exception) -> bool:
        """Whether an exception that ended the handler is a failure of it, and not the end of this connection."""
        if isinstance(exc, ConnectionClosed) and self._ended_by(exc):
            self.logger.info("connection handler ended: %s", exc)
            return False
        self.logger.error("connection handler failed", exc_info=True)
        return True

    def _refuse_unless_asked(self) -> None:
        """The server closes: who has not sent a request gets the refusal now; others when it is their turn."""
        if self._task is None and not self._refused:
            self.protocol.send_response(self._shut())
            self._attend()

    def _ended_by(self, exc: ConnectionClosed) -> bool:
        """Whether ``exc`` tells the end of this connection, and not of another one that its handler uses."""
        protocol = self.protocol
        return self._lost and exc.rcvd is protocol.close_rcvd and exc.sent is protocol.close_sent

    def _abort(self) -> None:
        if not self._refused:
            self.logger.info("opening handshake failed: %s", self._session.cause)
        super()._abort()


# fmt: off
share_names(
    ServerConnection,
    "server", "protocol", "loop", "_shared", "_write_limit", "_session", "transport", "_entry", "_task",
    "_receiver", "_burst", "_corked", "_closing", "_lost", "_drainers", "_ended", "_queue", "_buffer", "_client",
    "_life", "_may_send", "_high", "_decoder", "_plain", "_quick", "_muted",
)
# fmt: on


class _Options:
    """What :func:`serve` was told and its connections need later; one object serves them all."""

    __slots__ = ("asks", "open_timeout", "process_request", "process_response", "server_header", "takes_path")

    def __init__(
        self,
        open_timeout: float | None = None,
        process_request: ProcessRequest | None = None,
        process_response: ProcessResponse | None = None,
        server_header: str | None = None,
        takes_path: bool = False,
    ) -> None:
        self.open_timeout = open_timeout
        self.process_request = process_request
        self.process_response = process_response
        self.server_header = server_header
        self.takes_path = takes_path
        # Whether the user has to be asked for an answer, which may take its time.
        self.asks = process_request is not None or process_response is not None


class Server:
    """A WebSocket server; what ``await serve(...)`` returns.

    It is an async context manager that closes the server and waits until it is closed.

    Parameters:
        create_server: called with this object; makes the listening :class:`asyncio.Server`.
        handler: connection handler.
        logger: where to log; ``websockets.server`` by default.
    """

    def __init__(
        self,
        create_server: Callable[[Server], Awaitable[asyncio.Server]],
        handler: Handler,
        logger: LoggerLike | None = None,
    ) -> None:
        self._create_server = create_server
        self.handler = handler
        self.logger = logging.getLogger("websockets.server") if logger is None else logger
        self.server: asyncio.Server | None = None
        self._options = _Options()
        # Every connection, from the first byte to the end of its handler.
        self._all: set[ServerConnection] = set()
        self._closing = False
        self._close_called: asyncio.Future[None] | None = None
        self._closed: asyncio.Task[None] | None = None
        self._idle: asyncio.Future[None] | None = None

    # What makes the listening server, if not the loop: a network in memory, in tests.
    _streams: Any = None

    # ------------------------------------------------------------------------------------------------- opening, closing

    def __await__(self) -> Generator[Any, None, Self]:
        return self._start().__await__()

    async def _start(self) -> Self:
        if self.server is None:
            self._take(await self._create_server(self))
        return self

    def _take(self, server: asyncio.Server) -> None:
        self.server = server
        for listening in server.sockets:
            self.logger.info("server listening on %s", _name(listening))

    async def __aenter__(self) -> Self:
        return await self._start()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        await self.wait_closed()

    def close(self, close_connections: bool = True, code: int = CloseCode.GOING_AWAY, reason: str = "") -> None:
        """Stop accepting connections, refuse those that are opening with HTTP 503, and close those that are open.

        It returns at once; see :meth:`wait_closed`. Calling it again has no effect.

        Parameters:
            close_connections: whether to close open connections; else they end with their handlers.
            code: close code for them.
            reason: reason for them.

        Raises:
            ProtocolError: the code or the reason can't be sent; nothing is closed then.
        """
        if self._closing:
            return
        Frame(Opcode.CLOSE, Close(code, reason).serialize()).check()
        self._closing = True
        self.logger.info("server closing")
        if self.server is not None:
            self.server.close()
        for connection in list(self._all):
            if connection.state is State.CONNECTING:
                connection._refuse_unless_asked()
            elif connection.state is State.OPEN and close_connections:
                connection._start_closing(code, reason)
        # Not the running loop: there is none when a program calls this between two calls of run_until_complete().
        loop = asyncio.get_running_loop() if self.server is None else self.server.get_loop()
        self._closed = loop.create_task(self._finish())
        if self._close_called is not None:
            self._close_called.set_result(None)

    async def _wait_for_close(self) -> None:
        if self._close_called is None:
            self._close_called = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._close_called)

    async def _finish(self) -> None:
        if self.server is not None:
            await self.server.wait_closed()
        if self._all:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
        self.logger.info("server closed")

    async def wait_closed(self) -> None:
        """Wait until :meth:`close` was called, every connection is closed and every handler has ended."""
        if self._closed is None:
            await self._wait_for_close()
        assert self._closed is not None
        await asyncio.shield(self._closed)

    async def start_serving(self) -> None:
        """Start accepting connections, if the server was made with ``start_serving=False``.

        Raises:
            RuntimeError: the server is closed.
        """
        if self._closing:
            raise RuntimeError("the server is closed")
        await self._listening.start_serving()

    async def serve_forever(self) -> None:
        """Accept connections until the server is closed. Cancelling it closes the server, and then raises."""
        await self.start_serving()
        try:
            await self.wait_closed()
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise

    # ------------------------------------------------------------------------------------------------------------- ask

    @property
    def _listening(self) -> asyncio.Server:
        if self.server is None:
            raise RuntimeError("the server was not awaited")
        return self.server

    @property
    def connections(self) -> set[ServerConnection]:
        """The connections that are open now; a new set each time."""
        return {connection for connection in self._all if connection.state is State.OPEN}

    @property
    def sockets(self) -> Iterable[socket.socket]:
        """The listening sockets."""
        return self._listening.sockets

    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return self._listening.is_serving()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the server."""
        return self._listening.get_loop()

    # ----------------------------------------------------------------------------------------------------- connections

    def _connected(self, connection: ServerConnection) -> None:
        self._all.add(connection)
        connection._session.start_opening(self._options.open_timeout, connection.loop.time())
        connection._schedule()
        if self._closing:
            # It was accepted just before the server stopped listening.
            connection._refuse_unless_asked()

    def _forget(self, connection: ServerConnection) -> None:
        self._all.discard(connection)
        if not self._all and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def _run(self, connection: ServerConnection) -> None:
        """From the request of a connection to its end; one coroutine, as each that waits takes 200 bytes."""
        if connection.protocol._unanswered is None or await connection._open(self._options):
            failed = False
            try:
                await self._handle(connection)
            except Exception as exc:
                failed = connection._handler_failed(exc)
            if failed:
                await connection.close(CloseCode.INTERNAL_ERROR)
            else:
                await connection.close()
        await connection.wait_closed()

    def _handle(self, connection: ServerConnection) -> Awaitable[None]:
        handler = cast(Callable[..., Awaitable[None]], self.handler)
        if self._options.takes_path:
            assert connection.request is not None
            return handler(connection, connection.request.path)
        return handler(connection)


def _name(listening: socket.socket) -> str:
    """How the address of a listening socket looks in the log."""
    address = listening.getsockname()
    if isinstance(address, str | bytes):
        return os.fsdecode(address)
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
        **kwargs: passed to :meth:`asyncio.loop.create_server`: ``ssl``, ``sock``, ``reuse_port``...

    Raises:
        OSError: it isn't possible to listen there.
        ValueError: an option has no valid value.
        TypeError: ``subprotocols`` isn't a sequence.
    """
    create_connection = renamed_argument(kwargs, "create_protocol", "create_connection", create_connection)
    unix = "path" in kwargs
    queue_marks(max_queue)  # a mistake shows now, and not in each connection
    return _serve(
        handler,
        _Options(open_timeout, process_request, process_response, server_header, takes_path(handler)),
        logging.getLogger("websockets.server") if logger is None else logger,
        {
            "origins": origins,
            "extensions": server_extensions(extensions, compression),
            "subprotocols": checked_subprotocols(subprotocols),
            "max_size": max_size,
        },
        select_subprotocol,
        functools.partial(
            create_connection or ServerConnection,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            close_timeout=close_timeout,
            max_queue=max_queue,
            write_limit=write_limit,
        ),
        {**({} if unix else {"host": host, "port": port}), **tls_times(kwargs, open_timeout, close_timeout)},
    )


def _serve(
    handler: Handler,
    options: _Options,
    logger: LoggerLike,
    of_protocol: dict[str, Any],
    select_subprotocol: SelectSubprotocol | None,
    create_connection: Callable[..., ServerConnection],
    listening: dict[str, Any],
) -> Server:
    """The server, from options that are grouped by who needs them."""

    async def create_server(server: Server) -> asyncio.Server:
        def factory() -> ServerConnection:
            protocol = ServerProtocol(logger=logger, **of_protocol)
            connection = create_connection(protocol, server)
            if select_subprotocol is not None:
                protocol._select = _selector(connection, select_subprotocol)
            return connection

        streams = server._streams or asyncio.get_running_loop()
        made: asyncio.Server
        if "path" in listening:
            made = await streams.create_unix_server(factory, **listening)
        else:
            made = await streams.create_server(factory, **listening)
        return made

    server = Server(create_server, handler, logger)
    server._options = options
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
    return serve(handler, path=None if path is None else os.fspath(path), **kwargs)
