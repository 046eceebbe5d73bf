"""Keepalive on asyncio, on a virtual clock: what is pinged when, who is dropped and who isn't."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import Any

import pytest

from _kit import VirtualLoop, idle, virtual, wire
from _kit.ends import FramePeer, open_end
from _kit.sockets import socket_end
from robustness.worlds import each_loop
from websockets._session.intake import SPARE_BYTES
from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosedError
from websockets.protocol import Side, State
from websockets.testing import link_of, serve_in_memory

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
@pytest.mark.parametrize("close_timeout", [10, 0, None])
@virtual
async def test_silent_peer_is_dropped(side: Side, interval: float, timeout: float, close_timeout: float | None) -> None:
    """It is told, and nobody waits for its answer."""
    options = {"ping_interval": interval, "ping_timeout": timeout, "close_timeout": close_timeout}
    async with open_end(side, **options) as (connection, peer):
        start = now()
        receiving = asyncio.create_task(connection.recv())
        assert (await peer.frame()).opcode == wire.PING
        assert now() - start == pytest.approx(interval, abs=0.02)
        await peer.expect_close(1011, "keepalive ping timeout")
        assert await peer.raw.read_until_eof() == b""
        assert now() - start == pytest.approx(interval + timeout, abs=0.04)
        with pytest.raises(ConnectionClosedError) as caught:
            await receiving
        assert now() - start == pytest.approx(interval + timeout, abs=0.04)
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
        assert now() - start == pytest.approx(40, abs=0.1)


async def ended(connection: Connection) -> tuple[float, str]:
    """When somebody who waits for messages learns that there won't be any, and why."""
    with pytest.raises(ConnectionClosedError) as caught:
        await connection.recv()
    return now(), str(caught.value)


@pytest.mark.parametrize("dead", ["to_server", "to_client"])
@pytest.mark.parametrize("phase", [0.5, 10, 19.9, 20.005, 20.05])
@virtual
async def test_one_direction_is_dead(dead: str, phase: float) -> None:
    """Pings of the end that isn't heard still arrive; all the same, both programs know in time."""
    async with serve_in_memory(lambda connection: connection.wait_closed()) as app:
        client = await app.connect()
        (server,) = app.server.connections
        link = link_of(client)
        link.slow(0.01)
        await asyncio.sleep(phase)
        getattr(link, dead).drop()
        start = now()
        ends = await asyncio.gather(ended(client), ended(server))
        assert max(when for when, _ in ends) - start < 40.1
        # The end to which nothing comes notices. Its Close arrives at the other.
        deaf, other = (ends[1], ends[0]) if dead == "to_server" else ends
        assert deaf[1] == "sent 1011 (internal error) keepalive ping timeout; no close frame received"
        assert other[1].startswith("received 1011 (internal error) keepalive ping timeout; then sent 1011")


@both_sides
@pytest.mark.parametrize(("interval", "timeout", "longest"), [(20, 20, 40), (5, 60, 120), (60, 5, 65)])
@virtual
async def test_silence_after_a_message_that_came_instead_of_a_pong(
    side: Side, interval: float, timeout: float, longest: float
) -> None:
    """It says nothing of what comes after it: there is one more ping."""
    async with open_end(side, ping_interval=interval, ping_timeout=timeout) as (connection, peer):
        assert (await peer.frame()).opcode == wire.PING
        await peer.text("the last word")
        start = now()
        assert await connection.recv() == "the last word"
        when, _ = await ended(connection)
        assert when - start == pytest.approx(longest, abs=0.1)
        assert longest == max(interval, timeout) + timeout


@both_sides
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@each_loop
async def test_the_close_to_a_silent_peer_is_on_its_way_before_the_end(side: Side, tls: bool) -> None:
    """Over real sockets: uvloop writes later, and TLS would wait for the peer."""
    options: dict[str, Any] = {"ping_interval": 0.01, "ping_timeout": 0.01, "close_timeout": None}
    async with socket_end(side, tls=tls, **options) as (connection, peer):
        async with asyncio.timeout(30):
            await connection.wait_closed()
        assert (await peer.next()).opcode == wire.PING
        assert (await peer.next()).payload == b"\x03\xf3keepalive ping timeout"
        # A client ends TLS without a word.
        with contextlib.suppress(ssl.SSLEOFError):
            assert await peer.read() == b""
        assert peer.unread == b""
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.recv()
        assert str(caught.value) == "sent 1011 (internal error) keepalive ping timeout; no close frame received"


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
        assert now() - start == pytest.approx(40, abs=0.1)


# ---------------------------------------------------------------------------------------------- while reading is paused


async def fill(connection: Connection, peer: FramePeer, count: int = 5) -> list[str]:
    """Send messages for which nobody asks, until reading is paused."""
    messages = [str(index) for index in range(count)]
    await peer.raw.send(b"".join(wire.text(message, mask=peer.mask) for message in messages))
    await idle()
    assert not connection.transport.is_reading()
    return messages


@both_sides
@virtual
async def test_a_live_peer_is_spared_while_reading_is_paused(side: Side) -> None:
    """Its pongs are seen, for however long nobody calls recv(), and leave nothing behind."""
    async with open_end(side, max_queue=2) as (connection, peer):
        messages = await fill(connection, peer)
        for index in range(100):
            messages.append(f"more {index}")
            await peer.text(messages[-1])
        times = list[float]()
        task = asyncio.create_task(answer_pings(peer, times, delay=1.5))
        await asyncio.sleep(50_010)
        assert connection.state is State.OPEN
        assert len(times) > 2000
        assert connection.latency == pytest.approx(1.5)
        assert not connection._session.intake.rest
        assert not connection.transport.is_reading()
        await peer.text("last")
        assert [await connection.recv() for _ in range(106)] == [*messages, "last"]
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.scenario(61)
@both_sides
@pytest.mark.parametrize("count", [5, 500, 20_000])
@pytest.mark.parametrize("sends", [False, True])
@virtual
async def test_a_silent_peer_is_dropped_while_reading_is_paused(side: Side, count: int, sends: bool) -> None:
    async with open_end(side, max_queue=2) as (connection, peer):
        messages = await fill(connection, peer, count)
        start = now()

        async def send() -> None:
            while True:
                await connection.send("tick")
                await asyncio.sleep(1)

        sending = asyncio.create_task(send()) if sends else None
        await connection.wait_closed()
        # What the kernel had counts as life once.
        assert now() - start == pytest.approx(40 if count < 20_000 else 60, abs=1.1)
        if sending is not None:
            with pytest.raises(ConnectionClosedError):
                await sending
        # What was put aside isn't taken in any more.
        waiting = connection._session.inbox.count
        assert waiting >= min(count, 300)
        assert [await connection.recv() for _ in range(waiting)] == messages[:waiting]
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.recv()
        assert str(caught.value.__cause__) == "timed out while waiting for keepalive pong"


@both_sides
@virtual
async def test_a_peer_that_falls_silent_later(side: Side) -> None:
    async with open_end(side, max_queue=2) as (connection, peer):
        await fill(connection, peer)
        for _ in range(5):
            ping = await peer.frame()
            await peer.send(wire.PONG, ping.payload)
        start = now()
        await connection.wait_closed()
        assert now() - start == pytest.approx(40, abs=0.1)


@both_sides
@virtual
async def test_a_peer_that_sends_messages_for_which_nobody_asks(side: Side) -> None:
    """They are signs of life; a few of them are taken in, and the others wait as they came: none is lost."""
    async with open_end(side, max_queue=2) as (connection, peer):
        messages = await fill(connection, peer)
        for index in range(200):
            messages.append(f"message {index}")
            await peer.text(messages[-1])
            await asyncio.sleep(20)
        assert connection.state is State.OPEN
        assert connection._session.inbox.count < 15
        assert connection._session.intake.rest
        assert [await connection.recv() for _ in messages] == messages
        assert connection.transport.is_reading()


@pytest.mark.scenario(59)
@both_sides
@pytest.mark.parametrize("payload", [b"", b"x" * 1000], ids=len)
@virtual
async def test_a_flood_for_which_nobody_asks_is_bounded(side: Side, payload: bytes) -> None:
    """Looking for signs of life doesn't take in more and more; who is no longer looked at is spared."""
    async with open_end(side, max_queue=2) as (connection, peer):
        await fill(connection, peer)
        data = wire.binary(payload, mask=peer.mask)

        async def flood() -> None:
            while True:
                await peer.raw.send(data * 100)

        task = asyncio.create_task(flood())
        await asyncio.sleep(5000)
        assert connection.state is State.OPEN
        taken, kept = connection._bytes_received, len(connection._session.intake.rest)
        assert kept < SPARE_BYTES + 2**18
        await asyncio.sleep(5000)
        assert connection.state is State.OPEN
        assert (connection._bytes_received, len(connection._session.intake.rest)) == (taken, kept)
        task.cancel()
        await asyncio.wait([task])


@both_sides
@virtual
async def test_bytes_of_an_earlier_read_come_first(side: Side) -> None:
    """A read that was too much at once was put aside: what arrives while reading is paused joins it."""
    async with open_end(side, max_queue=2) as (connection, peer):
        crowd = [str(index) for index in range(3000)]
        await peer.raw.send(wire.ping(mask=peer.mask) + b"".join(wire.text(text, mask=peer.mask) for text in crowd))
        await idle()
        assert connection._session.intake.rest
        kept = len(connection._session.intake.rest)
        await asyncio.sleep(15)
        await peer.text("last")
        await asyncio.sleep(15)
        assert len(connection._session.intake.rest) > kept
        assert [await connection.recv() for _ in range(3001)] == [*crowd, "last"]


@both_sides
@pytest.mark.parametrize("how", ["eof", "reset", "close"])
@virtual
async def test_the_end_of_a_peer_is_seen_while_reading_is_paused(side: Side, how: str) -> None:
    async with open_end(side, max_queue=2) as (connection, peer):
        messages = await fill(connection, peer)
        start = now()
        await asyncio.sleep(5)
        if how == "close":
            await peer.finish(1000)
        else:
            getattr(peer.raw, how)()
        await connection.wait_closed()
        assert now() - start <= 20.1
        assert connection.close_code == (1000 if how == "close" else 1006)
        assert [await connection.recv() for _ in messages] == messages


@both_sides
@virtual
async def test_reading_goes_on_while_a_sign_of_life_is_looked_for(side: Side) -> None:
    async with open_end(side, max_queue=2) as (connection, peer):
        messages = await fill(connection, peer)
        ping = await peer.frame()
        assert [await connection.recv() for _ in messages] == messages
        await fill(connection, peer)
        assert [await connection.recv() for _ in messages] == messages
        await peer.send(wire.PONG, ping.payload)
        await asyncio.sleep(15)
        assert connection.state is State.OPEN
        await peer.text("after")
        assert await connection.recv() == "after"


@both_sides
@virtual
async def test_closing_while_a_sign_of_life_is_looked_for(side: Side) -> None:
    async with open_end(side, max_queue=2) as (connection, peer):
        await fill(connection, peer)
        assert (await peer.frame()).opcode == wire.PING
        start = now()
        closing = asyncio.create_task(connection.close())
        await peer.expect_close(1000)
        await peer.finish(1000)
        await closing
        assert now() == start


@virtual
async def test_a_transport_that_closes_is_not_asked_for_a_sign_of_life() -> None:
    async with open_end(Side.SERVER, max_queue=2) as (connection, peer):
        await fill(connection, peer)
        await asyncio.sleep(19)
        connection.transport.is_closing = lambda: True  # type: ignore[method-assign]
        await asyncio.sleep(2)
        assert not connection.transport.is_reading()
        # A transport with TLS may bring what it had decrypted before.
        connection.data_received(wire.text("late", mask=True))
        assert connection._session.inbox.count == 6


@both_sides
@pytest.mark.parametrize("answer", ["pong", "message", None])
@virtual
async def test_log_while_reading_is_paused(side: Side, answer: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """It tells what happened, and nothing else."""
    caplog.set_level(logging.DEBUG, "websockets")
    async with open_end(side, max_queue=2) as (connection, peer):
        await fill(connection, peer)
        ping = await peer.frame()
        if answer == "pong":
            await peer.send(wire.PONG, ping.payload)
        elif answer == "message":
            await peer.text("alive")
        await asyncio.sleep(20.1)
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


@virtual
async def test_who_does_not_listen_cannot_complain_of_silence(caplog: pytest.LogCaptureFixture) -> None:
    """Once nothing more is read, the pongs of the peer can't be seen, and it isn't dropped."""
    caplog.set_level(logging.DEBUG, "websockets")
    async with open_end(Side.SERVER, max_queue=2) as (connection, peer):
        await fill(connection, peer)
        connection._session.intake._kept = SPARE_BYTES
        await asyncio.sleep(500)
        assert connection.state is State.OPEN
    lines = {line for line in caplog.messages if line[0] in "%-"}
    assert lines == {"% sent keepalive ping", "% reading is paused; not waiting for keepalive pong"}


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


async def send_for_ever(connection: Any) -> None:
    while True:
        await connection.send(bytes(20_000))
        await asyncio.sleep(0.001)


async def pause_both(connection: Any, peer: Any) -> asyncio.Task[None]:
    """Pause both directions: more messages than the queue takes, and more sent than the peer reads."""
    for _ in range(5):
        await peer.text("x")
    await idle()
    assert connection._muted
    peer.raw.stop_reading()
    sending = asyncio.create_task(send_for_ever(connection))
    await asyncio.sleep(0.1)
    assert connection._drainers is not None
    return sending


@both_sides
@virtual
async def test_a_peer_that_reads_slowly_lives(side: Side) -> None:
    """Though it hasn't come to the ping yet, and the handler does nothing but send."""
    async with open_end(side, max_queue=2, ping_interval=1, ping_timeout=1) as (connection, peer):
        sending = await pause_both(connection, peer)
        for _ in range(20):
            await asyncio.sleep(0.2)
            peer.raw.resume_reading()
            await idle()
            peer.raw.stop_reading()
            await asyncio.sleep(0.05)
            assert connection._drainers is not None
        assert connection.state is State.OPEN
        # Now it reads nothing any more.
        with pytest.raises(ConnectionClosedError, match="keepalive ping timeout"):
            await sending


@both_sides
@virtual
async def test_closing_goes_on_when_the_peer_reads_again(side: Side) -> None:
    """The connection failed while both directions were paused; then the peer reads, and answers our Close."""
    async with open_end(side, max_queue=2, ping_interval=None, close_timeout=None) as (connection, peer):
        sending = await pause_both(connection, peer)
        connection._fail(1011, "failure", RuntimeError())
        await asyncio.sleep(5)
        assert connection.state is State.CLOSING
        peer.raw.resume_reading()
        while (await peer.frame()).opcode != 8:
            pass
        await peer.close(1011)
        peer.raw.eof()
        with pytest.raises(ConnectionClosedError, match="failure"):
            await asyncio.wait_for(sending, 1)


@both_sides
@virtual
async def test_a_peer_that_neither_reads_nor_writes_is_dropped(side: Side) -> None:
    """There is no room for the Close, and nobody waits until there is."""
    async with open_end(side, max_queue=2, ping_interval=1, ping_timeout=1, close_timeout=None) as (connection, peer):
        start = now()
        sending = await pause_both(connection, peer)
        when, reason = await ended_sending(sending)
        assert when - start == pytest.approx(2, abs=0.1)
        assert reason == "sent 1011 (internal error) keepalive ping timeout; no close frame received"


async def ended_sending(sending: asyncio.Task[None]) -> tuple[float, str]:
    with pytest.raises(ConnectionClosedError) as caught:
        await sending
    return now(), str(caught.value)
