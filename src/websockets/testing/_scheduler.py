"""What a connection in memory needs from outside: a clock, and calls that come later.

:class:`Scheduler` is the only way out of the core of this package, which is this module, :mod:`._conditions`,
:mod:`._addresses`, :mod:`._link` and :mod:`._network`. So the core runs on an asyncio event loop, on trio, between
threads, or on a heap of timers in a test.

May know: callbacks, contexts. Must not know: asyncio or any other event loop, links.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable
from typing import Protocol

__all__ = ["RESOLUTION", "Call", "Scheduler", "Watcher"]

#: Seconds by which a scheduler may make a call too early.
RESOLUTION = 1e-9


class Call(Protocol):
    """A call that a scheduler will make."""

    def cancel(self) -> object:
        """Take the call back; this does nothing if it was made already."""


class Scheduler(Protocol):
    """A clock that makes calls later. An asyncio event loop is one, as it is.

    Calls come one at a time, never inside of ``call_soon`` or ``call_at``, and in the order of their times; calls for
    the same time come in the order in which they were asked for. A scheduler for several threads holds one lock during
    each call, and its users hold it whenever they use a link.
    """

    def time(self) -> float:
        """Return the time, in seconds from a moment of the scheduler's choice."""
        ...

    def call_soon(self, callback: Callable[[], object], /) -> Call:
        """Call ``callback`` as soon as what runs now is over."""
        ...

    def call_at(self, when: float, callback: Callable[[], object], /) -> Call:
        """Call ``callback`` when :meth:`time` returns ``when``, in seconds, or more."""
        ...


class Watcher:
    """Interest in readiness: a callback that is called again and again for as long as there is a reason.

    This is what ``loop.add_reader`` does for a real file descriptor. The callback runs in the context in which the
    interest was declared, not in the context of the other side, which caused the call: contexts do not travel over a
    network.

    Parameters:
        scheduler: makes the calls.
        ready: tells whether there is a reason to call.
        callback: called in that case.
    """

    def __init__(self, scheduler: Scheduler, ready: Callable[[], bool], callback: Callable[[], None]) -> None:
        self._scheduler, self._ready, self._callback = scheduler, ready, callback
        self._fire_in_context = functools.partial(contextvars.copy_context().run, self._fire)
        self._call: Call | None = None
        self._cancelled = False
        self.poll()

    def poll(self) -> None:
        """Schedule the callback if there is a reason; called after each change that may be one."""
        if self._call is None and not self._cancelled and self._ready():
            self._call = self._scheduler.call_soon(self._fire_in_context)

    def cancel(self) -> None:
        """End the interest, and take back the call that was already scheduled."""
        self._cancelled = True
        if self._call is not None:
            self._call.cancel()

    def _fire(self) -> None:
        # The call stays set while the callback runs, so that a change made inside it does not schedule a second one.
        try:
            self._callback()
        finally:
            self._call = None
            self.poll()
