"""State shared by the connections of one event loop: a read buffer, one timer for all timeouts, the broadcasts.

May know: event loops, time, timeouts of sessions. Must not know: how a connection handles its timeout.

Broadcasts that follow each other closely share writes: ``_session.outbox`` decides when to write.

Event loops share nothing here, and so threads don't either.
"""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from .._codec import read_buffer, tell
from .._rules.deadlines import Deadlines, Entry
from .._session.outbox import BroadcastPace
from ._internals import note_loop

__all__ = ["HasTimeout", "LoopState", "check_loop", "loop_state", "watched"]

# In bytes: large enough for a burst of messages, small enough to stay in the cache of the processor.
READ_SIZE = 2**18


class HasTimeout(Protocol):
    """A connection with a timeout."""

    def _ws_handle_timeout(self, now: float) -> None: ...


class Holding(Protocol):
    """A connection that can hold frames back."""

    def _ws_flush(self) -> None: ...


class LoopState:
    """The shared parts of one loop.

    Parameters:
        loop: the event loop; this object has only a weak reference to it.

    Attributes:
        buffer: the buffer for every read. Its content is processed before any other code runs.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.buffer = read_buffer(READ_SIZE)
        self._loop = weakref.ref(loop)
        self._deadlines: Deadlines[HasTimeout] = Deadlines()
        # Keep the time here, because uvloop's handle for a time in the past doesn't know it.
        self._timer: asyncio.Handle | None = None
        self._timer_at: float | None = None
        self._pace = BroadcastPace()
        self._held: set[Holding] = set()

    def move(self, entry: Entry[HasTimeout] | None, when: float, item: HasTimeout) -> Entry[HasTimeout] | None:
        """Call ``item._handle_timeout(now)`` at about ``when``; see :meth:`Deadlines.move`."""
        moved = self._deadlines.move(entry, when, item)
        # A timer that fires too early is set again, so only an earlier time needs another one.
        if moved is not entry and (self._timer_at is None or when < self._timer_at):
            self._set_timer()
        return moved

    def cancel(self, entry: Entry[HasTimeout]) -> None:
        """Cancel an entry of :meth:`move`."""
        self._deadlines.cancel(entry)
        if not self._deadlines:
            self._set_timer()

    def _set_timer(self) -> None:
        when = self._deadlines.wake_at(self._timer_at)
        loop = self._loop()
        if when == self._timer_at or loop is None:
            return
        timer = None if when is None else loop.call_at(when, self._handle_timeout)
        # If setting the new timer failed, the previous one is still set.
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
        """Begin a broadcast; return None if its frames must be written at once.

        If it follows another one so closely that frames are held back, return the set of connections with such frames.
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
        """Write all frames that are held back."""
        # Keep the same set object, because a broadcast may be adding to it.
        held = list(self._held)
        self._held.clear()
        start = loop.time()
        for connection in held:
            self._guard(connection._ws_flush)
        self._pace.written(loop.time() - start)

    def _guard(self, call: Callable[[], None]) -> None:
        """Call a function and log its exception, so that one connection can't affect the others."""
        try:
            call()
        except Exception as exc:
            loop = self._loop()
            assert loop is not None
            loop.call_exception_handler({"message": "unexpected internal error", "exception": exc})


_states: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopState] = weakref.WeakKeyDictionary()


def loop_state(loop: asyncio.AbstractEventLoop) -> LoopState:
    """Return the state that the connections of ``loop`` share."""
    state = _states.get(loop)
    if state is None:
        # The first connection of a loop gets here, so the compiled twin learns about the loop in time.
        tell()
        note_loop(loop)
        state = _states[loop] = LoopState(loop)
    return state


# Use from another loop is found in the debug mode of asyncio, as asyncio does for its own methods.


def check_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Check that a connection is used in its own loop; this is for the debug mode of asyncio.

    Raises:
        RuntimeError: another loop runs in this thread, or none.
    """
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is not loop:
        raise RuntimeError(
            "a connection belongs to the event loop in which it was opened; from elsewhere, call "
            "asyncio.run_coroutine_threadsafe(connection.send(...), connection.loop), or use websockets.sync"
        )


def watched(connection: Any, name: str) -> Callable[..., Any]:
    """Return a method of a connection that checks the loop first, without a reference to the connection."""
    method, reference, loop = getattr(type(connection), name), weakref.ref(connection), connection.loop

    def check_and_call(*arguments: Any) -> Any:
        check_loop(loop)
        return method(reference(), *arguments)

    return check_and_call
