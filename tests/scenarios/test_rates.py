"""Limits of rates, on a virtual clock: a peer that sends too much has to wait, or is closed."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from _kit import wire
from scenarios._world import End, Peer, World
from scenarios._worlds import both_sides, in_every_world
from websockets.exceptions import ConnectionClosedError
from websockets.protocol import Side, State

# No keepalive, and a receive queue without a limit.
ALONE: dict[str, Any] = {"max_queue": None, "ping_interval": None}


async def flood(peer: Peer, number: int, payload: bytes = b"hello!") -> None:
    """Send messages in one write."""
    await peer.write(wire.frame(wire.TEXT, payload, mask=peer.mask) * number)


async def arrived(world: World, connection: End, seconds: float) -> int:
    """How many messages there are after some time."""
    await world.advance(seconds)
    return connection.statistics.messages_received


@both_sides
@in_every_world()
async def test_messages_wait(world: World, side: Side) -> None:
    async with world.one_end(side, max_rate=(10, 20), **ALONE) as (connection, peer):
        await flood(peer, 1000)
        at_once = await arrived(world, connection, 0.05)
        # A slice with more messages than are allowed is taken in all the same, and paid for later.
        assert 20 <= at_once < 220
        assert connection.statistics.limited == 1
        assert 600 <= await arrived(world, connection, 60) <= 20 + 600 + 200
        assert await arrived(world, connection, 60) == 1000
        for _ in range(1000):
            assert await connection.recv() == "hello!"


@both_sides
@in_every_world()
async def test_who_stays_below_never_waits(world: World, side: Side) -> None:
    async with world.one_end(side, max_rate=(10, 20), max_bytes_rate=(1000, 1000), **ALONE) as (connection, peer):
        for _ in range(50):
            await peer.text("hello")
            assert await world.within(0.05, connection.recv) == "hello"
            await world.advance(0.1)
        assert connection.statistics.limited == 0


@both_sides
@in_every_world()
async def test_bytes_wait(world: World, side: Side) -> None:
    async with world.one_end(side, max_bytes_rate=(10_000, 10_000), **ALONE) as (connection, peer):
        await peer.send(wire.BINARY, bytes(100_000))
        assert await arrived(world, connection, 8) == 0
        assert await arrived(world, connection, 2) == 1
        assert await connection.recv() == bytes(100_000)
        assert connection.statistics.limited > 10


@both_sides
@in_every_world()
async def test_control_frames_are_no_messages(world: World, side: Side) -> None:
    async with world.one_end(side, max_rate=(1, 1), **ALONE) as (connection, peer):
        await peer.write(wire.frame(wire.PING, b"x", mask=peer.mask) * 100)
        for _ in range(100):
            await peer.expect(wire.PONG, b"x")
        assert connection.statistics.limited == 0


@both_sides
@in_every_world()
async def test_close(world: World, side: Side) -> None:
    async with world.one_end(side, max_rate=(10, 20), on_rate="close", **ALONE) as (connection, peer):
        await flood(peer, 1000)
        await peer.expect_close(1008, "too fast")
        await peer.finish(1008)
        await connection.wait_closed()
        with contextlib.suppress(ConnectionClosedError):
            for _ in range(1000):
                await connection.recv()
        with pytest.raises(ConnectionClosedError, match=r"^sent 1008 \(policy violation\) too fast; then received"):
            await connection.recv()
        assert connection.statistics.limited == 1


@both_sides
@in_every_world()
async def test_a_receiver_waits_no_longer_than_it_must(world: World, side: Side) -> None:
    """To the millisecond, and not until a timer that serves many connections."""
    async with world.one_end(side, max_rate=(1000, 1), **ALONE) as (connection, peer):
        began = world.now()
        for _ in range(101):
            await peer.text("x")
            assert await connection.recv() == "x"
        # What waits is only the next message.
        await peer.text("x")
        assert await connection.recv() == "x"
        assert world.now() - began == pytest.approx(0.1, abs=0.05)


@both_sides
@in_every_world()
async def test_a_pong_waits_behind_messages(world: World, side: Side) -> None:
    async with world.one_end(side, max_rate=(10, 10), **ALONE) as (connection, peer):
        await flood(peer, 500)
        pong = await connection.ping(b"p")
        await peer.expect(wire.PING, b"p")
        await peer.send(wire.PONG, b"p")

        async def answered() -> None:
            await pong

        waiting = world.start(answered)
        await world.advance(10)
        assert not waiting.done()
        await world.advance(50)
        assert waiting.done()
        await waiting.result()


@both_sides
@in_every_world()
async def test_closing_waits_for_no_limit(world: World, side: Side) -> None:
    async with world.one_end(side, max_rate=(0.1, 20), **ALONE) as (connection, peer):
        await flood(peer, 1000)
        await world.advance(1)
        assert connection.statistics.limited == 1
        began = world.now()
        closing = world.start(connection.close)
        await peer.expect_close(1000)
        await peer.finish()
        await closing.result()
        assert connection.close_code == 1000
        assert world.now() - began < 1
        # The time of the limit ends later than the connection.
        await world.advance(10_000)


async def broken_message(connection: End) -> None:
    def fragments() -> Any:
        yield "a"
        raise ZeroDivisionError

    with contextlib.suppress(ZeroDivisionError):
        await connection.send(fragments())


@both_sides
@in_every_world()
async def test_failing_waits_for_no_limit(world: World, side: Side) -> None:
    async with world.one_end(side, max_rate=(0.1, 20), close_timeout=30, **ALONE) as (connection, peer):
        await flood(peer, 1000)
        await world.advance(1)
        assert connection.statistics.limited == 1
        began = world.now()
        await broken_message(connection)
        assert (await peer.frame()).payload == b"a"
        await peer.expect_close(1011, "error in fragmented message")
        await peer.finish(1011)
        await connection.wait_closed()
        assert world.now() - began < 1


@both_sides
@in_every_world()
async def test_the_end_waits_for_no_limit(world: World, side: Side) -> None:
    async with world.one_end(side, max_rate=(0.001, 20), **ALONE) as (connection, peer):
        await flood(peer, 100)
        await world.advance(1)
        connection.abort()
        await connection.wait_closed()
        # What was taken in isn't lost.
        for _ in range(20):
            assert await connection.recv() == "hello!"


@pytest.mark.parametrize("number", [2, 6, 11, 60])
@both_sides
@in_every_world()
async def test_keepalive_does_not_blame_the_peer_for_the_wait(world: World, side: Side, number: int) -> None:
    """The pongs are behind what isn't read."""
    options: dict[str, Any] = {"max_rate": (1, 1), "ping_interval": 5, "ping_timeout": 5, "idle_timeout": 20}
    async with world.one_end(side, max_queue=None, **options) as (connection, peer):

        async def answer() -> None:
            while True:
                row = await peer.frame()
                if row.opcode == wire.PING:
                    await peer.send(wire.PONG, row.payload)

        answering = world.start(answer)
        for _ in range(3):
            # All in one slice of a read: the wait is as many seconds.
            await flood(peer, number, b"x")
            await world.advance(number + 15)
        assert connection.state is State.OPEN
        assert connection.statistics.messages_received == 3 * number
        assert connection.latency > 0
        await answering.stop()


@both_sides
@in_every_world()
async def test_keepalive_still_finds_a_peer_that_is_gone(world: World, side: Side) -> None:
    options: dict[str, Any] = {"max_bytes_rate": (100, 100), "ping_interval": 5, "ping_timeout": 5}
    async with world.one_end(side, **options) as (connection, peer):
        await peer.text("x" * 1000)
        peer.vanish()
        await world.advance(60)
        assert connection.state is State.CLOSED


@both_sides
@in_every_world()
async def test_a_full_queue_and_a_limit(world: World, side: Side) -> None:
    """Both have to be over before reading goes on."""
    async with world.one_end(side, max_rate=(10, 10), max_queue=4, ping_interval=None) as (connection, peer):
        await flood(peer, 1000)
        await world.advance(1000)
        waiting = connection.statistics.messages_received
        assert waiting < 200
        for _ in range(1000):
            assert await world.within(100, connection.recv) == "hello!"
        assert connection.statistics.messages_received == 1000


@both_sides
@in_every_world()
async def test_nothing_is_read_beyond_a_limit(world: World, side: Side) -> None:
    """The peer notices: its data stays in the network."""
    async with world.one_end(side, max_rate=(1, 1), **ALONE) as (connection, peer):
        assert world.is_reading(connection)
        # Less than a slice, so that nothing is left of it.
        await flood(peer, 30)
        await world.advance(1)
        before = connection.statistics
        assert (before.messages_received, before.limited) == (30, 1)
        await flood(peer, 30)
        await world.advance(20)
        assert connection.statistics.bytes_received == before.bytes_received
        await world.advance(20)
        assert connection.statistics.messages_received == 60
