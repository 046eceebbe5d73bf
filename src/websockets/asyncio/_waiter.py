"""The future of a task that waits for what is read, which can be resumed inside the read.

May know: the protocol between a task and what it awaits (``_asyncio_future_blocking``, ``add_done_callback``...), which
is what asyncio documents for :func:`asyncio.isfuture`. Must not know: what is waited for.

With a plain future a message takes two turns of the loop: one to read it, one to resume the task. The second turn costs
as much as everything else that happens to a small message. So a read that has been dealt with entirely may resume the
task at once, in the task's own context, as the loop would have done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context

__all__ = ["Waiter"]

_PENDING, _DONE, _CANCELLED = range(3)


class Waiter:
    """A future without a result, for one task.

    Parameters:
        loop: the loop of the task.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_context", "_loop", "_message", "_state")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = False
        self._loop = loop
        self._state = _PENDING
        self._callback: Callable[[Waiter], object] | None = None
        self._context: Context | None = None
        self._message: object = None

    # ------------------------------------------------------------------------------------------------ what tasks call

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the task."""
        return self._loop

    def __await__(self) -> Generator[Waiter, None, None]:
        if self._state == _PENDING:
            self._asyncio_future_blocking = True
            yield self
        self.result()

    __iter__ = __await__

    def add_done_callback(self, callback: Callable[[Waiter], object], *, context: Context | None = None) -> None:
        """Remember how to resume the task."""
        self._callback, self._context = callback, context
        if self._state != _PENDING:
            self._call_soon()

    def remove_done_callback(self, callback: Callable[[Waiter], object]) -> int:
        """Forget how to resume the task."""
        removed = int(self._callback == callback)
        if removed:
            self._callback = self._context = None
        return removed

    def cancel(self, msg: object = None) -> bool:
        """Called when the task is cancelled; it is resumed in the next turn of the loop, as with any future."""
        if self._state != _PENDING:
            return False
        self._state, self._message = _CANCELLED, msg
        self._call_soon()
        return True

    def done(self) -> bool:
        """Whether the wait is over."""
        return self._state != _PENDING

    def cancelled(self) -> bool:
        """Whether the wait was cancelled."""
        return self._state == _CANCELLED

    def result(self) -> None:
        """Nothing, once the wait is over.

        Raises:
            asyncio.CancelledError: it was cancelled.
            asyncio.InvalidStateError: it isn't over.
        """
        if self._state == _CANCELLED:
            raise asyncio.CancelledError() if self._message is None else asyncio.CancelledError(self._message)
        if self._state == _PENDING:
            raise asyncio.InvalidStateError("result is not ready")

    def exception(self) -> None:
        """As :meth:`result`: there is never another exception."""
        self.result()

    def _call_soon(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            self._loop.call_soon(callback, self, context=self._context)

    # -------------------------------------------------------------------------------------------- what connections call

    def wake(self) -> None:
        """End the wait; the task goes on in the next turn of the loop."""
        if self._state == _PENDING:
            self._state = _DONE
            self._call_soon()

    def resume(self) -> None:
        """End the wait; the task goes on before this returns, unless another task is running.

        The caller must be done with whatever it does: the task may call it again.
        """
        callback, context = self._callback, self._context
        if callback is None or context is None or asyncio.current_task(self._loop) is not None:
            self.wake()
        elif self._state == _PENDING:
            self._state, self._callback = _DONE, None
            context.run(callback, self)
