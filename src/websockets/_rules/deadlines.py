"""Deadlines: which comes next, of many connections which are due, and when to wake up for them.

May know: numbers that stand for moments, and what is to happen at them. Must not know: a clock, a loop, what a
connection is.

A connection waits for one thing at a time, so it has one :class:`Alarm`. Many connections share one object of
:class:`Deadlines`, so that thousands of them cost one timer, not thousands. A timer of a loop drives it, a thread, or a
task: whatever sleeps until :meth:`Deadlines.wake_at`, and then calls on those that are :meth:`Deadlines.due`.
"""

from __future__ import annotations

import enum
import heapq
import itertools
import math
from typing import Final, Generic, TypeVar

__all__ = ["GRANULARITY", "Agenda", "Alarm", "Deadlines", "Entry"]

T = TypeVar("T")

# Deadlines that are closer together than this share a wake-up: thousands of connections then cost few. In seconds.
GRANULARITY: Final = 0.01


class Alarm(enum.Enum):
    """What a connection waits for."""

    OPENING = "the opening handshake to end"
    PING = "the next keepalive ping"
    PONG = "a sign of life after the ping"
    FAILURE = "what was received before an error to be read"
    CLOSING = "the connection to be closed"


class Entry(Generic[T]):
    """A promise to call on ``item`` at ``when``; cancelled by clearing ``item``."""

    __slots__ = ("_order", "item", "when")

    def __init__(self, when: float, order: int, item: T) -> None:
        self.when = when
        self.item: T | None = item
        self._order = order

    def __lt__(self, other: Entry[T]) -> bool:
        return (self.when, self._order) < (other.when, other._order)


class Agenda(Generic[T]):
    """Entries by time: a heap from which cancelled entries are swept out once they outnumber the others."""

    # Below this many entries a sweep costs more than it frees.
    SWEEP_FROM = 64

    def __init__(self) -> None:
        self._heap: list[Entry[T]] = []
        self._order = itertools.count()
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def add(self, when: float, item: T) -> Entry[T]:
        """Enter that ``item`` is due at ``when``."""
        entry = Entry(when, next(self._order), item)
        heapq.heappush(self._heap, entry)
        return entry

    def cancel(self, entry: Entry[T]) -> None:
        """Forget an entry that isn't due yet; its item is let go at once."""
        if entry.item is None:
            return
        entry.item = None
        self._cancelled += 1
        if self._cancelled * 2 > len(self._heap) >= self.SWEEP_FROM:
            self._heap = [entry for entry in self._heap if entry.item is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next(self) -> float | None:
        """When the first entry is due; None if there is none."""
        while self._heap and self._heap[0].item is None:
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return self._heap[0].when if self._heap else None

    def due(self, now: float) -> list[T]:
        """Take out the items that are due at ``now``, in the order of their times."""
        items: list[T] = []
        while self._heap and self._heap[0].when <= now:
            entry = heapq.heappop(self._heap)
            if entry.item is None:
                self._cancelled -= 1
            else:
                items.append(entry.item)
                entry.item = None
        return items


class Deadlines(Generic[T]):
    """The deadlines of many connections, and when to wake up for them."""

    __slots__ = ("_agenda", "_woken_at")

    def __init__(self) -> None:
        self._agenda: Agenda[T] = Agenda()
        self._woken_at = -GRANULARITY

    def move(self, entry: Entry[T] | None, when: float, item: T) -> Entry[T] | None:
        """See to it that ``item`` is called on at ``when`` at the latest.

        An entry that is due before that stays, as it mostly does no harm: an item that is called on too early asks
        again.

        Parameters:
            entry: what this returned for the item before; None at first, and once it was due.
            when: the time; infinity for never.
            item: what is called on.

        Returns:
            The entry that stands for it; None for never.
        """
        if entry is not None:
            if entry.when <= when:
                return entry
            self._agenda.cancel(entry)
        return None if when == math.inf else self._agenda.add(when, item)

    def cancel(self, entry: Entry[T]) -> None:
        """Forget an entry that isn't due yet; its item is let go at once."""
        self._agenda.cancel(entry)

    def wake_at(self, sleeping_until: float | None = None) -> float | None:
        """When to wake up.

        Parameters:
            sleeping_until: when whoever drives this wakes up anyway; None for never. An earlier time than needed stays:
                then it finds nothing due, and asks again.

        Returns:
            The time; None if nothing will be due.
        """
        first = self._agenda.next()
        if first is None:
            return None
        when = max(first, self._woken_at + GRANULARITY)
        return when if sleeping_until is None else min(when, sleeping_until)

    def due(self, now: float) -> list[T]:
        """Take out the items that are due at ``now``, in the order of their times."""
        self._woken_at = now
        return self._agenda.due(now)
