"""Idle connections on asyncio, on a virtual clock: which are closed, when, and which aren't."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from _kit import VirtualLoop, advance, idle, virtual, wire
from _kit.asking import uri_of
from _kit.ends import FramePeer, open_end
from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.legacy.server import WebSocketServerProtocol
from websockets.protocol import Side, State

both_sides = pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT], ids=["server", "client"])

# Seconds, and what a test allows for: connections that are due together ring together.
TIMEOUT = 8.0
SOON = 0.05
REASON = "idle timeout"


def now() -> float:
    return asyncio.get_running_loop().time()


async def closed_after(peer: FramePeer, since: float) -> float:
    """Seconds until one of our connections is closed for being idle."""
    while (row := await peer.frame()).opcode != wire.CLOSE:
        pass
    assert row.payload == (1001).to_bytes(2, "big") + REASON.encode()
    return now() - since


async def still_open(connection: Connection, seconds: float) -> None:
    await advance(seconds)
    assert connection.state is State.OPEN


@both_sides
@virtual
async def test_connection_on_which_nothing_happens(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with open_end(side, idle_timeout=TIMEOUT) as (connection, peer):
        receiving = asyncio.create_task(connection.recv())
        assert await closed_after(peer, now()) == pytest.approx(TIMEOUT, abs=SOON)
        assert connection.state is State.CLOSING
        await peer.send(wire.CLOSE, (1001).to_bytes(2, "big"))
        peer.raw.close()
        with pytest.raises(ConnectionClosedOK, match=r"^sent 1001 \(going away\) idle timeout; then received 1001"):
            await receiving
    assert "no data for 8 seconds; closing connection" in caplog.messages


@both_sides
@virtual
async def test_none_by_default(side: Side) -> None:
    async with open_end(side, ping_interval=None) as (connection, _):
        await still_open(connection, 10_000)


@both_sides
@virtual
async def test_close_timeout_holds(side: Side) -> None:
    async with open_end(side, idle_timeout=TIMEOUT, close_timeout=3) as (connection, _):
        start = now()
        await connection.wait_closed()
        assert now() - start == pytest.approx(TIMEOUT + 3, abs=SOON)


@both_sides
@virtual
async def test_a_connection_that_is_closing_is_not_idle(side: Side) -> None:
    async with open_end(side, idle_timeout=TIMEOUT, close_timeout=3 * TIMEOUT) as (connection, peer):
        start = now()
        await connection.close(1000, "done")
        assert now() - start == pytest.approx(3 * TIMEOUT, abs=SOON)
        await peer.expect_close(1000, "done")
        assert peer.raw.unread == b""


# -------------------------------------------------------------------------------------------------- what counts as data


async def receive(connection: Connection, peer: FramePeer) -> None:
    await peer.send(wire.TEXT, b"hello")
    assert await connection.recv() == "hello"


async def receive_fragments(connection: Connection, peer: FramePeer) -> None:
    await peer.send(wire.TEXT, b"hel", fin=False)
    await peer.send(wire.CONT, b"lo")
    assert await connection.recv() == "hello"


async def send(connection: Connection, peer: FramePeer) -> None:
    await connection.send("hello")


async def send_empty(connection: Connection, peer: FramePeer) -> None:
    await connection.send(b"")


async def send_fragments(connection: Connection, peer: FramePeer) -> None:
    await connection.send(["a", "b"])


async def send_large(connection: Connection, peer: FramePeer) -> None:
    await connection.send(bytes(2**19))


async def send_broadcast(connection: Connection, peer: FramePeer) -> None:
    broadcast([connection], "hello")


DATA = [receive, receive_fragments, send, send_empty, send_fragments, send_large, send_broadcast]


@pytest.mark.parametrize("do", DATA, ids=lambda do: do.__name__)
@pytest.mark.parametrize("compression", [None, "deflate"])
@both_sides
@virtual
async def test_data_either_way(side: Side, do: Any, compression: str | None) -> None:
    options = {"compression": compression, "max_queue": None}
    async with open_end(side, idle_timeout=TIMEOUT, ping_interval=None, **options) as (connection, peer):
        for seconds in (7.9, 7, 3, 6, 7.9, 1):
            await still_open(connection, seconds)
            await do(connection, peer)
        start = now()
        # Looks are a quarter apart: one just before the last data may only be followed by one that finds them.
        assert TIMEOUT - SOON <= await closed_after(peer, start) <= TIMEOUT * 1.25 + SOON


@both_sides
@virtual
async def test_pings_and_pongs_are_no_data(side: Side) -> None:
    async with open_end(side, idle_timeout=60, ping_interval=7, ping_timeout=5) as (_, peer):

        async def talk() -> None:
            while True:
                await peer.send(wire.PING, b"anybody?")
                await peer.send(wire.PONG)
                await asyncio.sleep(2)

        start = now()
        talking = asyncio.create_task(talk())
        assert await closed_after(peer, start) == pytest.approx(60, abs=SOON)
        talking.cancel()
        await asyncio.wait([talking])


@both_sides
@virtual
async def test_keepalive_goes_on(side: Side) -> None:
    """Both have their times, on one alarm."""
    async with open_end(side, idle_timeout=30, ping_interval=4, ping_timeout=3) as (_, peer):
        start, times = now(), list[float]()
        while (row := await peer.frame()).opcode == wire.PING:
            times.append(now() - start)
            await peer.send(wire.PONG, row.payload)
        assert row.opcode == wire.CLOSE
        assert now() - start == pytest.approx(30, abs=SOON)
        assert times == pytest.approx([4, 8, 12, 16, 20, 24, 28], abs=0.1)


@both_sides
@virtual
async def test_peer_that_is_gone_is_dropped_by_keepalive(side: Side) -> None:
    async with open_end(side, idle_timeout=100, ping_interval=4, ping_timeout=3) as (_, peer):
        start = now()
        await peer.frame()
        await peer.expect_close(1011, "keepalive ping timeout")
        assert now() - start == pytest.approx(7, abs=SOON)


# ------------------------------------------------------------------------------------------------------- slow messages


@both_sides
@virtual
async def test_fragments_that_arrive_slowly(side: Side) -> None:
    async with open_end(side, idle_timeout=TIMEOUT, ping_interval=None) as (connection, peer):
        receiving = asyncio.create_task(connection.recv())
        await peer.send(wire.BINARY, b"x", fin=False)
        for _ in range(5):
            await still_open(connection, 7)
            await peer.send(wire.CONT, b"x", fin=False)
        await still_open(connection, 7)
        await peer.send(wire.CONT, b"x")
        assert await receiving == b"x" * 7


@both_sides
@virtual
async def test_large_frame_that_arrives_slowly(side: Side) -> None:
    async with open_end(side, idle_timeout=TIMEOUT, ping_interval=None) as (connection, peer):
        frame = wire.binary(bytes(100), mask=side is Side.SERVER)
        receiving = asyncio.create_task(connection.recv())
        for piece in (frame[:20], *wire.bytewise(frame[20:30])):
            await peer.raw.send(piece)
            await still_open(connection, 3)
        start = now()
        assert await closed_after(peer, start) == pytest.approx(TIMEOUT - 3, abs=TIMEOUT / 4 + SOON)
        peer.raw.close()
        with pytest.raises(ConnectionClosedError, match="idle timeout"):
            await receiving


@both_sides
@virtual
async def test_large_message_that_leaves_slowly(side: Side) -> None:
    async with open_end(side, idle_timeout=TIMEOUT, ping_interval=None) as (connection, peer):
        peer.raw.stop_reading()
        sending = asyncio.create_task(connection.send(bytes(2**20)))
        await idle()
        for _ in range(10):
            await still_open(connection, 7)
            peer.raw.sock.recv(2**15)
        # The peer reads no more; a ping that waits is no data.
        pinging = asyncio.create_task(connection.ping())
        await advance(TIMEOUT * 1.25 + SOON)
        assert connection.state is State.CLOSING
        peer.raw.close()
        for waiting in (sending, pinging):
            with pytest.raises(ConnectionClosedError, match="idle timeout"):
                await waiting


@both_sides
@virtual
async def test_messages_that_wait_to_be_read(side: Side) -> None:
    """It is the application that is slow."""
    async with open_end(side, idle_timeout=TIMEOUT, ping_interval=None) as (connection, peer):
        await peer.send(wire.TEXT, b"one")
        await still_open(connection, 100)
        assert await connection.recv() == "one"
        assert await closed_after(peer, now()) == pytest.approx(TIMEOUT, abs=TIMEOUT / 4 + SOON)


@both_sides
@virtual
async def test_message_that_stops_in_its_middle(side: Side) -> None:
    async def fragments() -> AsyncIterator[str]:
        yield "begin"
        await asyncio.sleep(1000)

    async with open_end(side, idle_timeout=TIMEOUT, ping_interval=None) as (connection, peer):
        sending = asyncio.create_task(connection.send(fragments()))
        assert TIMEOUT - SOON <= await closed_after(peer, now()) <= TIMEOUT * 1.25 + SOON
        peer.raw.close()
        await connection.wait_closed()
        sending.cancel()
        await asyncio.wait([sending])


@both_sides
@virtual
async def test_loop_that_stood_still(side: Side) -> None:
    """What arrived meanwhile is there, and nobody has read it yet."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    async with open_end(side, idle_timeout=TIMEOUT, ping_interval=None) as (connection, peer):
        await advance(7)
        loop.stall(50)
        await idle()
        assert connection.state is State.OPEN
        assert await closed_after(peer, now()) == pytest.approx(TIMEOUT / 4, abs=SOON)


@virtual
async def test_short_timeout() -> None:
    async with open_end(Side.SERVER, idle_timeout=0.02) as (_, peer):
        assert await closed_after(peer, now()) == pytest.approx(0.02, abs=SOON)


# ---------------------------------------------------------------------------------------------------------- both ends


@virtual
async def test_both_ends() -> None:
    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    options: dict[str, Any] = {"ping_interval": None, "idle_timeout": TIMEOUT}
    async with serve(handler, "localhost", 0, **options) as server:
        async with connect(uri_of(server), proxy=None, **options) as client:
            for seconds in (1, 5, 7.9):
                await asyncio.sleep(seconds)
                await client.send("hello")
                assert await client.recv() == "hello"
            with pytest.raises(ConnectionClosedOK):
                await client.recv()
        async for client in connect(uri_of(server), proxy=None, **options):
            # Idle connections are made anew, as after any normal closure.
            start = now()
            await client.wait_closed()
            assert now() - start == pytest.approx(TIMEOUT, abs=SOON)
            break


@virtual
async def test_frames_that_arrived_with_the_request() -> None:
    async with serve(lambda connection: connection.wait_closed(), "localhost", 0, idle_timeout=TIMEOUT) as server:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        peer = await loop.network.connect("localhost", next(iter(server.sockets)).getsockname()[1])
        await peer.send(wire.request() + wire.text("early", mask=True))
        await peer.read_until()
        (connection,) = server.connections
        # It is still there to be read, though nobody does.
        await still_open(connection, 20)
        peer.close()


@pytest.mark.parametrize("factory", [WebSocketServerProtocol, None])
@virtual
async def test_classes_of_connections(factory: Any) -> None:
    async def handler(connection: Any) -> None:
        await connection.wait_closed()

    async with (
        serve(handler, "localhost", 0, idle_timeout=TIMEOUT, create_connection=factory) as server,
        connect(uri_of(server), proxy=None) as client,
    ):
        start = now()
        await client.wait_closed()
        assert now() - start == pytest.approx(TIMEOUT, abs=SOON)
        assert (client.close_code, client.close_reason) == (1001, REASON)


@virtual
async def test_factories_that_know_nothing_of_it() -> None:
    def factory(
        protocol: Any,
        server: Any,
        *,
        ping_interval: Any,
        ping_timeout: Any,
        close_timeout: Any,
        max_queue: Any,
        write_limit: Any,
    ) -> ServerConnection:
        return ServerConnection(protocol, server)

    async with (
        serve(lambda connection: connection.wait_closed(), "localhost", 0, create_connection=factory) as server,
        connect(uri_of(server), proxy=None),
    ):
        pass


IDLE = "idle_timeout must be a positive number of seconds, or None for no limit"


@pytest.mark.parametrize(
    ("timeout", "kind", "error"),
    [
        (0, ValueError, f"{IDLE}, not 0"),
        (-1, ValueError, f"{IDLE}, not -1"),
        ("60", TypeError, f"{IDLE}, not '60'"),
    ],
)
def test_timeout_that_makes_no_sense(timeout: Any, kind: type[Exception], error: str) -> None:
    with pytest.raises(kind, match=f"^{error}$"):
        serve(lambda connection: connection.wait_closed(), "localhost", 0, idle_timeout=timeout)
    with pytest.raises(kind, match=f"^{error}$"):
        connect("ws://localhost", idle_timeout=timeout)
