"""Servers on asyncio, apart from their connections: listening sockets, and the tasks that run handlers.

May know: the event loop, tasks, listening sockets. Must not know: the set of connections, which the registry keeps; the
opening handshake, which each connection does; the end of a server, which is in :mod:`._shutdown`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from .._awaiting.hooks import carry_out
from .._rules.addresses import shown_address
from .._rules.option_checks import awaited
from .._rules.option_table import CLOSE, check
from .._rules.statistics import FAILURE, TLS, ServerStatistics
from .._session.answering import Answering
from .._session.arriving import log_end
from .._session.options import ServerOptions
from .._session.registry import Grace, Registry
from .._session.server_session import HandlerState
from ..frames import CloseCode, serialize_close
from ..http11 import Response
from ..typing import LoggerLike
from ._handshakes import Handshakes
from ._shutdown import Shutdown, unavailable_unless_asked

if TYPE_CHECKING:
    from ._proxy_protocol import Arrival
    from .server import Handler, ProcessRequest, ProcessResponse, ServerConnection

__all__ = [
    "Server",
    "answering_of",
    "connected",
    "created",
    "forget",
    "handshakes_of",
    "prepare",
    "run_handler",
    "send_response",
    "serve_with",
    "start_handler",
]

P = TypeVar("P", bound=asyncio.BaseProtocol)


class _Refusal(asyncio.Protocol):
    """A protocol that ends the TCP connection, because no WebSocket connection could be made for it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """End the TCP connection; the event loop calls this."""
        cast(asyncio.Transport, transport).abort()


class Server:
    """A WebSocket server; ``await serve(...)`` returns it.

    It is an async context manager that closes the server and waits until it is closed.

    Parameters:
        create_server: function that is called with this object and makes the listening :class:`asyncio.Server`.
        handler: connection handler.
        logger: where to log; ``websockets.server`` by default.
    """

    # The module where users find the class.
    __module__ = "websockets.asyncio.server"

    def __init__(
        self,
        create_server: Callable[[Server], Awaitable[asyncio.Server]],
        handler: Handler,
        logger: LoggerLike | None = None,
    ) -> None:
        self._ws_create_server = create_server
        self.handler = handler
        self.logger = logging.getLogger("websockets.server") if logger is None else logger
        self.server: asyncio.Server | None = None
        # Listening sockets that are known to the operating system.
        self._ws_kernel_sockets: list[socket.socket] = []
        serve_with(self, ServerOptions())

    _ws_registry: Registry[ServerConnection, Arrival]
    _ws_answering: Answering
    _ws_shutdown: Shutdown
    # An object that makes the listening server in place of the event loop: in tests, a network in memory.
    _ws_streams: Any = None

    # ------------------------------------------------------------------------------------------------- opening, closing

    def __await__(self) -> Generator[Any, None, Self]:
        return self._ws_start().__await__()

    async def _ws_start(self) -> Self:
        if self.server is None:
            self._ws_take(await self._ws_create_server(self))
        return self

    def _ws_take(self, server: asyncio.Server) -> None:
        self.server = server
        self._ws_kernel_sockets = [listening for listening in server.sockets if listening.fileno() >= 0]
        for listening in server.sockets:
            self.logger.info("server listening on %s", shown_address(listening.getsockname()))

    async def __aenter__(self) -> Self:
        return await self._ws_start()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        await self.wait_closed()

    def close(
        self,
        close_connections: bool = True,
        code: int = CloseCode.GOING_AWAY,
        reason: str = "",
        *,
        timeout: float | None = None,
    ) -> None:
        """Stop accepting connections, refuse opening handshakes with HTTP 503, and close open connections.

        This returns at once; see :meth:`wait_closed`. Calling it again has no effect, except that it may set the
        timeout, or shorten it.

        Parameters:
            close_connections: True to close open connections; False to let them end with their handlers.
            code: close code for open connections.
            reason: close reason for open connections, at most 123 bytes in UTF-8.
            timeout: seconds that the shutdown may take; None for no limit. After that time, connections are aborted and
                handlers are cancelled. One second later, handlers that still run are cancelled again. Another second
                later, the server stops waiting for them, and logs this. So the server is closed two seconds after
                ``timeout``, unless a handler blocks the event loop.

        Raises:
            ProtocolError: the code or the reason can't be sent; nothing is closed in this case.
            TypeError: the code isn't an ``int``, the reason isn't a ``str``, or ``timeout`` isn't a number.
            ValueError: ``timeout`` is negative.
        """
        timeout = check("timeout", timeout, CLOSE)
        serialize_close(code, reason)
        if self._ws_registry.closing and timeout is None:
            return
        # Don't require a running loop: a program may call this between two calls of run_until_complete().
        loop = asyncio.get_running_loop() if self.server is None else self.server.get_loop()
        if not self._ws_registry.closing:
            farewell = self._ws_registry.say_farewell(code, reason, close_connections=close_connections)
            self._ws_shutdown.begin(farewell, self.server, self.logger, loop)
        if timeout is not None:
            self._ws_shutdown.limit(timeout, loop)

    async def wait_closed(self) -> None:
        """Wait until :meth:`close` was called, all connections are closed, and all handlers have ended.

        If :meth:`close` was called with a timeout, this ends in time even if handlers don't end.
        """
        await self._ws_shutdown.wait()

    async def start_serving(self) -> None:
        """Start accepting connections, if the server was created with ``start_serving=False``.

        Raises:
            RuntimeError: the server is closed.
        """
        if self._ws_registry.closing:
            raise RuntimeError("the server is closed")
        await self._ws_listening.start_serving()

    async def serve_forever(self) -> None:
        """Accept connections until the server is closed. Cancelling this closes the server."""
        try:
            # This lets other tasks run, so it may be cancelled here.
            await self.start_serving()
            await self.wait_closed()
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise

    # ------------------------------------------------------------------------------------------------------------- ask

    @property
    def _ws_listening(self) -> asyncio.Server:
        if self.server is None:
            raise RuntimeError("the server was not awaited")
        return self.server

    @property
    def connections(self) -> set[ServerConnection]:
        """The connections that are open now; a new set each time."""
        return self._ws_registry.open_connections()

    @property
    def statistics(self) -> ServerStatistics:
        """The statistics of the server; a new snapshot each time."""
        return self._ws_registry.statistics()

    def __repr__(self) -> str:
        if self.server is None:
            return f"<{type(self).__name__}, not listening yet>"
        return self._ws_registry.shown(type(self).__name__, [each.getsockname() for each in self.server.sockets])

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets; empty after the server is closed."""
        # uvloop returns a list.
        return tuple(self._ws_listening.sockets)

    @property
    def all_connections(self) -> set[ServerConnection]:
        """The connections from the opening handshake to the end of the handler; a new set each time."""
        return self._ws_registry.opened_connections()

    @property
    def handler_tasks(self) -> set[asyncio.Task[None]]:
        """The tasks that run handlers, from the request of the connection on; a new set each time."""
        return {connection._ws_task for connection in self._ws_registry.all if connection._ws_task is not None}

    def is_serving(self) -> bool:
        """Return whether the server accepts connections: it listens, and none of its sockets was closed.

        On Windows, asyncio's event loop closes a listening socket when it can't accept a connection, for instance
        because too many files are open.
        """
        return self._ws_listening.is_serving() and all(each.fileno() >= 0 for each in self._ws_kernel_sockets)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop of the server."""
        return self._ws_listening.get_loop()


# Operations on a server and its connections. They are functions, so that subclasses can't override them by accident.


def serve_with(server: Server, options: ServerOptions) -> None:
    """Set the options of a server."""
    server._ws_registry = Registry(options.capacity)
    server._ws_answering = Answering(options, server._ws_registry)
    server._ws_shutdown = Shutdown(server._ws_registry)


def answering_of(server: Server) -> Answering:
    """Return the rules of a server for responses to requests."""
    return server._ws_answering


def prepare(
    server: Server, create: Callable[[], asyncio.BaseProtocol], listening: Mapping[str, Any]
) -> Callable[[], asyncio.BaseProtocol]:
    """Prepare a server to listen.

    Parameters:
        server: the server.
        create: function that makes a connection.
        listening: the arguments for the event loop.

    Returns:
        A wrapper of ``create`` for the event loop. If ``create`` fails, it closes the connection of this client. The
        event loop would not log the error, or, on Windows, would stop accepting clients.
    """
    server._ws_shutdown.grace = grace = Grace.of(listening)
    loop = asyncio.get_running_loop()

    def factory() -> asyncio.BaseProtocol:
        grace.accepted(loop.time())
        return created(server, create) or _Refusal()

    return factory


def created(server: Server, create: Callable[[], P]) -> P | None:
    """Return the connection that a function of the user makes; None if it fails, which is counted and logged."""
    try:
        connection = create()
        if not isinstance(connection, asyncio.BaseProtocol):
            raise TypeError(f"what creates connections returned {connection!r}")
    except (Exception, asyncio.CancelledError) as exc:
        server._ws_registry.tally.refuse(FAILURE)
        server.logger.error("creating a connection failed", exc_info=exc)
        return None
    return connection


def connected(server: Server, connection: ServerConnection) -> None:
    """Register a connection that was accepted, and begin its opening handshake."""
    if not server._ws_registry.enter(connection, connection._ws_session):
        connection.transport.abort()
        return
    connection._ws_session.start_opening(server._ws_answering.options.open_timeout, connection.loop.time())
    connection._ws_schedule()
    if server._ws_registry.closing:
        # The connection was accepted just before the server stopped listening.
        unavailable_unless_asked(connection)


def handshakes_of(server: Server) -> Handshakes:
    """Return the TLS handshakes of a server's clients, which end with the server."""
    server._ws_shutdown.handshakes = handshakes = Handshakes(functools.partial(_tls_failed, server))
    return handshakes


def _tls_failed(server: Server, transport: asyncio.BaseTransport, exc: Exception) -> None:
    """Log that a client's TLS handshake failed; there is no connection yet."""
    log_end(server.logger, transport.get_extra_info("peername"), f"{TLS}: {exc}")


def forget(server: Server, connection: ServerConnection) -> None:
    """Remove a connection, after the connection and its handler ended."""
    server._ws_registry.leave(connection, connection._ws_session)
    server._ws_shutdown.connection_ended()


def start_handler(connection: ServerConnection, handler: Coroutine[Any, Any, None]) -> None:
    """Start the task that handles a connection from its request to its end."""
    connection._ws_session.handler = HandlerState.RUNNING
    connection._ws_task = connection.loop.create_task(handler)
    connection._ws_task.add_done_callback(functools.partial(_handler_ended, connection))


def _handler_ended(connection: ServerConnection, task: asyncio.Task[None]) -> None:
    """Process the end of the task, even if it was cancelled before it began."""
    connection._ws_session.handler = HandlerState.OVER
    if connection._ws_lost:
        connection._ws_forget()
    else:
        # Send a Close frame to the client, without waiting for its answer.
        connection._ws_start_closing(CloseCode.INTERNAL_ERROR)
        connection.transport.close()


async def run_handler(server: Server, connection: ServerConnection) -> None:
    """Handle a connection from its request to its end, in one coroutine, as each one that waits takes 200 bytes."""
    if connection.loop.get_task_factory() is not None:
        # An eager task starts at once, in the middle of a read; wait until the response is written.
        await asyncio.sleep(0)
    answering, session = server._ws_answering, connection._ws_session
    if session.answered or await _answer(connection):
        failed = False
        try:
            handler = cast("Callable[..., Awaitable[None]]", server.handler)
            await awaited(handler, handler(connection, *answering.handler_arguments(session)))
        except Exception as exc:
            failed = answering.handler_failed(connection, session, exc)
        if failed:
            await connection.close(CloseCode.INTERNAL_ERROR)
        else:
            await connection.close()
    await connection.wait_closed()


async def respond_to(
    connection: ServerConnection,
    process_request: ProcessRequest | None,
    process_response: ProcessResponse | None,
    server_header: str | None,
) -> None:
    """Answer a request by hooks that somebody may have replaced."""
    ours = connection._ws_answering
    options = ours.options._replace(
        process_request=process_request, process_response=process_response, server_header=server_header
    )
    response = await carry_out(Answering(options, ours.registry).steps(connection, connection._ws_session))
    if response is not None:
        send_response(connection, response)
    if connection.protocol.handshake_exc is not None:
        raise connection.protocol.handshake_exc


async def _answer_by_method(connection: ServerConnection) -> bool:
    """Answer a request by ``handshake()``, which a subclass has overridden."""
    answering, session = connection._ws_answering, connection._ws_session
    options = answering.options
    try:
        await connection.handshake(options.process_request, options.process_response, options.server_header)
    except Exception as exc:
        if exc is not connection.protocol.handshake_exc:
            answering.break_off(connection, session, exc, "opening handshake failed")
            connection._ws_resume_reading()
            connection._ws_process_events()
        return False
    response = session.response
    return response is not None and response.status_code == 101


async def _answer(connection: ServerConnection) -> bool:
    """Answer a request as the user's hooks decide; return whether the connection is open."""
    if connection._ws_has_own_handshake:
        return await _answer_by_method(connection)
    response = await carry_out(connection._ws_answering.steps(connection, connection._ws_session))
    return response is not None and send_response(connection, response)


def send_response(connection: ServerConnection, response: Response) -> bool:
    """Send the response to a request and resume reading; return whether the connection is open."""
    opened = connection._ws_answering.respond(connection, connection._ws_session, response)
    connection._ws_resume_reading()
    connection._ws_process_events()
    return opened
