"""Closing: the closing handshake from either end, timeouts, back-pressure, and the results of calls."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable
from typing import Any

import pytest

from _kit import wire
from scenarios._world import Capability, End, Peer, Running, World
from scenarios._worlds import both_sides, in_every_world
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, PayloadTooBig, ProtocolError
from websockets.protocol import Side, State


@both_sides
@in_every_world()
async def test_close(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        task = world.start(connection.close, 1001, "bye")
        await peer.expect_close(1001, "bye")
        assert connection.state.name == "CLOSING"
        await peer.finish(1001)
        await task.result()
        assert connection.state.name == "CLOSED"
        assert (connection.close_code, connection.close_reason) == (1001, "")
        await connection.close(1002)
        await connection.wait_closed()
        with pytest.raises(ConnectionClosedOK, match="^sent 1001 .going away. bye; then received 1001 .going away.$"):
            await connection.recv()


@in_every_world()
async def test_server_ends_the_tcp_connection_first(world: World) -> None:
    async with world.one_end(Side.SERVER) as (connection, peer):
        await peer.close(1000)
        await peer.expect_close(1000)
        assert await peer.read_until_eof() == b""
        await world.settle()
        assert connection.state is State.CLOSING  # until the client ends it too
        peer.hang_up()
        await connection.wait_closed()


@in_every_world()
async def test_client_waits_for_the_server_to_end_the_tcp_connection(world: World) -> None:
    async with world.one_end(Side.CLIENT) as (connection, peer):
        await peer.close(1000)
        await peer.expect_close(1000)
        await world.sleep(5)
        assert peer.ended is None
        peer.eof()
        await connection.wait_closed()
        assert peer.ended == "eof"


@pytest.mark.scenario(63, 77)
@both_sides
@pytest.mark.parametrize("close_timeout", [2, 10])
@in_every_world()
async def test_peer_never_answers(world: World, side: Side, close_timeout: float) -> None:
    async with world.one_end(side, close_timeout=close_timeout) as (connection, _):
        start = world.now()
        await connection.close()
        assert world.now() - start == pytest.approx(close_timeout, abs=0.02)
        assert connection.close_code == 1006
        with pytest.raises(ConnectionClosedError, match="^sent 1000 .OK.; no close frame received$") as caught:
            await connection.send("late")
        assert str(caught.value.__cause__) == "timed out while closing connection"
        assert isinstance(caught.value.__cause__, TimeoutError)


@pytest.mark.scenario(63, 77)
@both_sides
@in_every_world()
async def test_peer_closes_and_never_ends_the_tcp_connection(world: World, side: Side) -> None:
    async with world.one_end(side, close_timeout=2) as (connection, peer):
        start = world.now()
        await peer.close(1000)
        await connection.wait_closed()
        assert world.now() - start == pytest.approx(2, abs=0.02)
        # The closing handshake was complete: that is what counts.
        assert connection.close_code == 1000


@both_sides
@in_every_world()
async def test_no_close_timeout(world: World, side: Side) -> None:
    async with world.one_end(side, close_timeout=None) as (connection, peer):
        task = world.start(connection.close)
        await world.sleep(1000)
        assert not task.done()
        await peer.finish()
        await task.result()


@pytest.mark.scenario(63, 77)
@both_sides
@in_every_world()
async def test_peer_that_never_stops_sending(world: World, side: Side) -> None:
    async with world.one_end(side, close_timeout=2) as (connection, peer):

        async def flood() -> None:
            while True:
                await peer.text("more")
                await world.sleep(0.1)

        flooding = world.start(flood)
        start = world.now()
        await connection.close()
        assert world.now() - start == pytest.approx(2, abs=0.02)
        await flooding.stop()


async def send_unread(world: World, connection: End, peer: Peer, message: bytes) -> Running[None]:
    """Send to a peer that does not read: a send of more than there is room for, which waits."""
    peer.stop_reading()
    sending = world.start(connection.send, message)
    await world.settle()
    return sending


@pytest.mark.scenario(63)
@both_sides
@in_every_world()
async def test_peer_that_stopped_reading(world: World, side: Side) -> None:
    """The Close can't even be sent: the deadline holds all the same."""
    async with world.one_end(side, close_timeout=2) as (connection, peer):
        sending = await send_unread(world, connection, peer, bytes(10**6))
        start = world.now()
        await connection.close()
        assert world.now() - start == pytest.approx(2, abs=0.02)
        with pytest.raises(ConnectionClosedError):
            await sending.result()


@both_sides
@in_every_world()
async def test_closing_with_a_full_queue_takes_a_round_trip(world: World, side: Side) -> None:
    async with world.one_end(side, max_queue=4) as (connection, peer):
        for index in range(100):
            await peer.text(str(index))
        await world.settle()
        assert not world.is_reading(connection)
        start = world.now()
        task = world.start(connection.close)
        await peer.expect_close(1000)
        await peer.finish()
        await task.result()
        assert world.now() == start
        assert connection.close_code == 1000
        # What was kept can be read; what came beyond the limit is gone.
        got = [await connection.recv() for _ in range(5)]
        assert got == ["0", "1", "2", "3", "4"]


@both_sides
@in_every_world()
async def test_who_receives_while_another_closes_sees_no_gap(world: World, side: Side) -> None:
    """After a message that was discarded, there is room again; but later ones are discarded, too."""
    async with world.one_end(side, max_queue=4) as (connection, peer):
        task = world.start(connection.close)
        await peer.expect_close(1000)
        for index in range(10):
            await peer.text(str(index))
        await world.settle()
        got = [await connection.recv() for _ in range(5)]
        await peer.text("later")
        await world.settle()
        await peer.finish()
        await task.result()
        got += [message async for message in connection]
        assert got == ["0", "1", "2", "3", "4"]


@pytest.mark.scenario(80)
@both_sides
@in_every_world()
async def test_many_close_and_wait(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        closing = [world.start(connection.close) for _ in range(3)]
        waiting = [world.start(connection.wait_closed) for _ in range(3)]
        receiving = world.start(connection.recv)
        await world.settle()
        if Capability.CANCELLATION not in world.lacks:
            leaving = [waiting.pop(1)]
            if Capability.CANCELLED_CLOSE not in world.lacks:
                leaving.append(closing.pop(0))
            for task in leaving:
                await task.cancel()
                assert task.cancelled()
        await peer.finish()
        for task in [*closing, *waiting]:
            await task.result()
        with pytest.raises(ConnectionClosedOK):
            await receiving.result()


@pytest.mark.scenario(80)
@both_sides
@in_every_world()
async def test_both_close_at_once(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        peer.delay(1)
        await peer.close(1001)
        task = world.start(connection.close, 1000)
        await peer.expect_close(1000)
        if side is Side.SERVER:
            await peer.read_until_eof()
        peer.hang_up()
        await task.result()
        assert connection.close_code == 1001
        assert str(connection.protocol.close_exc) == "sent 1000 (OK); then received 1001 (going away)"


BAD_CLOSES: list[tuple[tuple[Any, ...], str]] = [
    (
        (999,),
        "^invalid status code\\nclose code 999 can't be sent; send one from 1000 to 1003 or 1007 to 1014, or from 3000",
    ),
    ((1006,), "^invalid status code\\nclose code 1006 can't be sent; "),
    ((1000, "x" * 124), "^control frame too long\\nthe reason has 124 bytes in UTF-8; at most 123 can be sent$"),
    ((None, "x"), "^cannot send a reason without a code$"),
]

CLOSES_OF_WRONG_TYPES: list[tuple[tuple[Any, ...], str]] = [
    (("1000",), "^code must be an int, not str: '1000'$"),
    ((1000.0,), "^code must be an int, not float: 1000.0$"),
    ((True,), "^code must be an int, not bool: True$"),
    ((b"\x03\xe8",), "^code must be an int, not bytes: "),
    ((1000, b"x"), "^reason must be a str, not bytes: b'x'$"),
    ((1000, 5), "^reason must be a str, not int: 5$"),
    ((None, b""), "^reason must be a str, not bytes: b''$"),
]


@both_sides
@pytest.mark.parametrize(("arguments", "text"), [*BAD_CLOSES, *CLOSES_OF_WRONG_TYPES])
@in_every_world()
async def test_bad_close(world: World, side: Side, arguments: Any, text: str) -> None:
    """It leaves the connection as it was, both ways."""
    async with world.one_end(side, max_queue=1) as (connection, peer):
        with pytest.raises((ProtocolError, TypeError), match=text):
            await connection.close(*arguments)
        await connection.send("intact")
        await peer.expect(wire.TEXT, b"intact")
        for index in range(5):
            await peer.text(str(index))
        await world.settle()
        assert [await connection.recv() for _ in range(5)] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(("arguments", "text"), CLOSES_OF_WRONG_TYPES)
@in_every_world()
async def test_closing_with_wrong_types_fails_in_any_state(world: World, arguments: Any, text: str) -> None:
    async with world.one_end(Side.SERVER) as (connection, peer):
        closing = world.start(connection.close)
        await peer.expect_close(1000)
        for _ in range(2):
            with pytest.raises(TypeError, match=text):
                await connection.close(*arguments)
            await peer.finish(1000) if not closing.done() else None
            await closing.result()
        # What can't be sent matters to nobody any more.
        await connection.close(999)


@both_sides
@pytest.mark.parametrize(
    ("arguments", "payload"),
    [((1000, None), b"\x03\xe8"), ((None,), b""), ((None, None), b""), ((None, ""), b"")],
)
@in_every_world()
async def test_close_without_a_reason_or_a_code(world: World, side: Side, arguments: Any, payload: bytes) -> None:
    async with world.one_end(side) as (connection, peer):
        closing = world.start(connection.close, *arguments)
        await peer.expect(wire.CLOSE, payload)
        await peer.finish(1000)
        await closing.result()


@both_sides
@pytest.mark.parametrize("raised", [None, ZeroDivisionError("of the user")])
@in_every_world()
async def test_leaving_the_context(world: World, side: Side, raised: Exception | None) -> None:
    async with world.one_end(side) as (connection, peer):

        async def use() -> None:
            async with connection:
                if raised is not None:
                    raise raised

        task = world.start(use)
        await peer.expect_close(1000 if raised is None else 1011)
        await peer.finish()
        if raised is None:
            await task.result()
        else:
            with pytest.raises(ZeroDivisionError):
                await task.result()


VIOLATIONS: dict[str, tuple[int, bytes, type[Exception]]] = {
    "code that never travels": (wire.CLOSE, b"\x03\xed", ProtocolError),
    "invalid opcode": (3, b"", ProtocolError),
    "text that isn't UTF-8": (wire.TEXT, b"\xff", ProtocolError),
    "too big": (wire.BINARY, bytes(101), PayloadTooBig),
}


@both_sides
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", ["close", "shutdown", "idle"])
@pytest.mark.parametrize(("opcode", "payload", "kind"), VIOLATIONS.values(), ids=VIOLATIONS)
@in_every_world()
async def test_a_violation_after_our_close_ends_it_at_once(
    world: World, side: Side, when: str, how: str, opcode: int, payload: bytes, kind: type[Exception]
) -> None:
    """Nobody waits for the messages before it any more, read or not."""
    options = {"max_size": 100, "close_timeout": None, "ping_interval": None}
    if how == "idle":
        options["idle_timeout"] = 60
    async with world.one_end(side, **options) as (connection, peer):
        if when == "before" and how != "idle":
            await peer.text("unread")
            await world.settle()
        if how == "idle":
            await world.sleep(90)
            closing = world.start(connection.wait_closed)
        elif how == "shutdown" and side is Side.SERVER:
            world.shut_down(connection)
            closing = world.start(connection.wait_closed)
        else:
            closing = world.start(connection.close)
        assert (await peer.frame()).opcode == wire.CLOSE
        start = world.now()
        if when == "after" or how == "idle":
            await peer.text("unread")
        await peer.send(opcode, payload)
        if side is Side.SERVER:
            assert await peer.read_until_eof() == b""
        else:
            await world.settle()
            assert isinstance(connection.protocol.parser_exc, kind)
        peer.hang_up()
        await closing.result()
        assert world.now() == start
        assert await connection.recv() == "unread"
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.recv()
        assert isinstance(caught.value.__cause__, kind)


@both_sides
@in_every_world()
async def test_giving_up_while_reading_is_paused(world: World, side: Side) -> None:
    """The end of the peer must be seen, though nobody asks for messages."""
    async with world.one_end(side, max_queue=1) as (connection, peer):
        for index in range(4):
            await peer.text(str(index))
        await world.settle()
        assert not world.is_reading(connection)
        start = world.now()
        with pytest.raises(TypeError):
            await connection.send(["first", 2])
        assert (await peer.frame()).payload == b"first"
        await peer.expect_close(1011, "error in fragmented message")
        await peer.finish(1011)
        await connection.wait_closed()
        assert world.now() == start


@both_sides
@in_every_world()
async def test_the_end_of_the_peer_is_seen_while_reading_is_paused(world: World, side: Side) -> None:
    """A full queue holds up messages, of which there are no more after a Close."""
    async with world.one_end(side, max_queue=1) as (connection, peer):
        start = world.now()
        messages = b"".join(wire.text(str(index), mask=peer.mask) for index in range(4))
        await peer.write(messages + wire.close(1000, mask=peer.mask))
        if side is Side.SERVER:
            await peer.read_until_eof()
        peer.hang_up()
        await connection.wait_closed()
        assert world.now() == start
        assert [await connection.recv() for _ in range(4)] == ["0", "1", "2", "3"]


@both_sides
@in_every_world()
async def test_half_open(world: World, side: Side) -> None:
    """The peer ends the stream without a Close: what it sent is kept, and it gets our end of the stream."""
    async with world.one_end(side) as (connection, peer):
        await peer.text("last words")
        peer.eof()
        await connection.wait_closed()
        assert peer.ended == "eof"
        assert await connection.recv() == "last words"
        with pytest.raises(ConnectionClosedError, match="^no close frame received or sent$"):
            await connection.recv()


@pytest.mark.scenario(63)
@both_sides
@in_every_world()
async def test_peer_that_ends_the_stream_and_does_not_read(world: World, side: Side) -> None:
    """Bytes that can't be written would keep the TCP connection for ever, and the send that waits for room."""
    async with world.one_end(side, close_timeout=2) as (connection, peer):
        sending = await send_unread(world, connection, peer, bytes(10**6))
        start = world.now()
        peer.eof()
        await connection.wait_closed()
        assert world.now() - start == pytest.approx(2, abs=0.02)
        with pytest.raises(ConnectionClosedError, match="^no close frame received or sent$"):
            await sending.result()


@both_sides
@in_every_world()
async def test_a_peer_that_ends_the_stream_and_reads_gets_everything(world: World, side: Side) -> None:
    async with world.one_end(side, close_timeout=2) as (connection, peer):
        sending = await send_unread(world, connection, peer, bytes(10**5))
        peer.eof()
        await world.sleep(1.5)
        peer.resume_reading()
        await connection.wait_closed()
        assert (await peer.frame()).payload == bytes(10**5)
        assert await peer.read_until_eof() == b""
        # It was written, and the connection ended.
        with contextlib.suppress(ConnectionClosedError):
            await sending.result()


@both_sides
@pytest.mark.parametrize("reads", [False, True], ids=["afterwards", "at once"])
@in_every_world()
async def test_why_a_connection_ended_is_not_how(world: World, side: Side, reads: bool) -> None:
    """What the peer did wrong is the cause, and not that it broke off then."""
    async with world.one_end(side) as (connection, peer):
        receiving = world.start(connection.recv) if reads else None
        await world.settle()
        await peer.send(0x3)
        await peer.expect_close(1002, "invalid opcode")
        peer.reset()
        await connection.wait_closed()
        with pytest.raises(ConnectionClosedError) as caught:
            await (connection.recv() if receiving is None else receiving.result())
        assert isinstance(caught.value.__cause__, ProtocolError)
        assert str(caught.value.__cause__) == "invalid opcode"


@both_sides
@in_every_world()
async def test_who_gave_up_says_why_though_the_peer_breaks_off(world: World, side: Side) -> None:
    async with world.one_end(side, ping_interval=5, ping_timeout=5) as (connection, peer):
        assert (await peer.frame()).opcode == wire.PING
        await peer.expect_close(1011, "keepalive ping timeout")
        peer.reset()
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.recv()
        assert isinstance(caught.value.__cause__, TimeoutError)


@both_sides
@in_every_world()
async def test_reset(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        peer.reset()
        await connection.wait_closed()
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.send("late")
        assert isinstance(caught.value.__cause__, ConnectionResetError)


# ---------------------------------------------------------------------------------------- a deadline of its own, abort


@both_sides
@pytest.mark.parametrize(("close_timeout", "timeout"), [(10, 3), (3, 10), (None, 3), (10, 0)])
@in_every_world()
async def test_close_with_a_deadline_of_its_own(
    world: World, side: Side, close_timeout: float | None, timeout: float
) -> None:
    async with world.one_end(side, close_timeout=close_timeout) as (connection, _):
        started = world.now()
        await connection.close(timeout=timeout)
        assert world.now() - started == pytest.approx(timeout, abs=0.02)
        assert connection.close_code == 1006


@both_sides
@in_every_world()
async def test_a_deadline_may_become_shorter(world: World, side: Side) -> None:
    async with world.one_end(side, close_timeout=10) as (connection, _):
        started = world.now()
        closing = world.start(connection.close, 1000)
        await world.sleep(2)
        await connection.close(timeout=1)
        await closing.result()
        assert world.now() - started == pytest.approx(3, abs=0.02)


@both_sides
@in_every_world()
async def test_a_deadline_does_not_become_longer(world: World, side: Side) -> None:
    async with world.one_end(side, close_timeout=10) as (connection, _):
        started = world.now()
        closing = world.start(connection.close, 1000)
        await world.sleep(2)
        await connection.close(timeout=60)
        await closing.result()
        assert world.now() - started == pytest.approx(10, abs=0.02)


@in_every_world()
async def test_a_negative_deadline(world: World) -> None:
    async with world.one_end(Side.SERVER) as (connection, _):
        with pytest.raises(ValueError, match=r"^timeout must be a number of seconds, 0 or more, .*, not -1$"):
            await connection.close(timeout=-1)
        assert connection.state is State.OPEN


@both_sides
@in_every_world()
async def test_abort(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        await peer.text("arrived before")
        await world.settle()
        connection.abort()
        connection.abort()
        assert await connection.recv() == "arrived before"
        with pytest.raises(ConnectionClosedError, match="no close frame received or sent") as raised:
            await connection.send("a")
        assert isinstance(raised.value.__cause__, ConnectionAbortedError)
        with pytest.raises(ConnectionClosedError):
            await connection.recv()
        assert (connection.state, connection.close_code) == (State.CLOSED, 1006)
        assert connection.buffered_amount == 0
        connection.abort()
        assert await peer.read_until_eof() == b""


@both_sides
@in_every_world()
async def test_abort_wakes_everybody(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        peer.stop_reading()
        waiting = [
            world.start(connection.recv),
            world.start(_wait_for, await connection.ping()),
            world.start(_send_for_ever, connection),
        ]
        closed = world.start(connection.wait_closed)
        await world.settle()
        assert connection.buffered_amount > 0
        connection.abort()
        for running in waiting:
            with pytest.raises(ConnectionClosedError):
                await running.result()
        await closed.result()


async def _wait_for(waiter: Awaitable[float]) -> float:
    return await waiter


async def _send_for_ever(connection: Any) -> None:
    while True:
        await connection.send(bytes(1000))


@both_sides
@in_every_world()
async def test_abort_while_closing(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        started = world.now()
        closing = world.start(connection.close)
        await peer.expect_close(1000)
        connection.abort()
        await closing.result()
        assert world.now() == started
        assert connection.close_code == 1006
