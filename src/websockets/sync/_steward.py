"""The steward: one thread for all connections, which does what nobody else does at the moment.

May know: the methods of connections that it calls, when to look at them, their deadlines. Must not know: what a
connection does then; TLS, WebSocket.

A thread that receives reads from the socket itself, and so a message costs no switch between threads. But pings must be
answered, and a Close frame seen, while no thread receives; bytes must go out that a socket didn't take at once; and
time-outs must be noticed. That is the work of the steward. It is a daemon thread, started with the first connection. It
goes on while functions of ``atexit`` run, as these may close connections.

A connection that may have been left by its readers is on the list of those to look at. If nobody has received between
two looks, the steward watches its socket. A connection that is on no list and isn't watched costs the steward nothing.

Connections call the steward with their own lock held. So the steward never calls a connection with its lock held.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import logging
import math
import os
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from .._rules.deadlines import Deadlines, Entry
from ._system import LONGEST_WAIT, READ, Lock, System, Thread

__all__ = ["LOOK_EVERY", "Charge", "ForeignLock", "Steward", "steward_of"]

# Seconds between two looks at the connections that nobody may be reading. The second look decides, so that a ping is
# answered after twice this time at most.
LOOK_EVERY: Final = 0.04


class Charge(Protocol):
    """A connection, as far as the steward needs it."""

    _ws_entry: Entry[Any] | None

    def _ws_handle_timeout(self, now: float) -> None:
        """Handle a deadline that has passed, or see that it hasn't."""

    def _ws_look(self) -> bool:
        """Note whether somebody has received since the last look; return whether another look is needed."""
        ...

    def _ws_attend(self, selector: Any) -> Charge | None:
        """Update what the steward watches for, in its selector; return a connection that turned out to be broken."""
        ...

    def _ws_unwatch(self) -> None:
        """Note that nothing is watched any more, because the steward ends."""

    def _ws_be_ready(self, mask: int) -> None:
        """Call the socket, which is ready, without waiting."""

    def _ws_break_off(self, exc: Exception) -> None:
        """End the connection, because of an error in one of these methods."""

    def _ws_disown(self) -> None:
        """Refuse to be used, because this process is a child of the one that opened the connection."""


class Steward:
    """The steward of a process, or of a test.

    Parameters:
        system: the system.
        look_every: seconds between two looks.
    """

    def __init__(self, system: System, look_every: float = LOOK_EVERY) -> None:
        self._system = system
        self._look_every = look_every
        self._lock: Lock = system.lock()
        self._deadlines: Deadlines[Charge] = Deadlines()
        self._asked: deque[Charge] = deque()
        self._looked_at: list[Charge] = []
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()
        self._thread: Thread | None = None
        self._waker: Any = None
        self._selector: Any = None
        self._asleep_until = -math.inf  # while the thread is awake, nobody has to wake it
        self._look_at = math.inf
        self._stopped = False

    # ---------------------------------------------------------------------------------------- what connections call

    def know(self, charge: Charge) -> None:
        """Take note of a new connection, and start the thread if there is none.

        Raises:
            OSError: there is no room for the descriptors that the thread needs.
            RuntimeError: there is no room for another thread.
        """
        with self._lock:
            if self._thread is None and not self._stopped:
                self._start()
            self._known.add(charge)

    def _start(self) -> None:
        """Start the thread. If it can't have all that it needs, nothing has changed; called under the lock."""
        with contextlib.ExitStack() as undoing:
            waker = self._system.waker()
            undoing.callback(waker.close)
            selector = self._system.selector()
            undoing.callback(selector.close)
            selector.register(waker.socket, READ, None)
            run = functools.partial(self._run, waker, selector)
            self._thread = self._system.start_thread(run, name="websockets steward")
            self._waker, self._selector = waker, selector
            undoing.pop_all()

    def look_at(self, charge: Charge) -> None:
        """Look at a connection from now on, until it says that this isn't needed any more."""
        with self._lock:
            self._looked_at.append(charge)
            if self._look_at == math.inf:
                self._look_at = self._system.now() + self._look_every
                self._wake_before(self._look_at)

    def ask(self, charge: Charge) -> None:
        """Have a connection update what the steward watches for, at once."""
        with self._lock:
            self._asked.append(charge)
            self._wake_before(-math.inf)

    def move(self, charge: Charge, when: float) -> None:
        """Have a connection handle its timeout at ``when``, or a little earlier; infinity for never."""
        with self._lock:
            charge._ws_entry = self._deadlines.move(charge._ws_entry, when, charge)
            self._wake_before(when)

    def forget(self, charge: Charge) -> None:
        """Cancel the deadline of a connection that has ended."""
        with self._lock:
            if charge._ws_entry is not None:
                self._deadlines.cancel(charge._ws_entry)
                charge._ws_entry = None

    def _wake_before(self, when: float) -> None:
        if when < self._asleep_until:
            # In this order, as a signal handler may interrupt this.
            self._waker.wake()
            self._asleep_until = -math.inf  # one wake-up is enough

    # ----------------------------------------------------------------------------------------------------- the thread

    def _run(self, waker: Any, selector: Any) -> None:
        try:
            while not self._stopped:
                timeout = self._fall_asleep()
                ready = selector.select(timeout)
                self._asleep_until = -math.inf
                self._work(selector, ready)
        finally:
            watched = [key.data for key in selector.get_map().values() if key.data is not None]
            with self._lock:
                self._asleep_until = -math.inf
                selector.close()
                waker.close()
            for charge in watched:
                self._guard(charge, charge._ws_unwatch)
            if not self._stopped:
                self._start_successor(watched)

    def _start_successor(self, watched: list[Charge]) -> None:
        """Start another thread, because this one ends by an error; if that fails, the next connection does it."""
        with self._lock:
            self._thread = None
            self._asked += watched
            self._looked_at, self._look_at = list(self._known), self._system.now()
            with contextlib.suppress(OSError, RuntimeError):
                self._start()

    def _fall_asleep(self) -> float | None:
        """Return how long to sleep; None to sleep until woken."""
        with self._lock:
            now = self._system.now()
            if self._asked or self._stopped:
                return 0.0
            first = self._deadlines.wake_at()
            until = min(self._look_at, math.inf if first is None else first)
            self._asleep_until = until
            return None if until == math.inf else min(max(until - now, 0.0), LONGEST_WAIT)

    def _work(self, selector: Any, ready: list[Any]) -> None:
        for key, mask in ready:
            if key.data is None:
                self._waker.clear()
            else:
                self._guard(key.data, key.data._ws_be_ready, mask)
                self._asked.append(key.data)
        self._handle_timeouts()
        self._look()
        while self._asked:
            charge = self._asked.popleft()
            stale = self._guard(charge, charge._ws_attend, selector)
            if stale is not None:
                self._guard(stale, stale._ws_break_off, OSError(errno.EBADF, os.strerror(errno.EBADF)))

    def _handle_timeouts(self) -> None:
        now = self._system.now()
        with self._lock:
            due = self._deadlines.due(now)
            for charge in due:
                charge._ws_entry = None
        for charge in due:
            self._guard(charge, charge._ws_handle_timeout, now)

    def _look(self) -> None:
        now = self._system.now()
        if now < self._look_at:
            return
        with self._lock:
            charges, self._looked_at = self._looked_at, []
        charges = [charge for charge in charges if self._guard(charge, charge._ws_look)]
        with self._lock:
            self._looked_at += charges
            self._look_at = now + self._look_every if self._looked_at else math.inf

    def _guard(self, charge: Charge, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method of a connection; an error ends that connection, and no other one."""
        try:
            return call(*arguments)
        except Exception as exc:
            logging.getLogger("websockets").error("unexpected internal error", exc_info=exc)
            with contextlib.suppress(Exception):
                charge._ws_break_off(exc)
            return None

    # ------------------------------------------------------------------------------------------------------- the end

    def stop(self) -> None:
        """End the thread; later calls of connections have no effect."""
        with self._lock:
            self._stopped = True
            thread, self._thread = self._thread, None
            self._asleep_until = -math.inf
            if thread is not None:
                self._waker.wake()
        if thread is not None:
            thread.join(1.0)

    def disown(self) -> None:
        """Make all connections refuse to be used; called in a child process, where the thread doesn't exist."""
        known, self._stopped, self._thread = list(self._known), True, None
        for resource in (self._waker, self._selector):
            if resource is not None:
                resource.close()
        for charge in known:
            charge._ws_disown()


class ForeignLock:
    """The lock of connections that another process has opened."""

    def __enter__(self) -> None:
        raise RuntimeError("connection was opened in another process")

    def __exit__(self, *exc_info: object) -> None:
        """Nothing was locked."""


# The systems that have a steward.
_systems: list[System] = []


def steward_of(system: System) -> Steward:
    """Return the steward of a system; there is one."""
    found = system.steward
    if found is None:
        # If two threads get here, both get the same.
        found = vars(system).setdefault("steward", Steward(system))
        if system not in _systems:
            _systems.append(system)
    steward: Steward = found
    return steward


def _after_fork() -> None:
    """Leave the parent's connections alone, in a child process."""
    for system in _systems:
        steward = vars(system).pop("steward", None)
        if steward is not None:
            steward.disown()


def _at_exit() -> None:
    """Stop the threads of a subinterpreter: the whole process aborts if one has threads when it ends.

    This runs after functions that the program registered later than this module. In the main interpreter, the threads
    go on, because functions that were registered earlier may close connections, too.
    """
    for system in _systems:
        if system.steward is not None and system.in_subinterpreter():
            system.steward.stop()


atexit.register(_at_exit)

# Windows has no forks.
getattr(os, "register_at_fork", dict)(after_in_child=_after_fork)
