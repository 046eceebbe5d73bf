"""Sending: messages, fragments, pings; concurrency, cancellation, and back-pressure."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from _kit import wire
from scenarios._world import Capability, End, World
from scenarios._worlds import both_sides, in_every_world
from websockets import PreparedMessage
from websockets.exceptions import ConcurrencyError, ConnectionClosedError, ConnectionClosedOK, ProtocolError
from websockets.protocol import Side

MESSAGES: list[tuple[Any, bool | None, int, bytes]] = [
    ("caf\u00e9", None, wire.TEXT, "caf\u00e9".encode()),
    ("caf\u00e9", False, wire.BINARY, "caf\u00e9".encode()),
    (b"\xff", None, wire.BINARY, b"\xff"),
    (b"text", True, wire.TEXT, b"text"),
    (bytearray(b"abc"), None, wire.BINARY, b"abc"),
    (memoryview(b"abcdef")[::2], None, wire.BINARY, b"ace"),
    (memoryview(b"abcd").cast("H"), None, wire.BINARY, b"abcd"),
    ("", None, wire.TEXT, b""),
    (b"x" * 70_000, None, wire.BINARY, b"x" * 70_000),
]


@both_sides
@pytest.mark.parametrize(("message", "text", "opcode", "payload"), MESSAGES)
@in_every_world()
async def test_send(world: World, side: Side, message: Any, text: bool | None, opcode: int, payload: bytes) -> None:
    async with world.one_end(side) as (connection, peer):
        await connection.send(message, text=text)
        await peer.expect(opcode, payload)


async def generate(world: World, *items: Any) -> AsyncIterator[Any]:
    for item in items:
        await world.sleep(0)
        yield item


Wrap = Callable[[World, list[Any]], Any]
WRAPS: dict[str, Wrap] = {
    "list": lambda world, items: items,
    "iter": lambda world, items: iter(items),
    "tuple": lambda world, items: tuple(items),
    "async": lambda world, items: world.source(generate(world, *items)),
}


FRAGMENTS: list[tuple[list[Any], bool | None, list[tuple[int, bytes]]]] = [
    (["a", "\u00e9"], None, [(1, b"a"), (0, b"\xc3\xa9"), (0, b"")]),
    ([b"a", bytearray(b"b")], None, [(2, b"a"), (0, b"b"), (0, b"")]),
    ([b"a"], True, [(1, b"a"), (0, b"")]),
    (["a"], False, [(2, b"a"), (0, b"")]),
    ([], None, []),
]


@both_sides
@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize(("items", "text", "frames"), FRAGMENTS)
@in_every_world()
async def test_send_fragments(
    world: World, side: Side, wrap: Wrap, items: list[Any], text: bool | None, frames: Any
) -> None:
    async with world.one_end(side) as (connection, peer):
        await connection.send(wrap(world, items), text=text)
        await connection.send("next")
        for index, frame in enumerate(frames):
            row = await peer.frame()
            assert (row.opcode, row.payload, row.fin) == (*frame, index == len(frames) - 1)
        await peer.expect(wire.TEXT, b"next")


WRONG: list[tuple[Any, str]] = [
    ({"a": 1}, r"^data is a dict-like object\nto send it as JSON, use json\.dumps\(data\)$"),
    (1, "^data must be str, bytes, iterable, or async iterable\\nit is of type int$"),
    (None, "^data must be str, bytes, iterable, or async iterable\\nit is of type NoneType$"),
]


@pytest.mark.parametrize(("message", "error"), WRONG)
@in_every_world()
async def test_wrong_message(world: World, message: Any, error: str) -> None:
    async with world.one_end(Side.SERVER) as (connection, peer):
        if world.caller == "thread":
            error = error.replace("iterable, or async iterable", "or iterable")
        with pytest.raises(TypeError, match=error):
            await connection.send(message)
        await connection.send("intact")
        await peer.expect(wire.TEXT, b"intact")


def failing(*items: Any) -> Any:
    yield from items
    raise ZeroDivisionError("of the user")


BAD_ITEMS: list[tuple[Any, type[Exception], str, int]] = [
    (lambda world: ["a", b"b"], TypeError, "^iterable must contain uniform types$", 1),
    (lambda world: [b"a", "b"], TypeError, "^iterable must contain uniform types$", 1),
    (lambda world: ["a", 1], TypeError, "^iterable must contain bytes or str\\none of its items is of type int$", 1),
    (lambda world: failing("a"), ZeroDivisionError, "^of the user$", 1),
    (lambda world: world.source(generate(world, "a", b"b")), TypeError, "^iterable must contain uniform types$", 1),
]


@both_sides
@pytest.mark.parametrize(("make", "kind", "text", "before"), BAD_ITEMS)
@in_every_world()
async def test_bad_item(world: World, side: Side, make: Any, kind: type[Exception], text: str, before: int) -> None:
    async with world.one_end(side) as (connection, peer):
        with pytest.raises(kind, match=text):
            await connection.send(make(world))
        for _ in range(before):
            assert not (await peer.frame()).fin
        await peer.expect_close(1011, "error in fragmented message")
        await peer.finish(1011)
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.send("late")
        assert type(caught.value.__cause__) is kind


# ---------------------------------------------------------------------------------------------------------- concurrency


@both_sides
@in_every_world()
async def test_a_message_may_depend_on_the_answer_to_another(world: World, side: Side) -> None:
    """The turn is taken when the first item is there: until then, other messages pass."""
    async with world.one_end(side) as (connection, peer):

        async def relay() -> AsyncIterator[Any]:
            yield await connection.recv()

        relaying = world.start(connection.send, world.source(relay()))
        await world.settle()
        await connection.send("question")
        await connection.send(["an", "other"])
        await peer.expect(wire.TEXT, b"question")
        assert [(await peer.frame()).payload for _ in range(3)] == [b"an", b"other", b""]
        await peer.text("answer")
        await relaying.result()
        assert [(await peer.frame()).payload for _ in range(2)] == [b"answer", b""]


@both_sides
@pytest.mark.parametrize("item", ["late", 1, None], ids=str)
@in_every_world()
async def test_a_connection_that_closes_before_the_first_item(world: World, side: Side, item: Any) -> None:
    async with world.one_end(side) as (connection, peer):
        gate = world.gate()

        async def late() -> AsyncIterator[Any]:
            await gate.wait()
            if item is not None:
                yield item

        sending = world.start(connection.send, world.source(late()))
        await world.settle()
        closing = world.start(connection.close)
        await peer.expect_close(1000)
        await peer.finish(1000)
        await closing.result()
        gate.open()
        if item is None:
            await sending.result()
        else:
            with pytest.raises(ConnectionClosedOK if item == "late" else TypeError):
                await sending.result()
        assert peer.unread == b""


async def wait_in_line(world: World, side: Side, end: str) -> None:
    """One message waits for the next fragment of another, until something happens."""
    async with world.one_end(side) as (connection, peer):
        gate = world.gate()

        async def slowly() -> AsyncIterator[str]:
            yield "first"
            await gate.wait()

        sending = world.start(connection.send, world.source(slowly()))
        await world.settle()
        waiting = world.start(connection.send, world.source(generate(world, "second")))
        await world.settle()
        assert (await peer.frame()).payload == b"first"
        assert peer.unread == b""
        if end == "close":
            closing = world.start(connection.close)
            await peer.expect_close(1011, "close during fragmented message")
            gate.open()
            await peer.finish(1011)
            await closing.result()
            for ended in (sending, waiting):
                with pytest.raises(ConnectionClosedError):
                    await ended.result()
            assert peer.unread == b""
            return
        if end == "cancel":
            await waiting.cancel()
        gate.open()
        await sending.result()
        if end == "go on":
            await waiting.result()
        await connection.send("after")
        expected = [b""] + [b"second", b""] * (end == "go on") + [b"after"]
        assert [(await peer.frame()).payload for _ in expected] == expected


@both_sides
@pytest.mark.parametrize("end", ["close", "go on"])
@in_every_world()
async def test_a_message_whose_first_item_waits_in_line(world: World, side: Side, end: str) -> None:
    await wait_in_line(world, side, end)


@both_sides
@in_every_world(Capability.CANCELLATION)
async def test_a_message_that_is_cancelled_in_the_line(world: World, side: Side) -> None:
    await wait_in_line(world, side, "cancel")


@pytest.mark.scenario(79)
@both_sides
@in_every_world(Capability.ORDER)
async def test_other_messages_wait_for_a_fragmented_one(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        gates = [world.gate() for _ in range(3)]

        async def slowly(name: str) -> AsyncIterator[str]:
            for gate in gates:
                await gate.wait()
                yield name

        tasks = [world.start(connection.send, world.source(slowly(name))) for name in ("a", "b")]
        await world.settle()
        gates[0].open()
        await world.settle()
        tasks.append(world.start(connection.send, "plain"))
        await world.settle()
        pinged = await connection.ping(b"between")
        for gate in gates:
            gate.open()
            await world.settle()
        for task in tasks:
            await task.result()
        rows = [await peer.frame() for _ in range(10)]
        assert rows.pop(1).opcode == wire.PING
        assert [(row.opcode, row.payload) for row in rows] == [
            *((1, b"a"), (0, b"a"), (0, b"a"), (0, b"")),
            *((1, b"b"), (0, b"b"), (0, b"b"), (0, b"")),
            (1, b"plain"),
        ]
        await peer.send(wire.PONG, b"between")
        await pinged


@pytest.mark.scenario(78)
@both_sides
@in_every_world(Capability.CANCELLATION)
async def test_cancelling_a_fragmented_send_fails_the_connection(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):

        async def endless() -> AsyncIterator[str]:
            yield "first"
            await world.sleep(1000)

        task = world.start(connection.send, world.source(endless()))
        waiting = world.start(connection.send, "waiting")
        await world.settle()
        await task.cancel()
        assert task.cancelled()
        assert (await peer.frame()).payload == b"first"
        await peer.expect_close(1011, "error in fragmented message")
        await peer.finish(1011)
        with pytest.raises(ConnectionClosedError) as caught:
            await waiting.result()
        assert str(caught.value.__cause__) == "sending a fragmented message was cancelled"


@in_every_world(Capability.CANCELLATION)
async def test_cancelling_a_fragmented_send_before_its_first_fragment(world: World) -> None:
    async with world.one_end(Side.CLIENT) as (connection, peer):

        async def late() -> AsyncIterator[str]:
            await world.sleep(1000)
            yield "never"

        task = world.start(connection.send, world.source(late()))
        await world.settle()
        await task.cancel()
        assert task.cancelled()
        await connection.send("intact")
        await peer.expect(wire.TEXT, b"intact")


@both_sides
@in_every_world()
async def test_closing_during_a_fragmented_send(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        gate = world.gate()

        async def slowly() -> AsyncIterator[str]:
            yield "first"
            await gate.wait()
            yield "second"

        sending = world.start(connection.send, world.source(slowly()))
        await world.settle()
        closing = world.start(connection.close)
        await world.settle()
        gate.open()
        assert (await peer.frame()).payload == b"first"
        await peer.expect_close(1011, "close during fragmented message")
        await peer.finish(1011)
        await closing.result()
        with pytest.raises(ConnectionClosedError):
            await sending.result()


# -------------------------------------------------------------------------------------------------------- back-pressure


@contextlib.asynccontextmanager
async def full(world: World, connection: End) -> AsyncIterator[int]:
    """Send until send() waits, and how many messages it took; the last one ends with the connection, or before it."""
    count, waits = 0, False

    async def send() -> None:
        nonlocal count
        with contextlib.suppress(ConnectionClosedError):
            while not waits:
                await connection.send(bytes(1000))
                count += 1

    sending = world.start(send)
    await world.settle()
    assert not sending.done()
    waits = True
    yield count
    await sending.result()


@both_sides
@pytest.mark.parametrize(("write_limit", "most"), [(2**15, 32), (2**18, 261), ((2**15, 0), 32)])
@in_every_world(Capability.WRITE_LIMIT)
async def test_send_waits_for_a_slow_peer(world: World, side: Side, write_limit: Any, most: int) -> None:
    async with world.one_end(side, write_limit=write_limit) as (connection, peer):
        peer.stop_reading()
        async with full(world, connection) as count:
            in_the_kernel = world.room // 1000 + 1
            assert most - 3 <= count - in_the_kernel <= most + 3
            task = world.start(connection.send, "more")
            await world.settle()
            assert not task.done()
            peer.resume_reading()
            await task.result()


@both_sides
@in_every_world()
async def test_connection_lost_while_send_waits(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        peer.stop_reading()
        async with full(world, connection):
            tasks = [world.start(connection.send, "more") for _ in range(3)]
            await world.settle()
            peer.reset()
            for task in tasks:
                with pytest.raises(ConnectionClosedError):
                    await task.result()


SLOW_CALLS: dict[str, Any] = {
    "fragments": lambda connection: connection.send([bytes(1000)]),
    "ping": lambda connection: connection.ping(),
    "pong": lambda connection: connection.pong(),
}


@both_sides
@pytest.mark.parametrize("call", SLOW_CALLS.values(), ids=SLOW_CALLS)
@in_every_world()
async def test_everything_that_is_sent_waits_for_a_slow_peer(world: World, side: Side, call: Any) -> None:
    async with world.one_end(side) as (connection, peer):
        peer.stop_reading()
        async with full(world, connection):
            task = world.start(call, connection)
            await world.settle()
            assert not task.done()
            peer.resume_reading()
            await task.result()


@both_sides
@in_every_world()
async def test_messages_that_are_logged_wait_for_a_slow_peer(
    world: World, side: Side, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "websockets")
    async with world.one_end(side) as (connection, peer):
        peer.stop_reading()
        async with full(world, connection):
            task = world.start(connection.send, "more")
            await world.settle()
            assert not task.done()
            peer.resume_reading()
            await task.result()


@pytest.mark.scenario(55)
@both_sides
@in_every_world()
async def test_pongs_to_a_peer_that_does_not_read_are_one_at_most(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        peer.stop_reading()
        async with full(world, connection):
            waiting = connection.buffered_amount
            for index in range(1000):
                await peer.send(wire.PING, str(index).encode())
            await world.settle()
            assert connection.buffered_amount == waiting
            peer.resume_reading()
            await world.settle()
            rows, rest = wire.parse(peer.unread)
            assert rest == b""
            pongs = [row.payload for row in rows if row.opcode == wire.PONG]
            assert pongs == [b"999"]


# --------------------------------------------------------------------------------------------------------------- pings


@both_sides
@in_every_world()
async def test_ping(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        waiter = await connection.ping("caf\u00e9")
        await peer.expect(wire.PING, "caf\u00e9".encode())
        await world.sleep(1.5)
        await peer.send(wire.PONG, "caf\u00e9".encode())
        assert await waiter == pytest.approx(1.5)
        assert connection.latency == pytest.approx(1.5)


async def wait_for(waiter: Awaitable[float]) -> float:
    return await waiter


@in_every_world()
async def test_pong_answers_earlier_pings_too(world: World) -> None:
    async with world.one_end(Side.SERVER) as (connection, peer):
        answered = [world.start(wait_for, await connection.ping(data)) for data in (None, b"2", b"3")]
        assert len((await peer.frame()).payload) == 4
        await peer.send(wire.PONG, b"unknown")
        await world.settle()
        assert not answered[0].done()
        await peer.send(wire.PONG, b"2")
        await answered[0].result()
        await answered[1].result()
        await world.settle()
        assert not answered[2].done()
        peer.reset()
        with pytest.raises(ConnectionClosedError):
            await answered[2].result()


@in_every_world()
async def test_wrong_pings(world: World) -> None:
    async with world.one_end(Side.SERVER) as (connection, _):
        await connection.ping(b"same")
        with pytest.raises(ConcurrencyError, match="^already waiting for a pong with the same data$"):
            await connection.ping("same")
        with pytest.raises(
            ProtocolError,
            match="^control frame too long\\nthe payload of a ping or pong has 126 bytes; at most 125 can be sent$",
        ):
            await connection.ping(bytes(126))
        with pytest.raises(TypeError, match="^data must be str or bytes-like$"):
            await connection.ping(1)
        with pytest.raises(TypeError, match="^data must be str or bytes-like$"):
            await connection.pong(1)


@both_sides
@in_every_world()
async def test_unsolicited_pong(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        await connection.pong("hello")
        await peer.expect(wire.PONG, b"hello")
        await connection.pong()
        await peer.expect(wire.PONG, b"")


@both_sides
@in_every_world()
async def test_pings_are_answered_while_nobody_reads(world: World, side: Side) -> None:
    async with world.one_end(side) as (_, peer):
        await peer.send(wire.PING, b"one")
        await peer.text("", fin=False)
        await peer.send(wire.PING, b"two")
        await peer.expect(wire.PONG, b"one")
        await peer.expect(wire.PONG, b"two")


@both_sides
@in_every_world()
async def test_closing_rejects_pending_pings(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        awaited = await connection.ping()
        await connection.ping()  # never awaited: nobody complains
        await peer.finish(1000)
        with pytest.raises(ConnectionClosedOK):
            await awaited


LATE_CALLS: dict[str, Any] = {
    "send": lambda connection: connection.send("late"),
    "fragments": lambda connection: connection.send(["late"]),
    "prepared": lambda connection: connection.send(PreparedMessage("late")),
    "ping": lambda connection: connection.ping(),
    "ping under way": lambda connection: connection.ping(b"early"),
    "long ping": lambda connection: connection.ping(bytes(126)),
    "pong": lambda connection: connection.pong(),
    "long pong": lambda connection: connection.pong(bytes(126)),
}


@both_sides
@pytest.mark.parametrize("call", LATE_CALLS.values(), ids=LATE_CALLS)
@in_every_world()
async def test_calls_on_a_closing_connection_wait_for_its_end(world: World, side: Side, call: Any) -> None:
    async with world.one_end(side) as (connection, peer):
        await connection.ping(b"early")
        await peer.expect(wire.PING, b"early")
        closing = world.start(connection.close)
        await world.settle()
        task = world.start(call, connection)
        await world.settle()
        assert not task.done()
        # Answers are owed as long as the peer may ask.
        await peer.send(wire.PING, b"still there?")
        await peer.expect_close(1000)
        await peer.expect(wire.PONG, b"still there?")
        await peer.finish(1000)
        await closing.result()
        with pytest.raises(ConnectionClosedOK):
            await task.result()
        with pytest.raises(ConnectionClosedOK):
            await call(connection)
        assert peer.unread == b""


@pytest.mark.parametrize("name", ["ping", "pong"])
@in_every_world()
async def test_bad_pings_are_refused_in_any_state(world: World, name: str) -> None:
    async with world.one_end(Side.SERVER) as (connection, peer):
        closing = world.start(connection.close)
        await peer.expect_close(1000)
        with pytest.raises(TypeError, match="^data must be str or bytes-like$"):
            await getattr(connection, name)(5)
        await peer.finish(1000)
        await closing.result()


@in_every_world()
async def test_both_ways_at_once(world: World) -> None:
    """Two of ours, with compression, sending while they receive, under back-pressure on both sides."""
    async with world.pair(client={"max_queue": 2}, server={"max_queue": 2}) as (client, server):

        async def send(connection: Any) -> None:
            for index in range(300):
                await connection.send(f"{index} " * 500)

        async def receive(connection: Any) -> None:
            for index in range(300):
                assert await connection.recv() == f"{index} " * 500

        started = [
            world.start(do, end) for do, end in ((send, client), (receive, server), (send, server), (receive, client))
        ]
        for running in started:
            await running.result()


# ------------------------------------------------------------------------------------------------- buffered, compressed


@both_sides
@in_every_world(Capability.WRITE_LIMIT)
async def test_buffered_amount(world: World, side: Side) -> None:
    async with world.one_end(side, write_limit=2**20) as (connection, peer):
        assert connection.buffered_amount == 0
        peer.stop_reading()
        before = connection.statistics.bytes_sent
        for size in (10, 100_000, 300_000, 10):
            await connection.send(bytes(size))
        sent = connection.statistics.bytes_sent - before
        assert connection.buffered_amount == sent - world.room
        peer.resume_reading()
        await world.settle()
        assert connection.buffered_amount == 0


@pytest.mark.parametrize(
    ("message", "compress", "smaller"),
    [
        ("a" * 20, None, False),
        ("a" * 20, True, True),
        ("a" * 2000, None, True),
        ("a" * 2000, False, False),
        (["a" * 1000, "a" * 1000], None, True),
        (["a" * 1000, "a" * 1000], True, True),
        (["a" * 1000, "a" * 1000], False, False),
        (b"a" * 2000, True, True),
    ],
)
@in_every_world()
async def test_compress(world: World, message: Any, compress: bool | None, smaller: bool) -> None:
    whole = "".join(message) if isinstance(message, list) else message
    async with world.pair() as (client, server):
        for sender, receiver in ((client, server), (server, client)):
            for _ in range(2):
                await sender.send(message, compress=compress)
                assert await receiver.recv() == whole
            assert (sender.statistics.ratio_sent < 0.9) is smaller
            await sender.send("after it, " * 100)
            assert await receiver.recv() == "after it, " * 100


@pytest.mark.parametrize("compress", [True, False])
@in_every_world()
async def test_compress_where_nothing_is_compressed(world: World, compress: bool) -> None:
    async with world.one_end(Side.SERVER) as (connection, peer):
        await connection.send("a" * 200, compress=compress)
        await connection.send(["a", "b"], compress=compress)
        await peer.expect(wire.TEXT, b"a" * 200)
        assert [(await peer.frame()).payload for _ in range(3)] == [b"a", b"b", b""]
