"""The end of a server: connections are told, and then there is a limit to how long they are waited for.

May know: the loop, tasks, timers, how connections are closed and cut off. Must not know: who is told what, and in which
stages, which is for the registry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from .._session.arriving import CLOSING
from .._session.registry import CANCELLATIONS, PATIENCE, Farewell, Grace, Registry
from ..protocol import State
from ..typing import LoggerLike
from .connection import Connection

if TYPE_CHECKING:
    from ._proxy_protocol import Arrival
    from .server import ServerConnection

__all__ = ["Shutdown", "refuse_unless_asked"]


class Shutdown:
    """What ends a server, and who waits for that.

    Parameters:
        registry: connections of the server.

    Attributes:
        grace: how long clients of the server may be busy with TLS.
    """

    def __init__(self, registry: Registry[ServerConnection, Arrival]) -> None:
        self.grace = Grace()
        self._registry = registry
        self._closed: asyncio.Task[None] | None = None
        # What closes connections as their classes do; the loop alone would not keep these tasks.
        self._closers: set[asyncio.Task[None]] = set()
        # For those who wait for the end, and for the task that waits until no connection is left.
        self._over: asyncio.Future[None] | None = None
        self._idle: asyncio.Future[None] | None = None
        # When it has to be over, and whether that is past.
        self._limit: asyncio.TimerHandle | None = None
        self._overdue: asyncio.Future[None] | None = None

    def begin(
        self,
        farewell: Farewell[ServerConnection, Arrival],
        listening: asyncio.Server | None,
        logger: LoggerLike,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Tell connections that the server closes, and go on to the end in a task.

        Parameters:
            farewell: who is told what.
            listening: what listens; None if nothing does.
            logger: where the server logs.
            loop: event loop of the server.
        """
        logger.info("server closing")
        if listening is not None:
            listening.close()
        for connection in farewell.refused:
            refuse_unless_asked(connection)
        for connection in farewell.closed:
            self._close(connection)
        for arrival in farewell.arriving:
            arrival.refuse(CLOSING)
        self._overdue = loop.create_future()
        self._closed = loop.create_task(self._finish(listening, logger, self._overdue))

    def limit(self, timeout: float, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that the shutdown takes so many seconds at most, unless it is to take fewer already.

        Parameters:
            timeout: seconds from now on.
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
        """Take in that a connection left the registry."""
        if self._idle is not None and not self._idle.done() and self._registry.empty:
            self._idle.set_result(None)

    async def wait(self) -> None:
        """Wait until it began and is over."""
        if self._closed is None or not self._closed.done():
            # All wait for the same, and go on in the order in which they came: a task that waits from the start has
            # ended when a program leaves ``async with serve(...)``.
            if self._over is None:
                self._over = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._over)
        assert self._closed is not None
        await asyncio.shield(self._closed)

    def _close(self, connection: ServerConnection) -> None:
        """Close a connection: by its own ``close()``, if its class or a program has one."""
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
        """Wait until everything has ended, and then wake those who wait for that."""
        try:
            await self._finish_in_time(listening, logger, overdue)
            logger.info("server closed")
        finally:
            if self._over is not None and not self._over.done():
                self._over.set_result(None)

    async def _finish_in_time(
        self, listening: asyncio.Server | None, logger: LoggerLike, overdue: asyncio.Future[None]
    ) -> None:
        """Wait until everything has ended; when the limit has passed, see to it that it does."""
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
            # What is left belongs to no connection of ours, such as a client that is still busy with TLS.
            ended.cancel()
        overdue.cancel()

    async def _wait_for_ends(self, listening: asyncio.Server | None, logger: LoggerLike) -> None:
        await self._wait_for_connections()
        while listening is not None:
            try:
                # On Windows, from Python 3.12 on, this may last for ever after a client reset its connection: closing
                # that transport fails before asyncio counts it out.
                async with asyncio.timeout(self.grace.left(asyncio.get_running_loop().time())):
                    await listening.wait_closed()
                break
            except TimeoutError:
                if self._registry.empty:
                    logger.info("asyncio counts a connection that is over; the server closes without it")
                    break
                # It began in the meantime.
                await self._wait_for_connections()
        await self._wait_for_connections()

    async def _wait_for_connections(self) -> None:
        """Wait until no connection of ours is left, and all handlers have ended."""
        if not self._registry.empty:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    def _cut_off(self, listening: asyncio.Server | None) -> None:
        """End what goes on, without waiting for anybody."""
        for connection in list(self._registry.all):
            cut_off(connection, self._registry.code, self._registry.reason)
        # Clients in the middle of a TLS handshake, where asyncio offers a way.
        abort_clients = getattr(listening, "abort_clients", None)
        if abort_clients is not None:
            abort_clients()


def refuse_unless_asked(connection: ServerConnection) -> None:
    """Refuse a client that has not sent a request, as the server closes; others when it is their turn."""
    if connection._ws_answering.refuse_unless_asked(connection._ws_session):
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
    """End a connection for which the server can't wait any longer."""
    if connection._ws_task is not None:
        connection._ws_task.cancel()
    if connection.protocol.state is State.OPEN and not connection._ws_lost:
        # There may be time to say why, though none to hear the answer.
        connection._ws_start_closing(code, reason)
    Connection._ws_abort(connection)
