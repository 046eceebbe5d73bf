"""A scheduler without an event loop: a heap of calls, and a number for the time.

The link and the network of :mod:`websockets.testing` run on it as on an asyncio loop. Must not know: the library,
asyncio, trio, threads.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

__all__ = ["BareCall", "BareClock"]


class BareCall:
    """A call that :class:`BareClock` will make."""

    def __init__(self, when: float, order: int, callback: Callable[[], object]) -> None:
        self.when, self.order, self.callback = when, order, callback
        self.cancelled = False

    def __lt__(self, other: BareCall) -> bool:
        return (self.when, self.order) < (other.when, other.order)

    def cancel(self) -> None:
        """Take the call back."""
        self.cancelled = True


class BareClock:
    """A virtual clock that makes its calls inside :meth:`run_until` and :meth:`sleep`, and at no other time."""

    def __init__(self) -> None:
        self._now = 0.0
        self._calls: list[BareCall] = []
        self._order = itertools.count()

    def time(self) -> float:
        """Return the time, in seconds; it begins at 0."""
        return self._now

    def call_soon(self, callback: Callable[[], object], /) -> BareCall:
        """Make a call in the next step."""
        return self.call_at(self._now, callback)

    def call_at(self, when: float, callback: Callable[[], object], /) -> BareCall:
        """Make a call when the clock has come that far."""
        call = BareCall(when, next(self._order), callback)
        heapq.heappush(self._calls, call)
        return call

    def run_until(self, condition: Callable[[], object]) -> None:
        """Move the clock from call to call until something is true.

        Raises:
            RuntimeError: it is not true, and no call is left that could change that.
        """
        while not condition():
            if not self._calls:
                raise RuntimeError(f"stuck: at {self._now} no call is left")
            self._step()

    def sleep(self, seconds: float) -> None:
        """Let time pass, and make the calls that are due in it."""
        end = self._now + seconds
        while self._calls and self._calls[0].when <= end:
            self._step()
        self._now = end

    def _step(self) -> None:
        call = heapq.heappop(self._calls)
        if not call.cancelled:
            self._now = max(self._now, call.when)
            call.callback()
