"""The shutdown of a server: close its connections, and wait for them until a timeout.

May know: the event loop, tasks, timers, how to close and abort connections. Must not know: the stages of a shutdown,
and which connections are refused or closed: the registry decides that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from .._session.arriving import CLOSING
from .._session.registry import CANCELLATIONS, PATIENCE, Farewell, Grace, Registry
from ..protocol import State
from ..typing import LoggerLike
from ._handshakes import Handshakes
from .connection import Connection

if TYPE_CHECKING:
    from ._proxy_protocol import Arrival
    from .server import ServerConnection

__all__ = ["Shutdown", "unavailable_unless_asked"]


class Shutdown:
    """The shutdown of a server, and the futures that wait for it.

    Parameters:
        registry: connections of the server.

    Attributes:
        grace: the time that clients may take for the TLS handshake.
        handshakes: those under way; None if the server doesn't know them.
    """

    def __init__(self, registry: Registry[ServerConnection, Arrival]) -> None:
        self.grace = Grace()
        self.handshakes: Handshakes | None = None
        self._registry = registry
        self._closed: asyncio.Task[None] | None = None
        # Tasks that close connections by their own close(); asyncio has only weak references to tasks.
        self._closers: set[asyncio.Task[None]] = set()
        # One future is for callers that wait for the end, the other for the task that waits until no connection is
        # left.
        self._over: asyncio.Future[None] | None = None
        self._idle: asyncio.Future[None] | None = None
        # The timer of the timeout, and whether it has fired.
        self._limit: asyncio.TimerHandle | None = None
        self._overdue: asyncio.Future[None] | None = None

    def begin(
        self,
        farewell: Farewell[ServerConnection, Arrival],
        listening: asyncio.Server | None,
        logger: LoggerLike,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Refuse or close connections, and start a task that waits for the end.

        Parameters:
            farewell: connections to refuse and to close.
            listening: the listening server; None if there is none.
            logger: where the server logs.
            loop: event loop of the server.
        """
        logger.info("server closing")
        if listening is not None:
            listening.close()
        for connection in farewell.refused:
            unavailable_unless_asked(connection)
        for connection in farewell.closed:
            self._close(connection)
        for arrival in farewell.arriving:
            arrival.refuse(CLOSING)
        self._overdue = loop.create_future()
        self._closed = loop.create_task(self._finish(listening, logger, self._overdue))

    def limit(self, timeout: float, loop: asyncio.AbstractEventLoop) -> None:
        """Set a timeout for the shutdown, unless an earlier one is set.

        Parameters:
            timeout: seconds from now.
            loop: event loop of the server.
        """
        when = loop.time() + timeout
        overdue = self._overdue
        if overdue is None or overdue.done() or (self._limit is not None and self._limit.when() <= when):
            return
        if self._limit is not None:
            self._limit.cancel()
        self._limit = loop.call_at(when, overdue.set_result, None)

    def connection_ended(self) -> None:
        """Check whether the shutdown is complete, after a connection left the registry."""
        if self._idle is not None and not self._idle.done() and self._registry.empty:
            self._idle.set_result(None)

    async def wait(self) -> None:
        """Wait until the shutdown has begun and ended."""
        if self._closed is None or not self._closed.done():
            # All callers wait for the same future, and resume in the order of their calls. So a task that waited before
            # a program leaves ``async with serve(...)`` has resumed when the program continues.
            if self._over is None:
                self._over = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._over)
        assert self._closed is not None
        await asyncio.shield(self._closed)

    def _close(self, connection: ServerConnection) -> None:
        """Close a connection, by its own ``close()`` if a subclass or a program has overridden that."""
        code, reason = self._registry.code, self._registry.reason
        if getattr(connection.close, "__func__", None) is Connection.close:
            connection._ws_start_closing(code, reason)
        else:
            close: Any = connection.close
            closing = _close_in_its_way(connection, close(code, reason), code, reason)
            task = connection.loop.create_task(closing)
            self._closers.add(task)
            task.add_done_callback(self._closers.discard)

    async def _finish(
        self, listening: asyncio.Server | None, logger: LoggerLike, overdue: asyncio.Future[None]
    ) -> None:
        """Wait until everything has ended, and then wake the callers that wait for that."""
        try:
            await self._finish_in_time(listening, logger, overdue)
            logger.info("server closed")
        finally:
            if self._over is not None and not self._over.done():
                self._over.set_result(None)

    async def _finish_in_time(
        self, listening: asyncio.Server | None, logger: LoggerLike, overdue: asyncio.Future[None]
    ) -> None:
        """Wait until everything has ended; after the timeout, abort and cancel everything that remains."""
        ended = asyncio.get_running_loop().create_task(self._wait_for_ends(listening, logger))
        await asyncio.wait([ended, overdue], return_when=asyncio.FIRST_COMPLETED)
        if self._limit is not None:
            self._limit.cancel()
        for _ in range(CANCELLATIONS):
            if not ended.done():
                self._cut_off(listening)
                await asyncio.wait([ended], timeout=PATIENCE)
        if ended.done():
            ended.result()
        else:
            for connection in self._registry.give_up():
                self._registry.leave(connection, connection._ws_session)
            # The rest has no WebSocket connection, such as clients in the TLS handshake.
            ended.cancel()
        overdue.cancel()

    async def _wait_for_ends(self, listening: asyncio.Server | None, logger: LoggerLike) -> None:
        await self._wait_for_connections()
        self._abort_handshakes(listening)
        while listening is not None:
            try:
                # On Windows, from Python 3.12 on, this may never end after a client has reset its connection: closing
                # that transport fails before asyncio removes it from the server.
                async with asyncio.timeout(self.grace.left(asyncio.get_running_loop().time())):
                    await listening.wait_closed()
                break
            except TimeoutError:
                if self._registry.empty:
                    logger.info("asyncio counts a connection that is over; the server closes without it")
                    break
                # A connection was registered in the meantime.
                await self._wait_for_connections()
        await self._wait_for_connections()

    async def _wait_for_connections(self) -> None:
        """Wait until no WebSocket connection is left and all handlers have ended."""
        if not self._registry.empty:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    def _abort_handshakes(self, listening: asyncio.Server | None) -> None:
        """End the clients in the TLS handshake: nothing else keeps the server open, and they may take a minute."""
        if self.handshakes is not None:
            self.handshakes.abort()
        # Those of the event loop's own TLS; there is no other client any more.
        if self.grace.shaking(asyncio.get_running_loop().time()):
            _abort_clients(listening)

    def _cut_off(self, listening: asyncio.Server | None) -> None:
        """Abort all connections and cancel all handlers."""
        for connection in list(self._registry.all):
            cut_off(connection, self._registry.code, self._registry.reason)
        # This also aborts clients in the TLS handshake.
        _abort_clients(listening)


def _abort_clients(listening: asyncio.Server | None) -> None:
    # From Python 3.13 on; other event loops may not have it.
    abort_clients = getattr(listening, "abort_clients", None)
    if abort_clients is not None:
        abort_clients()


def unavailable_unless_asked(connection: ServerConnection) -> None:
    """Tell a client that hasn't sent a request that the server closes; other clients are told later."""
    if connection._ws_answering.unavailable_unless_asked(connection._ws_session):
        connection._ws_process_events()


async def _close_in_its_way(
    connection: ServerConnection, closing: Awaitable[None], code: int | None, reason: str
) -> None:
    try:
        await closing
    except Exception as exc:
        connection.logger.error("closing failed", exc_info=exc)
        connection._ws_start_closing(code, reason)


def cut_off(connection: ServerConnection, code: int | None, reason: str) -> None:
    """Abort a connection, because the timeout of the shutdown has passed."""
    if connection._ws_task is not None:
        connection._ws_task.cancel()
    if connection.protocol.state is State.OPEN and not connection._ws_lost:
        # Try to send a Close frame, without waiting for the answer.
        connection._ws_start_closing(code, reason)
    Connection._ws_abort(connection)
