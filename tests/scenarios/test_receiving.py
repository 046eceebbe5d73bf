"""Receiving: recv, recv_streaming, iteration; leaving early, closing, and invalid input."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from _kit import wire
from scenarios._world import Capability, End, World
from scenarios._worlds import both_sides, in_every_world
from websockets.exceptions import ConcurrencyError, ConnectionClosedError, ConnectionClosedOK
from websockets.protocol import Side, State

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
@in_every_world()
async def test_recv(
    world: World, side: Side, opcode: int, payload: bytes, decode: bool | None, message: Any, fragmented: bool
) -> None:
    async with world.one_end(side) as (connection, peer):
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
@in_every_world()
async def test_recv_streaming(
    world: World, side: Side, opcode: int, payload: bytes, decode: bool | None, message: Any
) -> None:
    async with world.one_end(side) as (connection, peer):
        got = []

        async def stream() -> None:
            async for piece in connection.recv_streaming(decode):
                got.append(piece)

        task = world.start(stream)
        await peer.send(opcode, payload[:4], fin=False)
        await world.settle()
        await peer.send(wire.CONT, payload[4:])
        await task.result()
        assert all(type(piece) is type(message) for piece in got)
        assert type(message)().join(got) == message


@in_every_world()
async def test_streaming_gives_fragments_as_they_arrive(world: World) -> None:
    async with world.one_end(Side.SERVER) as (connection, peer):
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


@in_every_world()
async def test_streaming_an_unfragmented_message(world: World) -> None:
    async with world.one_end(Side.SERVER) as (connection, peer):
        await peer.text("one")
        await peer.send(wire.BINARY, b"two")
        assert [piece async for piece in connection.recv_streaming()] == ["one"]
        assert [piece async for piece in connection.recv_streaming()] == [b"two"]


@both_sides
@in_every_world()
async def test_streaming_makes_room_for_more(world: World, side: Side) -> None:
    async with world.one_end(side, max_queue=(1, 0)) as (connection, peer):
        for text in ("one", "two"):
            await peer.text(text)
            await world.settle()
        assert not world.is_reading(connection)
        assert [piece async for piece in connection.recv_streaming()] == ["one"]
        assert not world.is_reading(connection)
        assert [piece async for piece in connection.recv_streaming()] == ["two"]
        assert world.is_reading(connection)


@in_every_world()
async def test_an_iterator_may_be_iterated_over(world: World) -> None:
    async with world.one_end(Side.SERVER) as (connection, peer):
        messages = aiter(connection)
        await peer.text("one")
        await peer.text("two")
        assert await anext(messages) == "one"
        assert [message async for message in first(messages)] == ["two"]


async def first(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for message in messages:
        yield message
        return


async def _leave_by_break(world: World, connection: End) -> None:
    async for _ in connection.recv_streaming():
        break


async def _leave_by_aclose(world: World, connection: End) -> None:
    fragments = connection.recv_streaming()
    await anext(fragments)
    await fragments.aclose()


async def _leave_by_cancellation(world: World, connection: End) -> None:
    async def stream() -> None:
        async for _ in connection.recv_streaming():
            pass

    streaming = world.start(stream)
    await world.settle()
    await streaming.cancel()
    assert streaming.cancelled()


async def leave_a_stream(world: World, side: Side, leave: Any, rest_arrives: str) -> None:
    """Leave a message after its first fragment; the next one is received whole."""
    async with world.one_end(side) as (connection, peer):
        await peer.text("one", fin=False)
        if rest_arrives == "before":
            await peer.send(wire.CONT, b"two", fin=False)
        await world.settle()
        await leave(world, connection)
        receiving = world.start(connection.recv) if rest_arrives == "after" else None
        await world.settle()
        await peer.send(wire.CONT, b"three")
        await peer.text("next")
        assert await (connection.recv() if receiving is None else receiving.result()) == "next"


each_rest = pytest.mark.parametrize("rest_arrives", ["before", "after"])


@both_sides
@pytest.mark.parametrize("leave", [_leave_by_break, _leave_by_aclose])
@each_rest
@in_every_world()
async def test_leaving_a_stream_discards_the_rest(world: World, side: Side, leave: Any, rest_arrives: str) -> None:
    await leave_a_stream(world, side, leave, rest_arrives)


@both_sides
@each_rest
@in_every_world(Capability.CANCELLATION)
async def test_cancelling_a_stream_discards_the_rest(world: World, side: Side, rest_arrives: str) -> None:
    await leave_a_stream(world, side, _leave_by_cancellation, rest_arrives)


@in_every_world(Capability.CANCELLATION)
async def test_cancelling_a_stream_before_its_message_loses_nothing(world: World) -> None:
    async with world.one_end(Side.CLIENT) as (connection, peer):
        fragments = connection.recv_streaming()
        receiving = world.start(fragments.__anext__)
        await world.settle()
        await receiving.cancel()
        assert receiving.cancelled()
        await peer.text("message")
        assert await connection.recv() == "message"


@both_sides
@in_every_world()
async def test_wait_for_recv(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        with pytest.raises(TimeoutError):
            await world.within(5, connection.recv)
        await peer.text("late")
        assert await connection.recv() == "late"


RECEIVING: dict[str, Any] = {
    "recv": lambda connection: connection.recv(),
    "recv as bytes": lambda connection: connection.recv(decode=False),
    "iteration": lambda connection: anext(aiter(connection)),
    "recv_streaming": lambda connection: anext(connection.recv_streaming()),
}
each_receiver = pytest.mark.parametrize(("name", "receive"), RECEIVING.items(), ids=RECEIVING)


def refusal(world: World, name: str) -> str:
    """What a second receiver is told."""
    called = name if name == "recv_streaming" else "recv"
    return f"^cannot call {called} while another {world.caller} is already running recv or recv_streaming$"


NAMES = ["recv", "recv_streaming"]


@pytest.mark.scenario(79)
@pytest.mark.parametrize("running", NAMES)
@pytest.mark.parametrize("second", NAMES)
@in_every_world()
async def test_only_one_receiver(world: World, running: str, second: str) -> None:
    async with world.one_end(Side.SERVER) as (connection, peer):

        async def receive(name: str) -> Any:
            return await (connection.recv() if name == "recv" else anext(connection.recv_streaming()))

        task = world.start(receive, running)
        await world.settle()
        with pytest.raises(ConcurrencyError, match=refusal(world, second)):
            await receive(second)
        await peer.text("message")
        assert await task.result() == "message"


@pytest.mark.scenario(79)
@each_receiver
@pytest.mark.parametrize("first", ["whole", "fragments", "the rest to come"])
@both_sides
@in_every_world()
async def test_nobody_else_receives_while_a_stream_is_read(
    world: World, side: Side, first: str, name: str, receive: Any
) -> None:
    """More messages are there already, and nobody waits for anything."""
    async with world.one_end(side) as (connection, peer):
        await peer.text("one", fin=first == "whole")
        if first == "fragments":
            await peer.send(wire.CONT, b"two")
            await peer.text("next")
        elif first == "whole":
            await peer.text("next")
        await world.settle()
        fragments = connection.recv_streaming()
        assert await anext(fragments) == "one"
        with pytest.raises(ConcurrencyError, match=refusal(world, name)):
            await world.start(receive, connection).result()
        if first == "the rest to come":
            await peer.send(wire.CONT, b"two")
            await peer.text("next")
            await world.settle()
            with pytest.raises(ConcurrencyError, match=refusal(world, name)):
                await world.start(receive, connection).result()
        assert [fragment async for fragment in fragments] == ([] if first == "whole" else ["two"])
        # Then it is free for others, and nothing was lost.
        assert await receive(connection) in ("next", b"next")


@each_receiver
@pytest.mark.parametrize("first", ["whole", "fragments", "the rest to come"])
@pytest.mark.parametrize("later", ["same task", "another task"])
@both_sides
@in_every_world()
async def test_a_stream_that_was_left_and_is_not_collected(
    world: World, side: Side, later: str, first: str, name: str, receive: Any
) -> None:
    """As on interpreters that don't count references: the rest is given up, and can't be asked for any more."""
    async with world.one_end(side) as (connection, peer):
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
            await world.start(leave).result()
        if first != "whole":
            await peer.send(wire.CONT, b"two")
        await peer.text("next")
        await world.settle()
        assert await receive(connection) in ("next", b"next")
        text = "^cannot go on with recv_streaming after another call of recv or recv_streaming$"
        # There was nothing to give up of a message in one frame.
        with pytest.raises(
            StopAsyncIteration if first == "whole" else ConcurrencyError, match=None if first == "whole" else text
        ):
            await anext(kept[0])


# -------------------------------------------------------------------------------------------------------------- closing


@both_sides
@in_every_world()
async def test_messages_before_close_are_read_after_it(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
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
@in_every_world()
async def test_connection_closes_while_streaming(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        await peer.text("one", fin=False)
        fragments = connection.recv_streaming()
        assert await anext(fragments) == "one"
        peer.hang_up()
        with pytest.raises(ConnectionClosedError, match="^no close frame received or sent$"):
            await anext(fragments)


@both_sides
@pytest.mark.parametrize(("code", "clean"), [(1000, True), (1001, True), (1011, False), (4000, False)])
@in_every_world()
async def test_iteration(world: World, side: Side, code: int, clean: bool) -> None:
    async with world.one_end(side) as (connection, peer):
        await peer.text("one")
        await peer.send(wire.BINARY, b"two")
        got: list[Any] = []

        async def iterate() -> None:
            async for message in connection:
                got.append(message)

        task = world.start(iterate)
        await peer.finish(code)
        if clean:
            await task.result()
        else:
            with pytest.raises(ConnectionClosedError):
                await task.result()
        assert got == ["one", b"two"]


@both_sides
@in_every_world()
async def test_reset_while_receiving(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        task = world.start(connection.recv)
        await world.settle()
        peer.reset()
        with pytest.raises(ConnectionClosedError) as caught:
            await task.result()
        assert isinstance(caught.value.__cause__, ConnectionResetError)
        assert connection.close_code == 1006


# ------------------------------------------------------------------------------------------------------------ bad input


@both_sides
@in_every_world()
async def test_binary_taken_for_text(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        await peer.send(wire.BINARY, b"a\xff")
        task = world.start(connection.recv, decode=True)
        await peer.expect_close(1007, "invalid start byte at position 1")
        await peer.finish(1007)
        with pytest.raises(ConnectionClosedError) as caught:
            await task.result()
        assert isinstance(caught.value.__cause__, UnicodeDecodeError)


@both_sides
@in_every_world()
async def test_invalid_text_fails_at_its_first_wrong_byte(world: World, side: Side) -> None:
    """Nobody reads, and most of the frame hasn't arrived: the connection fails all the same."""
    async with world.one_end(side) as (_, peer):
        await peer.write(wire.frame(wire.TEXT, b"ab\xff", declared=1000, mask=peer.mask))
        await peer.expect_close(1007, "invalid start byte at position 2")


@both_sides
@in_every_world()
async def test_what_came_before_an_error_is_answered_first(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        answered = world.start(_echo_until_closed, connection)
        good = wire.text("one", mask=peer.mask) + wire.text("two", mask=peer.mask)
        await peer.write(good + wire.frame(3, mask=peer.mask) + wire.text("three", mask=peer.mask))
        await peer.expect(wire.TEXT, b"one")
        await peer.expect(wire.TEXT, b"two")
        await peer.expect_close(1002, "invalid opcode")
        await peer.finish(1002)
        with pytest.raises(ConnectionClosedError) as caught:
            await answered.result()
        assert str(caught.value.__cause__) == "invalid opcode"


async def _echo_until_closed(connection: Any) -> None:
    while True:
        await connection.send(await connection.recv())


@both_sides
@in_every_world()
async def test_an_error_behind_messages_that_nobody_reads(world: World, side: Side) -> None:
    """The messages are kept, and the connection fails within close_timeout."""
    async with world.one_end(side, close_timeout=3) as (connection, peer):
        start = world.now()
        await peer.write(wire.text("one", mask=peer.mask) + wire.frame(3, mask=peer.mask))
        await peer.expect_close(1002, "invalid opcode")
        assert world.now() - start == pytest.approx(3, abs=0.1)
        assert await connection.recv() == "one"


@both_sides
@in_every_world()
async def test_a_failure_held_back_has_a_deadline_of_its_own(world: World, side: Side) -> None:
    """Nothing that comes or is sent later counts, or moves it."""
    async with world.one_end(side, close_timeout=4, ping_interval=None) as (connection, peer):
        start = world.now()
        await peer.text("good")
        await peer.send(0x3)
        await world.sleep(3)
        await peer.text("too late")
        await connection.pong()
        await world.sleep(0)
        await peer.expect(wire.PONG, b"")
        await peer.expect_close(1002, "invalid opcode")
        assert world.now() - start == pytest.approx(4, abs=0.02)
        assert await connection.recv() == "good"
        await peer.finish()
        with pytest.raises(ConnectionClosedError):
            await connection.recv()


@both_sides
@in_every_world()
async def test_closing_does_not_wait_for_a_failure_held_back(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        await peer.write(wire.text("one", mask=peer.mask) + wire.frame(3, mask=peer.mask))
        await world.settle()
        task = world.start(connection.close)
        await peer.expect_close(1002, "invalid opcode")
        peer.hang_up()
        await task.result()
        assert connection.close_code == 1006


@both_sides
@pytest.mark.parametrize("how", ["recv", "iteration", "streaming"])
@in_every_world()
async def test_who_waits_gets_what_is_left_of_a_read(world: World, side: Side, how: str) -> None:
    """A large read is taken in by portions; with a small queue, the rest waits until somebody asks for it."""
    async with world.one_end(side, max_queue=1) as (connection, peer):
        pieces = [bytes([number]) * 3000 for number in range(20)]
        frames = [
            wire.frame(wire.CONT if number else wire.BINARY, piece, fin=number == 19, mask=side is Side.SERVER)
            for number, piece in enumerate(pieces)
        ]
        await peer.write(b"".join(frames))
        await world.settle()

        async def receive() -> Any:
            if how == "recv":
                return await connection.recv()
            if how == "iteration":
                return await anext(aiter(connection))
            return b"".join([piece async for piece in connection.recv_streaming(decode=False)])

        assert await world.within(1, receive) == b"".join(pieces)
