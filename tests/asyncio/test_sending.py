"""Sending on asyncio: messages, fragments, pings; what concurrency, cancellation and back-pressure leave behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from _kit import idle, steps, virtual, wire
from _kit.ends import open_end
from websockets import PreparedMessage
from websockets.exceptions import ConcurrencyError, ConnectionClosedError, ConnectionClosedOK, ProtocolError
from websockets.protocol import Side, State
from websockets.testing import connected_pair

both_sides = pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT])

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
@virtual
async def test_send(side: Side, message: Any, text: bool | None, opcode: int, payload: bytes) -> None:
    async with open_end(side) as (connection, peer):
        await connection.send(message, text=text)
        await peer.expect(opcode, payload)


async def generate(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        await asyncio.sleep(0)
        yield item


FRAGMENTS: list[tuple[list[Any], bool | None, list[tuple[int, bytes]]]] = [
    (["a", "\u00e9"], None, [(1, b"a"), (0, b"\xc3\xa9"), (0, b"")]),
    ([b"a", bytearray(b"b")], None, [(2, b"a"), (0, b"b"), (0, b"")]),
    ([b"a"], True, [(1, b"a"), (0, b"")]),
    (["a"], False, [(2, b"a"), (0, b"")]),
    ([], None, []),
]


@both_sides
@pytest.mark.parametrize(
    "wrap", [list, iter, tuple, lambda items: generate(*items)], ids=["list", "iter", "tuple", "async"]
)
@pytest.mark.parametrize(("items", "text", "frames"), FRAGMENTS)
@virtual
async def test_send_fragments(side: Side, wrap: Any, items: list[Any], text: bool | None, frames: Any) -> None:
    async with open_end(side) as (connection, peer):
        await connection.send(wrap(items), text=text)
        await connection.send("next")
        for index, frame in enumerate(frames):
            row = await peer.frame()
            assert (row.opcode, row.payload, row.fin) == (*frame, index == len(frames) - 1)
        await peer.expect(wire.TEXT, b"next")


WRONG: list[tuple[Any, str]] = [
    ({"a": 1}, "^data is a dict-like object$"),
    (1, "^data must be str, bytes, iterable, or async iterable$"),
    (None, "^data must be str, bytes, iterable, or async iterable$"),
]


@pytest.mark.parametrize(("message", "error"), WRONG)
@virtual
async def test_wrong_message(message: Any, error: str) -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        with pytest.raises(TypeError, match=error):
            await connection.send(message)
        await connection.send("intact")
        await peer.expect(wire.TEXT, b"intact")


def failing(*items: Any) -> Any:
    yield from items
    raise ZeroDivisionError("of the user")


BAD_ITEMS: list[tuple[Any, type[Exception], str, int]] = [
    (lambda: ["a", b"b"], TypeError, "^iterable must contain uniform types$", 1),
    (lambda: [b"a", "b"], TypeError, "^iterable must contain uniform types$", 1),
    (lambda: ["a", 1], TypeError, "^iterable must contain bytes or str$", 1),
    (lambda: failing("a"), ZeroDivisionError, "^of the user$", 1),
    (lambda: generate("a", b"b"), TypeError, "^iterable must contain uniform types$", 1),
]


@both_sides
@pytest.mark.parametrize(("make", "kind", "text", "before"), BAD_ITEMS)
@virtual
async def test_bad_item(side: Side, make: Any, kind: type[Exception], text: str, before: int) -> None:
    async with open_end(side) as (connection, peer):
        with pytest.raises(kind, match=text):
            await connection.send(make())
        for _ in range(before):
            assert not (await peer.frame()).fin
        await peer.expect_close(1011, "error in fragmented message")
        await peer.finish(1011)
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.send("late")
        assert type(caught.value.__cause__) is kind


class Items:
    """An iterator, sync or async, that notes what is asked of it."""

    def __init__(self, *items: Any) -> None:
        self.asked: list[str] = []
        self._items = list(items)

    def _next(self, end: type[Exception]) -> Any:
        self.asked.append("next")
        item = self._items.pop(0) if self._items else end
        if isinstance(item, type) and issubclass(item, BaseException):
            raise item("of the user")
        return item


class Each(Items):
    def __iter__(self) -> Each:
        self.asked.append("iter")
        return self

    def __next__(self) -> Any:
        return self._next(StopIteration)


class AsyncEach(Items):
    def __aiter__(self) -> AsyncEach:
        self.asked.append("iter")
        return self

    async def __anext__(self) -> Any:
        await asyncio.sleep(0)
        return self._next(StopAsyncIteration)


@both_sides
@pytest.mark.parametrize("cls", [Each, AsyncEach])
@pytest.mark.parametrize("item", [ZeroDivisionError, asyncio.CancelledError, 1, None, ["nested"]], ids=str)
@virtual
async def test_what_fails_before_its_first_item_has_begun_nothing(side: Side, cls: Any, item: Any) -> None:
    async with open_end(side) as (connection, peer):
        expected = item if isinstance(item, type) else TypeError
        with pytest.raises(expected, match="^(of the user|iterable must contain bytes or str)$"):
            await connection.send(cls(item))
        await connection.send(cls("int", "act"))
        assert [(await peer.frame()).payload for _ in range(3)] == [b"int", b"act", b""]


@both_sides
@pytest.mark.parametrize("cls", [Each, AsyncEach])
@virtual
async def test_a_closed_connection_asks_nothing_of_an_iterable(side: Side, cls: Any) -> None:
    async with open_end(side) as (connection, peer):
        closing = asyncio.create_task(connection.close())
        await peer.expect_close(1000)
        items = cls("a", "b")
        early = asyncio.create_task(connection.send(items))
        await idle()
        assert not early.done()
        await peer.finish(1000)
        await closing
        for sending in (early, connection.send(items)):
            with pytest.raises(ConnectionClosedOK):
                await sending
        assert "next" not in items.asked


# ---------------------------------------------------------------------------------------------------------- concurrency


@both_sides
@virtual
async def test_a_message_may_depend_on_the_answer_to_another(side: Side) -> None:
    """The turn is taken when the first item is there: until then, other messages pass."""
    async with open_end(side) as (connection, peer):

        async def relay() -> AsyncIterator[Any]:
            yield await connection.recv()

        relaying = asyncio.create_task(connection.send(relay()))
        await steps(3)
        await connection.send("question")
        await connection.send(["an", "other"])
        await peer.expect(wire.TEXT, b"question")
        assert [(await peer.frame()).payload for _ in range(3)] == [b"an", b"other", b""]
        await peer.text("answer")
        await relaying
        assert [(await peer.frame()).payload for _ in range(2)] == [b"answer", b""]


@both_sides
@pytest.mark.parametrize("item", ["late", 1, None], ids=str)
@virtual
async def test_a_connection_that_closes_before_the_first_item(side: Side, item: Any) -> None:
    async with open_end(side) as (connection, peer):
        gate = asyncio.Event()

        async def late() -> AsyncIterator[Any]:
            await gate.wait()
            if item is not None:
                yield item

        sending = asyncio.create_task(connection.send(late()))
        await steps(3)
        closing = asyncio.create_task(connection.close())
        await peer.expect_close(1000)
        await peer.finish(1000)
        await closing
        gate.set()
        if item is None:
            await sending
        else:
            with pytest.raises(ConnectionClosedOK if item == "late" else TypeError):
                await sending
        assert peer.raw.unread == b""


@both_sides
@pytest.mark.parametrize("end", ["cancel", "close", "go on"])
@virtual
async def test_a_message_whose_first_item_waits_in_line(side: Side, end: str) -> None:
    async with open_end(side) as (connection, peer):
        gate = asyncio.Event()

        async def slowly() -> AsyncIterator[str]:
            yield "first"
            await gate.wait()

        sending = asyncio.create_task(connection.send(slowly()))
        await steps(5)
        waiting = asyncio.create_task(connection.send(generate("second")))
        await steps(5)
        assert (await peer.frame()).payload == b"first"
        assert peer.raw.unread == b""
        if end == "close":
            closing = asyncio.create_task(connection.close())
            await peer.expect_close(1011, "close during fragmented message")
            gate.set()
            await peer.finish(1011)
            await closing
            results = await asyncio.gather(sending, waiting, return_exceptions=True)
            assert [type(result) for result in results] == [ConnectionClosedError] * 2
            assert peer.raw.unread == b""
            return
        if end == "cancel":
            waiting.cancel()
            await asyncio.wait([waiting])
        gate.set()
        await sending
        await asyncio.wait([waiting])
        await connection.send("after")
        expected = [b""] + [b"second", b""] * (end == "go on") + [b"after"]
        assert [(await peer.frame()).payload for _ in expected] == expected


@pytest.mark.scenario(79)
@both_sides
@virtual
async def test_other_messages_wait_for_a_fragmented_one(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        gates = [asyncio.Event() for _ in range(3)]

        async def slowly(name: str) -> AsyncIterator[str]:
            for gate in gates:
                await gate.wait()
                yield name

        tasks = [asyncio.create_task(connection.send(slowly(name))) for name in ("a", "b")]
        await steps(3)
        gates[0].set()
        await steps(3)
        tasks.append(asyncio.create_task(connection.send("plain")))
        await steps(3)
        pinged = await connection.ping(b"between")
        for gate in gates:
            gate.set()
            await steps(3)
        await asyncio.gather(*tasks)
        rows = [await peer.frame() for _ in range(10)]
        assert rows.pop(1).opcode == wire.PING
        assert [(row.opcode, row.payload) for row in rows] == [
            *((1, b"a"), (0, b"a"), (0, b"a"), (0, b"")),
            *((1, b"b"), (0, b"b"), (0, b"b"), (0, b"")),
            (1, b"plain"),
        ]
        await peer.send(wire.PONG, b"between")
        await pinged
        # Once nobody is in the line, there is none.
        assert connection._send_lock is None


@pytest.mark.scenario(78)
@both_sides
@virtual
async def test_cancelling_a_fragmented_send_fails_the_connection(side: Side) -> None:
    async with open_end(side) as (connection, peer):

        async def endless() -> AsyncIterator[str]:
            yield "first"
            await asyncio.sleep(1000)

        task = asyncio.create_task(connection.send(endless()))
        waiting = asyncio.create_task(connection.send("waiting"))
        await steps(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await peer.frame()).payload == b"first"
        await peer.expect_close(1011, "error in fragmented message")
        await peer.finish(1011)
        with pytest.raises(ConnectionClosedError) as caught:
            await waiting
        assert str(caught.value.__cause__) == "sending a fragmented message was cancelled"


@virtual
async def test_cancelling_a_fragmented_send_before_its_first_fragment() -> None:
    async with open_end(Side.CLIENT) as (connection, peer):

        async def late() -> AsyncIterator[str]:
            await asyncio.sleep(1000)
            yield "never"

        task = asyncio.create_task(connection.send(late()))
        await steps(3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await connection.send("intact")
        await peer.expect(wire.TEXT, b"intact")


@both_sides
@virtual
async def test_closing_during_a_fragmented_send(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        gate = asyncio.Event()

        async def slowly() -> AsyncIterator[str]:
            yield "first"
            await gate.wait()
            yield "second"

        sending = asyncio.create_task(connection.send(slowly()))
        await steps(5)
        closing = asyncio.create_task(connection.close())
        await steps(2)
        gate.set()
        assert (await peer.frame()).payload == b"first"
        await peer.expect_close(1011, "close during fragmented message")
        await peer.finish(1011)
        await closing
        with pytest.raises(ConnectionClosedError):
            await sending


# -------------------------------------------------------------------------------------------------------- back-pressure


async def fill(connection: Any) -> int:
    """Send until send() waits; return how many messages it took."""
    for count in range(10_000):
        task = asyncio.create_task(connection.send(bytes(1000)))
        await steps(3)
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
            return count
    raise AssertionError("send() never waited")


@both_sides
@pytest.mark.parametrize(("write_limit", "most"), [(2**15, 32), (2**18, 261), ((2**15, 0), 32)])
@virtual
async def test_send_waits_for_a_slow_peer(side: Side, write_limit: Any, most: int) -> None:
    async with open_end(side, write_limit=write_limit) as (connection, peer):
        peer.raw.stop_reading()
        count = await fill(connection)
        in_the_kernel = 65_536 // 1000 + 1
        assert most - 3 <= count - in_the_kernel <= most + 3
        task = asyncio.create_task(connection.send("more"))
        await steps(5)
        assert not task.done()
        peer.raw.resume_reading()
        await task


@both_sides
@virtual
async def test_connection_lost_while_send_waits(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        peer.raw.stop_reading()
        await fill(connection)
        tasks = [asyncio.create_task(connection.send("more")) for _ in range(3)]
        await steps(3)
        peer.raw.reset()
        for task in tasks:
            with pytest.raises(ConnectionClosedError):
                await task


SLOW_CALLS: dict[str, Any] = {
    "fragments": lambda connection: connection.send([bytes(1000)]),
    "ping": lambda connection: connection.ping(),
    "pong": lambda connection: connection.pong(),
}


@both_sides
@pytest.mark.parametrize("call", SLOW_CALLS.values(), ids=SLOW_CALLS)
@virtual
async def test_everything_that_is_sent_waits_for_a_slow_peer(side: Side, call: Any) -> None:
    async with open_end(side) as (connection, peer):
        peer.raw.stop_reading()
        await fill(connection)
        task = asyncio.create_task(call(connection))
        await steps(5)
        assert not task.done()
        peer.raw.resume_reading()
        await task


@both_sides
@virtual
async def test_messages_that_are_logged_wait_for_a_slow_peer(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets")
    async with open_end(side) as (connection, peer):
        peer.raw.stop_reading()
        await fill(connection)
        task = asyncio.create_task(connection.send("more"))
        await steps(5)
        assert not task.done()
        peer.raw.resume_reading()
        await task


@virtual
async def test_a_large_message_does_not_overtake_answers_that_are_held_back() -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        await peer.text("question")
        await peer.text("another")
        await idle()
        await connection.recv()
        await connection.send("answer")
        assert connection._corked
        await connection.send(bytes(300_000))
        await peer.expect(wire.TEXT, b"answer")
        await peer.expect(wire.BINARY, bytes(300_000))


@virtual
async def test_a_large_message_to_a_transport_that_is_closing() -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        connection.transport.abort()
        await connection.send(bytes(300_000))
        assert await peer.raw.read_until_eof() == b""
        with pytest.raises(ConnectionClosedError):
            await connection.send(bytes(300_000))


@virtual
async def test_a_message_inside_one_that_the_protocol_was_told_of() -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        connection.protocol.send_text(b"first", fin=False)
        with pytest.raises(ProtocolError, match="^expected a continuation frame$"):
            await connection.send("another")
        connection.protocol.send_continuation(b" and last", fin=True)
        await connection.pong()
        await connection.send("another")
        rows = [await peer.frame() for _ in range(4)]
        assert [row.payload for row in rows] == [b"first", b" and last", b"", b"another"]


@pytest.mark.scenario(55)
@both_sides
@virtual
async def test_pongs_to_a_peer_that_does_not_read_are_one_at_most(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        peer.raw.stop_reading()
        await fill(connection)
        waiting = connection.transport.get_write_buffer_size()
        for index in range(1000):
            await peer.send(wire.PING, str(index).encode())
        await idle()
        assert connection.transport.get_write_buffer_size() == waiting
        peer.raw.resume_reading()
        await idle()
        rows, rest = wire.parse(peer.raw.unread)
        assert rest == b""
        pongs = [row.payload for row in rows if row.opcode == wire.PONG]
        assert pongs == [b"999"]


# --------------------------------------------------------------------------------------------------------------- pings


@both_sides
@virtual
async def test_ping(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        waiter = await connection.ping("caf\u00e9")
        await peer.expect(wire.PING, "caf\u00e9".encode())
        await asyncio.sleep(1.5)
        await peer.send(wire.PONG, "caf\u00e9".encode())
        assert await waiter == pytest.approx(1.5)
        assert connection.latency == pytest.approx(1.5)


@virtual
async def test_pong_answers_earlier_pings_too() -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        first = await connection.ping()
        second = await connection.ping(b"2")
        third = await connection.ping(b"3")
        assert len((await peer.frame()).payload) == 4
        await peer.send(wire.PONG, b"unknown")
        await idle()
        assert not first.done()  # type: ignore[attr-defined]
        await peer.send(wire.PONG, b"2")
        await first
        await second
        await idle()
        assert not third.done()  # type: ignore[attr-defined]


@virtual
async def test_a_pong_for_which_nobody_waits_any_more() -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        given_up = asyncio.ensure_future(await connection.ping(b"1"))
        waiter = await connection.ping(b"2")
        given_up.cancel()
        await peer.send(wire.PONG, b"2")
        assert 0.0 < await waiter <= 1e-6
        assert given_up.cancelled()


@virtual
async def test_a_connection_is_lost_while_nobody_waits_for_a_pong_any_more() -> None:
    async with open_end(Side.SERVER) as (connection, _):
        given_up = asyncio.ensure_future(await connection.ping(b"1"))
        waiter = await connection.ping(b"2")
        given_up.cancel()
        connection.transport.abort()
        with pytest.raises(ConnectionClosedError):
            await waiter
        assert given_up.cancelled()


@virtual
async def test_random_payloads_of_pings_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([b"same", b"same", b"same", b"diff"])
    monkeypatch.setattr("websockets._session.session.secrets.token_bytes", lambda size: next(drawn))
    async with open_end(Side.SERVER) as (connection, peer):
        await connection.ping()
        await connection.ping()
        await peer.expect(wire.PING, b"same")
        await peer.expect(wire.PING, b"diff")


@virtual
async def test_wrong_pings() -> None:
    async with open_end(Side.SERVER) as (connection, _):
        await connection.ping(b"same")
        with pytest.raises(ConcurrencyError, match="^already waiting for a pong with the same data$"):
            await connection.ping("same")
        with pytest.raises(ProtocolError, match="^control frame too long$"):
            await connection.ping(bytes(126))
        with pytest.raises(TypeError, match="^data must be str or bytes-like$"):
            await connection.ping(1)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="^data must be str or bytes-like$"):
            await connection.pong(1)  # type: ignore[arg-type]


@both_sides
@virtual
async def test_unsolicited_pong(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        await connection.pong("hello")
        await peer.expect(wire.PONG, b"hello")
        await connection.pong()
        await peer.expect(wire.PONG, b"")


@both_sides
@virtual
async def test_pings_are_answered_while_nobody_reads(side: Side) -> None:
    async with open_end(side) as (_, peer):
        await peer.send(wire.PING, b"one")
        await peer.text("", fin=False)
        await peer.send(wire.PING, b"two")
        await peer.expect(wire.PONG, b"one")
        await peer.expect(wire.PONG, b"two")


@both_sides
@virtual
async def test_closing_rejects_pending_pings(side: Side) -> None:
    async with open_end(side) as (connection, peer):
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
@virtual
async def test_calls_on_a_closing_connection_wait_for_its_end(side: Side, call: Any) -> None:
    async with open_end(side) as (connection, peer):
        await connection.ping(b"early")
        await peer.expect(wire.PING, b"early")
        closing = asyncio.create_task(connection.close())
        await steps(2)
        task = asyncio.create_task(call(connection))
        await idle()
        assert not task.done()
        # Answers are owed as long as the peer may ask.
        await peer.send(wire.PING, b"still there?")
        await peer.expect_close(1000)
        await peer.expect(wire.PONG, b"still there?")
        await peer.finish(1000)
        await closing
        for late in (task, call(connection)):
            with pytest.raises(ConnectionClosedOK):
                await late
        assert peer.raw.unread == b""


@pytest.mark.parametrize("name", ["ping", "pong"])
@virtual
async def test_bad_pings_are_refused_in_any_state(name: str) -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        closing = asyncio.create_task(connection.close())
        await peer.expect_close(1000)
        with pytest.raises(TypeError, match="^data must be str or bytes-like$"):
            await getattr(connection, name)(5)
        await peer.finish(1000)
        await closing


@virtual
async def test_both_ways_at_once() -> None:
    """Two of ours, with compression, sending while they receive, under back-pressure on both sides."""
    async with connected_pair(client={"max_queue": 2}, server={"max_queue": 2}) as (client, server):

        async def send(connection: Any) -> None:
            for index in range(300):
                await connection.send(f"{index} " * 500)

        async def receive(connection: Any) -> None:
            for index in range(300):
                assert await connection.recv() == f"{index} " * 500

        await asyncio.gather(send(client), receive(server), send(server), receive(client))


# ------------------------------------------------------------------------------------------------- buffered, compressed


@both_sides
@virtual
async def test_buffered_amount(side: Side) -> None:
    async with open_end(side, write_limit=2**20) as (connection, peer):
        assert connection.buffered_amount == 0
        peer.raw.stop_reading()
        before = connection.statistics.bytes_sent
        for size in (10, 100_000, 300_000, 10):
            await connection.send(bytes(size))
        sent = connection.statistics.bytes_sent - before
        in_the_kernel = 65_536
        assert connection.buffered_amount == sent - in_the_kernel
        peer.raw.resume_reading()
        await idle()
        assert connection.buffered_amount == 0


@both_sides
@virtual
async def test_frames_that_are_held_back_count(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        await peer.raw.send(wire.text("a", mask=peer.mask) * 3)
        await connection.recv()
        await connection.send("bc")
        assert connection.buffered_amount == len(wire.text("bc", mask=side is Side.CLIENT))
        assert peer.raw.unread == b""
        await idle()
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
@virtual
async def test_compress(message: Any, compress: bool | None, smaller: bool) -> None:
    whole = "".join(message) if isinstance(message, list) else message
    async with connected_pair() as (client, server):
        for sender, receiver in ((client, server), (server, client)):
            for _ in range(2):
                await sender.send(message, compress=compress)
                assert await receiver.recv() == whole
            assert (sender.statistics.ratio_sent < 0.9) is smaller
            await sender.send("after it, " * 100)
            assert await receiver.recv() == "after it, " * 100


@pytest.mark.parametrize("compress", [True, False])
@virtual
async def test_compress_where_nothing_is_compressed(compress: bool) -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        await connection.send("a" * 200, compress=compress)
        await connection.send(["a", "b"], compress=compress)
        await peer.expect(wire.TEXT, b"a" * 200)
        assert [(await peer.frame()).payload for _ in range(3)] == [b"a", b"b", b""]


# ------------------------------------------------------------------------------------------- what happens in between


class Ending:
    """A value whose truth ends the connection."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def __bool__(self) -> bool:
        self.connection._start_closing(1000)
        return True


@pytest.mark.parametrize("message", ["late", b"late"])
@both_sides
@virtual
async def test_nothing_follows_a_close_that_an_argument_sends(side: Side, message: Any) -> None:
    async with open_end(side) as (connection, peer):
        ending: Any = Ending(connection)
        sending = asyncio.create_task(connection.send(message, text=ending))
        await peer.expect_close(1000)
        await peer.close(1000)
        with pytest.raises(ConnectionClosedOK):
            await sending


@pytest.mark.parametrize("end", [0, 1])
@virtual
async def test_nothing_follows_a_close_that_compressing_sends(end: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As out of a signal handler."""
    async with connected_pair(compression="deflate") as pair:
        connection, peer = pair[end], pair[1 - end]
        deflate: Any = connection.protocol.extensions[0]
        pack = type(deflate).pack

        def close_and_pack(self: Any, *arguments: Any) -> Any:
            if connection.state is State.OPEN:
                connection._start_closing(1000)
            return pack(self, *arguments)

        monkeypatch.setattr(type(deflate), "pack", close_and_pack)
        connection._choose_path()
        with pytest.raises(ConnectionClosedOK):
            await connection.send("late" * 100)
        with pytest.raises(ConnectionClosedOK):
            await peer.recv()
        assert peer.protocol.parser_exc is None


@both_sides
@virtual
async def test_a_last_fragment_that_is_not_written(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever interrupts it, such as a signal handler that raises: nothing else may come first."""
    async with open_end(side) as (connection, peer):
        flushed = 0
        flush_and_drain = connection._flush_and_drain

        async def interrupted() -> None:
            nonlocal flushed
            flushed += 1
            if flushed == 3:
                raise InterruptedError
            await flush_and_drain()

        monkeypatch.setattr(connection, "_flush_and_drain", interrupted, raising=False)
        with pytest.raises(InterruptedError):
            await connection.send(["one", "two"])
        assert connection.state is State.CLOSING
        assert [(await peer.frame()).payload for _ in range(3)] == [b"one", b"two", b""]
        await peer.expect_close(1011, "error in fragmented message")


@both_sides
@virtual
async def test_a_connection_that_is_lost_with_fragmented_messages_in_line(side: Side) -> None:
    """Both learn that the connection is closed: the second isn't told that the first is under way."""
    async with open_end(side) as (connection, peer):
        go = asyncio.Event()

        async def pieces() -> AsyncIterator[str]:
            yield "one"
            await go.wait()
            yield "two"

        sending = [asyncio.create_task(connection.send(message)) for message in (pieces(), ["in", "line"])]
        assert (await peer.frame()).payload == b"one"
        connection.abort()
        await connection.wait_closed()
        go.set()
        for task in sending:
            with pytest.raises(ConnectionClosedError):
                await task


@virtual
async def test_nothing_follows_a_frame_that_is_torn() -> None:
    """As often as aborting fails, the next write tries again; once the connection is over there is nothing to do."""
    async with connected_pair() as (client, server):
        client._torn = True
        await client.send("text")
        await client.wait_closed()
        client._tear()
        with pytest.raises(ConnectionClosedError):
            await server.recv()
        server._torn = True
        server._write_all([b"late"])


@virtual
async def test_a_large_frame_that_follows_one_that_is_torn() -> None:
    async with connected_pair() as (client, server):
        server._torn = True
        server._write_all([b"header", bytes(2**20)])
        with pytest.raises(ConnectionClosedError):
            await client.recv()
