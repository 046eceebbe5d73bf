"""Keepalive, on a virtual clock: the times of pings, and which connections are closed."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from _kit import wire
from scenarios._world import Capability, End, Peer, Running, World
from scenarios._worlds import both_sides, in_every_world
from websockets.exceptions import ConnectionClosedError
from websockets.protocol import Side, State


async def answer_pings(world: World, peer: Peer, times: list[float], delay: float = 0) -> None:
    while True:
        row = await peer.frame()
        if row.opcode == wire.PING:
            times.append(world.now())
            await world.sleep(delay)
            await peer.send(wire.PONG, row.payload)


@both_sides
@in_every_world()
async def test_pings_every_interval(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        start, times = world.now(), list[float]()
        task = world.start(answer_pings, world, peer, times, delay=1.5)
        await world.sleep(105)
        assert [time - start for time in times] == pytest.approx([20, 40, 60, 80, 100], abs=0.1)
        assert connection.latency == pytest.approx(1.5)
        assert connection.state is State.OPEN
        await task.stop()


@pytest.mark.scenario(61)
@both_sides
@pytest.mark.parametrize(("interval", "timeout"), [(20, 20), (5, 60), (60, 5)])
@pytest.mark.parametrize("close_timeout", [10, 0, None])
@in_every_world()
async def test_silent_peer_is_dropped(
    world: World, side: Side, interval: float, timeout: float, close_timeout: float | None
) -> None:
    """It is told, and nobody waits for its answer."""
    options = {"ping_interval": interval, "ping_timeout": timeout, "close_timeout": close_timeout}
    async with world.one_end(side, **options) as (connection, peer):
        start = world.now()
        receiving = world.start(connection.recv)
        assert (await peer.frame()).opcode == wire.PING
        assert world.now() - start == pytest.approx(interval, abs=0.02)
        await peer.expect_close(1011, "keepalive ping timeout")
        assert await peer.read_until_eof() == b""
        assert world.now() - start == pytest.approx(interval + timeout, abs=0.04)
        with pytest.raises(ConnectionClosedError) as caught:
            await receiving.result()
        assert world.now() - start == pytest.approx(interval + timeout, abs=0.04)
        assert str(caught.value) == "sent 1011 (internal error) keepalive ping timeout; no close frame received"
        assert isinstance(caught.value.__cause__, TimeoutError)
        assert connection.close_code == 1006


@pytest.mark.scenario(61)
@both_sides
@in_every_world()
async def test_half_open_connection_is_dropped(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        peer.vanish()
        start = world.now()
        await connection.wait_closed()
        assert world.now() - start == pytest.approx(40, abs=0.1)


async def ended(world: World, connection: Any) -> tuple[float, str]:
    """When somebody who waits for messages learns that there won't be any, and why."""
    with pytest.raises(ConnectionClosedError) as caught:
        await connection.recv()
    return world.now(), str(caught.value)


@both_sides
@pytest.mark.parametrize(("interval", "timeout", "longest"), [(20, 20, 40), (5, 60, 120), (60, 5, 65)])
@in_every_world()
async def test_silence_after_a_message_that_came_instead_of_a_pong(
    world: World, side: Side, interval: float, timeout: float, longest: float
) -> None:
    """It says nothing of what comes after it: there is one more ping."""
    async with world.one_end(side, ping_interval=interval, ping_timeout=timeout) as (connection, peer):
        assert (await peer.frame()).opcode == wire.PING
        await peer.text("the last word")
        start = world.now()
        assert await connection.recv() == "the last word"
        when, _ = await ended(world, connection)
        assert when - start == pytest.approx(longest, abs=0.1)
        assert longest == max(interval, timeout) + timeout


# Of a payload of a MiB: where reads stop, from a few bytes to more than a buffer for reading takes.
CUTS: dict[str, list[int]] = {
    "even": list(range(2**16, 2**20, 2**16)),
    "tiny": [1, 9, 10, 13, 14, 15, 16],
    "growing": [2**power for power in range(1, 20)],
    "large": [2**19, 2**19 + 1, 2**20 - 1],
    "shrinking": [2**20 - 2**power for power in range(19, 0, -1)],
}


@both_sides
@pytest.mark.parametrize("opcode", [wire.TEXT, wire.BINARY], ids=["text", "binary"])
@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
@in_every_world()
async def test_any_part_of_a_large_payload_counts_as_life(
    world: World, side: Side, opcode: int, cuts: list[int]
) -> None:
    """Each comes just in time, and nothing else does: no pong is ever sent."""
    payload = b"x" * 2**20
    async with world.one_end(side, max_size=None) as (connection, peer):
        receiving = world.start(connection.recv, decode=False)
        data = wire.frame(opcode, payload, mask=peer.mask)
        for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            assert (await peer.frame()).opcode == wire.PING
            await world.sleep(19.9)
            await peer.write(data[begin:end])
            await world.sleep(0.05)
            assert connection.state is State.OPEN
        assert await receiving.result() == payload
        # And silence after that is silence.
        assert (await peer.frame()).opcode == wire.PING
        await peer.expect_close(1011, "keepalive ping timeout")


@pytest.mark.scenario(60)
@both_sides
@in_every_world()
async def test_peer_that_stops_reading_is_dropped_while_send_is_blocked(world: World, side: Side) -> None:
    async with world.one_end(side) as (connection, peer):
        peer.stop_reading()
        start = world.now()
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.send(bytes(10**6))
        assert str(caught.value.__cause__) == "timed out while waiting for keepalive pong"
        assert world.now() - start == pytest.approx(40, abs=0.1)


# ---------------------------------------------------------------------------------------------- while reading is paused


async def fill(world: World, connection: Any, peer: Peer, count: int = 5) -> list[str]:
    """Send messages for which nobody asks, until reading is paused."""
    messages = [str(index) for index in range(count)]
    await peer.write(b"".join(wire.text(message, mask=peer.mask) for message in messages))
    await world.settle()
    assert not world.is_reading(connection)
    return messages


@pytest.mark.scenario(61)
@both_sides
@pytest.mark.parametrize("count", [5, 500, 20_000])
@pytest.mark.parametrize("sends", [False, True])
@in_every_world()
async def test_a_silent_peer_is_dropped_while_reading_is_paused(
    world: World, side: Side, count: int, sends: bool
) -> None:
    async with world.one_end(side, max_queue=2) as (connection, peer):
        messages = await fill(world, connection, peer, count)
        start = world.now()

        async def send() -> None:
            while True:
                await connection.send("tick")
                await world.sleep(1)

        sending = world.start(send) if sends else None
        await connection.wait_closed()
        # What the kernel had counts as life once.
        assert world.now() - start == pytest.approx(40 if count < 20_000 else 60, abs=1.1)
        if sending is not None:
            with pytest.raises(ConnectionClosedError):
                await sending.result()
        # What was put aside isn't taken in any more.
        got: list[Any] = []

        async def receive() -> None:
            while True:
                got.append(await connection.recv())

        with pytest.raises(ConnectionClosedError) as caught:
            await receive()
        assert len(got) >= min(count, 300)
        assert got == messages[: len(got)]
        assert str(caught.value.__cause__) == "timed out while waiting for keepalive pong"


@both_sides
@in_every_world()
async def test_a_peer_that_falls_silent_later(world: World, side: Side) -> None:
    async with world.one_end(side, max_queue=2) as (connection, peer):
        await fill(world, connection, peer)
        for _ in range(5):
            ping = await peer.frame()
            await peer.send(wire.PONG, ping.payload)
        start = world.now()
        await connection.wait_closed()
        assert world.now() - start == pytest.approx(40, abs=0.1)


@both_sides
@pytest.mark.parametrize("how", ["eof", "reset", "close"])
@in_every_world()
async def test_the_end_of_a_peer_is_seen_while_reading_is_paused(world: World, side: Side, how: str) -> None:
    async with world.one_end(side, max_queue=2) as (connection, peer):
        messages = await fill(world, connection, peer)
        start = world.now()
        await world.sleep(5)
        if how == "close":
            await peer.finish(1000)
        else:
            peer.eof() if how == "eof" else peer.reset()
        await connection.wait_closed()
        assert world.now() - start <= 20.1
        assert connection.close_code == (1000 if how == "close" else 1006)
        assert [await connection.recv() for _ in messages] == messages


@both_sides
@in_every_world()
async def test_reading_goes_on_while_a_sign_of_life_is_looked_for(world: World, side: Side) -> None:
    async with world.one_end(side, max_queue=2) as (connection, peer):
        messages = await fill(world, connection, peer)
        ping = await peer.frame()
        assert [await connection.recv() for _ in messages] == messages
        await fill(world, connection, peer)
        assert [await connection.recv() for _ in messages] == messages
        await peer.send(wire.PONG, ping.payload)
        await world.sleep(15)
        assert connection.state is State.OPEN
        await peer.text("after")
        assert await connection.recv() == "after"


@both_sides
@in_every_world()
async def test_closing_while_a_sign_of_life_is_looked_for(world: World, side: Side) -> None:
    async with world.one_end(side, max_queue=2) as (connection, peer):
        await fill(world, connection, peer)
        assert (await peer.frame()).opcode == wire.PING
        start = world.now()
        closing = world.start(connection.close)
        await peer.expect_close(1000)
        await peer.finish(1000)
        await closing.result()
        assert world.now() == start


@both_sides
@pytest.mark.parametrize("answer", ["pong", "message", None])
@in_every_world()
async def test_log_while_reading_is_paused(
    world: World, side: Side, answer: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """It tells what happened, and nothing else."""
    caplog.set_level(logging.DEBUG, "websockets")
    async with world.one_end(side, max_queue=2) as (connection, peer):
        await fill(world, connection, peer)
        ping = await peer.frame()
        if answer == "pong":
            await peer.send(wire.PONG, ping.payload)
        elif answer == "message":
            await peer.text("alive")
        await world.sleep(20.1)
        assert connection.state is (State.CLOSED if answer is None else State.OPEN)
    lines = [line for line in caplog.messages if line[0] in "%-"]
    assert (
        lines[1]
        == {
            "pong": "% received keepalive pong",
            "message": "% received data since keepalive ping",
            None: "- timed out waiting for keepalive pong",
        }[answer]
    )
    assert lines.count("% received keepalive pong") == (answer == "pong")


@both_sides
@in_every_world(Capability.STALL)
async def test_stalled_loop_grants_more_time(world: World, side: Side, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets")
    async with world.one_end(side) as (connection, peer):
        ping = await peer.frame()
        await world.sleep(1)
        world.stall(60)
        await world.settle()
        await world.sleep(0.1)
        assert connection.state is State.OPEN
        assert "event loop stalled for 41.0 seconds; waiting longer for keepalive pong" in caplog.messages
        await peer.send(wire.PONG, ping.payload)
        await world.sleep(15)
        assert connection.state is State.OPEN


@both_sides
@in_every_world()
async def test_no_keepalive(world: World, side: Side) -> None:
    async with world.one_end(side, ping_interval=None) as (connection, peer):
        await world.sleep(10_000)
        assert peer.unread == b""
        assert connection.state is State.OPEN


@both_sides
@in_every_world()
async def test_pings_without_a_deadline(world: World, side: Side) -> None:
    async with world.one_end(side, ping_timeout=None) as (connection, peer):
        await world.sleep(1001)
        assert len(wire.parse(peer.unread)[0]) == 50
        assert connection.state is State.OPEN


@both_sides
@in_every_world()
async def test_keepalive_log(world: World, side: Side, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets")
    async with world.one_end(side) as (_, peer):
        ping = await peer.frame()
        await peer.send(wire.PONG, ping.payload)
        assert (await peer.frame()).opcode == wire.PING
        await peer.expect_close(1011, "keepalive ping timeout")
    lines = [line for line in caplog.messages if line[0] in "%-"]
    assert lines == [
        "% sent keepalive ping",
        "% received keepalive pong",
        "% sent keepalive ping",
        "- timed out waiting for keepalive pong",
    ]


async def send_for_ever(world: World, connection: Any) -> None:
    while True:
        await connection.send(bytes(20_000))
        await world.sleep(0.001)


async def pause_both(world: World, connection: End, peer: Peer) -> Running[None]:
    """Pause both directions: more messages than the queue takes, and more sent than the peer reads."""
    for _ in range(5):
        await peer.text("x")
    await world.settle()
    assert not world.is_reading(connection)
    peer.stop_reading()
    sending = world.start(send_for_ever, world, connection)
    await world.sleep(0.1)
    assert connection.buffered_amount > 0
    return sending


@both_sides
@in_every_world()
async def test_a_peer_that_reads_slowly_lives(world: World, side: Side) -> None:
    """Though it hasn't come to the ping yet, and the handler does nothing but send."""
    async with world.one_end(side, max_queue=2, ping_interval=1, ping_timeout=1) as (connection, peer):
        sending = await pause_both(world, connection, peer)
        for _ in range(20):
            await world.sleep(0.2)
            peer.resume_reading()
            await world.settle()
            peer.stop_reading()
            await world.sleep(0.05)
            assert connection.buffered_amount > 0
        assert connection.state is State.OPEN
        # Now it reads nothing any more.
        with pytest.raises(ConnectionClosedError, match="keepalive ping timeout"):
            await sending.result()


@both_sides
@in_every_world()
async def test_a_peer_that_neither_reads_nor_writes_is_dropped(world: World, side: Side) -> None:
    """There is no room for the Close, and nobody waits until there is."""
    async with world.one_end(side, max_queue=2, ping_interval=1, ping_timeout=1, close_timeout=None) as (
        connection,
        peer,
    ):
        start = world.now()
        sending = await pause_both(world, connection, peer)
        when, reason = await ended_sending(world, sending)
        assert when - start == pytest.approx(2, abs=0.1)
        assert reason == "sent 1011 (internal error) keepalive ping timeout; no close frame received"


async def ended_sending(world: World, sending: Running[None]) -> tuple[float, str]:
    with pytest.raises(ConnectionClosedError) as caught:
        await sending.result()
    return world.now(), str(caught.value)
