"""Servers on trio, apart from their connections: what listens, the tasks that run handlers, the shutdown.

May know: nurseries, cancel scopes, listeners. Must not know: the set of connections and who is told what at a shutdown:
the registry knows that; how a response is chosen: ``_session`` decides that.

A server has a nursery. Each connection has a task in it, which runs the user's hooks and the handler, and which has a
nursery of its own, for the task that reads. So a connection is over when its task is.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import trio

from .._rules.addresses import shown_address
from .._rules.option_checks import awaited
from .._rules.option_table import CLOSE, TRIO_SERVE, check, table
from .._rules.statistics import FAILURE, ServerStatistics
from .._session.answering import Answering
from .._session.arriving import CLOSING
from .._session.options import TRIO_SERVER, ServerOptions, connection_maker
from .._session.registry import Registry
from .._session.server_session import HandlerState
from ..frames import CloseCode, serialize_close
from ..typing import LoggerLike
from ._arrival import Arrival
from ._server_connection import ServerConnection, apart
from ._wire import close_now

if TYPE_CHECKING:
    from .server import Handler

__all__ = ["Server", "server_with"]


class Server(trio.abc.AsyncResource):
    """A WebSocket server; ``await nursery.start(serve, ...)`` returns it.

    It is an async context manager that closes the server and waits until it is closed.

    Parameters:
        listeners: listeners of trio, which the server closes.
        handler: connection handler.
        logger: where to log; ``websockets.server`` by default.

    Attributes:
        listeners: the list that was given.
    """

    # The module where users find the class.
    __module__ = "websockets.trio.server"

    listeners: Sequence[trio.abc.Listener[Any]]

    def __init__(
        self, listeners: Sequence[trio.abc.Listener[Any]], handler: Handler, logger: LoggerLike | None = None
    ) -> None:
        given = {name: option.default for name, option in table(TRIO_SERVE).items()}
        given |= {"handler": handler, "listeners": listeners, "logger": logger, "kwargs": {}}
        options = ServerOptions.of(given, logging.getLogger("websockets.server"), TRIO_SERVER)
        self._ws_set_up(listeners, handler, options)

    def _ws_set_up(self, listeners: Sequence[trio.abc.Listener[Any]], handler: Handler, options: ServerOptions) -> None:
        self.listeners = listeners
        self.handler = handler
        self.logger = options.logger
        self._ws_accepting = trio.CancelScope()
        self._ws_over = trio.Event()
        self._ws_nursery: trio.Nursery | None = None
        # Clients in the TLS handshake, or before the header of the PROXY protocol.
        self._ws_arrivals: set[Arrival] = set()
        self._ws_registry = Registry(options.capacity)
        self._ws_answering = Answering(options, self._ws_registry)
        self._ws_make_connection = connection_maker(options, ServerConnection)

    _ws_registry: Registry[ServerConnection, Arrival]
    _ws_answering: Answering
    _ws_make_connection: Callable[..., ServerConnection]

    def __repr__(self) -> str:
        # Listeners of other kinds, such as those with TLS, say nothing about their sockets.
        sockets = [listener.socket for listener in self.listeners if isinstance(listener, trio.SocketListener)]
        addresses = [each.getsockname() for each in sockets if each.fileno() >= 0]
        return self._ws_registry.shown(type(self).__name__, addresses)

    # ------------------------------------------------------------------------------------------------- opening, closing

    async def serve_forever(self, task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept connections until the server is closed. Cancelling this ends all handlers at once.

        Parameters:
            task_status: for :meth:`trio.Nursery.start`, which returns the server when it accepts connections.

        Raises:
            RuntimeError: the server has already been started, or is closed.
        """
        if self._ws_nursery is not None or self._ws_registry.closing:
            raise RuntimeError("the server has already been started, or is closed")
        try:
            async with trio.open_nursery(strict_exception_groups=True) as self._ws_nursery:
                await self._ws_accept(self._ws_nursery, task_status)
        finally:
            self._ws_registry.closing = True
            self.logger.info("server closed")
            self._ws_over.set()

    async def _ws_accept(self, nursery: trio.Nursery, task_status: trio.TaskStatus[Server]) -> None:
        """Accept connections until the server is closed."""
        try:
            with self._ws_accepting:
                for listener in self.listeners:
                    self.logger.info("server listening on %s", _address_of(listener))
                async with trio.open_nursery(strict_exception_groups=True) as accepting:
                    await accepting.start(self._ws_serve_listeners, nursery)
                    task_status.started(self)
        finally:
            for listener in self.listeners:
                await close_now(listener)

    async def _ws_serve_listeners(self, nursery: trio.Nursery, task_status: trio.TaskStatus[Any]) -> None:
        """Accept connections; trio waits if there are too many open files."""
        listeners = [_Accepting(listener) for listener in self.listeners]
        await trio.serve_listeners(self._ws_serve_accepted, listeners, handler_nursery=nursery, task_status=task_status)

    async def aclose(
        self,
        close_connections: bool = True,
        code: int = CloseCode.GOING_AWAY,
        reason: str = "",
        *,
        timeout: float | None = None,
    ) -> None:
        """Stop accepting connections, refuse opening handshakes with HTTP 503, close open connections, and wait.

        This waits until all handlers have ended, so don't call it in a handler. Calling it again only waits. Cancelling
        it aborts the connections and cancels the handlers.

        Parameters:
            close_connections: True to close open connections; False to let them end with their handlers.
            code: close code for open connections.
            reason: close reason for open connections, at most 123 bytes in UTF-8.
            timeout: seconds that the shutdown may take; None for no limit. After that time, connections are aborted and
                handlers are cancelled. trio can't abandon a task: a handler that shields itself from cancellation is
                waited for.

        Raises:
            ProtocolError: the code or the reason can't be sent; nothing is closed in this case.
            TypeError: the code isn't an ``int``, the reason isn't a ``str``, or ``timeout`` isn't a number.
            ValueError: ``timeout`` is negative.
        """
        timeout = check("timeout", timeout, CLOSE)
        serialize_close(code, reason)
        if not self._ws_registry.closing:
            self._ws_say_farewell(code, reason, close_connections)
        if self._ws_nursery is None:
            for listener in self.listeners:
                await listener.aclose()
            return
        try:
            with trio.move_on_after(math.inf if timeout is None else timeout):
                await self._ws_over.wait()
        finally:
            if not self._ws_over.is_set():
                # The timeout has passed, or this was cancelled. The connections try to send a Close frame, and abort.
                self._ws_nursery.cancel_scope.cancel()
        await self._ws_over.wait()

    def _ws_say_farewell(self, code: int, reason: str, close_connections: bool) -> None:
        """Stop listening, and tell the connections, without waiting."""
        self.logger.info("server closing")
        self._ws_accepting.cancel()
        farewell = self._ws_registry.say_farewell(code, reason, close_connections=close_connections)
        for connection in farewell.refused:
            connection._ws_unavailable_unless_asked()
        for connection in farewell.closed:
            connection._ws_start_closing(code, reason)
        for arrival in list(self._ws_arrivals):
            arrival.refuse(CLOSING)

    # ------------------------------------------------------------------------------------------------------------- ask

    @property
    def connections(self) -> set[ServerConnection]:
        """The connections that are open now; a new set each time."""
        return self._ws_registry.open_connections()

    @property
    def statistics(self) -> ServerStatistics:
        """The statistics of the server; a new snapshot each time."""
        return self._ws_registry.statistics()

    # -------------------------------------------------------------------------------------------------- one connection

    async def _ws_serve_accepted(self, accepted: _Accepted) -> None:
        await self._ws_serve_stream(accepted.stream)

    async def _ws_serve_stream(self, stream: trio.abc.Stream) -> None:
        """Handle a stream that was accepted, to its end, and close it."""
        options = self._ws_answering.options
        arrival = Arrival(stream, self._ws_registry, options.proxies, self.logger)
        self._ws_arrivals.add(arrival)
        try:
            try:
                arrived = await arrival.arrive(options.context, options.open_timeout)
            finally:
                self._ws_arrivals.discard(arrival)
            if arrived:
                await self._ws_serve_connection(arrival)
        except Exception as exc:
            # An error of one connection must not end the others.
            self.logger.error("unexpected internal error", exc_info=exc)
        finally:
            await close_now(arrival.stream)

    async def _ws_serve_connection(self, arrival: Arrival) -> None:
        """Handle a connection, to its end, in a nursery of its own."""
        registry = self._ws_registry
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            connection = self._ws_created(nursery, arrival.stream)
            if connection is None:
                return
            session = connection._ws_session
            session.proxied = arrival.addresses
            if not registry.enter(connection, session):
                return
            try:
                await self._ws_run_connection(connection)
            finally:
                session.handler = HandlerState.OVER
                registry.leave(connection, session)

    def _ws_created(self, nursery: trio.Nursery, stream: trio.abc.Stream) -> ServerConnection | None:
        """Return a new connection; None if a function of the user fails, which is counted and logged."""
        try:
            connection = self._ws_make_connection(nursery, stream, self._ws_answering.options.protocol(), self)
            if not isinstance(connection, ServerConnection):
                raise TypeError(f"what creates connections returned {connection!r}")
        except Exception as exc:
            self._ws_registry.tally.refuse(FAILURE)
            self.logger.error("creating a connection failed", exc_info=exc)
            return None
        return connection

    async def _ws_run_connection(self, connection: ServerConnection) -> None:
        """Do the opening handshake, run the handler, and wait until the connection is closed."""
        session = connection._ws_session
        connection._ws_start(self._ws_answering.options.open_timeout)
        if self._ws_registry.closing:
            # The connection was accepted just before the server stopped listening.
            connection._ws_unavailable_unless_asked()
        await connection._ws_until(lambda: session.handler is HandlerState.RUNNING or not session.answerable)
        if session.handler is HandlerState.RUNNING and not session.answered:
            await connection._ws_answer()
        if session.response is not None and session.response.status_code == 101:
            await self._ws_run_handler(connection)
        await connection.wait_closed()

    async def _ws_run_handler(self, connection: ServerConnection) -> None:
        """Run the user's handler, and close the connection."""
        answering, session, code = self._ws_answering, connection._ws_session, CloseCode.NORMAL_CLOSURE
        try:
            handler = cast("Callable[..., Awaitable[None]]", self.handler)
            await awaited(handler, handler(connection, *answering.handler_arguments(session)))
        except Exception as exc:
            if answering.handler_failed(connection, session, exc):
                code = CloseCode.INTERNAL_ERROR
        except BaseExceptionGroup as group:
            cancelled, failures = apart(group)
            answering.handler_failed(connection, session, failures)
            raise cancelled from None
        await connection.aclose(code)


class _Accepted(trio.abc.AsyncResource):
    """A stream that was accepted, for trio, which must not close it: an error of that would end the server.

    Parameters:
        stream: the stream.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream

    async def aclose(self) -> None:
        """Do nothing; the server has closed the stream."""


class _Accepting(trio.abc.Listener[_Accepted]):
    """A listener whose streams trio doesn't close.

    Parameters:
        listener: the listener.
    """

    def __init__(self, listener: trio.abc.Listener[Any]) -> None:
        self._listener = listener

    async def accept(self) -> _Accepted:
        """Wait for a stream."""
        return _Accepted(await self._listener.accept())

    async def aclose(self) -> None:
        """Close the listener."""
        await self._listener.aclose()


def server_with(listeners: Sequence[trio.abc.Listener[Any]], handler: Handler, options: ServerOptions) -> Server:
    """Make a server with options.

    Parameters:
        listeners, handler: as for :class:`Server`; the handler may be None if ``process_request`` answers all requests.
        options: the options.
    """
    server = Server.__new__(Server)
    server._ws_set_up(listeners, handler, options)
    return server


def _address_of(listener: Any) -> str:
    """Return the address of a listener, for the log."""
    while (sock := getattr(listener, "socket", None)) is None:
        listener = getattr(listener, "transport_listener", None)
        if listener is None:
            return "an unknown address"
    return shown_address(sock.getsockname())
