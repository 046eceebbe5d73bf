"""Deadlines of many connections: the next one, those that are due, and when to wake up for them.

May know: points in time as numbers, and items that are due at them. Must not know: clocks, event loops, connections.

A connection waits for one event at a time, so it has one :class:`Alarm`. Many connections share one :class:`Deadlines`
object, so that thousands of connections need only one timer. A timer of an event loop, a thread or a task drives it:
the driver sleeps until :meth:`Deadlines.wake_at`, and then handles the items that are :meth:`Deadlines.due`.
"""

from __future__ import annotations

import enum
import heapq
import itertools
import math
from typing import Final, Generic, TypeVar

__all__ = ["GRANULARITY", "Agenda", "Alarm", "Deadlines", "Entry"]

T = TypeVar("T")

# In seconds. Deadlines closer together than this share a wake-up, so that thousands of connections need few.
GRANULARITY: Final = 0.01


class Alarm(enum.Enum):
    """The event that a connection waits for."""

    OPENING = "the opening handshake to end"
    PING = "the next keepalive ping"
    PONG = "a sign of life after the ping"
    FAILURE = "what was received before an error to be read"
    CLOSING = "the connection to be closed"


class Entry(Generic[T]):
    """An item that is due at ``when``; clearing ``item`` cancels it."""

    __slots__ = ("item", "when")

    def __init__(self, when: float, item: T) -> None:
        self.when = when
        self.item: T | None = item


class Agenda(Generic[T]):
    """Entries sorted by time: a heap that removes cancelled entries when they outnumber the others."""

    # With fewer entries, removing the cancelled ones costs more than it saves.
    SWEEP_FROM = 64

    def __init__(self) -> None:
        # The time, a number that keeps the order of equal times, and the entry: tuples are compared without a call.
        self._heap: list[tuple[float, int, Entry[T]]] = []
        self._order = itertools.count()
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def add(self, when: float, item: T) -> Entry[T]:
        """Add an entry: ``item`` is due at ``when``."""
        entry = Entry(when, item)
        heapq.heappush(self._heap, (when, next(self._order), entry))
        return entry

    def cancel(self, entry: Entry[T]) -> None:
        """Cancel an entry that isn't due yet; its item is released at once."""
        if entry.item is None:
            return
        entry.item = None
        self._cancelled += 1
        if self._cancelled * 2 > len(self._heap) >= self.SWEEP_FROM:
            self._heap = [row for row in self._heap if row[2].item is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next(self) -> float | None:
        """Return the time of the first entry; None if there is none."""
        while self._heap and self._heap[0][2].item is None:
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[T]:
        """Remove and return the items that are due at ``now``, in order of their times."""
        items: list[T] = []
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)[2]
            if entry.item is None:
                self._cancelled -= 1
            else:
                items.append(entry.item)
                entry.item = None
        return items


class Deadlines(Agenda[T]):
    """The deadlines of many connections, and when to wake up for them."""

    def __init__(self) -> None:
        super().__init__()
        self._woken_at = -GRANULARITY

    def move(self, entry: Entry[T] | None, when: float, item: T) -> Entry[T] | None:
        """Make ``item`` due at ``when`` or earlier.

        An entry with an earlier time is kept: an item that is due too early just calls this again.

        Parameters:
            entry: the previous result for this item; None at first, and after the item was due.
            when: the time in seconds; infinity for never.
            item: the item.

        Returns:
            The entry of the item; None for never.
        """
        if entry is not None:
            if entry.when <= when:
                return entry
            self.cancel(entry)
        return None if when == math.inf else self.add(when, item)

    def wake_at(self, sleeping_until: float | None = None) -> float | None:
        """Return when to wake up.

        Parameters:
            sleeping_until: when the driver will wake up anyway; None for never. An earlier time than needed is kept:
                the driver then finds nothing due, and calls this again.

        Returns:
            The time in seconds; None if nothing will be due.
        """
        first = self.next()
        if first is None:
            return None
        when = max(first, self._woken_at + GRANULARITY)
        return when if sleeping_until is None else min(when, sleeping_until)

    def due(self, now: float) -> list[T]:
        """Remove and return the items that are due at ``now``, in order of their times."""
        self._woken_at = now
        return super().due(now)
