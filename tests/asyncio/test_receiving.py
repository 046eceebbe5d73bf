"""Receiving on asyncio: recv, recv_streaming, iteration; what cancellation and closing leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from _kit import idle, steps, virtual, wire
from _kit.ends import open_end
from websockets.asyncio._fastpath._readable import BURST
from websockets.exceptions import ConcurrencyError, ConnectionClosedError, ConnectionClosedOK
from websockets.protocol import Side, State
from websockets.testing import connected_pair

both_sides = pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT])

DECODING: list[tuple[int, bytes, bool | None, Any]] = [
    (wire.TEXT, "caf\u00e9".encode(), None, "caf\u00e9"),
    (wire.TEXT, "caf\u00e9".encode(), True, "caf\u00e9"),
    (wire.TEXT, "caf\u00e9".encode(), False, "caf\u00e9".encode()),
    (wire.BINARY, b"caf\xc3\xa9", None, b"caf\xc3\xa9"),
    (wire.BINARY, b"caf\xc3\xa9", True, "caf\u00e9"),
    (wire.BINARY, b"caf\xc3\xa9", False, b"caf\xc3\xa9"),
    (wire.TEXT, b"", None, ""),
    (wire.BINARY, b"", None, b""),
]


@both_sides
@pytest.mark.parametrize(("opcode", "payload", "decode", "message"), DECODING)
@pytest.mark.parametrize("fragmented", [False, True])
@virtual
async def test_recv(
    side: Side, opcode: int, payload: bytes, decode: bool | None, message: Any, fragmented: bool
) -> None:
    async with open_end(side) as (connection, peer):
        if fragmented:
            await peer.send(opcode, payload[:4], fin=False)
            await peer.send(wire.CONT, payload[4:])
        else:
            await peer.send(opcode, payload)
        got = await connection.recv(decode)
        assert got == message
        assert type(got) is type(message)


@both_sides
@pytest.mark.parametrize(("opcode", "payload", "decode", "message"), DECODING)
@virtual
async def test_recv_streaming(side: Side, opcode: int, payload: bytes, decode: bool | None, message: Any) -> None:
    async with open_end(side) as (connection, peer):
        got = []

        async def stream() -> None:
            async for piece in connection.recv_streaming(decode):
                got.append(piece)

        task = asyncio.create_task(stream())
        await peer.send(opcode, payload[:4], fin=False)
        await steps(5)
        await peer.send(wire.CONT, payload[4:])
        await task
        assert all(type(piece) is type(message) for piece in got)
        assert type(message)().join(got) == message


@virtual
async def test_streaming_gives_fragments_as_they_arrive() -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        fragments = connection.recv_streaming()
        await peer.text("one", fin=False)
        assert await anext(fragments) == "one"
        await peer.send(wire.CONT, b"caf\xc3", fin=False)
        assert await anext(fragments) == "caf"  # half a character waits for the other half
        await peer.send(wire.PING, b"")
        await peer.send(wire.CONT, b"\xa9")
        assert await anext(fragments) == "\u00e9"
        with pytest.raises(StopAsyncIteration):
            await anext(fragments)


@virtual
async def test_streaming_an_unfragmented_message() -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        await peer.text("one")
        await peer.send(wire.BINARY, b"two")
        assert [piece async for piece in connection.recv_streaming()] == ["one"]
        assert [piece async for piece in connection.recv_streaming()] == [b"two"]


@both_sides
@virtual
async def test_streaming_makes_room_for_more(side: Side) -> None:
    async with open_end(side, max_queue=(1, 0)) as (connection, peer):
        for text in ("one", "two"):
            await peer.text(text)
            await steps(3)
        assert not connection.transport.is_reading()
        assert [piece async for piece in connection.recv_streaming()] == ["one"]
        assert not connection.transport.is_reading()
        assert [piece async for piece in connection.recv_streaming()] == ["two"]
        assert connection.transport.is_reading()


@virtual
async def test_an_iterator_may_be_iterated_over() -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        messages = aiter(connection)
        await peer.text("one")
        await peer.text("two")
        assert await anext(messages) == "one"
        assert [message async for message in first(messages)] == ["two"]


async def first(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for message in messages:
        yield message
        return


async def _leave_by_break(connection: Any) -> None:
    async for _ in connection.recv_streaming():
        break


async def _leave_by_aclose(connection: Any) -> None:
    fragments = connection.recv_streaming()
    await anext(fragments)
    await fragments.aclose()


async def _leave_by_cancellation(connection: Any) -> None:
    async def stream() -> None:
        async for _ in connection.recv_streaming():
            pass

    task = asyncio.create_task(stream())
    await steps(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@both_sides
@pytest.mark.parametrize("leave", [_leave_by_break, _leave_by_aclose, _leave_by_cancellation])
@pytest.mark.parametrize("rest_arrives", ["before", "after"])
@virtual
async def test_leaving_a_stream_discards_the_rest(side: Side, leave: Any, rest_arrives: str) -> None:
    async with open_end(side) as (connection, peer):
        await peer.text("one", fin=False)
        if rest_arrives == "before":
            await peer.send(wire.CONT, b"two", fin=False)
        await steps(3)
        await leave(connection)
        receiving = asyncio.create_task(connection.recv()) if rest_arrives == "after" else None
        await steps(2)
        await peer.send(wire.CONT, b"three")
        await peer.text("next")
        assert await (receiving or connection.recv()) == "next"


@both_sides
@virtual
async def test_the_rest_of_a_message_that_was_left_is_not_kept(side: Side) -> None:
    """It neither takes memory nor counts for ``max_queue``, however long it is."""
    async with open_end(side, max_queue=4) as (connection, peer):
        await peer.text("one", fin=False)
        await idle()
        await _leave_by_aclose(connection)
        for _ in range(50):
            await peer.send(wire.CONT, b"x" * 1000, fin=False)
        await idle()
        assert connection.transport.is_reading()
        assert (connection._session.inbox.count, connection._session.inbox._current) == (0, None)
        await peer.send(wire.CONT, b"end")
        await peer.text("next")
        assert await connection.recv() == "next"


@virtual
async def test_cancelling_a_stream_before_its_message_loses_nothing() -> None:
    async with open_end(Side.CLIENT) as (connection, peer):
        fragments = connection.recv_streaming()
        task = asyncio.ensure_future(anext(fragments))
        await steps(3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await peer.text("message")
        assert await connection.recv() == "message"


@pytest.mark.scenario(78)
@both_sides
@pytest.mark.parametrize("k", range(12))
@virtual
async def test_cancelling_recv_never_loses_a_message(side: Side, k: int) -> None:
    """recv() is cancelled k steps after its start, again and again, while messages keep arriving."""
    async with open_end(side) as (connection, peer):
        messages = [f"message {index}" for index in range(20)]

        async def send_all() -> None:
            for index, message in enumerate(messages):
                if index % 3 == 2:
                    await peer.text(message[:3], fin=False)
                    await steps(index % 4)
                    await peer.send(wire.CONT, message[3:].encode())
                else:
                    await peer.text(message)
                await steps(index % 5)

        sending = asyncio.create_task(send_all())
        got = []
        for _ in range(1000):
            task = asyncio.create_task(connection.recv())
            await steps(k)
            task.cancel()
            try:
                got.append(await task)
            except asyncio.CancelledError:
                await steps(1)
            if len(got) == len(messages):
                break
            if k < 4:  # too early to ever succeed: let something through
                task = asyncio.create_task(connection.recv())
                await steps(k + 4)
                if task.done():
                    got.append(task.result())
                else:
                    task.cancel()
                    await asyncio.wait([task])
                    if not task.cancelled():
                        got.append(task.result())
        await sending
        assert got == messages


@both_sides
@virtual
async def test_wait_for_recv(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.recv(), 5)
        await peer.text("late")
        assert await connection.recv() == "late"


NAMES = ["recv", "recv_streaming"]


@pytest.mark.scenario(79)
@pytest.mark.parametrize("running", NAMES)
@pytest.mark.parametrize("second", NAMES)
@virtual
async def test_only_one_receiver(running: str, second: str) -> None:
    async with open_end(Side.SERVER) as (connection, peer):

        async def receive(name: str) -> Any:
            return await (connection.recv() if name == "recv" else anext(connection.recv_streaming()))

        task = asyncio.create_task(receive(running))
        await steps(2)
        text = f"^cannot call {second} while another coroutine is already running recv or recv_streaming$"
        with pytest.raises(ConcurrencyError, match=text):
            await receive(second)
        await peer.text("message")
        assert await task == "message"


RECEIVING: dict[str, Any] = {
    "recv": lambda connection: connection.recv(),
    "recv as bytes": lambda connection: connection.recv(decode=False),
    "iteration": lambda connection: anext(aiter(connection)),
    "recv_streaming": lambda connection: anext(connection.recv_streaming()),
}
each_receiver = pytest.mark.parametrize(("name", "receive"), RECEIVING.items(), ids=RECEIVING)


def refusal(name: str) -> str:
    """What a second receiver is told."""
    called = name if name == "recv_streaming" else "recv"
    return f"^cannot call {called} while another coroutine is already running recv or recv_streaming$"


@pytest.mark.scenario(79)
@each_receiver
@pytest.mark.parametrize("first", ["whole", "fragments", "the rest to come"])
@both_sides
@virtual
async def test_nobody_else_receives_while_a_stream_is_read(side: Side, first: str, name: str, receive: Any) -> None:
    """More messages are there already, and nobody waits for anything."""
    async with open_end(side) as (connection, peer):
        await peer.text("one", fin=first == "whole")
        if first == "fragments":
            await peer.send(wire.CONT, b"two")
            await peer.text("next")
        elif first == "whole":
            await peer.text("next")
        await idle()
        fragments = connection.recv_streaming()
        assert await anext(fragments) == "one"
        with pytest.raises(ConcurrencyError, match=refusal(name)):
            await asyncio.create_task(receive(connection))
        if first == "the rest to come":
            await peer.send(wire.CONT, b"two")
            await peer.text("next")
            await idle()
            with pytest.raises(ConcurrencyError, match=refusal(name)):
                await asyncio.create_task(receive(connection))
        assert [fragment async for fragment in fragments] == ([] if first == "whole" else ["two"])
        # Then it is free for others, and nothing was lost.
        assert await receive(connection) in ("next", b"next")


@each_receiver
@pytest.mark.parametrize("first", ["whole", "fragments", "the rest to come"])
@pytest.mark.parametrize("later", ["same task", "another task"])
@both_sides
@virtual
async def test_a_stream_that_was_left_and_is_not_collected(
    side: Side, later: str, first: str, name: str, receive: Any
) -> None:
    """As on interpreters that don't count references: the rest is given up, and can't be asked for any more."""
    async with open_end(side) as (connection, peer):
        await peer.text("one", fin=first == "whole")
        kept: list[Any] = []

        async def leave() -> None:
            kept.append(connection.recv_streaming())
            async for fragment in kept[0]:
                assert fragment == "one"
                break

        if later == "same task":
            await leave()
        else:
            await asyncio.create_task(leave())
        if first != "whole":
            await peer.send(wire.CONT, b"two")
        await peer.text("next")
        await idle()
        assert await receive(connection) in ("next", b"next")
        text = "^cannot go on with recv_streaming after another call of recv or recv_streaming$"
        # There was nothing to give up of a message in one frame.
        with pytest.raises(
            StopAsyncIteration if first == "whole" else ConcurrencyError, match=None if first == "whole" else text
        ):
            await anext(kept[0])


@pytest.mark.parametrize("known", [True, False])
@virtual
async def test_a_stream_that_was_left_where_references_are_not_counted(
    known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another task receives: what nobody knows any more is collected, what somebody may go on with is not."""
    monkeypatch.setattr("websockets.asyncio.connection.COUNTS_REFERENCES", False)
    async with open_end(Side.CLIENT) as (connection, peer):
        await peer.text("one", fin=False)
        fragments: Any = connection.recv_streaming()
        cycle: list[Any] = [fragments]
        cycle.append(cycle)
        assert await anext(fragments) == "one"
        await peer.send(wire.CONT, b"two")
        await peer.text("next")
        await idle()
        if not known:
            del fragments, cycle
            assert await asyncio.create_task(connection.recv()) == "next"
            return
        receiving = asyncio.create_task(connection.recv())
        with pytest.raises(ConcurrencyError):
            await receiving
        assert await anext(fragments) == "two"
        await fragments.aclose()
        assert await connection.recv() == "next"


@pytest.mark.scenario(79)
@each_receiver
@pytest.mark.parametrize("more", [0, 1, 44, 344])
@both_sides
@virtual
async def test_nobody_else_receives_in_the_pause_after_a_burst(side: Side, more: int, name: str, receive: Any) -> None:
    """Others have their turn, but not at receiving: whoever reads messages goes on in their order."""
    texts = [str(number) for number in range(BURST + more)]
    async with open_end(side, max_queue=None) as (connection, peer):
        await peer.raw.send(b"".join(wire.text(text, mask=peer.mask) for text in texts))
        await idle()
        got: list[Any] = []

        async def read() -> None:
            while True:
                got.append(await connection.recv())

        reading = asyncio.create_task(read())
        second = asyncio.ensure_future(receive(connection))
        await steps(0 if got else 1)
        assert got == texts[:BURST]
        with pytest.raises(ConcurrencyError, match=refusal(name)):
            await second
        await idle()
        assert got == texts
        # What arrives now is for the one who waited.
        await peer.text("next")
        await idle()
        assert got == [*texts, "next"]
        reading.cancel()
        await asyncio.wait([reading])


@both_sides
@virtual
async def test_a_read_in_the_pause_after_a_burst_resumes_nobody(side: Side) -> None:
    async with open_end(side, max_queue=None) as (connection, peer):
        for number in range(BURST):
            await peer.text(str(number))
        await idle()
        for number in range(BURST):
            assert await connection.recv() == str(number)
        receiving = asyncio.create_task(connection.recv())
        await steps(1)
        await peer.text("next")
        assert await receiving == "next"


# -------------------------------------------------------------------------------------------------------------- closing


@both_sides
@virtual
async def test_messages_before_close_are_read_after_it(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        await peer.text("one")
        await peer.text("cut", fin=False)
        await peer.finish(1000)
        await connection.wait_closed()
        assert connection.state is State.CLOSED
        assert await connection.recv() == "one"
        for _ in range(2):
            with pytest.raises(ConnectionClosedOK, match=r"^received 1000 \(OK\); then sent 1000 \(OK\)$"):
                await connection.recv()


@both_sides
@virtual
async def test_connection_closes_while_streaming(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        await peer.text("one", fin=False)
        fragments = connection.recv_streaming()
        assert await anext(fragments) == "one"
        peer.raw.close()
        with pytest.raises(ConnectionClosedError, match="^no close frame received or sent$"):
            await anext(fragments)


@both_sides
@pytest.mark.parametrize(("code", "clean"), [(1000, True), (1001, True), (1011, False), (4000, False)])
@virtual
async def test_iteration(side: Side, code: int, clean: bool) -> None:
    async with open_end(side) as (connection, peer):
        await peer.text("one")
        await peer.send(wire.BINARY, b"two")
        got: list[Any] = []

        async def iterate() -> None:
            async for message in connection:
                got.append(message)

        task = asyncio.create_task(iterate())
        await peer.finish(code)
        if clean:
            await task
        else:
            with pytest.raises(ConnectionClosedError):
                await task
        assert got == ["one", b"two"]


@both_sides
@virtual
async def test_reset_while_receiving(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        task = asyncio.create_task(connection.recv())
        await steps(2)
        peer.raw.reset()
        with pytest.raises(ConnectionClosedError) as caught:
            await task
        assert isinstance(caught.value.__cause__, ConnectionResetError)
        assert connection.close_code == 1006


# ------------------------------------------------------------------------------------------------------------ bad input


@both_sides
@virtual
async def test_binary_taken_for_text(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        await peer.send(wire.BINARY, b"a\xff")
        task = asyncio.create_task(connection.recv(decode=True))
        await peer.expect_close(1007, "invalid start byte at position 1")
        await peer.finish(1007)
        with pytest.raises(ConnectionClosedError) as caught:
            await task
        assert isinstance(caught.value.__cause__, UnicodeDecodeError)


@both_sides
@virtual
async def test_invalid_text_fails_at_its_first_wrong_byte(side: Side) -> None:
    """Nobody reads, and most of the frame hasn't arrived: the connection fails all the same."""
    async with open_end(side) as (_, peer):
        await peer.raw.send(wire.frame(wire.TEXT, b"ab\xff", declared=1000, mask=peer.mask))
        await peer.expect_close(1007, "invalid start byte at position 2")


@both_sides
@virtual
async def test_what_came_before_an_error_is_answered_first(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        answered = asyncio.create_task(_echo_until_closed(connection))
        good = wire.text("one", mask=peer.mask) + wire.text("two", mask=peer.mask)
        await peer.raw.send(good + wire.frame(3, mask=peer.mask) + wire.text("three", mask=peer.mask))
        await peer.expect(wire.TEXT, b"one")
        await peer.expect(wire.TEXT, b"two")
        await peer.expect_close(1002, "invalid opcode")
        await peer.finish(1002)
        with pytest.raises(ConnectionClosedError) as caught:
            await answered
        assert str(caught.value.__cause__) == "invalid opcode"


async def _echo_until_closed(connection: Any) -> None:
    while True:
        await connection.send(await connection.recv())


@both_sides
@virtual
async def test_an_error_behind_messages_that_nobody_reads(side: Side) -> None:
    """The messages are kept, and the connection fails within close_timeout."""
    async with open_end(side, close_timeout=3) as (connection, peer):
        start = asyncio.get_running_loop().time()
        await peer.raw.send(wire.text("one", mask=peer.mask) + wire.frame(3, mask=peer.mask))
        await peer.expect_close(1002, "invalid opcode")
        assert asyncio.get_running_loop().time() - start == pytest.approx(3, abs=0.1)
        assert await connection.recv() == "one"


@both_sides
@virtual
async def test_a_failure_held_back_has_a_deadline_of_its_own(side: Side) -> None:
    """Nothing that comes or is sent later counts, or moves it."""
    async with open_end(side, close_timeout=4, ping_interval=None) as (connection, peer):
        start = asyncio.get_running_loop().time()
        await peer.text("good")
        await peer.send(0x3)
        await asyncio.sleep(3)
        await peer.text("too late")
        await connection.pong()
        await asyncio.sleep(0)
        await peer.expect(wire.PONG, b"")
        await peer.expect_close(1002, "invalid opcode")
        assert asyncio.get_running_loop().time() - start == pytest.approx(4, abs=0.02)
        assert await connection.recv() == "good"
        await peer.finish()
        with pytest.raises(ConnectionClosedError):
            await connection.recv()


@both_sides
@virtual
async def test_closing_does_not_wait_for_a_failure_held_back(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        await peer.raw.send(wire.text("one", mask=peer.mask) + wire.frame(3, mask=peer.mask))
        await steps(3)
        task = asyncio.create_task(connection.close())
        await peer.expect_close(1002, "invalid opcode")
        peer.raw.close()
        await task
        assert connection.close_code == 1006


# ------------------------------------------------------------------------------------------------------------ fairness


@both_sides
@virtual
async def test_others_have_one_turn_after_each_burst(side: Side) -> None:
    async with open_end(side, max_queue=None) as (connection, peer):
        count = 4 * BURST
        await peer.raw.send(wire.text("x", mask=peer.mask) * count)
        await idle()
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        turns = 0  # an eager task has begun
        for _ in range(count):
            await connection.recv()
        assert turns == 3
        task.cancel()


@pytest.mark.scenario(58)
@virtual
async def test_a_flood_does_not_starve_others() -> None:
    async with connected_pair(server={"max_queue": None}, client={"compression": None}) as (client, server):
        for _ in range(3000):
            await client.send(b"")
        await asyncio.sleep(1)
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        for _ in range(3000):
            await server.recv()
        task.cancel()
        assert turns >= 10


@both_sides
@pytest.mark.parametrize("how", ["recv", "iteration", "streaming"])
@virtual
async def test_who_waits_gets_what_is_left_of_a_read(side: Side, how: str) -> None:
    """A large read is taken in by portions; with a small queue, the rest waits until somebody asks for it."""
    async with open_end(side, max_queue=1) as (connection, peer):
        pieces = [bytes([number]) * 3000 for number in range(20)]
        frames = [
            wire.frame(wire.CONT if number else wire.BINARY, piece, fin=number == 19, mask=side is Side.SERVER)
            for number, piece in enumerate(pieces)
        ]
        await peer.raw.send(b"".join(frames))
        await idle()
        async with asyncio.timeout(1):
            if how == "recv":
                message = await connection.recv()
            elif how == "iteration":
                message = await anext(aiter(connection))
            else:
                message = b"".join([piece async for piece in connection.recv_streaming(decode=False)])
        assert message == b"".join(pieces)
