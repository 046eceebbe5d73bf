"""Nurseries that aren't ``async with`` blocks of the user: how one is left, and one that nobody's block holds.

May know: nurseries, system tasks. Must not know: connections, WebSocket.

The task of a connection that an iteration opens can't be in a nursery of the task that iterates: when the loop is left
by ``break``, that nursery would stay open, and trio's stack of scopes would break. So each of these connections has a
nursery in a system task, which trio cancels at the end of the run. They don't share one: a program may cancel
``connection.nursery``, and that mustn't end other connections.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Any

import trio

__all__ = ["Block", "Home"]


class Block:
    """A nursery in a block of the user, opened and left by two methods of a context manager.

    An exception of the block leaves it as it is, without a group of this nursery around it.

    Attributes:
        nursery: the nursery, between :meth:`enter` and :meth:`leave`.
    """

    nursery: trio.Nursery

    def __init__(self) -> None:
        self._manager = trio.open_nursery(strict_exception_groups=True)

    async def enter(self) -> trio.Nursery:
        """Open the nursery."""
        self.nursery = await self._manager.__aenter__()
        return self.nursery

    async def leave(self, exc: BaseException | None, closing: Awaitable[Any] | None = None) -> bool:
        """Leave the nursery.

        Parameters:
            exc: exception of the block; None if there is none. It takes precedence over a cancellation meanwhile.
            closing: waits until the connection is closed, which has a task in the nursery.

        Returns:
            Whether the exception was a cancellation of this nursery; if not, the caller lets it pass.

        Raises:
            BaseException: closing failed.
            BaseExceptionGroup: tasks of the nursery failed.
        """
        if closing is not None:
            try:
                await closing
            except BaseException as raised:
                if exc is None or not _is_cancelled(raised):
                    await self.leave(raised)
                    raise
        if exc is None:
            return bool(await self._manager.__aexit__(None, None, None))
        if self.nursery.cancel_scope.cancel_called and _has_cancellation(exc):
            return bool(await self._manager.__aexit__(type(exc), exc, exc.__traceback__))
        # The nursery would put the exception into a group, and copy it if it is a group itself.
        self.nursery.cancel_scope.cancel()
        try:
            await self._manager.__aexit__(None, None, None)
        except BaseExceptionGroup as group:
            if not _is_cancelled(group):
                raise BaseExceptionGroup(group.message, [*group.exceptions, exc]) from None
        return False


def _has_cancellation(exc: BaseException) -> bool:
    """Return whether an exception is a cancellation, or a group with one in it."""
    if isinstance(exc, BaseExceptionGroup):
        return exc.subgroup(trio.Cancelled) is not None
    return isinstance(exc, trio.Cancelled)


def _is_cancelled(exc: BaseException) -> bool:
    """Return whether an exception is a cancellation, or a group of nothing else."""
    if isinstance(exc, BaseExceptionGroup):
        return all(map(_is_cancelled, exc.exceptions))
    return isinstance(exc, trio.Cancelled)


class Home:
    """A nursery of its own for the task of one connection, in a system task.

    Attributes:
        nursery: the nursery; None before :meth:`open`.
    """

    def __init__(self) -> None:
        self.nursery: trio.Nursery | None = None
        self._opened = trio.Event()
        self._settled = trio.Event()

    async def open(self) -> trio.Nursery:
        """Open the nursery; then call :meth:`settle`, whatever happens."""
        trio.lowlevel.spawn_system_task(self._keep_open, name="websockets supervisor")
        await self._opened.wait()
        assert self.nursery is not None
        return self.nursery

    def settle(self) -> None:
        """Let the nursery end with its tasks: the connection is open, or the attempt has failed."""
        self._settled.set()

    async def _keep_open(self) -> None:
        try:
            async with trio.open_nursery(strict_exception_groups=True) as self.nursery:
                self._opened.set()
                await self._settled.wait()
        except Exception as exc:
            # Only a method of a connection that was overridden can raise. trio would end the program.
            logging.getLogger("websockets.client").error("unexpected internal error", exc_info=exc)
