"""What the connections of a loop share: one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from websockets.asyncio._loops import loop_state


class HastyLoop(asyncio.SelectorEventLoop):
    """What a time that has come means to uvloop: the next turn, and a handle that has no time."""

    def call_at(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        when, *call = args
        return self.call_soon(*call, **kwargs) if when <= self.time() else super().call_at(*args, **kwargs)


class Alarm:
    """Notes that it rings."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    def _ws_handle_timeout(self, now: float) -> None:
        self.log.append(self.name)


@pytest.mark.parametrize("make", [asyncio.SelectorEventLoop, HastyLoop])
def test_alarms_that_are_due_already(make: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """One is added while the timer is about to ring for another; whichever is due first."""
    rung: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        state = loop_state(loop)
        # Two in a row, so that the timer is set to a time that has come, then earlier and later ones.
        for name, when in [("past", -2.0), ("further past", -3.0), ("now", 0.0), ("past again", -1.0)]:
            state.move(None, loop.time() + when, Alarm(name, rung))
        cancelled = state.move(None, loop.time() - 4, Alarm("cancelled", rung))
        assert cancelled is not None
        state.cancel(cancelled)
        last = loop.create_future()
        loop.call_later(0.01, last.set_result, None)
        await last

    with closing(make()) as loop:
        loop.run_until_complete(asyncio.wait_for(main(), 10))
    assert sorted(rung) == ["further past", "now", "past", "past again"]


class NotingLoop(asyncio.SelectorEventLoop):
    """Notes the timers that are set."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: list[asyncio.TimerHandle] = []

    def call_at(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        self.timers.append(super().call_at(*args, **kwargs))
        return self.timers[-1]


def test_only_an_earlier_deadline_needs_another_timer() -> None:
    with closing(NotingLoop()) as loop:
        state, alarm = loop_state(loop), Alarm("", [])
        now = loop.time()
        late = state.move(None, now + 200, alarm)
        later = state.move(None, now + 300, alarm)
        assert late is not None
        assert later is not None
        assert [timer.when() for timer in loop.timers] == [now + 200]
        early = state.move(late, now + 100, alarm)
        assert early is not None
        assert [timer.when() for timer in loop.timers] == [now + 200, now + 100]
        # It may fire too early, but not for nothing.
        state.cancel(early)
        assert [timer.cancelled() for timer in loop.timers] == [True, False]
        state.cancel(later)
        assert [timer.cancelled() for timer in loop.timers] == [True, True]
