"""Limits of rates on asyncio: what scenarios of all front-ends don't show."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from _kit import advance, virtual, wire
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
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


@virtual
async def test_compressed_messages_wait() -> None:
    async with limited(max_rate=(10, 20), compression="deflate") as (client, server):
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
async def test_client() -> None:
    async with connected_pair(client={"max_rate": (10, 20)}, max_queue=None) as (client, server):
        for _ in range(300):
            await server.send("hello")
        await advance(1)
        assert client.statistics.limited > 0


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


@virtual
async def test_a_look_at_the_clock_amid_a_read() -> None:
    """As the compiled fast path asks for it."""
    async with limited(max_rate=(1000, 80)) as (client, server):
        await client.send("a")
        assert await server.recv() == "a"
        frame = wire.frame(wire.TEXT, b"b", mask=b"mask")
        before = server.statistics
        server._ws_bytes_received += len(frame)
        server._ws_look(frame)
        assert await server.recv() == "b"
        server._ws_look(None)
        assert server.statistics.limited == 0
        assert server.statistics.bytes_received == before.bytes_received + len(frame)
        server._ws_bytes_received += len(frame * 1000)
        server._ws_look(frame * 1000)
        assert server.statistics.limited == 1
        assert server._ws_metered is None
        await advance(60)
        assert server.statistics.messages_received == 2 + 1000


@virtual
async def test_closing_ends_the_counting() -> None:
    async with limited(max_rate=(1000, 80)) as (client, server):
        await client.send("a")
        assert await server.recv() == "a"
        assert server._ws_metered is not None
        await server.close()
        assert server._ws_metered is None


@virtual
async def test_a_task_that_closes_amid_a_read() -> None:
    async with limited(max_rate=(10, 80), on_rate="close") as (client, server):
        await client.send("a")

        async def close_at_once() -> None:
            await server.recv()
            await server.recv()
            await server.close(1001)

        closing = asyncio.create_task(close_at_once())
        await advance(1)
        client.transport.write(wire.frame(wire.TEXT, b"b", mask=b"mask") * 1000)
        await closing
        assert (server.close_code, server.statistics.limited) == (1001, 0)
