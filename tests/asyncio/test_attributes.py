"""Attributes of an open connection that programs read, and set while it is in use."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from _kit import idle, virtual, wire
from _kit.asking import uri_of
from _kit.ends import FramePeer, open_end
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError
from websockets.protocol import Side, State

both_sides = pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT])
TIMES = ["ping_interval", "ping_timeout", "close_timeout"]


def now() -> float:
    return asyncio.get_running_loop().time()


async def ping_at(peer: FramePeer) -> float:
    """When the next keepalive ping comes; it is answered."""
    row = await peer.frame()
    assert row.opcode == wire.PING
    at = now()
    await peer.send(wire.PONG, row.payload)
    return at


# --------------------------------------------------------------------------------------------------------------- times


@both_sides
@virtual
async def test_times_can_be_read(side: Side) -> None:
    async with open_end(side) as (connection, _):
        assert [getattr(connection, name) for name in TIMES] == [20, 20, 10]
    async with open_end(side, ping_interval=None, ping_timeout=1.5, close_timeout=None) as (connection, _):
        assert [getattr(connection, name) for name in TIMES] == [None, 1.5, None]


@both_sides
@virtual
async def test_ping_interval_counts_from_when_it_is_set(side: Side) -> None:
    async with open_end(side, ping_interval=300) as (connection, peer):
        start = now()
        await asyncio.sleep(100)
        connection.ping_interval = 5
        assert connection.ping_interval == 5
        assert [await ping_at(peer) - start for _ in range(3)] == pytest.approx([105, 110, 115], abs=0.1)
        connection.ping_interval = 50.5
        assert await ping_at(peer) - start == pytest.approx(165.5, abs=0.2)
        connection.ping_interval = None
        asking = asyncio.create_task(peer.frame())
        await asyncio.sleep(3600)
        assert not asking.done()
        connection.ping_interval = 7
        await asking
        assert now() - start == pytest.approx(3600 + 165.5 + 7, abs=0.2)


@both_sides
@virtual
async def test_ping_interval_that_is_set_while_a_pong_is_due(side: Side) -> None:
    for interval in (None, 100):
        async with open_end(side) as (connection, peer):
            start = now()
            row = await peer.frame()
            connection.ping_interval = interval
            await asyncio.sleep(1)
            await peer.send(wire.PONG, row.payload)
            asking = asyncio.create_task(peer.frame())
            await asyncio.sleep(1000)
            assert asking.done() is (interval is not None)
            assert connection.state is (State.OPEN if interval is None else State.CLOSED)
            if interval is not None:
                await connection.wait_closed()
                assert now() - start == pytest.approx(1021, abs=0.2)
            asking.cancel()
            await asyncio.wait([asking])


@both_sides
@virtual
async def test_ping_timeout_counts_for_the_pong_that_is_due(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        start = now()
        assert (await peer.frame()).opcode == wire.PING
        await asyncio.sleep(2)
        connection.ping_timeout = 5
        await peer.expect_close(1011, "keepalive ping timeout")
        assert now() - start == pytest.approx(25, abs=0.1)


@both_sides
@virtual
async def test_ping_timeout_that_is_taken_back(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        start = now()
        assert (await peer.frame()).opcode == wire.PING
        connection.ping_timeout = None
        # Nobody gives up on the peer, which still gets its pings.
        for number in range(2, 5):
            assert (await peer.frame()).opcode == wire.PING
            assert now() - start == pytest.approx(20 * number, abs=0.1)
        assert connection.state is State.OPEN
        connection.ping_timeout = 3
        assert (await peer.frame()).opcode == wire.PING
        await peer.expect_close(1011, "keepalive ping timeout")
        assert now() - start == pytest.approx(103, abs=0.2)


@both_sides
@virtual
async def test_close_timeout_counts_for_the_next_close(side: Side) -> None:
    async with open_end(side, ping_interval=None) as (connection, peer):
        connection.close_timeout = 3
        start = now()
        closing = asyncio.create_task(connection.close())
        await peer.expect_close(1000)
        connection.close_timeout = 60
        await closing
        assert now() - start == pytest.approx(3, abs=0.1)
        # It says what it was told, also when it is over.
        assert connection.close_timeout == 60
        connection.ping_interval = connection.ping_timeout = connection.close_timeout = 1
        assert [getattr(connection, name) for name in TIMES] == [1, 1, 1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ping_interval", -1),
        ("ping_interval", "20"),
        ("ping_timeout", -0.5),
        ("ping_timeout", "x"),
        ("close_timeout", float("nan")),
        ("close_timeout", -1),
        ("close_timeout", "5"),
    ],
)
@virtual
async def test_times_are_checked(name: str, value: Any) -> None:
    async with open_end(Side.SERVER) as (connection, _):
        before = getattr(connection, name)
        error = TypeError if isinstance(value, str) else ValueError
        with pytest.raises(error, match=rf"^{name} must be .*, not {value!r}$"):
            setattr(connection, name, value)
        assert getattr(connection, name) == before


@virtual
async def test_times_of_one_connection_are_its_own() -> None:
    ends: list[ServerConnection] = []

    async def handler(connection: ServerConnection) -> None:
        ends.append(connection)
        await connection.wait_closed()

    async with serve(handler, "localhost", 0) as server, connect(uri_of(server)), connect(uri_of(server)):
        await idle()
        ends[0].close_timeout = 1
        assert [end.close_timeout for end in ends] == [1, 10]


# --------------------------------------------------------------------------------------------------- the end, a future


@both_sides
@virtual
async def test_a_future_for_the_end_of_the_tcp_connection(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        waiter = connection.connection_lost_waiter
        assert connection.connection_lost_waiter is waiter
        assert asyncio.isfuture(waiter)
        assert not waiter.done()
        closing = asyncio.create_task(connection.close())
        await peer.expect_close(1000)
        await idle()
        # The closing handshake is one thing, and the TCP connection another.
        assert not waiter.done()
        await peer.finish(1000)
        await closing
        assert waiter.done()
        assert waiter.result() is None
    assert connection.connection_lost_waiter is waiter


@virtual
async def test_a_future_that_is_asked_for_late() -> None:
    async with open_end(Side.CLIENT) as (connection, _):
        connection.abort()
        await connection.wait_closed()
        await connection.connection_lost_waiter
        assert connection.connection_lost_waiter.done()


@virtual
async def test_whoever_cancels_that_future_stops_nobody_else() -> None:
    async with open_end(Side.CLIENT) as (connection, _):
        first = connection.connection_lost_waiter
        closed = asyncio.create_task(connection.wait_closed())
        waiting = asyncio.ensure_future(asyncio.wait_for(first, 1))
        await asyncio.wait([waiting])
        assert isinstance(waiting.exception(), TimeoutError)
        assert first.cancelled()
        second = connection.connection_lost_waiter
        assert second is not first
        connection.abort()
        await closed
        assert second.done()


@both_sides
@virtual
async def test_a_send_that_stalls_is_given_up(side: Side) -> None:
    """As voice frameworks do: they bound each send, cut the connection off, and raise what the protocol says."""

    async def bounded_send(connection: Any, message: bytes) -> None:
        try:
            await asyncio.wait_for(connection.send(message), 3)
        except TimeoutError:
            connection.transport.abort()
            await asyncio.shield(connection.connection_lost_waiter)
            raise connection.protocol.close_exc from None

    async with open_end(side) as (connection, peer):
        peer.raw.stop_reading()
        start = now()
        with pytest.raises(ConnectionClosedError, match="no close frame received or sent"):
            await bounded_send(connection, bytes(10**7))
        assert now() - start == pytest.approx(3, abs=0.1)


@virtual
async def test_a_class_that_reads_close_timeout_when_it_closes() -> None:
    told: list[float | None] = []

    class Telling(ClientConnection):
        async def close(self, code: int = 1000, reason: str = "", **options: Any) -> None:
            await super().close(code, reason, **options)
            told.append(self.close_timeout)

    async def handler(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serve(handler, "localhost", 0) as server:
        async with connect(uri_of(server), create_connection=Telling, close_timeout=4) as client:
            assert await client.close() is None  # type: ignore[func-returns-value]
    assert told == [4, 4]


# ------------------------------------------------------------------------------------------------ a program's own names


@pytest.mark.parametrize("name", ["id", "request", "response", "latency", "statistics"])
@both_sides
@virtual
async def test_names_that_a_program_uses_for_itself(side: Side, name: str) -> None:
    """Such as an id of its own, for the user; the library keeps what it needs."""
    async with open_end(side, idle_timeout=5, ping_interval=None) as (connection, peer):
        assert getattr(connection, name) is not None
        setattr(connection, name, "mine")
        assert getattr(connection, name) == "mine"
        await peer.text("hello")
        assert await connection.recv() == "hello"
        await peer.expect_close(1001, "idle timeout")
        await peer.finish(1001)
        await connection.wait_closed()
        assert getattr(connection, name) == "mine"
        delattr(connection, name)
        assert getattr(connection, name) != "mine"


# --------------------------------------------------------------------------------------------------- limits of messages


@pytest.mark.parametrize("compression", [None, "deflate"])
@both_sides
@virtual
async def test_limits_of_messages_count_from_the_next_frame_on(side: Side, compression: str | None) -> None:
    received: list[int] = []

    async def handler(connection: ServerConnection) -> None:
        peer[:] = [connection]
        await connection.wait_closed()

    peer: list[ServerConnection] = []
    options: dict[str, Any] = {"max_size": 100, "compression": compression}
    async with serve(handler, "localhost", 0, **options) as server, connect(uri_of(server), **options) as client:
        ours, other = (client, peer[0]) if side is Side.CLIENT else (peer[0], client)
        # Nothing arrived yet; then something did.
        for size in (1000, 10_000):
            ours.protocol.max_message_size = size
            assert ours.protocol.max_message_size == size
            await other.send("x" * size)
            received.append(len(await ours.recv()))
        ours.protocol.max_message_size = None
        await other.send("x" * 100_000)
        received.append(len(await ours.recv()))
        assert received == [1000, 10_000, 100_000]
        ours.protocol.max_fragment_size = 500
        assert ours.protocol.max_fragment_size == 500
        await other.send("x" * 501)
        with pytest.raises(ConnectionClosedError, match="1009"):
            await ours.recv()
        # Also when it is over.
        ours.protocol.max_message_size = ours.protocol.max_fragment_size = 2**100
        assert ours.protocol.max_message_size == 2**100


@pytest.mark.parametrize("name", ["max_message_size", "max_fragment_size"])
@virtual
async def test_limits_of_messages_are_checked(name: str) -> None:
    error_text = rf"^{name} must be a number of bytes, or None for no limit, not "
    async with open_end(Side.SERVER) as (connection, _):
        before = getattr(connection.protocol, name)
        for value, error in [("1MB", TypeError), (True, TypeError), (1.5, TypeError), (-1, ValueError)]:
            with pytest.raises(error, match=f"{error_text}{value!r}$"):
                setattr(connection.protocol, name, value)
        assert getattr(connection.protocol, name) == before
