"""What the connections of one event loop share: a buffer to read into, one timer for all their deadlines, broadcasts.

May know: loops, time, sessions' alarms. Must not know: what a connection does when its alarm rings.

Writing to a socket costs more than everything else that a broadcast does for a connection. So broadcasts that follow
each other closely share writes. The first is written at once. While one comes after another, in the same turn of the
loop or in the next, frames are held back, until a turn passes without one, or for about as long as writing them takes:
nobody waits longer than with a write for each.

Nothing here is shared between loops, and so nothing between threads.
"""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections.abc import Callable
from typing import Protocol

from .._codec import read_buffer, tell
from .._rules.deadlines import Deadlines, Entry
from ._internals import note_loop

__all__ = ["LoopState", "Ringing", "loop_state"]

# Large enough for a burst of messages, small enough to stay in the cache of the processor.
READ_SIZE = 2**18

# How long the frame of a broadcast may be held back for the sake of those that follow, in seconds: at least, at most.
LEAST_HOLD, MOST_HOLD = 0.001, 0.01


class Ringing(Protocol):
    """Who has an alarm."""

    def _ring(self, now: float) -> None: ...


class Holding(Protocol):
    """Who can hold frames back."""

    def _hold(self, frame: bytes, size: int) -> None: ...
    def _flush(self) -> None: ...


class LoopState:
    """The shared parts of one loop.

    Parameters:
        loop: the loop; it isn't kept alive by this object.

    Attributes:
        buffer: where every read goes. What it holds is taken out before any other code runs.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.buffer = read_buffer(READ_SIZE)
        self._loop = weakref.ref(loop)
        self._deadlines: Deadlines[Ringing] = Deadlines()
        # Of a time that has come, uvloop makes a handle that doesn't tell its time: it is kept here.
        self._timer: asyncio.Handle | None = None
        self._timer_at: float | None = None
        self._stormy = 0  # turns of the loop for which the last broadcast counts
        self._held: set[Holding] = set()
        self._due = 0.0
        self._patience = LEAST_HOLD

    def move(self, entry: Entry[Ringing] | None, when: float, item: Ringing) -> Entry[Ringing] | None:
        """Call ``item._ring(now)`` at ``when``, or very soon after it, or before; see :meth:`Deadlines.move`."""
        moved = self._deadlines.move(entry, when, item)
        if moved is not entry:
            self._set_timer()
        return moved

    def cancel(self, entry: Entry[Ringing]) -> None:
        """Forget what :meth:`move` promised."""
        self._deadlines.cancel(entry)
        self._set_timer()

    def _set_timer(self) -> None:
        when = self._deadlines.wake_at(self._timer_at)
        loop = self._loop()
        if when == self._timer_at or loop is None:
            return
        timer = None if when is None else loop.call_at(when, self._ring)
        # If that failed, there is still the one from before.
        before, self._timer, self._timer_at = self._timer, timer, when
        if before is not None:
            before.cancel()

    def _ring(self) -> None:
        self._timer = self._timer_at = None
        loop = self._loop()
        assert loop is not None
        now = loop.time()
        for item in self._deadlines.due(now):
            self._guard(functools.partial(item._ring, now))
        self._set_timer()

    def begin_broadcast(self) -> bool:
        """A broadcast begins; return whether it comes so soon after another that its frames are to be held back."""
        loop = self._loop()
        assert loop is not None
        hold = self._stormy > 0
        if not hold:
            loop.call_soon(self._turn)
        elif not self._held:
            self._due = loop.time() + self._patience
        self._stormy = 2
        return hold

    def hold(self, connection: Holding, frame: bytes, size: int) -> None:
        """Hold the frame of a message of ``size`` bytes back until broadcasts pause."""
        connection._hold(frame, size)
        self._held.add(connection)

    def _turn(self) -> None:
        loop = self._loop()
        assert loop is not None
        self._stormy -= 1
        if self._held and (not self._stormy or loop.time() >= self._due):
            self._release(loop)
        if self._stormy:
            loop.call_soon(self._turn)

    def _release(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write all that is held back."""
        held, self._held = self._held, set()
        start = loop.time()
        for connection in held:
            self._guard(connection._flush)
        self._patience = min(max(loop.time() - start, LEAST_HOLD), MOST_HOLD)

    def _guard(self, call: Callable[[], None]) -> None:
        """One connection's trouble must not be that of the others."""
        try:
            call()
        except Exception as exc:
            loop = self._loop()
            assert loop is not None
            loop.call_exception_handler({"message": "unexpected internal error", "exception": exc})


_states: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopState] = weakref.WeakKeyDictionary()


def loop_state(loop: asyncio.AbstractEventLoop) -> LoopState:
    """What the connections of ``loop`` share."""
    state = _states.get(loop)
    if state is None:
        # Here the front-ends on asyncio come by, when they make their first connection.
        tell()
        note_loop(loop)
        state = _states[loop] = LoopState(loop)
    return state
