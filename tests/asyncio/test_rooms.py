"""Rooms in one process: who is in which one, who hears what, and when they leave."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from _kit import idle, virtual
from websockets._session.rooms import HubStatistics
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.protocol._prepared import PreparedMessage
from websockets.rooms import Hub, Presence
from websockets.testing import connected_pair

Pair = tuple[ClientConnection, ServerConnection]


@contextlib.asynccontextmanager
async def pairs(count: int, **options: Any) -> AsyncIterator[list[Pair]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(connected_pair(**options)) for _ in range(count)]


async def heard(client: ClientConnection) -> list[Any]:
    """What a client has received until now."""
    found = []
    with contextlib.suppress(TimeoutError):
        while True:
            found.append(await asyncio.wait_for(client.recv(), 0.001))
    return found


@virtual
async def test_members_hear_what_is_published() -> None:
    async with pairs(3) as ((a, to_a), (b, to_b), (c, to_c)), Hub() as hub:
        for connection in (to_a, to_b):
            hub.join("x", connection)
        hub.join("y", to_c)
        hub.publish("x", "all")
        hub.publish("x", b"not a", exclude=to_a)
        hub.publish("x", "nobody", exclude=[to_a, to_b])
        hub.publish("x", b"text", text=True)
        hub.publish("nowhere", "nobody")
        assert await heard(a) == ["all", "text"]
        assert await heard(b) == ["all", b"not a", "text"]
        assert await heard(c) == []
        statistics = hub.statistics
        assert (statistics.rooms, statistics.members, statistics.published) == (2, 3, 5)
        await hub.flush()


@virtual
async def test_coming_and_going() -> None:
    async with pairs(2) as ((_, to_a), (_, to_b)):
        hub = Hub()
        member = hub.join("x", to_a, "Ada")
        assert (member.info, member.connection) == ("Ada", to_a)
        assert hub.join("x", to_a, "again") is member
        other = hub.join("x", to_b)
        hub.join("y", to_a)
        assert hub.members("x") == [member, other]
        assert (hub.rooms, hub.rooms_of(to_a), hub.members("z")) == (["x", "y"], ["x", "y"], [])
        hub.leave("x", to_a)
        hub.leave("x", to_a)
        hub.leave("z", to_a)
        assert (hub.members("x"), hub.rooms_of(to_a)) == ([other], ["y"])
        hub.leave("x", to_b)
        assert hub.rooms == ["y"]
        await hub.aclose()
        assert (hub.rooms, hub.rooms_of(to_a)) == ([], [])


@virtual
async def test_a_closed_connection_leaves_by_itself() -> None:
    async with pairs(2) as ((a, to_a), (_, to_b)):
        hub = Hub()
        for room in ("x", "y"):
            hub.join(room, to_a)
        hub.join("x", to_b)
        waiter = to_a.connection_lost_waiter
        waiter.cancel()
        await idle()
        assert hub.rooms_of(to_a) == ["x", "y"]
        await a.close()
        await idle()
        assert (hub.rooms, [member.connection for member in hub.members("x")]) == (["x"], [to_b])
        # Who joins too late leaves at once.
        hub.join("y", to_a)
        await idle()
        assert hub.rooms == ["x"]
        hub.leave("x", to_b)
        to_b.connection_lost_waiter.cancel()
        await idle()


@virtual
async def test_coming_and_going_leaves_nothing() -> None:
    hub = Hub(history=1)
    async with pairs(2) as ((a, to_a), (_, to_b)):
        waiter = to_a.connection_lost_waiter
        for number in range(1000):
            hub.join(f"{number % 3}", to_a)
            hub.join("another", to_a)
            for room in hub.rooms_of(to_a):
                hub.leave(room, to_a)
        assert len(waiter._callbacks or ()) <= 1
        assert hub.statistics == HubStatistics(0, 0, 0)
        # It still leaves by itself, after the future was cancelled, too.
        hub.join("x", to_b)
        to_b.connection_lost_waiter.cancel()
        hub.leave("x", to_b)
        hub.join("x", to_b)
        await idle()
        assert len(to_b.connection_lost_waiter._callbacks or ()) == 1
        hub.join("x", to_a)
        await a.close()
        await idle()
        assert [member.connection for member in hub.members("x")] == [to_b]
        to_b.abort()
        await idle()
        assert hub.statistics == HubStatistics(0, 0, 0)


@virtual
async def test_newcomers_get_the_last_messages() -> None:
    async with pairs(2) as ((a, to_a), (b, to_b)):
        hub = Hub(history=2)
        hub.publish("x", "nobody hears or remembers this")
        hub.join("x", to_a)
        message = bytearray(b"two")
        for each in ("one", message, PreparedMessage("three")):
            hub.publish("x", each)
        message[:] = b"???"
        hub.join("x", to_b)
        hub.publish("x", b"four", text=True)
        assert await heard(b) == [b"two", "three", "four"]
        assert await heard(a) == ["one", b"two", "three", "four"]


@virtual
async def test_a_room_that_is_kept() -> None:
    async with pairs(1) as ((a, to_a),):
        hub = Hub(history=1)
        hub.forget("x")
        hub.keep("x")
        hub.publish("x", "early")
        hub.join("x", to_a)
        hub.leave("x", to_a)
        assert (await heard(a), hub.rooms) == (["early"], ["x"])
        hub.join("x", to_a)
        hub.forget("x")
        assert (await heard(a), hub.rooms) == (["early"], ["x"])
        hub.leave("x", to_a)
        assert hub.rooms == []


@virtual
async def test_presence(caplog: pytest.LogCaptureFixture) -> None:
    def tell(event: Presence) -> str | None:
        if event.member.info == "bad":
            raise RuntimeError("oops")
        return None if event.member.info is None else f"{event.room} {event.member.info} {event.joined}"

    async with pairs(2) as ((a, to_a), (b, to_b)):
        hub = Hub(presence=tell)
        hub.join("x", to_a, "Ada")
        hub.join("x", to_b, "Grace")
        hub.leave("x", to_a)
        hub.join("x", to_a)
        hub.leave("x", to_b)
        assert await heard(a) == ["x Grace True", "x Grace False"]
        assert await heard(b) == ["x Ada False"]
        with caplog.at_level(logging.ERROR):
            hub.join("x", to_b, "bad")
        assert "presence of room 'x' failed" in caplog.text
        assert len(hub.members("x")) == 2


@pytest.mark.parametrize("here", [True, False])
@virtual
async def test_slow_members(here: bool) -> None:
    """By default they are closed, so that they learn that they miss something."""
    async with pairs(2, compression=None, max_queue=1) as ((_, to_a), (b, to_b)):
        hub = Hub(max_buffered=None) if here else Hub(on_slow="skip", max_buffered=0)
        for connection in (to_a, to_b):
            hub.join("x", connection)
        options: dict[str, Any] = {} if here else {"on_slow": "close", "max_buffered": 1000}
        for _ in range(100):
            hub.publish("x", bytes(50_000), **options)
            await b.recv()
        assert to_a.close_code is None
        assert to_a.protocol.close_sent is not None
        assert to_a.protocol.close_sent.reason == "too slow"
        to_a.abort()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"history": -1}, ValueError, "history must be a number of messages, 0 or more, not -1"),
        ({"history": 1.5}, ValueError, "history must be a number of messages, 0 or more, not 1.5"),
        ({"on_slow": "wait"}, ValueError, "on_slow must be 'send', 'skip' or 'close', not 'wait'"),
        ({"presence": 1}, TypeError, "presence must be a function, not 1"),
        ({"max_buffered": -1}, ValueError, "max_buffered must be a number of bytes, 0 or more, or None"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Hub(**options)


@pytest.mark.parametrize("history", [0, 1])
@virtual
async def test_wrong_arguments_change_nothing(history: int) -> None:
    async with pairs(1) as ((a, to_a),):
        hub = Hub(history=history, logger=logging.getLogger("mine"))
        hub.join("x", to_a)
        with pytest.raises(TypeError, match="room must be a str, not 5"):
            hub.join(5, to_a)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            hub.publish("x", {"a": 1})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="on_slow"):
            hub.publish("x", "", on_slow="never")  # type: ignore[arg-type]
        for nonsense in (None, "x", a.protocol):
            with pytest.raises(TypeError, match=r"^connection must be one of websockets\.asyncio, not "):
                hub.join("x", nonsense)  # type: ignore[arg-type]
        assert (hub.statistics.published, await heard(a)) == (0, [])
        hub.publish("x", "fine")
        assert await heard(a) == ["fine"]
        assert len(hub.members("x")) == 1
        await hub.aclose()


@virtual
async def test_calls_from_elsewhere() -> None:
    """Another thread, with or without an event loop of its own, could spoil the connections."""

    async def from_a_loop(call: Any, *arguments: Any) -> None:
        call(*arguments)

    async with pairs(2) as ((a, to_a), (_, to_b)):
        hub = Hub()
        # As long as nobody is there, nothing can be spoilt.
        await in_a_thread(hub.publish, "x", "unheard")
        with pytest.raises(RuntimeError, match="a hub belongs to the event loop of its connections"):
            await in_a_thread(hub.join, "x", to_a)
        hub.join("x", to_a)
        for call, arguments in ((hub.publish, ("x", "late")), (hub.leave, ("x", to_a)), (hub.join, ("x", to_b))):
            for function in (call, lambda *given: asyncio.run(from_a_loop(*given))):
                given = arguments if function is call else (call, *arguments)
                with pytest.raises(RuntimeError, match=r"use loop\.call_soon_threadsafe\("):
                    await in_a_thread(function, *given)
        assert [member.connection for member in hub.members("x")] == [to_a]
        loop = asyncio.get_running_loop()
        await in_a_thread(loop.call_soon_threadsafe, hub.publish, "x", "fine")
        assert await heard(a) == ["fine"]


async def in_a_thread(function: Any, *arguments: Any) -> None:
    """Call a function in another thread, while the event loop waits."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            function(*arguments)
        except Exception as exc:
            raised.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    for exc in raised:
        raise exc


@pytest.mark.parametrize("on_slow", ["send", "skip", "close"])
@virtual
async def test_members_that_leave_while_others_are_told(on_slow: Any) -> None:
    """Their leaving is told to the rest, who may leave because of that; nothing is told twice."""
    events: list[tuple[str, bool]] = []

    def presence(event: Presence) -> str:
        events.append((event.member.info, event.joined))
        if not event.joined:
            for member in hub.members(event.room):
                if int(member.info) % 2 == 0:
                    hub.leave(event.room, member.connection)
        return f"{event.member.info} {'in' if event.joined else 'out'}"

    hub = Hub(presence=presence, on_slow=on_slow, max_buffered=0)
    async with pairs(10) as those:
        for number, (_, connection) in enumerate(those):
            hub.join("x", connection, f"{number}")
        those[3][1].abort()
        hub.publish("x", "who is there?")
        those[5][1].abort()
        await idle()
        gone = [info for info, joined in events if not joined]
        assert sorted(gone) == ["0", "2", "3", "4", "5", "6", "8"]
        assert [member.info for member in hub.members("x")] == ["1", "7", "9"]
        await hub.aclose()
        assert hub.rooms == []


@virtual
async def test_thousands_of_rooms() -> None:
    hub = Hub(history=1)
    async with pairs(2) as ((_, to_a), (b, to_b)):
        for number in range(5000):
            hub.join(f"{number}", to_a)
            if number % 100 == 0:
                hub.join(f"{number}", to_b)
        assert (hub.statistics.rooms, hub.statistics.members) == (5000, 5050)
        hub.publish("4900", "hello")
        assert await heard(b) == ["hello"]
        to_a.abort()
        await idle()
        assert (hub.statistics.rooms, hub.statistics.members) == (50, 50)
