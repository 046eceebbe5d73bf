"""A server on asyncio, apart from its connections: what listens, what is open, and shutdown.

May know: the loop, tasks, what :func:`~.server.serve` was told. Must not know: the opening handshake, which is for each
connection; how many connections are too many.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
from collections.abc import Awaitable, Callable, Generator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

from .._rules.capacity import CROWDED, Capacity
from .._rules.option_checks import awaited
from .._rules.option_table import CLOSE, check
from .._rules.statistics import APPLICATION, FAILURE, ServerStatistics, ServerTally
from .._session.options import ServerOptions
from ..frames import CloseCode, serialize_close
from ..protocol import State
from ..server import refusal_reason
from ..typing import LoggerLike

if TYPE_CHECKING:
    from ._proxy_protocol import Arrival
    from .server import Handler, ServerConnection

__all__ = ["Server", "shown_address", "socket_name"]

# A shutdown with a limit cancels handlers so often, and waits so many seconds each time: one may need a moment to clean
# up, or may take a cancellation for something else.
CANCELLATIONS: Final = 2
PATIENCE: Final = 1.0

# Seconds for which asyncio's server is waited for once no connection of ours is left. On Windows, from Python 3.12 on,
# it may wait for ever after a client reset its connection: closing that transport fails before it is counted out.
GRACE: Final = 1.0
# Seconds that a client may take for TLS, unless the loop was told otherwise. Until then it is no connection of ours.
TLS_HANDSHAKE: Final = 60.0


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
        self._create_server = create_server
        self.handler = handler
        self.logger = logging.getLogger("websockets.server") if logger is None else logger
        self.server: asyncio.Server | None = None
        self._options = ServerOptions()
        # Listening sockets that the operating system knows.
        self._kernel_sockets: list[socket.socket] = []
        # How long a client may take for TLS; None if that isn't known. When a client was accepted last.
        self._tls_limit: float | None = None
        self._accepted_at = -math.inf
        # Every connection, from the first byte to the end of its handler.
        self._all: set[ServerConnection] = set()
        self._capacity: Capacity[ServerConnection | Arrival] | None = None
        # Those that a proxy may have passed on, as long as that isn't known: they count, for no host.
        self._arriving: set[Arrival] = set()
        self._tally = ServerTally()
        self._closing = False
        self._closed: asyncio.Task[None] | None = None
        self._over: asyncio.Future[None] | None = None
        self._idle: asyncio.Future[None] | None = None
        # Of a shutdown: what connections are told, when it has to be over, and whether that is past.
        self._farewell: tuple[int | None, str] = CloseCode.GOING_AWAY, ""
        self._limit: asyncio.TimerHandle | None = None
        self._overdue: asyncio.Future[None] | None = None

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
        self._kernel_sockets = [listening for listening in server.sockets if listening.fileno() >= 0]
        for listening in server.sockets:
            self.logger.info("server listening on %s", socket_name(listening))

    def _prepare(
        self, create: Callable[[], asyncio.BaseProtocol], listening: Mapping[str, Any]
    ) -> Callable[[], asyncio.BaseProtocol]:
        """Get ready to listen.

        Parameters:
            create: makes a connection.
            listening: the arguments for the loop.

        Returns:
            ``create`` for the loop. If it fails, this costs the client its connection; the loop would not tell of it,
            or, on Windows, accept no other client.
        """
        limit = listening.get("ssl_handshake_timeout")
        self._tls_limit = 0.0 if listening.get("ssl") is None else TLS_HANDSHAKE if limit is None else limit
        loop = asyncio.get_running_loop()

        def factory() -> asyncio.BaseProtocol:
            self._accepted_at = loop.time()
            return self._created(create) or _Refusal()

        return factory

    def _created(self, create: Callable[[], P]) -> P | None:
        """What a function of the user creates for a client; None if it fails, which is counted and logged."""
        try:
            connection = create()
            if not isinstance(connection, asyncio.BaseProtocol):
                raise TypeError(f"what creates connections returned {connection!r}")
        except (Exception, asyncio.CancelledError) as exc:
            self._tally.refuse(FAILURE)
            self.logger.error("creating a connection failed", exc_info=exc)
            return None
        return connection

    async def __aenter__(self) -> Self:
        return await self._start()

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
        if self._closing and timeout is None:
            return
        # Not the running loop: there is none when a program calls this between two calls of run_until_complete().
        loop = asyncio.get_running_loop() if self.server is None else self.server.get_loop()
        if not self._closing:
            self._start_closing(loop, close_connections, code, reason)
        if timeout is not None:
            self._set_limit(loop, timeout)

    def _start_closing(
        self, loop: asyncio.AbstractEventLoop, close_connections: bool, code: int | None, reason: str
    ) -> None:
        self._closing = True
        self._farewell = code, reason
        self.logger.info("server closing")
        if self.server is not None:
            self.server.close()
        for connection in list(self._all):
            if connection.state is State.CONNECTING:
                connection._refuse_unless_asked()
            elif connection.state is State.OPEN and close_connections:
                connection._close_for_server(code, reason)
        for arrival in list(self._arriving):
            arrival.refuse("server is shutting down")
        self._overdue = loop.create_future()
        self._closed = loop.create_task(self._finish(self._overdue))

    def _set_limit(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        """See to it that the shutdown takes so many seconds at most, unless it is to take fewer already."""
        when = loop.time() + timeout
        overdue = self._overdue
        if overdue is None or overdue.done() or (self._limit is not None and self._limit.when() <= when):
            return
        if self._limit is not None:
            self._limit.cancel()
        self._limit = loop.call_at(when, overdue.set_result, None)

    async def _finish(self, overdue: asyncio.Future[None]) -> None:
        """Wait until everything has ended, and then wake those who wait for that."""
        try:
            await self._finish_in_time(overdue)
        finally:
            if self._over is not None and not self._over.done():
                self._over.set_result(None)

    async def _finish_in_time(self, overdue: asyncio.Future[None]) -> None:
        """Wait until everything has ended; when the limit has passed, see to it that it does."""
        ended = asyncio.get_running_loop().create_task(self._wait_for_ends())
        await asyncio.wait([ended, overdue], return_when=asyncio.FIRST_COMPLETED)
        if self._limit is not None:
            self._limit.cancel()
        for _ in range(CANCELLATIONS):
            if not ended.done():
                self._cut_off()
                await asyncio.wait([ended], timeout=PATIENCE)
        if ended.done():
            ended.result()
        else:
            self._give_up()
            # What is left belongs to no connection of ours, such as a client that is still busy with TLS.
            ended.cancel()
        overdue.cancel()
        self.logger.info("server closed")

    async def _wait_for_ends(self) -> None:
        await self._wait_for_connections()
        while self.server is not None:
            try:
                async with asyncio.timeout(self._grace(asyncio.get_running_loop().time())):
                    await self.server.wait_closed()
                break
            except TimeoutError:
                if not self._all:
                    self.logger.info("asyncio counts a connection that is over; the server closes without it")
                    break
                # It began in the meantime.
                await self._wait_for_connections()
        await self._wait_for_connections()

    def _grace(self, now: float) -> float:
        """Seconds for which a client may still be busy with TLS, and some more."""
        if self._tls_limit is None:
            return GRACE + TLS_HANDSHAKE
        return GRACE + max(self._accepted_at + self._tls_limit - now, 0.0)

    async def _wait_for_connections(self) -> None:
        """Wait until no connection of ours is left, and all handlers have ended."""
        if self._all:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    def _cut_off(self) -> None:
        """End what goes on, without waiting for anybody."""
        for connection in list(self._all):
            connection._cut_off(*self._farewell)
        # Clients in the middle of a TLS handshake, where asyncio offers a way.
        abort_clients = getattr(self.server, "abort_clients", None)
        if abort_clients is not None:
            abort_clients()

    def _give_up(self) -> None:
        """Wait no longer for handlers that go on although they were cancelled."""
        for connection in list(self._all):
            connection.logger.error(
                "connection handler still runs after it was cancelled; the server closes without it"
            )
            self._forget(connection)

    async def wait_closed(self) -> None:
        """Wait until :meth:`close` was called, every connection is closed and every handler has ended.

        If :meth:`close` was given a timeout, this ends in time, whatever handlers do.
        """
        if self._closed is None or not self._closed.done():
            # All wait for the same, and go on in the order in which they came: a task that waits from the start has
            # ended when a program leaves ``async with serve(...)``.
            if self._over is None:
                self._over = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._over)
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
    def _listening(self) -> asyncio.Server:
        if self.server is None:
            raise RuntimeError("the server was not awaited")
        return self.server

    @property
    def connections(self) -> set[ServerConnection]:
        """The connections that are open now; a new set each time."""
        return {connection for connection in self._all if connection.state is State.OPEN}

    @property
    def statistics(self) -> ServerStatistics:
        """The numbers of the server as they are now; a new snapshot each time."""
        counted = len(self._all) if self._capacity is None else len(self._capacity)
        return self._tally.snapshot(len(self.connections), counted)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets; none once the server is closed."""
        # uvloop gives a list.
        return tuple(self._listening.sockets)

    @property
    def all_connections(self) -> set[ServerConnection]:
        """The connections from the opening handshake to the end of the handler; a new set each time."""
        return {connection for connection in self._all if connection.state is not State.CONNECTING}

    @property
    def handler_tasks(self) -> set[asyncio.Task[None]]:
        """The tasks that run handlers, each from the request of its connection on; a new set each time."""
        return {connection._task for connection in self._all if connection._task is not None}

    def is_serving(self) -> bool:
        """Whether connections are accepted: the server listens, and none of its sockets was closed.

        On Windows, asyncio's loop closes a listening socket for good when it can't accept a connection, for instance
        because too many files are open.
        """
        return self._listening.is_serving() and all(each.fileno() >= 0 for each in self._kernel_sockets)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the server."""
        return self._listening.get_loop()

    # ----------------------------------------------------------------------------------------------------- connections

    def _arrived(self, arrival: Arrival) -> bool:
        """Whether there is a place for somebody of whom nothing is known yet."""
        if self._capacity is not None and not self._capacity.enter(arrival, None):
            return False
        self._arriving.add(arrival)
        return True

    def _arrives_no_more(self, arrival: Arrival) -> bool:
        """Whether somebody had such a place, which is free from now on."""
        if arrival not in self._arriving:
            return False
        self._arriving.discard(arrival)
        if self._capacity is not None:
            self._capacity.leave(arrival)
        return True

    def _connected(self, connection: ServerConnection) -> None:
        capacity = self._capacity
        if capacity is not None:
            if not capacity.enter(connection, connection.remote_address):
                self._tally.refuse(CROWDED)
                connection.transport.abort()
                return
            if not capacity.is_inside(connection):
                connection._beyond = True
        self._all.add(connection)
        connection._session.start_opening(self._options.open_timeout, connection.loop.time())
        connection._schedule()
        if self._closing:
            # It was accepted just before the server stopped listening.
            connection._refuse_unless_asked()

    def _no_room(self, connection: ServerConnection) -> str | None:
        """Why there is no room for a connection that was beyond the limit; None if there is by now."""
        return None if self._capacity is None else self._capacity.refusal(connection)

    def _answered(self, opened: bool, exc: Exception | None) -> None:
        """A request was answered; if it was refused, for an error of the client or of ours, or by the application."""
        if opened:
            self._tally.opened += 1
        else:
            self._tally.refuse(APPLICATION if exc is None else refusal_reason(exc) or FAILURE)

    def _forget(self, connection: ServerConnection) -> None:
        if connection not in self._all:
            return
        self._all.discard(connection)
        # Here a connection and its handler are over: what it counted itself would be added to the tally.
        if connection._session.response is None:
            self._tally.refuse(connection._never_asked())
        if self._capacity is not None:
            self._capacity.leave(connection)
        if not self._all and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def _run(self, connection: ServerConnection) -> None:
        """From the request of a connection to its end; one coroutine, as each that waits takes 200 bytes."""
        if connection.loop.get_task_factory() is not None:
            # It may run a task as soon as it is made, which is in the middle of a read, and before the response is out.
            await asyncio.sleep(0)
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
        handler = cast("Callable[..., Awaitable[None]]", self.handler)
        if self._options.takes_path:
            request = connection._session.request
            assert request is not None
            return awaited(handler, handler(connection, request.path))
        return awaited(handler, handler(connection))


def socket_name(listening: socket.socket) -> str:
    """How the address of a listening socket looks in the log."""
    return shown_address(listening.getsockname())


def shown_address(address: Any) -> str:
    """How the address of a socket looks in the log; that of a Unix socket is a path, mostly empty for clients."""
    if isinstance(address, str | bytes):
        return os.fsdecode(address)
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
