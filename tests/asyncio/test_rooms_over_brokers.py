"""Rooms in several processes: each hub is one, and the broker is in memory."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import re
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from _kit import advance, idle, virtual
from _kit.brokers import Exchange, install
from websockets._session.relay import HOLD
from websockets.asyncio.client import ClientConnection
from websockets.protocol._prepared import PreparedMessage
from websockets.rooms import NatsHub, Presence, RedisHub
from websockets.rooms._brokered import MAX_DELAY, BrokeredHub, _delays
from websockets.testing import connected_pair

KINDS = {"redis": (RedisHub, "redis://localhost"), "nats": (NatsHub, "nats://localhost")}


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch) -> Exchange:
    made = Exchange()
    install(monkeypatch, made)
    return made


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def make(kind: str, **options: Any) -> BrokeredHub:
    hub, url = KINDS[kind]
    return hub(url, **options)


@contextlib.asynccontextmanager
async def two(kind: str, **options: Any) -> AsyncIterator[tuple[BrokeredHub, ClientConnection, Any, Any]]:
    """Two processes, each with a member in the room: the hubs, and the clients of the members."""
    async with make(kind, **options) as first, make(kind, **options) as second:
        async with connected_pair() as (a, to_a), connected_pair() as (b, to_b):
            first.join("x", to_a, {"name": "Ada"})
            second.join("x", to_b, {"name": "Grace"})
            await advance(0.1)
            yield first, a, second, b


async def heard(client: ClientConnection) -> list[Any]:
    found = []
    with contextlib.suppress(TimeoutError):
        while True:
            found.append(await asyncio.wait_for(client.recv(), 0.001))
    return found


@virtual
async def test_messages_reach_members_of_all_processes(kind: str, exchange: Exchange) -> None:
    async with two(kind, history=2) as (first, a, second, b):
        first.publish("x", "text")
        first.publish("x", b"binary")
        first.publish("x", PreparedMessage("prepared"), exclude=first.members("x")[0].connection)
        await first.flush()
        assert await heard(a) == ["text", b"binary"]
        assert await heard(b) == ["text", b"binary", "prepared"]
        async with connected_pair() as (c, to_c):
            second.join("x", to_c)
            assert await heard(c) == [b"binary", "prepared"]
        assert (second.statistics.received, second.statistics.duplicates, second.connected) == (3, 0, True)


@virtual
async def test_members_of_all_processes(kind: str, exchange: Exchange) -> None:
    events: list[Presence] = []
    async with two(kind, presence=events.append) as (first, _a, second, b):
        for hub in (first, second):
            infos = [(member.info["name"], member.connection is None) for member in hub.members("x")]
            assert sorted(infos) == sorted([("Ada", hub is second), ("Grace", hub is first)])
        assert len(events) == 4
        await b.close()
        await advance(0.1)
        assert [member.info for member in first.members("x")] == [{"name": "Ada"}]
        assert [(event.member.info, event.joined) for event in events[4:]] == [({"name": "Grace"}, False)] * 2
        # The room is over in that process.
        assert (second.rooms, second.members("x")) == ([], [])


@virtual
async def test_members_of_a_process_that_vanishes_expire(kind: str, exchange: Exchange) -> None:
    async with two(kind, interval=5, presence=lambda event: f"{event.joined}") as (first, a, second, _b):
        await heard(a)
        second._task.cancel()
        await asyncio.wait([second._task])
        await advance(11)
        assert len(first.members("x")) == 2
        await advance(10)
        assert len(first.members("x")) == 1
        assert await heard(a) == ["False"]


@virtual
async def test_a_broker_that_starts_again(kind: str, exchange: Exchange, caplog: pytest.LogCaptureFixture) -> None:
    async with two(kind, on_missed=lambda room, count: f"{count} missing") as (first, a, second, b):
        exchange.stop()
        await advance(1)
        assert not first.connected
        first.publish("x", "while away")
        assert await heard(a) == ["while away"]
        await advance(60)
        assert first.statistics.waiting == 1
        exchange.up = True
        await advance(MAX_DELAY + 10)
        # Whoever comes back first waits for the other one.
        assert await heard(b) == ["while away"]
        assert len(first.members("x")) == len(second.members("x")) == 2
        assert (first.statistics.connections, first.statistics.waiting) == (2, 0)
        first.publish("x", "later")
        await first.flush()
        assert await heard(b) == ["later"]
        assert "broker is away; reconnecting in" in caplog.text
        assert second.statistics.received + second.statistics.missed == 2


@virtual
async def test_messages_wait_for_a_process_that_does_not_come_back(kind: str, exchange: Exchange) -> None:
    async with two(kind) as (first, _a, second, _b):
        await gone_for_a_while(exchange, first, second)
        flushing = asyncio.ensure_future(first.flush())
        began = asyncio.get_running_loop().time()
        await advance(1)
        assert first.connected
        assert (first.statistics.waiting, flushing.done()) == (1, False)
        await flushing
        assert asyncio.get_running_loop().time() - began == pytest.approx(HOLD, abs=0.5)
        assert first.statistics.waiting == 0


@virtual
async def test_a_timer_that_goes_off_early(kind: str, exchange: Exchange) -> None:
    """Within the resolution of the clock: then it isn't quite the time for which it was set."""
    async with two(kind) as (first, *_):
        relay: Any = first._relay
        calls = 0
        take = relay.take

        def counted(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            assert calls < 100, "the task that publishes doesn't wait any more"
            return take(*arguments)

        relay.take = counted
        # The clock of tests has nine digits.
        heartbeat = relay.next_heartbeat = relay.next_heartbeat + 3e-10
        first._wake.set()
        await advance(11)
        assert relay.next_heartbeat > heartbeat
        assert first.statistics.connections == 1


@virtual
async def test_a_hub_that_ends_waits_for_nobody(kind: str, exchange: Exchange) -> None:
    async with two(kind) as (first, _a, second, _b):
        await gone_for_a_while(exchange, first, second)
        await advance(1)
        assert (first.connected, first.statistics.waiting) == (True, 1)
        began = asyncio.get_running_loop().time()
        await first.aclose()
        assert asyncio.get_running_loop().time() - began < 0.1
        assert (first.statistics.waiting, first.statistics.lost) == (0, 0)


async def gone_for_a_while(exchange: Exchange, first: BrokeredHub, second: BrokeredHub) -> None:
    """The broker is away for five seconds or more, and one of two processes doesn't notice that it is back."""
    assert second._task is not None
    second._task.cancel()
    await asyncio.wait([second._task])
    exchange.stop()
    await advance(0.1)
    first.publish("x", "while away")
    await advance(5)
    exchange.up = True
    while not first.connected:
        await advance(0.1)


@virtual
async def test_losses_are_counted_and_said(kind: str, exchange: Exchange, caplog: pytest.LogCaptureFixture) -> None:
    calls = []
    async with two(kind, max_waiting=1000, on_missed=lambda *args: calls.append(args)) as (first, _a, second, b):
        exchange.stop()
        await advance(1)
        for number in range(100):
            first.publish("x", f"{number:030}")
        exchange.up = True
        await advance(MAX_DELAY + 10)
        lost = first.statistics.lost
        assert lost > 70
        said = re.findall(r"(\d+) messages were lost before they reached the broker", caplog.text)
        assert sum(map(int, said)) == lost
        arrived = await heard(b)
        assert second.statistics.received == len(arrived)
        assert second.statistics.missed == 100 - len(arrived) == lost
        assert calls == [("x", second.statistics.missed)]
        assert f"room 'x': {second.statistics.missed} messages of another process are missing" in caplog.text


@virtual
async def test_on_missed_that_fails(exchange: Exchange, caplog: pytest.LogCaptureFixture) -> None:
    def fail(room: str, count: int) -> str:
        raise RuntimeError("oops")

    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"on_missed": fail}, ["next"]),
        ({"on_missed": lambda room, count: None}, ["next"]),
        ({"on_missed": lambda room, count: f"{count} missing"}, ["1 missing", "next"]),
        ({}, ["next"]),
    ]
    for options, expected in cases:
        async with two("redis", **options) as (first, _a, second, b):
            first._relay.publish("x", 1, b"", 0)
            first._relay.take(0, None)
            first._relay.confirmed()
            first.publish("x", "next")
            await first.flush()
            assert await heard(b) == expected
            assert second.statistics.missed == 1
    assert caplog.text.count("on_missed of room 'x' failed") == 1


@virtual
async def test_a_broker_that_does_not_answer(kind: str, exchange: Exchange) -> None:
    async with two(kind, timeout=5) as (first, a, second, _b):
        exchange.stuck = True
        first.publish("x", "stuck")
        flushing = asyncio.create_task(first.flush())
        assert await heard(a) == ["stuck"]
        await advance(6)
        assert (first.connected, flushing.done()) == (False, False)
        exchange.stuck = False
        exchange.freed.set()
        await flushing
        await advance(MAX_DELAY)
        assert second.statistics.received + second.statistics.missed == 1


@virtual
async def test_a_broker_that_is_not_there_at_first(kind: str, exchange: Exchange) -> None:
    exchange.up = False
    async with make(kind) as hub, connected_pair() as (a, to_a):
        hub.join("x", to_a)
        hub.publish("x", "hello")
        assert (await heard(a), hub.connected) == (["hello"], False)
        flushing = asyncio.create_task(hub.flush())
        await idle()
        await hub.aclose()
        await flushing
        assert hub.statistics.lost == 1


@virtual
async def test_a_hub_ends_although_the_broker_does_not_answer(kind: str, exchange: Exchange) -> None:
    async with make(kind, timeout=5) as hub:
        exchange.stuck = True
        hub.publish("x", "stuck")
    assert hub.statistics.lost == 1
    assert not hub.connected


@virtual
async def test_rooms_come_and_go(kind: str, exchange: Exchange) -> None:
    async with make(kind) as hub:
        for _ in range(2):
            hub.keep("x y.*>")
            await hub.flush()
            hub.forget("x y.*>")
            await hub.flush()
        name = "x y.*>"
        assert set(exchange.log) == {f"websockets:{name}" if kind == "redis" else f"websockets.{name.encode().hex()}"}


@virtual
async def test_the_client_of_redis_forgets_rooms(exchange: Exchange) -> None:
    async with make("redis") as hub:
        for number in range(100):
            hub.keep(f"{number}")
            await hub.flush()
            hub.forget(f"{number}")
        hub.keep("x")
        await hub.flush()
        await idle()
        (connection,) = exchange.connections
        assert connection.channels == {b"websockets:", b"websockets:x"}


@virtual
async def test_a_message_that_is_too_large_for_nats(exchange: Exchange) -> None:
    async with two("nats") as (first, _a, second, b):
        first.publish("x", bytes(10_000))
        first.publish("x", "small")
        await first.flush()
        assert (await heard(b), first.statistics.lost, second.statistics.missed) == (["small"], 1, 1)


@virtual
async def test_a_message_too_large_for_a_member(exchange: Exchange) -> None:
    async with make("redis") as hub, connected_pair() as (_, to_a):
        with pytest.raises(ValueError, match="info must be at most 4096 bytes of JSON over a broker"):
            hub.join("x", to_a, "x" * 5000)
        assert hub.members("x") == []


@virtual
async def test_a_flood_of_nonsense_is_logged_a_few_times(exchange: Exchange, caplog: pytest.LogCaptureFixture) -> None:
    async with two("redis") as (first, a, _second, _b):
        for number in range(1000):
            exchange.publish("websockets:x", b"nonsense %d" % number)
        await advance(1)
        assert first.statistics.malformed == 1000
        lines = [record for record in caplog.records if "malformed" in record.getMessage()]
        assert len(lines) == 2 * 10
        assert "512 of them so far" in caplog.text
        assert await heard(a) == []


@virtual
async def test_calls_from_elsewhere(exchange: Exchange) -> None:
    """Before a hub runs, messages may be published anywhere; then in its event loop alone."""
    hub = make("redis")

    def publish(message: str) -> None:
        hub.publish("x", message)

    await asyncio.to_thread(publish, "early")
    async with hub:
        with pytest.raises(RuntimeError, match="a hub belongs to the event loop of its connections"):
            await asyncio.to_thread(publish, "late")
        await hub.flush()
    assert exchange.log.count("websockets:x") >= 1
    assert hub.statistics.published == 1


@virtual
async def test_what_no_hub_has_published(exchange: Exchange, caplog: pytest.LogCaptureFixture) -> None:
    async with two("redis") as (first, a, _second, _b):
        exchange.publish("websockets:x", b"hello")
        await advance(0.1)
        assert (await heard(a), first.statistics.malformed) == ([], 1)
    assert "room 'x': malformed message" in caplog.text


@virtual
async def test_a_hub_that_is_not_running(kind: str, exchange: Exchange) -> None:
    hub = make(kind)
    with pytest.raises(RuntimeError, match="the hub isn't running: use it in async with"):
        await hub.flush()
    await hub.aclose()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"interval": 0}, ValueError, "interval must be a number above 0, not 0"),
        ({"timeout": -1}, ValueError, "timeout must be a number above 0, not -1"),
        ({"max_waiting": 0}, ValueError, "max_waiting must be a number above 0, not 0"),
        ({"on_missed": 1}, TypeError, "on_missed must be a function, not 1"),
        ({"history": -1}, ValueError, "history"),
    ],
)
def test_wrong_options(kind: str, exchange: Exchange, options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make(kind, **options)


@pytest.mark.parametrize("hub", [RedisHub, NatsHub])
def test_wrong_url(exchange: Exchange, hub: Any) -> None:
    with pytest.raises(ValueError, match="URL"):
        hub("http://localhost")


@virtual
async def test_wrong_arguments(kind: str, exchange: Exchange) -> None:
    async with make(kind) as hub, connected_pair() as (_, to_a):
        for name in ("", "x" * 513):
            with pytest.raises(ValueError, match="the name of a room has 1 to 512 bytes over a broker"):
                hub.join(name, to_a)
        with pytest.raises(TypeError, match="not JSON serializable"):
            hub.join("x", to_a, object())
        assert hub.rooms == []


@pytest.mark.parametrize(("kind", "package"), [("redis", "redis"), ("nats", "nats")])
def test_without_the_package(monkeypatch: pytest.MonkeyPatch, kind: str, package: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'pip install "websockets\[{kind}\]"'):
        make(kind)


def test_delays_grow() -> None:
    delays = [*itertools.islice(_delays(), 12)]
    assert 0 < delays[0] <= 0.1
    assert MAX_DELAY / 2 <= delays[-1] <= MAX_DELAY
    assert logging.getLogger("websockets.rooms").level == logging.NOTSET


def test_a_broker_of_another_kind() -> None:
    with pytest.raises(NotImplementedError):
        BrokeredHub()._make_broker()


# ----------------------------------------------------------------------------------------------------- odd programs


@virtual
async def test_an_entry_that_is_cancelled_leaves_nothing(exchange: Exchange) -> None:
    hub = make("redis", timeout=1000)

    class Endless:
        async def connect(self, receive: Any) -> None:
            await asyncio.sleep(3600)

        async def close(self) -> None: ...

    hub._make_broker = Endless  # type: ignore[method-assign, assignment]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1), hub:
            pytest.fail("it has no broker")
    assert len(asyncio.all_tasks()) == 1


@virtual
async def test_a_hub_runs_once_at_a_time(kind: str, exchange: Exchange) -> None:
    hub = make(kind)
    for _ in range(2):
        async with hub:
            assert hub.connected
            with pytest.raises(RuntimeError, match="^the hub is running already$"):
                await hub.__aenter__()
    assert len(asyncio.all_tasks()) == 1


@virtual
async def test_a_broker_that_cannot_be_made(exchange: Exchange) -> None:
    hub = make("redis")

    def fail() -> Any:
        raise ValueError("mine")

    hub._make_broker = fail  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="^mine$"):
        await hub.__aenter__()
    assert len(asyncio.all_tasks()) == 1


@virtual
async def test_what_is_known_of_a_member_may_change(kind: str, exchange: Exchange) -> None:
    info: dict[str, Any] = {"name": "Ada"}
    async with make(kind) as first, make(kind) as second, connected_pair() as (_, a), connected_pair() as (_, b):
        second.join("x", b)
        first.join("x", a, info)
        info["broken"] = object()
        await advance(1)
        assert {"name": "Ada"} in [member.info for member in second.members("x")]
        assert first.connected
