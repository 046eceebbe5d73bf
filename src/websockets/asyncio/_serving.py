"""A server on asyncio, apart from its connections: what is listening, and the tasks that run handlers.

May know: the loop, tasks, listening sockets. Must not know: who is there, which is for the registry; the opening
handshake, which is for each connection; how a server ends, which is for :mod:`._shutdown`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from .._rules.addresses import shown_address
from .._rules.option_checks import awaited
from .._rules.option_table import CLOSE, check
from .._rules.statistics import FAILURE, ServerStatistics
from .._session.answering import Answering
from .._session.options import ServerOptions
from .._session.registry import Grace, Registry
from .._session.server_session import HandlerState
from ..frames import CloseCode, serialize_close
from ..http11 import Response
from ..typing import LoggerLike
from ._hooks import carry_out
from ._shutdown import Shutdown, refuse_unless_asked

if TYPE_CHECKING:
    from ._proxy_protocol import Arrival
    from .server import Handler, ServerConnection

__all__ = [
    "Server",
    "answering_of",
    "connected",
    "created",
    "forget",
    "prepare",
    "run_handler",
    "send_response",
    "serve_with",
    "start_handler",
]

P = TypeVar("P", bound=asyncio.BaseProtocol)


class _Refusal(asyncio.Protocol):
    """In the place of a connection that could not be made: ends the TCP connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        cast(asyncio.Transport, transport).abort()


class Server:
    """A WebSocket server; what ``await serve(...)`` returns.

    It is an async context manager that closes the server and waits until it is closed.

    Parameters:
        create_server: called with this object; makes the listening :class:`asyncio.Server`.
        handler: connection handler.
        logger: where to log; ``websockets.server`` by default.
    """

    # Where users find it.
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
        # Listening sockets that the operating system knows.
        self._ws_kernel_sockets: list[socket.socket] = []
        serve_with(self, ServerOptions())

    _ws_registry: Registry[ServerConnection, Arrival]
    _ws_answering: Answering
    _ws_shutdown: Shutdown
    # What makes the listening server, if not the loop: a network in memory, in tests.
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
        """Stop accepting connections, refuse those that are opening with HTTP 503, and close those that are open.

        It returns at once; see :meth:`wait_closed`. Calling it again has no effect, except that the limit may be set,
        or brought forward.

        Parameters:
            close_connections: whether to close open connections; else they end with their handlers.
            code: close code for them.
            reason: reason for them.
            timeout: seconds that all this may take; None for no limit. After that, connections are cut off and handlers
                cancelled; a second later, those that go on are cancelled once more; and another second later, the
                server no longer waits for them, and says so in the log. So it is closed after ``timeout`` and two
                seconds, unless a handler keeps the loop itself from running.

        Raises:
            ProtocolError: the code or the reason can't be sent; nothing is closed then.
            TypeError: the code isn't an ``int``, the reason isn't a ``str``, or ``timeout`` isn't a number.
            ValueError: it is negative.
        """
        timeout = check("timeout", timeout, CLOSE)
        serialize_close(code, reason)
        if self._ws_registry.closing and timeout is None:
            return
        # Not the running loop: there is none when a program calls this between two calls of run_until_complete().
        loop = asyncio.get_running_loop() if self.server is None else self.server.get_loop()
        if not self._ws_registry.closing:
            farewell = self._ws_registry.say_farewell(code, reason, close_connections=close_connections)
            self._ws_shutdown.begin(farewell, self.server, self.logger, loop)
        if timeout is not None:
            self._ws_shutdown.limit(timeout, loop)

    async def wait_closed(self) -> None:
        """Wait until :meth:`close` was called, every connection is closed and every handler has ended.

        If :meth:`close` was given a timeout, this ends in time, whatever handlers do.
        """
        await self._ws_shutdown.wait()

    async def start_serving(self) -> None:
        """Start accepting connections, if the server was made with ``start_serving=False``.

        Raises:
            RuntimeError: the server is closed.
        """
        if self._ws_registry.closing:
            raise RuntimeError("the server is closed")
        await self._ws_listening.start_serving()

    async def serve_forever(self) -> None:
        """Accept connections until the server is closed. Cancelling it closes the server, and then raises."""
        try:
            # asyncio lets others run in there, so it may be cancelled there.
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
        """The numbers of the server as they are now; a new snapshot each time."""
        return self._ws_registry.statistics()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets; none once the server is closed."""
        # uvloop gives a list.
        return tuple(self._ws_listening.sockets)

    @property
    def all_connections(self) -> set[ServerConnection]:
        """The connections from the opening handshake to the end of the handler; a new set each time."""
        return self._ws_registry.opened_connections()

    @property
    def handler_tasks(self) -> set[asyncio.Task[None]]:
        """The tasks that run handlers, each from the request of its connection on; a new set each time."""
        return {connection._ws_task for connection in self._ws_registry.all if connection._ws_task is not None}

    def is_serving(self) -> bool:
        """Whether connections are accepted: the server listens, and none of its sockets was closed.

        On Windows, asyncio's loop closes a listening socket for good when it can't accept a connection, for instance
        because too many files are open.
        """
        return self._ws_listening.is_serving() and all(each.fileno() >= 0 for each in self._ws_kernel_sockets)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the server."""
        return self._ws_listening.get_loop()


# What happens to a server and its connections. These are functions, as programs derive classes from both.


def serve_with(server: Server, options: ServerOptions) -> None:
    """Give a server its options."""
    server._ws_registry = Registry(options.capacity)
    server._ws_answering = Answering(options, server._ws_registry)
    server._ws_shutdown = Shutdown(server._ws_registry)


def answering_of(server: Server) -> Answering:
    """Return what decides for a server how requests are answered."""
    return server._ws_answering


def prepare(
    server: Server, create: Callable[[], asyncio.BaseProtocol], listening: Mapping[str, Any]
) -> Callable[[], asyncio.BaseProtocol]:
    """Get ready to listen.

    Parameters:
        server: server that is going to listen.
        create: makes a connection.
        listening: the arguments for the loop.

    Returns:
        ``create`` for the loop. If it fails, this costs the client its connection; the loop would not tell of it, or,
        on Windows, accept no other client.
    """
    server._ws_shutdown.grace = grace = Grace.of(listening)
    loop = asyncio.get_running_loop()

    def factory() -> asyncio.BaseProtocol:
        grace.accepted(loop.time())
        return created(server, create) or _Refusal()

    return factory


def created(server: Server, create: Callable[[], P]) -> P | None:
    """Return what a function of the user creates for a client; None if it fails, which is counted and logged."""
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
    """Take in a connection that was accepted; its opening handshake begins."""
    if not server._ws_registry.enter(connection, connection._ws_session):
        connection.transport.abort()
        return
    connection._ws_session.start_opening(server._ws_answering.options.open_timeout, connection.loop.time())
    connection._ws_schedule()
    if server._ws_registry.closing:
        # It was accepted just before the server stopped listening.
        refuse_unless_asked(connection)


def forget(server: Server, connection: ServerConnection) -> None:
    """Take in that a connection is over, and its handler too."""
    server._ws_registry.leave(connection, connection._ws_session)
    server._ws_shutdown.connection_ended()


def start_handler(connection: ServerConnection, handler: Coroutine[Any, Any, None]) -> None:
    """Start the task that sees a connection from its request to its end."""
    connection._ws_session.handler = HandlerState.RUNNING
    connection._ws_task = connection.loop.create_task(handler)
    connection._ws_task.add_done_callback(functools.partial(_handler_ended, connection))


def _handler_ended(connection: ServerConnection, task: asyncio.Task[None]) -> None:
    """Take in that the task is over, also if it was cancelled before it began."""
    connection._ws_session.handler = HandlerState.OVER
    if connection._ws_lost:
        connection._ws_forget()
    else:
        # The client should know, but nobody is left to wait for its answer.
        connection._ws_start_closing(CloseCode.INTERNAL_ERROR)
        connection.transport.close()


async def run_handler(server: Server, connection: ServerConnection) -> None:
    """See a connection from its request to its end; one coroutine, as each that waits takes 200 bytes."""
    if connection.loop.get_task_factory() is not None:
        # It may run a task as soon as it is made, which is in the middle of a read, and before the response is out.
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


async def _answer(connection: ServerConnection) -> bool:
    """Answer a request as hooks of the user say; return whether the connection is open."""
    response = await carry_out(connection._ws_answering.steps(connection, connection._ws_session))
    return response is not None and send_response(connection, response)


def send_response(connection: ServerConnection, response: Response) -> bool:
    """Send the answer to a request, for which reading may have paused; return whether the connection is open."""
    opened = connection._ws_answering.respond(connection, connection._ws_session, response)
    connection._ws_resume_reading()
    connection._ws_process_events()
    return opened
