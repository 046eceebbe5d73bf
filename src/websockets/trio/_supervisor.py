"""Nurseries that aren't ``async with`` blocks of the user: how one is left, and one for a whole run.

May know: nurseries, system tasks. Must not know: connections, WebSocket.

The tasks of connections that an iteration opens can't be in a nursery of the task that iterates: when the loop is left
by ``break``, that nursery would stay open, and trio's stack of scopes would break. So there is one nursery for each
run of trio, in a system task, which trio cancels at the end of the run.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio

__all__ = ["leave_after", "leave_nursery", "nursery_of_run"]


async def leave_nursery(manager: AbstractAsyncContextManager[trio.Nursery], exc: BaseException | None) -> bool:
    """Leave the nursery of a context manager, so that an exception of its body stays as it is.

    Parameters:
        manager: the nursery; its tasks end by themselves.
        exc: exception of the body; None if there is none.

    Returns:
        Whether the exception was a cancellation of this nursery; if not, the caller raises it again.

    Raises:
        BaseExceptionGroup: tasks of the nursery failed.
    """
    try:
        if exc is None:
            return bool(await manager.__aexit__(None, None, None))
        return bool(await manager.__aexit__(type(exc), exc, exc.__traceback__))
    except BaseExceptionGroup as group:
        if exc is None or any(each is not exc and not _is_cancelled(each) for each in group.exceptions):
            raise
        return False


async def leave_after(
    manager: AbstractAsyncContextManager[trio.Nursery], closing: Awaitable[Any], exc: BaseException | None
) -> bool:
    """Close a connection, then leave the nursery with its task.

    Parameters:
        manager: the nursery.
        closing: waits until the connection is closed.
        exc: exception of the body; None if there is none. It takes precedence over a cancellation while closing.

    Returns:
        As :func:`leave_nursery`.
    """
    try:
        await closing
    except BaseException as raised:
        if exc is None or not _is_cancelled(raised):
            await leave_nursery(manager, raised)
            raise
    return await leave_nursery(manager, exc)


def _is_cancelled(exc: BaseException) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return all(map(_is_cancelled, exc.exceptions))
    return isinstance(exc, trio.Cancelled)


class _Supervisor:
    """The nursery of a run, and whether it is open yet."""

    def __init__(self) -> None:
        self.open = trio.Event()
        self.nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Keep the nursery open until the end of the run, whatever happens in its tasks."""
        while True:
            try:
                async with trio.open_nursery(strict_exception_groups=True) as self.nursery:
                    self.open.set()
                    await trio.sleep_forever()
            except Exception as exc:
                # Only a method of a connection that was overridden can raise. trio would end the program.
                self.open = trio.Event()
                logging.getLogger("websockets.client").error("unexpected internal error", exc_info=exc)


_supervisor: trio.lowlevel.RunVar[_Supervisor | None] = trio.lowlevel.RunVar("websockets supervisor")


async def nursery_of_run() -> trio.Nursery:
    """Return the nursery for tasks that outlive a block, which ends with the run."""
    supervisor = _supervisor.get(None)
    if supervisor is None:
        supervisor = _Supervisor()
        _supervisor.set(supervisor)
        trio.lowlevel.spawn_system_task(supervisor.run, name="websockets supervisor")
    await supervisor.open.wait()
    assert supervisor.nursery is not None
    return supervisor.nursery
