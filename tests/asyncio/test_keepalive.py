"""Keepalive on asyncio: what is put aside while reading is paused, one timer for all, real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import Any

import pytest

from _kit import idle, virtual, wire
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
        assert len(connection._ws_session._pings or {}) <= 1


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
        assert not connection._ws_session.intake.rest
        assert not connection.transport.is_reading()
        await peer.text("last")
        assert [await connection.recv() for _ in range(106)] == [*messages, "last"]
        task.cancel()
        await asyncio.wait([task])


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
        assert connection._ws_session.inbox.count < 15
        assert connection._ws_session.intake.rest
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
        taken, kept = connection._ws_bytes_received, len(connection._ws_session.intake.rest)
        assert kept < SPARE_BYTES + 2**18
        await asyncio.sleep(5000)
        assert connection.state is State.OPEN
        assert (connection._ws_bytes_received, len(connection._ws_session.intake.rest)) == (taken, kept)
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
        assert connection._ws_session.intake.rest
        kept = len(connection._ws_session.intake.rest)
        await asyncio.sleep(15)
        await peer.text("last")
        await asyncio.sleep(15)
        assert len(connection._ws_session.intake.rest) > kept
        assert [await connection.recv() for _ in range(3001)] == [*crowd, "last"]


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
        assert connection._ws_session.inbox.count == 6


@virtual
async def test_who_does_not_listen_cannot_complain_of_silence(caplog: pytest.LogCaptureFixture) -> None:
    """Once nothing more is read, the pongs of the peer can't be seen, and it isn't dropped."""
    caplog.set_level(logging.DEBUG, "websockets")
    async with open_end(Side.SERVER, max_queue=2) as (connection, peer):
        await fill(connection, peer)
        connection._ws_session.intake._kept = SPARE_BYTES
        await asyncio.sleep(500)
        assert connection.state is State.OPEN
    lines = {line for line in caplog.messages if line[0] in "%-"}
    assert lines == {"% sent keepalive ping", "% reading is paused; not waiting for keepalive pong"}


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
        assert not connection._ws_session.handle_timeout(now())
        await connection.send("alive")
        await peer.expect(wire.TEXT, b"alive")


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
    assert connection._ws_reading_paused
    peer.raw.stop_reading()
    sending = asyncio.create_task(send_for_ever(connection))
    await asyncio.sleep(0.1)
    assert connection._ws_write_waiters is not None
    return sending


@both_sides
@virtual
async def test_closing_goes_on_when_the_peer_reads_again(side: Side) -> None:
    """The connection failed while both directions were paused; then the peer reads, and answers our Close."""
    async with open_end(side, max_queue=2, ping_interval=None, close_timeout=None) as (connection, peer):
        sending = await pause_both(connection, peer)
        connection._ws_fail(1011, "failure", RuntimeError())
        await asyncio.sleep(5)
        assert connection.state is State.CLOSING
        peer.raw.resume_reading()
        while (await peer.frame()).opcode != 8:
            pass
        await peer.close(1011)
        peer.raw.eof()
        with pytest.raises(ConnectionClosedError, match="failure"):
            await asyncio.wait_for(sending, 1)
