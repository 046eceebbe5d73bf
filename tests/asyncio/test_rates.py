"""Limits of rates: a peer that sends too much has to wait, or is closed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from _kit import advance, virtual
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosedError
from websockets.protocol import State
from websockets.testing import connected_pair


@contextlib.asynccontextmanager
async def limited(**options: Any) -> AsyncIterator[tuple[ClientConnection, ServerConnection]]:
    async with connected_pair(server=options, max_queue=None, ping_interval=None) as pair:
        yield pair


async def received(connection: ServerConnection, seconds: float) -> int:
    """How many messages arrive in a time."""
    before = connection.statistics.messages_received
    await advance(seconds)
    while connection._ws_queue:
        await connection.recv()
    return connection.statistics.messages_received - before


@pytest.mark.parametrize("compression", [None, "deflate"])
@virtual
async def test_messages_wait(compression: str | None) -> None:
    async with limited(max_rate=(10, 20), compression=compression) as (client, server):
        for number in range(1000):
            await client.send(f"{number:06}")
        at_once = await received(server, 0.01)
        # A slice with more messages than are allowed is taken in all the same, and paid for later.
        assert 20 <= at_once < 220
        assert server.statistics.limited == 1
        found = at_once + await received(server, 60)
        assert 600 <= found <= 20 + 600 + 200
        await advance(100)
        assert server.statistics.messages_received == 1000


@virtual
async def test_who_stays_below_never_waits() -> None:
    async with limited(max_rate=(10, 20), max_bytes_rate=(1000, 1000)) as (client, server):
        for _ in range(50):
            await client.send("hello")
            assert await asyncio.wait_for(server.recv(), 0.05) == "hello"
            await advance(0.1)
        assert server.statistics.limited == 0


@virtual
async def test_bytes_wait() -> None:
    async with limited(max_bytes_rate=(10_000, 10_000), compression=None) as (client, server):
        await client.send(bytes(100_000))
        await advance(8)
        assert server.statistics.messages_received == 0
        await advance(2)
        assert await server.recv() == bytes(100_000)
        assert server.statistics.limited > 10


@virtual
async def test_close() -> None:
    async with limited(max_rate=(10, 20), on_rate="close") as (client, server):
        with contextlib.suppress(ConnectionClosedError):
            for _ in range(1000):
                await client.send("hello")
        with pytest.raises(ConnectionClosedError):
            await client.recv()
        assert (client.close_code, client.close_reason, server.statistics.limited) == (1008, "too fast", 1)


@virtual
async def test_client() -> None:
    async with connected_pair(client={"max_rate": (10, 20)}, max_queue=None) as (client, server):
        for _ in range(300):
            await server.send("hello")
        await advance(1)
        assert client.statistics.limited > 0


@virtual
async def test_closing_waits_for_no_limit() -> None:
    async with limited(max_rate=(0.1, 20)) as (client, server):
        for _ in range(1000):
            await client.send("hello")
        await advance(1)
        assert server.statistics.limited == 1
        await server.close()
        assert (server.close_code, client.close_code) == (1000, 1000)
        # The time of the limit ends later than the connection.
        await advance(10_000)


@virtual
async def test_the_end_waits_for_no_limit() -> None:
    async with limited(max_rate=(0.001, 20)) as (client, server):
        for _ in range(100):
            await client.send("hello")
        await advance(1)
        client.abort()
        await advance(1)
        server.abort()
        assert server.statistics.messages_received >= 20


@pytest.mark.parametrize("number", [2, 6, 11, 60])
@virtual
async def test_keepalive_does_not_blame_the_peer_for_the_wait(number: int) -> None:
    """The pongs are behind what isn't read."""
    options: dict[str, Any] = {"max_rate": (1, 1), "ping_interval": 5, "ping_timeout": 5, "idle_timeout": 20}
    async with connected_pair(server=options, max_queue=None, ping_interval=None) as (client, server):
        for _ in range(3):
            # All in one slice of a read: the wait is as many seconds.
            for _ in range(number):
                await client.send("x")
            await advance(number + 15)
        assert server.state is State.OPEN
        assert server.statistics.messages_received == 3 * number
        assert server.latency > 0


@virtual
async def test_keepalive_still_finds_a_peer_that_is_gone() -> None:
    async with connected_pair(
        server={"max_bytes_rate": (100, 100), "ping_interval": 5, "ping_timeout": 5}, ping_interval=None
    ) as (client, server):
        await client.send("x" * 1000)
        client.transport.pause_reading()
        await advance(60)
        assert server.state is State.CLOSED
        client.abort()


@virtual
async def test_a_connection_that_is_lost_leaves_no_timer() -> None:
    async with limited(max_bytes_rate=(1, 1)) as (client, server):
        await client.send("x" * 10_000)
        await advance(1)
        timer = server._ws_limit_timer
        assert timer is not None
        assert not timer.cancelled()
        client.abort()
        server.abort()
        await server.wait_closed()
        assert timer.cancelled()
