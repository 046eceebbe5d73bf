"""The end of a server for threads: connections are told, threads wait for it, until a timeout.

May know: locks, the ids of threads, how to close and abort connections. Must not know: which connections are refused or
closed: the registry decides that.

Several threads may take part. The serving thread accepts connections, until it sees that the server closes; it alone
closes the listening socket while it accepts. Any thread may ask for the shutdown, and waits until all connections and
handlers have ended, except:

- The serving thread, which runs a signal handler while it accepts: it may hold the lock of a connection. So it only
  keeps the wish, and carries it out when it has left the loop. Then it waits.
- A thread that runs a handler: it doesn't wait for its own connection, and others that wait in :meth:`Shutdown.wish`
  don't wait for it, because it can't go on before they do. The serving thread waits for it.
- A thread that has asked already, and whose signal handler asks again.

No lock of a connection is taken while the lock of the server is held. A signal handler may run between any two steps of
its thread, so both locks are reentrant, and nothing here needs more than a step to be consistent.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .._session.arriving import CLOSING
from .._session.registry import PATIENCE, Farewell, Registry
from ..protocol import State
from ..typing import LoggerLike
from ._system import LONGEST_WAIT, Lock, System
from .connection import Connection

if TYPE_CHECKING:
    from .server import ServerConnection

__all__ = ["Shutdown", "Wish", "close_in_its_way", "closes_as_usual", "cut_off", "unavailable_unless_asked"]

NEVER: Final = math.inf


class Wish(NamedTuple):
    """The arguments of a call of ``Server.shutdown()``."""

    close_connections: bool
    code: int
    reason: str
    timeout: float | None


class Shutdown:
    """The shutdown of a server, and the threads that wait for it.

    Parameters:
        registry: connections of the server.
        lock: reentrant lock of the server, which protects the registry.
        system: clock and locks.
        logger: where the server logs.
        stop_listening: closes the listening socket.
        wake: wakes the serving thread.
        look_every: seconds after which the main thread looks for signals that arrived at a bad moment.
    """

    def __init__(
        self,
        registry: Registry[ServerConnection, ServerConnection],
        lock: Lock,
        system: System,
        logger: LoggerLike,
        stop_listening: Callable[[], None],
        wake: Callable[[], None],
        look_every: float,
    ) -> None:
        self._registry, self._lock, self._system, self._logger = registry, lock, system, logger
        self._stop_listening, self._wake, self._look_every = stop_listening, wake, look_every
        self._changed = system.condition(lock)
        self._wishes: deque[Wish] = deque()
        # Threads, by their ids: the one in serve_forever(), and whether it accepts connections; those that have asked
        # for the shutdown and wait for it; those that run handlers.
        self._serving: int | None = None
        self._served = False  # whether a thread has been in serve_forever()
        self._accepting = False
        self._asking: set[int] = set()
        self._handling: dict[int, ServerConnection] = {}
        self._listening = True
        self._told = False  # whether all connections were told; until then, a handler must not end in its own way
        self._closed = False
        # When connections are cut off, and when those that are left are abandoned.
        self._cut_off_at = self._abandon_at = NEVER

    # -------------------------------------------------------------------------------------------- the serving thread

    def serve(self, accept: Callable[[], None]) -> None:
        """Accept connections in this thread, and wait until the server is closed.

        A program may start a thread for this, and ask for the shutdown before the thread gets here. Then nothing is
        accepted.

        Parameters:
            accept: accepts connections until :meth:`must_stop` returns True.

        Raises:
            RuntimeError: the server was served before and is closed, or another thread accepts connections.
        """
        with self._lock:
            if self._serving is not None:
                raise RuntimeError("serve_forever() is already running")
            accepts = not self._registry.closing
            if self._served and not accepts:
                raise RuntimeError("serve_forever() after shutdown(): the server is closed")
            thread = self._serving = self._system.thread_id()
            self._served, self._accepting = True, accepts
        try:
            try:
                if accepts:
                    accept()
            finally:
                self._stop_serving()
            self._wait(thread)
        finally:
            self._serving = None

    def must_stop(self) -> bool:
        """Return whether the serving thread must stop accepting connections."""
        return self._registry.closing or bool(self._wishes)

    def _stop_serving(self) -> None:
        """Carry out what signal handlers asked for; close the listening socket if the server closes."""
        with self._lock:
            self._accepting = False
        while self._wishes:
            self._begin(self._wishes.popleft())
        if self._registry.closing:
            self._end_listening()

    # ------------------------------------------------------------------------------------------------ other threads

    def wish(self, wish: Wish) -> None:
        """Close the server, and wait until it is closed, unless this thread can't wait.

        Parameters:
            wish: how to close it; later calls may only shorten the timeout.
        """
        thread = self._system.thread_id()
        if thread == self._serving and self._accepting:
            self._wishes.append(wish)
            self._wake()
            return
        if thread == self._serving or thread in self._asking:
            # A signal handler has interrupted a thread that takes part already, and goes on when this has returned.
            self._begin(wish)
            return
        with self._lock:
            self._asking.add(thread)
        try:
            self._begin(wish)
            self._wait(thread)
        finally:
            with self._lock:
                self._asking.discard(thread)

    def handling(self, connection: ServerConnection) -> None:
        """Note that this thread begins to run the handler of a connection."""
        with self._lock:
            self._handling[self._system.thread_id()] = connection

    def handled(self) -> None:
        """Note that this thread has run its handler."""
        with self._lock:
            del self._handling[self._system.thread_id()]

    def connection_ended(self) -> None:
        """Check whether the shutdown is complete, after a connection left the registry; called under the lock."""
        if self._registry.closing and self._left() <= len(self._asking):
            self._check()

    # ----------------------------------------------------------------------------------------------------- beginning

    def _begin(self, wish: Wish) -> None:
        """Refuse or close connections, unless that was done; set the timeout."""
        registry = self._registry
        with self._lock:
            farewell = None
            if not registry.closing:
                farewell = registry.say_farewell(wish.code, wish.reason, close_connections=wish.close_connections)
            if wish.timeout is not None:
                self._limit(wish.timeout)
        if farewell is None:
            return
        self._logger.info("server closing")
        try:
            with self._lock:
                accepting = self._accepting
            if accepting:
                self._wake()
            else:
                self._end_listening()
            self._say_farewell(farewell, wish)
        finally:
            with self._lock:
                self._told = True
                self._check()

    def _say_farewell(self, farewell: Farewell[ServerConnection, ServerConnection], wish: Wish) -> None:
        """Refuse or close the connections that were there at the beginning."""
        for connection in farewell.refused:
            unavailable_unless_asked(connection)
        for connection in farewell.closed:
            self._close(connection, wish.code, wish.reason)
        for connection in farewell.arriving:
            connection._ws_refuse_arrival(CLOSING)

    def _limit(self, timeout: float) -> None:
        """Set the timeout, unless an earlier one is set."""
        if self._cut_off_at == NEVER or self._abandon_at == NEVER:
            self._cut_off_at = min(self._cut_off_at, self._system.now() + timeout)
            self._changed.notify_all()

    def _end_listening(self) -> None:
        with self._lock:
            if self._listening:
                self._listening = False
                self._stop_listening()
                self._check()

    def _close(self, connection: ServerConnection, code: int, reason: str) -> None:
        """Close a connection, by its own ``close()`` if a subclass or a program has overridden that."""
        if closes_as_usual(connection):
            connection._ws_start_closing(code, reason)
        else:
            close = functools.partial(close_in_its_way, connection, code, reason)
            self._system.start_thread(close, name=f"closing of {connection.id}")

    # -------------------------------------------------------------------------------------------------------- waiting

    def _wait(self, thread: int) -> None:
        """Wait until the shutdown is complete, as far as this thread has to; do what is due in the meantime."""
        with self._lock:
            # Others needn't wait for a handler that waits here.
            self._check()
        while (due := self._due(thread)) is not None:
            due()

    def _due(self, thread: int) -> Callable[[], None] | None:
        """Return what to do next, without the lock; None if this thread has waited long enough."""
        with self._lock:
            if self._closed or (thread != self._serving and self._over_for_others()):
                return None
            now = self._system.now()
            if now >= self._abandon_at:
                return self._abandon
            if now >= self._cut_off_at and self._abandon_at == NEVER:
                self._abandon_at = now + PATIENCE
                return self._cut_off
            next_at = self._cut_off_at if self._abandon_at == NEVER else self._abandon_at
            if self._system.runs_signal_handlers():
                next_at = min(next_at, now + self._look_every)
            self._changed.wait(None if next_at == NEVER else min(next_at - now, LONGEST_WAIT))
            return _look_again

    def _left(self) -> int:
        """Return the number of connections that are left."""
        return len(self._registry.all) + len(self._registry.arriving)

    def _over_for_others(self) -> bool:
        """Return whether nothing is left but the connections whose handlers wait here."""
        waiting = {self._handling[thread] for thread in self._asking if thread in self._handling}
        return self._told and not self._listening and self._left() <= len(waiting & self._registry.all)

    def _check(self) -> None:
        """Note that the server is closed, if nothing is left; wake threads, as they may have waited long enough."""
        if self._registry.closing and not self._listening and not self._left() and not self._closed:
            self._closed = True
            self._logger.info("server closed")
        self._changed.notify_all()

    def _cut_off(self) -> None:
        """Abort all connections."""
        with self._lock:
            connections = list(self._registry.all)
        for connection in connections:
            cut_off(connection, self._registry.code, self._registry.reason)

    def _abandon(self) -> None:
        """Don't wait any longer for handlers that still run, nor for a serving thread that is busy."""
        with self._lock:
            for connection in self._registry.give_up(_still_runs):
                self._registry.leave(connection, connection._ws_session)
            self._end_listening()
            self._check()


def _look_again() -> None:
    """Do nothing: something changed, or it is time."""


def _still_runs(connection: Any) -> str:
    return f"connection handler still runs in thread {connection._ws_thread_name!r}"


def unavailable_unless_asked(connection: ServerConnection) -> None:
    """Tell a client that hasn't sent a request that the server closes; other clients are told later."""
    with connection._ws_lock, connection.server._ws_lock:
        channel = connection._ws_channel
        if channel is not None and not channel.handshake_complete:
            # A response can't be sent before TLS is ready.
            Connection._ws_abort(connection)
        elif connection._ws_answering.unavailable_unless_asked(connection._ws_session):
            connection._ws_process_events()
    connection._ws_flush()


def closes_as_usual(connection: ServerConnection) -> bool:
    """Return whether neither a subclass nor a program has overridden ``close()``."""
    return getattr(connection.close, "__func__", None) is Connection.close


def close_in_its_way(connection: ServerConnection, code: int, reason: str) -> None:
    """Close a connection by its own ``close()``, and wait for that; if it fails, close as usual."""
    try:
        connection.close(code, reason)
    except Exception as exc:
        connection.logger.error("closing failed", exc_info=exc)
        connection._ws_start_closing(code, reason)


def cut_off(connection: ServerConnection, code: int | None, reason: str) -> None:
    """Abort a connection, because the timeout of the shutdown has passed."""
    if connection.protocol.state is State.OPEN and not connection._ws_lost:
        # Try to send a Close frame, without waiting for the answer.
        connection._ws_start_closing(code, reason)
    with connection._ws_lock:
        Connection._ws_abort(connection)
