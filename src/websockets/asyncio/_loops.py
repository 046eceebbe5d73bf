"""What the connections of one event loop share: a buffer to read into, one timer for all their deadlines, broadcasts.

May know: loops, time, sessions' alarms. Must not know: what a connection does when its alarm rings.

Broadcasts that follow each other closely share writes: ``_session.outbox`` decides when these are due.

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
from .._session.outbox import BroadcastPace
from ._internals import note_loop

__all__ = ["HasTimeout", "LoopState", "loop_state"]

# Large enough for a burst of messages, small enough to stay in the cache of the processor.
READ_SIZE = 2**18


class HasTimeout(Protocol):
    """Who has an alarm."""

    def _ws_handle_timeout(self, now: float) -> None: ...


class Holding(Protocol):
    """Who can hold frames back."""

    def _ws_flush(self) -> None: ...


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
        self._deadlines: Deadlines[HasTimeout] = Deadlines()
        # Of a time that has come, uvloop makes a handle that doesn't tell its time: it is kept here.
        self._timer: asyncio.Handle | None = None
        self._timer_at: float | None = None
        self._pace = BroadcastPace()
        self._held: set[Holding] = set()

    def move(self, entry: Entry[HasTimeout] | None, when: float, item: HasTimeout) -> Entry[HasTimeout] | None:
        """Call ``item._handle_timeout(now)`` at about ``when``; see :meth:`Deadlines.move`."""
        moved = self._deadlines.move(entry, when, item)
        if moved is not entry:
            self._set_timer()
        return moved

    def cancel(self, entry: Entry[HasTimeout]) -> None:
        """Forget what :meth:`move` promised."""
        self._deadlines.cancel(entry)
        self._set_timer()

    def _set_timer(self) -> None:
        when = self._deadlines.wake_at(self._timer_at)
        loop = self._loop()
        if when == self._timer_at or loop is None:
            return
        timer = None if when is None else loop.call_at(when, self._handle_timeout)
        # If that failed, there is still the one from before.
        before, self._timer, self._timer_at = self._timer, timer, when
        if before is not None:
            before.cancel()

    def _handle_timeout(self) -> None:
        self._timer = self._timer_at = None
        loop = self._loop()
        assert loop is not None
        now = loop.time()
        for item in self._deadlines.due(now):
            self._guard(functools.partial(item._ws_handle_timeout, now))
        self._set_timer()

    def begin_broadcast(self) -> set[Holding] | None:
        """A broadcast begins. Return None if its frames are to be written at once.

        If it comes so soon after another that they are to be held back, return the set of connections that hold any.
        """
        loop = self._loop()
        assert loop is not None
        pace, held = self._pace, self._held
        if not pace.holding:
            loop.call_soon(self._turn)
            pace.begin()
            return None
        if not held:
            pace.hold(loop.time())
        pace.begin()
        return held

    def _turn(self) -> None:
        loop = self._loop()
        assert loop is not None
        pace = self._pace
        pace.turn()
        if self._held and pace.is_due(loop.time()):
            self._release(loop)
        if pace.holding:
            loop.call_soon(self._turn)

    def _release(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write all that is held back."""
        # The set stays the same: a broadcast may be adding to it.
        held = list(self._held)
        self._held.clear()
        start = loop.time()
        for connection in held:
            self._guard(connection._ws_flush)
        self._pace.written(loop.time() - start)

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
