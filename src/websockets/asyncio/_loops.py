"""What the connections of one event loop share: a buffer to read into, and one timer for all their deadlines.

May know: loops, time, sessions' alarms. Must not know: what a connection does when its alarm rings.

Nothing here is shared between loops, and so nothing between threads.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Protocol

from .._timers import Agenda, Entry

__all__ = ["LoopState", "Ringing", "loop_state"]

# Large enough for a burst of messages, small enough to stay in the cache of the processor.
READ_SIZE = 2**18

# Alarms that are closer together ring together: thousands of connections then cost few wake-ups. In seconds.
GRANULARITY = 0.01


class Ringing(Protocol):
    """Who has an alarm."""

    def _ring(self, now: float) -> None: ...


class LoopState:
    """The shared parts of one loop.

    Parameters:
        loop: the loop; it isn't kept alive by this object.

    Attributes:
        buffer: where every read goes. What it holds is taken out before any other code runs.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.buffer = memoryview(bytearray(READ_SIZE))
        self._loop = weakref.ref(loop)
        self._agenda: Agenda[Ringing] = Agenda()
        self._timer: asyncio.TimerHandle | None = None
        self._last = -GRANULARITY

    def call_at(self, when: float, item: Ringing) -> Entry[Ringing]:
        """Call ``item._ring(now)`` at ``when``, or very soon after it."""
        entry = self._agenda.add(when, item)
        if self._timer is None or max(when, self._last + GRANULARITY) < self._timer.when():
            self._start()
        return entry

    def cancel(self, entry: Entry[Ringing]) -> None:
        """Forget what :meth:`call_at` promised."""
        self._agenda.cancel(entry)
        if not self._agenda and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        when = self._agenda.next()
        loop = self._loop()
        if when is not None and loop is not None:
            self._timer = loop.call_at(max(when, self._last + GRANULARITY), self._ring)

    def _ring(self) -> None:
        self._timer = None
        loop = self._loop()
        assert loop is not None
        now = self._last = loop.time()
        for item in self._agenda.due(now):
            try:
                item._ring(now)
            except Exception as exc:
                # One connection's trouble must not cost the others their timers.
                loop.call_exception_handler({"message": "unexpected internal error", "exception": exc})
        self._start()


_states: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopState] = weakref.WeakKeyDictionary()


def loop_state(loop: asyncio.AbstractEventLoop) -> LoopState:
    """What the connections of ``loop`` share."""
    state = _states.get(loop)
    if state is None:
        state = _states[loop] = LoopState(loop)
    return state
