"""What the connections of a loop share: one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from _kit import virtual
from websockets.asyncio._loops import loop_state
from websockets.testing import connected_pair


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


USES: dict[str, Callable[[Any], Any]] = {
    "send": lambda connection: connection.send("text"),
    "send slowly": lambda connection: connection.send("text", compress=True),
    "send fragments": lambda connection: connection.send(["one", "two"]),
    "recv": lambda connection: connection.recv(),
    "recv streaming": lambda connection: anext(connection.recv_streaming()),
    "ping": lambda connection: connection.ping(),
    "pong": lambda connection: connection.pong(),
    "close": lambda connection: connection.close(),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("elsewhere", ["in another loop", "without a loop"])
def test_use_from_elsewhere_is_refused_in_debug_mode(use: str, elsewhere: str) -> None:
    def without_a_loop(connection: Any) -> None:
        USES[use](connection).send(None)

    def in_another_loop(connection: Any) -> None:
        async def run() -> None:
            await USES[use](connection)

        asyncio.run(run())

    async def main() -> None:
        async with connected_pair() as (client, server):
            target = in_another_loop if elsewhere == "in another loop" else without_a_loop
            with pytest.raises(RuntimeError, match="^a connection belongs to the event loop in which it was opened; "):
                await asyncio.to_thread(target, client)
            await server.send("here")
            assert await client.recv() == "here"
            await client.send("there")
            assert await server.recv() == "there"

    asyncio.run(main(), debug=True)


@virtual
async def test_loops_are_not_checked_without_debug_mode() -> None:
    async with connected_pair() as (client, _):
        assert not {"_ws_send_now", "_ws_next"} & vars(client).keys()
