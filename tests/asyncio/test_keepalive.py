"""Keepalive on asyncio, on a virtual clock: what is pinged when, who is dropped and who isn't."""

from __future__ import annotations

import asyncio
import logging

import pytest

from _kit import VirtualLoop, idle, virtual, wire
from _kit.ends import FramePeer, open_end
from websockets.exceptions import ConnectionClosedError
from websockets.protocol import Side, State

both_sides = pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT])


def now() -> float:
    return asyncio.get_running_loop().time()


async def answer_pings(peer: FramePeer, times: list[float], delay: float = 0) -> None:
    while True:
        row = await peer.frame()
        if row.opcode == wire.PING:
            times.append(now())
            await asyncio.sleep(delay)
            await peer.send(wire.PONG, row.payload)


@both_sides
@virtual
async def test_pings_every_interval(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        start, times = now(), list[float]()
        task = asyncio.create_task(answer_pings(peer, times, delay=1.5))
        await asyncio.sleep(105)
        assert [time - start for time in times] == pytest.approx([20, 40, 60, 80, 100], abs=0.1)
        assert connection.latency == pytest.approx(1.5)
        assert connection.state is State.OPEN
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.scenario(61)
@both_sides
@pytest.mark.parametrize(("interval", "timeout"), [(20, 20), (5, 60), (60, 5)])
@virtual
async def test_silent_peer_is_dropped(side: Side, interval: float, timeout: float) -> None:
    async with open_end(side, ping_interval=interval, ping_timeout=timeout) as (connection, peer):
        start = now()
        receiving = asyncio.create_task(connection.recv())
        assert (await peer.frame()).opcode == wire.PING
        assert now() - start == pytest.approx(interval, abs=0.02)
        await peer.expect_close(1011, "keepalive ping timeout")
        assert now() - start == pytest.approx(interval + timeout, abs=0.04)
        with pytest.raises(ConnectionClosedError) as caught:
            await receiving
        assert now() - start == pytest.approx(interval + timeout + 10, abs=0.06)
        assert str(caught.value) == "sent 1011 (internal error) keepalive ping timeout; no close frame received"
        assert isinstance(caught.value.__cause__, TimeoutError)
        assert connection.close_code == 1006


@pytest.mark.scenario(61)
@both_sides
@virtual
async def test_half_open_connection_is_dropped(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        peer.link.drop()
        start = now()
        await connection.wait_closed()
        assert now() - start == pytest.approx(50, abs=0.1)


@both_sides
@virtual
async def test_any_byte_counts_as_life(side: Side) -> None:
    """A connection that carries data is never dropped for a late pong, not even in the middle of a frame."""
    async with open_end(side) as (connection, peer):
        receiving = asyncio.create_task(connection.recv())
        data = wire.text("x" * 100, mask=peer.mask)
        for byte in range(len(data)):
            await peer.raw.send(data[byte : byte + 1])
            await asyncio.sleep(15)
        assert await receiving == "x" * 100
        assert connection.state is State.OPEN
        # Pings nobody answered don't pile up.
        assert len(connection._session._pings or {}) <= 1


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
@virtual
async def test_any_part_of_a_large_payload_counts_as_life(side: Side, opcode: int, cuts: list[int]) -> None:
    """Each comes just in time, and nothing else does: no pong is ever sent."""
    payload = b"x" * 2**20
    async with open_end(side, max_size=None) as (connection, peer):
        receiving = asyncio.create_task(connection.recv(decode=False))
        data = wire.frame(opcode, payload, mask=peer.mask)
        for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            assert (await peer.frame()).opcode == wire.PING
            await asyncio.sleep(19.9)
            await peer.raw.send(data[begin:end])
            await asyncio.sleep(0.05)
            assert connection.state is State.OPEN
        assert await receiving == payload
        # And silence after that is silence.
        assert (await peer.frame()).opcode == wire.PING
        await peer.expect_close(1011, "keepalive ping timeout")


@pytest.mark.scenario(60)
@both_sides
@virtual
async def test_peer_that_stops_reading_is_dropped_while_send_is_blocked(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        peer.raw.stop_reading()
        start = now()
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.send(bytes(10**6))
        assert str(caught.value.__cause__) == "timed out while waiting for keepalive pong"
        assert now() - start == pytest.approx(50, abs=0.1)


@both_sides
@virtual
async def test_who_does_not_listen_cannot_complain_of_silence(side: Side) -> None:
    """Reading is paused as nobody calls recv(): the pongs of the peer can't be seen, and it isn't dropped."""
    async with open_end(side, max_queue=2) as (connection, peer):
        times = list[float]()
        task = asyncio.create_task(answer_pings(peer, times))
        for index in range(5):
            await peer.text(str(index))
        await asyncio.sleep(500)
        assert connection.state is State.OPEN
        assert [await connection.recv() for _ in range(5)] == ["0", "1", "2", "3", "4"]
        task.cancel()
        await asyncio.wait([task])


@both_sides
@virtual
async def test_stalled_loop_grants_more_time(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets")
    async with open_end(side) as (connection, peer):
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        ping = await peer.frame()
        await asyncio.sleep(1)
        loop.stall(60)
        await idle()
        await asyncio.sleep(0.1)
        assert connection.state is State.OPEN
        assert "event loop stalled for 41.0 seconds; waiting longer for keepalive pong" in caplog.messages
        await peer.send(wire.PONG, ping.payload)
        await asyncio.sleep(15)
        assert connection.state is State.OPEN


@both_sides
@virtual
async def test_no_keepalive(side: Side) -> None:
    async with open_end(side, ping_interval=None) as (connection, peer):
        await asyncio.sleep(10_000)
        assert peer.raw.unread == b""
        assert connection.state is State.OPEN


@both_sides
@virtual
async def test_pings_without_a_deadline(side: Side) -> None:
    async with open_end(side, ping_timeout=None) as (connection, peer):
        await asyncio.sleep(1001)
        assert len(wire.parse(peer.raw.unread)[0]) == 50
        assert connection.state is State.OPEN


@virtual
async def test_a_connection_that_was_ended_through_its_protocol() -> None:
    """Nobody told the connection: it finds out when it wants to send a ping, and ends."""
    async with open_end(Side.SERVER, close_timeout=5) as (connection, peer):
        start = now()
        connection.protocol.fail(1006)
        await connection.wait_closed()
        assert now() - start == pytest.approx(25, abs=0.1)
        assert peer.raw.received.endswith(b"\r\n\r\n")
        assert connection.close_code == 1006


@virtual
async def test_an_alarm_without_reason_does_nothing() -> None:
    async with open_end(Side.SERVER, ping_interval=None) as (connection, peer):
        assert not connection._session.ring(now())
        await connection.send("alive")
        await peer.expect(wire.TEXT, b"alive")


@both_sides
@virtual
async def test_keepalive_log(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets")
    async with open_end(side) as (_, peer):
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


@virtual
async def test_one_timer_serves_many_connections() -> None:
    """All timers of the library on a loop are one; the scripted peers have none."""
    async with open_end(Side.CLIENT), open_end(Side.CLIENT), open_end(Side.SERVER):
        scheduled = [handle for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
        assert len(scheduled) == 1
