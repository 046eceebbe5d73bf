"""Servers for threads, apart from their connections: accepting connections, and the threads that run handlers.

May know: threads, executors, sockets that were accepted. Must not know: the set of connections, which the registry
keeps; listening sockets, which are in :mod:`._listening`; the end of a server, which is in :mod:`._shutdown`.

A connection has no thread until its request has arrived: the steward reads the request. If no hook has to see the
request, the steward also answers it, so that a refusal costs no thread at all.

The lock of a connection is taken before that of its server, never while that is held.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .._rules.addresses import shown_address
from .._rules.option_table import CLOSE, check
from .._rules.statistics import FAILURE, ServerStatistics
from .._rules.thread_checks import not_awaitable
from .._session.answering import Answering
from .._session.options import ServerOptions
from .._session.registry import Registry
from .._session.server_session import HandlerState
from ..frames import CloseCode, serialize_close
from ..typing import LoggerLike
from ._listening import Listener
from ._shutdown import Shutdown, Wish, close_in_its_way, closes_as_usual, unavailable_unless_asked
from ._system import current
from .connection import Connection

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from .server import ServerConnection

__all__ = ["Server", "answering_of", "connected", "forget", "serve_with", "start_handler"]


class Server:
    """A WebSocket server; :func:`~websockets.sync.server.serve` returns it.

    It is a context manager that shuts down the server.

    Parameters:
        sock: listening socket.
        handler: connection handler. A program that makes a server without :func:`~websockets.sync.server.serve` gets
            sockets: then this is ``f(sock, address)``, which runs in a thread for each client, and for which
            :meth:`shutdown` doesn't wait.
        logger: where to log; ``websockets.server`` by default.
    """

    # The module where users find the class.
    __module__ = "websockets.sync.server"

    SHUTDOWN_POLLING_INTERVAL: float = 0.1
    """Seconds after which :meth:`serve_forever` and :meth:`shutdown` look for a signal, if they run in the main thread.

    Most signals end their wait at once. One that arrives just before they begin to wait doesn't.
    """

    def __init__(self, sock: socket.socket, handler: Callable[..., None], logger: LoggerLike | None = None) -> None:
        self.socket = sock
        self.handler = handler
        self.logger = logging.getLogger("websockets.server") if logger is None else logger
        self._ws_system = current()
        self._ws_lock = self._ws_system.lock()
        serve_with(self, ServerOptions(), Listener(sock))

    _ws_listener: Listener
    _ws_registry: Registry[ServerConnection, ServerConnection]
    _ws_answering: Answering
    _ws_shutdown: Shutdown
    # Makes a connection of an accepted socket; None if the handler gets the socket.
    _ws_make: Callable[[socket.socket], ServerConnection] | None = None
    _ws_executor: Executor | None = None
    _ws_daemon_threads: bool = False

    # ------------------------------------------------------------------------------------------------- opening, closing

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()

    def serve_forever(self) -> None:
        """Accept connections in this thread, until :meth:`shutdown` is called, and wait until the server is closed.

        An exception of a signal handler, such as ``KeyboardInterrupt``, ends this. Then the server doesn't accept
        connections, and those that are open stay open until :meth:`shutdown` is called. So use the server as a context
        manager.

        If :meth:`shutdown` was called before this is called for the first time, this only waits.

        Raises:
            RuntimeError: this ran before, and the server is closed; or another thread runs this.
        """

        def accepted(sock: socket.socket, address: Any) -> None:
            if self._ws_make is not None:
                _accepted(self, sock, self._ws_make)
            else:
                handle = functools.partial(self.handler, sock, address)
                self._ws_system.start_thread(handle, name=f"handler of {address}", daemon=False)

        def accept() -> None:
            every = self.SHUTDOWN_POLLING_INTERVAL if self._ws_system.runs_signal_handlers() else None
            self._ws_listener.accept_until(self._ws_shutdown.must_stop, accepted, self.logger, every)

        self._ws_shutdown.serve(accept)

    def shutdown(
        self,
        close_connections: bool = True,
        code: int = CloseCode.GOING_AWAY,
        reason: str = "",
        *,
        timeout: float | None = None,
    ) -> None:
        """Stop accepting connections, refuse opening handshakes with HTTP 503, and close open connections.

        Then wait until all connections are closed and all handlers have ended. Any thread may call this, also several
        times. A handler that calls this waits for all handlers but its own. A signal handler that interrupts
        :meth:`serve_forever` doesn't wait: instead, :meth:`serve_forever` does, before it returns.

        Parameters:
            close_connections: True to close open connections; False to let them end with their handlers.
            code: close code for open connections.
            reason: close reason for open connections, at most 123 bytes in UTF-8.
            timeout: seconds that the shutdown may take; None for no limit. After that time, connections are aborted, so
                that handlers that receive or send end with an exception. One second later, the server stops waiting for
                handlers that still run, and logs the names of their threads. Nothing can end them; see
                ``daemon_threads`` of :func:`~websockets.sync.server.serve`.

        Raises:
            ProtocolError: the code or the reason can't be sent; nothing is closed in this case.
            TypeError: the code isn't an ``int``, the reason isn't a ``str``, or ``timeout`` isn't a number.
            ValueError: ``timeout`` is negative.
        """
        timeout = check("timeout", timeout, CLOSE)
        serialize_close(code, reason)
        self._ws_shutdown.wish(Wish(close_connections, code, reason, timeout))

    # ------------------------------------------------------------------------------------------------------------- ask

    def __repr__(self) -> str:
        addresses = [self.socket.getsockname()] if self.socket.fileno() >= 0 else []
        return self._ws_registry.shown(type(self).__name__, addresses)

    def fileno(self) -> int:
        """Return the file descriptor of the listening socket; -1 after the server is closed."""
        return self.socket.fileno()

    @property
    def connections(self) -> set[ServerConnection]:
        """The connections that are open now; a new set each time."""
        with self._ws_lock:
            return self._ws_registry.open_connections()

    @property
    def statistics(self) -> ServerStatistics:
        """The statistics of the server; a new snapshot each time."""
        with self._ws_lock:
            return self._ws_registry.statistics()

    @property
    def all_connections(self) -> set[ServerConnection]:
        """The connections from the opening handshake to the end of the handler; a new set each time."""
        with self._ws_lock:
            return self._ws_registry.opened_connections()


# Operations on a server and its connections. They are functions, so that subclasses can't override them by accident.


def serve_with(
    server: Server,
    options: ServerOptions,
    listener: Listener,
    make: Callable[[socket.socket], ServerConnection] | None = None,
) -> None:
    """Set the options of a server, and what listens."""
    server._ws_listener = listener
    registry: Registry[ServerConnection, ServerConnection] = Registry(options.capacity)
    server._ws_registry = registry
    server._ws_answering = Answering(options, registry)
    server._ws_shutdown = Shutdown(
        registry,
        server._ws_lock,
        server._ws_system,
        server.logger,
        listener.close,
        listener.wake,
        server.SHUTDOWN_POLLING_INTERVAL,
    )
    server._ws_make = make
    _servers.add(server)


# The servers of this process.
_servers: weakref.WeakSet[Server] = weakref.WeakSet()


def _after_fork() -> None:
    """Leave connections to the parent, in a child process: for the child, its servers have none, and don't run.

    The locks are new, as a thread of the parent may have held them. A child may serve at the same listening socket, and
    its shutdown closes nothing but its own descriptor.
    """
    for server in list(_servers):
        before = server._ws_registry
        server._ws_lock = server._ws_system.lock()
        server._ws_listener.disown()
        options = server._ws_answering.options.without_connections()
        serve_with(server, options, server._ws_listener, server._ws_make)
        if before.closing:
            server.shutdown()


# Windows has no forks.
getattr(os, "register_at_fork", dict)(after_in_child=_after_fork)


def answering_of(server: Server) -> Answering:
    """Return the rules of a server for responses to requests."""
    return server._ws_answering


def _accepted(server: Server, sock: socket.socket, make: Callable[[socket.socket], ServerConnection]) -> None:
    """Begin the opening handshake of a connection that was accepted."""
    connection = None
    try:
        connection = _created(server, sock, make)
        if connection is None:
            sock.close()
        else:
            connected(server, connection)
    except BaseException:
        # A signal handler interrupted this thread, and nobody would go on here.
        if connection is None:
            sock.close()
        else:
            with connection._ws_lock:
                Connection._ws_abort(connection)
        raise


def _created(
    server: Server, sock: socket.socket, make: Callable[[socket.socket], ServerConnection]
) -> ServerConnection | None:
    """Return the connection that a function of the user makes; None if it fails, which is counted and logged."""
    try:
        connection = make(sock)
        if not isinstance(connection, Connection):
            raise TypeError(f"what creates connections returned {connection!r}")
    except Exception as exc:
        with server._ws_lock:
            server._ws_registry.tally.refuse(FAILURE)
        server.logger.error("creating a connection failed", exc_info=exc)
        return None
    return connection


def connected(server: Server, connection: ServerConnection) -> None:
    """Register a connection that was accepted, and begin its opening handshake."""
    with connection._ws_lock, server._ws_lock:
        # A function of the user that makes connections may have used this one already, and may have ended it.
        if connection._ws_lost or not connection._ws_enter():
            Connection._ws_abort(connection)
            return
        connection._ws_hand_to_steward(server._ws_answering.options.open_timeout)
        closing = server._ws_registry.closing
    if closing:
        # The connection was accepted just before the server stopped listening.
        unavailable_unless_asked(connection)


def forget(server: Server, connection: ServerConnection) -> None:
    """Remove a connection, after the connection and its handler ended."""
    with server._ws_lock:
        server._ws_registry.leave(connection, connection._ws_session)
        server._ws_shutdown.connection_ended()


def start_handler(server: Server, connection: ServerConnection) -> None:
    """Start the thread that handles a connection from its request to its end; called under both locks."""
    session = connection._ws_session
    session.handler = HandlerState.RUNNING
    connection._ws_thread_name = name = f"handler of {shown_address(connection.remote_address) or connection.id}"

    def run() -> None:
        _run_handler(server, connection)

    try:
        if server._ws_executor is not None:
            future = server._ws_executor.submit(run)
            future.add_done_callback(functools.partial(_executor_done, server, connection))
        else:
            server._ws_system.start_thread(run, name=name, daemon=server._ws_daemon_threads)
    except Exception as exc:  # the system has no room for a thread, or the executor was shut down
        _handler_not_started(server, connection, exc)


def _handler_not_started(server: Server, connection: ServerConnection, exc: Exception) -> None:
    """Process that a handler will never run; called under both locks."""
    session = connection._ws_session
    session.handler = HandlerState.OVER
    server._ws_answering.break_off(connection, session, exc, "starting the connection handler failed")
    connection._ws_pause_reading(False)


def _executor_done(server: Server, connection: ServerConnection, future: Future[None]) -> None:
    """Look whether an executor has run a handler: it may have been shut down before."""
    with connection._ws_lock, server._ws_lock:
        if connection._ws_session.handler is HandlerState.RUNNING:
            exc = None if future.cancelled() else future.exception()
            if not isinstance(exc, Exception):
                exc = RuntimeError("the executor was shut down")
            _handler_not_started(server, connection, exc)
            connection._ws_process_events()
            if connection._ws_session.finished:
                forget(server, connection)
    connection._ws_flush()


def _run_handler(server: Server, connection: ServerConnection) -> None:
    """Handle a connection from its request to its end, in a thread."""
    server._ws_shutdown.handling(connection)
    try:
        if connection._ws_session.answered or _answer(connection):
            _handle(server, connection)
    except BaseException:
        # The handler ends the thread, for instance by SystemExit. Send a Close frame, without waiting for the answer.
        connection._ws_start_closing(CloseCode.INTERNAL_ERROR, "")
        raise
    finally:
        server._ws_shutdown.handled()
        with connection._ws_lock:
            connection._ws_session.handler = HandlerState.OVER
            if connection._ws_session.finished:
                forget(server, connection)


def _answer(connection: ServerConnection) -> bool:
    """Answer a request as the user's hooks decide; return whether the connection is open."""
    options = connection._ws_answering.options
    try:
        connection.handshake(
            options.process_request, options.process_response, options.server_header, options.open_timeout
        )
    except Exception as exc:
        if exc is not connection.protocol.handshake_exc:
            # A subclass has overridden the method.
            with connection._ws_lock, connection.server._ws_lock:
                connection._ws_answering.break_off(connection, connection._ws_session, exc, "opening handshake failed")
                connection._ws_pause_reading(False)
                connection._ws_process_events()
            connection._ws_flush()
        return False
    response = connection._ws_session.response
    return response is not None and response.status_code == 101


def _handle(server: Server, connection: ServerConnection) -> None:
    """Run the handler, and begin to close the connection: the steward does the rest, so that the thread can end."""
    failed = False
    try:
        not_awaitable(server.handler, server.handler(connection))
    except Exception as exc:
        with connection._ws_lock, server._ws_lock:
            failed = server._ws_answering.handler_failed(connection, connection._ws_session, exc)
    code = CloseCode.INTERNAL_ERROR if failed else CloseCode.NORMAL_CLOSURE
    if closes_as_usual(connection):
        connection._ws_start_closing(code, "")
    else:
        close_in_its_way(connection, code, "")
