"""Deadlines: which comes next, and of many connections which are due.

May know: numbers that stand for moments, and what is to happen at them. Must not know: a clock, a loop, what a
connection is.

A connection waits for one thing at a time, so it has one :class:`Alarm`. A loop has one :class:`Agenda` for all its
connections, so that thousands of them cost one timer of the loop, not thousands.
"""

from __future__ import annotations

import enum
import heapq
import itertools
from typing import Generic, TypeVar

__all__ = ["Agenda", "Alarm", "Entry"]

T = TypeVar("T")


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
