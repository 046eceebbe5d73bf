"""Floods of frames: others have their turn between portions, and nothing is lost or kept for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from _kit import idle, steps, virtual, wire
from _kit.ends import open_end
from websockets.protocol import Side, State

MASK = b"\x01\x02\x03\x04"
PING = wire.ping(mask=MASK)


def turns() -> tuple[list[int], asyncio.TimerHandle | asyncio.Handle]:
    """A count of the turns of the loop, in a list, and what stops it."""
    loop = asyncio.get_running_loop()
    count = [0]

    def turn() -> None:
        count[0] += 1
        if count[0] < 10_000:
            loop.call_soon(turn)

    return count, loop.call_soon(turn)


@pytest.mark.parametrize("detour", [False, True], ids=["straight", "detour"])
@virtual
async def test_pings_are_taken_in_by_portions(detour: bool) -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        if not detour:
            connection.data_received(wire.text("first", mask=MASK))
            assert await connection.recv() == "first"
        count, _ = turns()
        connection.data_received(PING * 10_000 + wire.text("last", mask=MASK))
        # A portion is in; the next comes in the next turn.
        assert connection._ws_session.intake.rest
        before = count[0]
        assert await connection.recv() == "last"
        assert 10 <= count[0] - before <= 25
        assert not connection._ws_session.intake.rest
        await idle()
        pongs = 0
        while pongs < 10_000:
            assert (await peer.frame()).opcode == wire.PONG
            pongs += 1


@virtual
async def test_reading_pauses_until_the_rest_is_in() -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        connection.data_received(wire.text("first", mask=MASK))
        assert await connection.recv() == "first"
        flood = PING * 1200 + b"".join(wire.text(str(number), mask=MASK) for number in range(40))
        connection.data_received(flood)
        assert not connection.transport.is_reading()
        await steps(5)
        # Now it is the messages that wait for somebody to read them.
        assert connection._ws_reading_paused
        assert not connection.transport.is_reading()
        assert [await connection.recv() for _ in range(40)] == [str(number) for number in range(40)]
        assert connection.transport.is_reading()
        await peer.send(wire.TEXT, b"after")
        assert await connection.recv() == "after"


@pytest.mark.parametrize("detour", [False, True], ids=["straight", "detour"])
@virtual
async def test_the_rest_waits_while_too_many_messages_do(detour: bool) -> None:
    """Whether others had their turn or not."""
    texts = [str(number) for number in range(3000)]
    fragmented = [wire.text(text, fin=False, mask=MASK) + wire.cont(b"", mask=MASK) for text in texts]
    async with open_end(Side.SERVER, max_queue=4) as (connection, _):
        if not detour:
            connection.data_received(wire.text("first", mask=MASK))
            assert await connection.recv() == "first"
        connection.data_received(b"".join(fragmented))
        taken_in = connection._ws_session.inbox.count
        assert 4 < taken_in <= 1000
        await idle()
        assert connection._ws_session.inbox.count == taken_in
        assert [await connection.recv() for _ in texts] == texts


@pytest.mark.parametrize("how", ["reset", "abort", "close"])
@virtual
async def test_a_connection_that_ends_while_others_have_their_turn(how: str) -> None:
    async with open_end(Side.SERVER) as (connection, peer):
        connection.data_received(wire.text("first", mask=MASK))
        connection.data_received(PING * 2000 + wire.text("last", mask=MASK) + wire.close(1000, mask=MASK))
        assert connection._ws_session.intake.rest
        if how == "reset":
            peer.raw.reset()
        elif how == "abort":
            connection.transport.abort()
        else:
            closing = asyncio.create_task(connection.close())
            await closing
        await connection.wait_closed()
        await steps(5)
        assert connection.state is State.CLOSED
        assert not connection._ws_session.intake.rest


@virtual
async def test_a_connection_that_is_lost_while_a_read_is_taken_in() -> None:
    """By a transport that tells at once, when the task that the read resumes breaks the connection off."""
    async with open_end(Side.SERVER) as (connection, _):

        async def handler() -> None:
            assert await connection.recv() == "first"
            connection.transport.abort()
            connection.connection_lost(None)

        task = asyncio.create_task(handler())
        await steps(2)
        asyncio.get_running_loop().call_soon(connection.data_received, wire.text("first", mask=MASK) + PING * 2000)
        await task
        assert connection.state is State.CLOSED
        assert not connection._ws_session.intake.yielding
        assert not connection._ws_session.intake.rest
        # That the loop tells it once more changes nothing.
        await steps(5)


@virtual
async def test_a_transport_that_closes_is_not_told_to_pause() -> None:
    async with open_end(Side.SERVER) as (connection, _):
        connection.transport.close()
        connection.data_received(b"".join(wire.text(str(number), mask=MASK) for number in range(40)))
        assert connection._ws_reading_paused
        assert [await connection.recv() for _ in range(40)] == [str(number) for number in range(40)]


@pytest.mark.parametrize("detour", [False, True], ids=["straight", "detour"])
@virtual
async def test_what_comes_meanwhile_stays_in_order(detour: bool) -> None:
    async with open_end(Side.SERVER) as (connection, _):
        if not detour:
            connection.data_received(wire.text("0", mask=MASK))
        connection.data_received(PING * 2000 + wire.text("1", mask=MASK))
        assert connection._ws_session.intake.rest
        # A transport with TLS may have decrypted more before reading paused, and may have seen the end.
        connection.data_received(wire.text("2", mask=MASK) + PING)
        connection.get_buffer(-1)[:9] = wire.text("three"[:3], mask=MASK)
        connection.buffer_updated(9)
        connection.eof_received()
        expected = ["1", "2", "thr"] if detour else ["0", "1", "2", "thr"]
        assert [await connection.recv() for _ in expected] == expected


@virtual
async def test_one_reader_lets_others_run_after_a_burst() -> None:
    async with open_end(Side.SERVER) as (connection, _):
        for number in range(3):
            connection.data_received(wire.text(str(number), mask=MASK) * 300)
        count, _ = turns()
        got: list[Any] = [await connection.recv() for _ in range(900)]
        assert got == ["0"] * 300 + ["1"] * 300 + ["2"] * 300
        assert 3 <= count[0] <= 8
