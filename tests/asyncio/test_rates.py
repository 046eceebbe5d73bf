"""Limits of rates on asyncio: what scenarios of all front-ends don't show."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from _kit import advance, virtual
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
