"""Idle connections, on a virtual clock: which of them are closed, and when."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from _kit import wire
from scenarios._world import Capability, Peer, World
from scenarios._worlds import both_sides, in_every_world
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.protocol import Side, State

# Seconds, and what a test allows for: connections that are due together ring together.
TIMEOUT = 8.0
SOON = 0.05
REASON = "idle timeout"


async def closed_after(world: World, peer: Peer, since: float) -> float:
    """Seconds until one of our connections is closed for being idle."""
    while (row := await peer.frame()).opcode != wire.CLOSE:
        pass
    assert row.payload == (1001).to_bytes(2, "big") + REASON.encode()
    return world.now() - since


async def still_open(world: World, connection: Any, seconds: float) -> None:
    await world.advance(seconds)
    assert connection.state is State.OPEN


@both_sides
@in_every_world()
async def test_connection_on_which_nothing_happens(world: World, side: Side, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with world.one_end(side, idle_timeout=TIMEOUT) as (connection, peer):
        receiving = world.start(connection.recv)
        assert await closed_after(world, peer, world.now()) == pytest.approx(TIMEOUT, abs=SOON)
        assert connection.state is State.CLOSING
        await peer.send(wire.CLOSE, (1001).to_bytes(2, "big"))
        peer.hang_up()
        with pytest.raises(ConnectionClosedOK, match=r"^sent 1001 \(going away\) idle timeout; then received 1001"):
            await receiving.result()
    assert "no data for 8 seconds; closing connection" in caplog.messages


@both_sides
@in_every_world()
async def test_none_by_default(world: World, side: Side) -> None:
    async with world.one_end(side, ping_interval=None) as (connection, _):
        await still_open(world, connection, 10_000)


@both_sides
@in_every_world()
async def test_close_timeout_holds(world: World, side: Side) -> None:
    async with world.one_end(side, idle_timeout=TIMEOUT, close_timeout=3) as (connection, _):
        start = world.now()
        await connection.wait_closed()
        assert world.now() - start == pytest.approx(TIMEOUT + 3, abs=SOON)


@both_sides
@in_every_world()
async def test_a_connection_that_is_closing_is_not_idle(world: World, side: Side) -> None:
    async with world.one_end(side, idle_timeout=TIMEOUT, close_timeout=3 * TIMEOUT) as (connection, peer):
        start = world.now()
        await connection.close(1000, "done")
        assert world.now() - start == pytest.approx(3 * TIMEOUT, abs=SOON)
        await peer.expect_close(1000, "done")
        assert peer.unread == b""


# -------------------------------------------------------------------------------------------------- what counts as data


async def receive(world: World, connection: Any, peer: Peer) -> None:
    await peer.send(wire.TEXT, b"hello")
    assert await connection.recv() == "hello"


async def receive_fragments(world: World, connection: Any, peer: Peer) -> None:
    await peer.send(wire.TEXT, b"hel", fin=False)
    await peer.send(wire.CONT, b"lo")
    assert await connection.recv() == "hello"


async def send(world: World, connection: Any, peer: Peer) -> None:
    await connection.send("hello")


async def send_empty(world: World, connection: Any, peer: Peer) -> None:
    await connection.send(b"")


async def send_fragments(world: World, connection: Any, peer: Peer) -> None:
    await connection.send(["a", "b"])


async def send_large(world: World, connection: Any, peer: Peer) -> None:
    await connection.send(bytes(2**19))


async def send_broadcast(world: World, connection: Any, peer: Peer) -> None:
    await world.broadcast([connection], "hello")


DATA = [receive, receive_fragments, send, send_empty, send_fragments, send_large, send_broadcast]


@pytest.mark.parametrize("do", DATA, ids=lambda do: do.__name__)
@pytest.mark.parametrize("compression", [None, "deflate"])
@both_sides
@in_every_world()
async def test_data_either_way(world: World, side: Side, do: Any, compression: str | None) -> None:
    options = {"compression": compression, "max_queue": None}
    async with world.one_end(side, idle_timeout=TIMEOUT, ping_interval=None, **options) as (connection, peer):
        for seconds in (7.9, 7, 3, 6, 7.9, 1):
            await still_open(world, connection, seconds)
            await do(world, connection, peer)
        start = world.now()
        # Looks are a quarter apart: one just before the last data may only be followed by one that finds them.
        assert TIMEOUT - SOON <= await closed_after(world, peer, start) <= TIMEOUT * 1.25 + SOON


@both_sides
@in_every_world()
async def test_pings_and_pongs_are_no_data(world: World, side: Side) -> None:
    async with world.one_end(side, idle_timeout=60, ping_interval=7, ping_timeout=5) as (_, peer):

        async def talk() -> None:
            while True:
                await peer.send(wire.PING, b"anybody?")
                await peer.send(wire.PONG)
                await world.sleep(2)

        start = world.now()
        talking = world.start(talk)
        assert await closed_after(world, peer, start) == pytest.approx(60, abs=SOON)
        await talking.stop()


@both_sides
@in_every_world()
async def test_keepalive_goes_on(world: World, side: Side) -> None:
    """Both have their times, on one alarm."""
    async with world.one_end(side, idle_timeout=30, ping_interval=4, ping_timeout=3) as (_, peer):
        start, times = world.now(), list[float]()
        while (row := await peer.frame()).opcode == wire.PING:
            times.append(world.now() - start)
            await peer.send(wire.PONG, row.payload)
        assert row.opcode == wire.CLOSE
        assert world.now() - start == pytest.approx(30, abs=SOON)
        assert times == pytest.approx([4, 8, 12, 16, 20, 24, 28], abs=0.1)


@both_sides
@in_every_world()
async def test_peer_that_is_gone_is_dropped_by_keepalive(world: World, side: Side) -> None:
    async with world.one_end(side, idle_timeout=100, ping_interval=4, ping_timeout=3) as (_, peer):
        start = world.now()
        await peer.frame()
        await peer.expect_close(1011, "keepalive ping timeout")
        assert world.now() - start == pytest.approx(7, abs=SOON)


# ------------------------------------------------------------------------------------------------------- slow messages


@both_sides
@in_every_world()
async def test_fragments_that_arrive_slowly(world: World, side: Side) -> None:
    async with world.one_end(side, idle_timeout=TIMEOUT, ping_interval=None) as (connection, peer):
        receiving = world.start(connection.recv)
        await peer.send(wire.BINARY, b"x", fin=False)
        for _ in range(5):
            await still_open(world, connection, 7)
            await peer.send(wire.CONT, b"x", fin=False)
        await still_open(world, connection, 7)
        await peer.send(wire.CONT, b"x")
        assert await receiving.result() == b"x" * 7


@both_sides
@in_every_world()
async def test_large_frame_that_arrives_slowly(world: World, side: Side) -> None:
    async with world.one_end(side, idle_timeout=TIMEOUT, ping_interval=None) as (connection, peer):
        frame = wire.binary(bytes(100), mask=side is Side.SERVER)
        receiving = world.start(connection.recv)
        for piece in (frame[:20], *wire.bytewise(frame[20:30])):
            await peer.write(piece)
            await still_open(world, connection, 3)
        start = world.now()
        assert await closed_after(world, peer, start) == pytest.approx(TIMEOUT - 3, abs=TIMEOUT / 4 + SOON)
        peer.hang_up()
        with pytest.raises(ConnectionClosedError, match="idle timeout"):
            await receiving.result()


@both_sides
@in_every_world()
async def test_messages_that_wait_to_be_read(world: World, side: Side) -> None:
    """It is the application that is slow."""
    async with world.one_end(side, idle_timeout=TIMEOUT, ping_interval=None) as (connection, peer):
        await peer.send(wire.TEXT, b"one")
        await still_open(world, connection, 100)
        assert await connection.recv() == "one"
        assert await closed_after(world, peer, world.now()) == pytest.approx(TIMEOUT, abs=TIMEOUT / 4 + SOON)


@both_sides
@in_every_world()
async def test_message_that_stops_in_its_middle(world: World, side: Side) -> None:
    async def fragments() -> AsyncIterator[str]:
        yield "begin"
        await world.sleep(1000)

    async with world.one_end(side, idle_timeout=TIMEOUT, ping_interval=None) as (connection, peer):
        sending = world.start(connection.send, world.source(fragments()))
        assert TIMEOUT - SOON <= await closed_after(world, peer, world.now()) <= TIMEOUT * 1.25 + SOON
        peer.hang_up()
        await connection.wait_closed()
        await sending.stop()


@both_sides
@in_every_world(Capability.STALL)
async def test_loop_that_stood_still(world: World, side: Side) -> None:
    """What arrived meanwhile is there, and nobody has read it yet."""
    async with world.one_end(side, idle_timeout=TIMEOUT, ping_interval=None) as (connection, peer):
        await world.advance(7)
        world.stall(50)
        await world.settle()
        assert connection.state is State.OPEN
        assert await closed_after(world, peer, world.now()) == pytest.approx(TIMEOUT / 4, abs=SOON)


@in_every_world()
async def test_short_timeout(world: World) -> None:
    async with world.one_end(Side.SERVER, idle_timeout=0.02) as (_, peer):
        assert await closed_after(world, peer, world.now()) == pytest.approx(0.02, abs=SOON)


# ---------------------------------------------------------------------------------------------------------- both ends


@in_every_world(Capability.NETWORK)
async def test_both_ends(world: World) -> None:
    async def handler(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    options: dict[str, Any] = {"ping_interval": None, "idle_timeout": TIMEOUT}
    async with world.serve(handler, **options) as server:
        async with world.connect(world.uri(server), proxy=None, **options) as client:
            for seconds in (1, 5, 7.9):
                await world.sleep(seconds)
                await client.send("hello")
                assert await client.recv() == "hello"
            with pytest.raises(ConnectionClosedOK):
                await client.recv()
        async for client in world.connect(world.uri(server), proxy=None, **options):
            # Idle connections are made anew, as after any normal closure.
            start = world.now()
            await client.wait_closed()
            assert world.now() - start == pytest.approx(TIMEOUT, abs=SOON)
            break


@in_every_world(Capability.NETWORK)
async def test_frames_that_arrived_with_the_request(world: World) -> None:
    async with world.serve(lambda connection: connection.wait_closed(), idle_timeout=TIMEOUT) as server:
        peer = await world.reach(server)
        await peer.write(wire.request() + wire.text("early", mask=True))
        await peer.read_until()
        (connection,) = server.connections
        # It is still there to be read, though nobody does.
        await still_open(world, connection, 20)
        peer.hang_up()
