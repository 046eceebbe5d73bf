"""What only a kernel can show: back-pressure through real buffers, on the loops of the standard library."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from _kit import wire
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

MIB = 2**20


async def no_more(count: list[int]) -> None:
    """Return when a count has stopped growing."""
    before = -1
    while before != len(count):
        before = len(count)
        for _ in range(300):
            await asyncio.sleep(0)


@pytest.mark.parametrize("message", [bytes(MIB), bytearray(MIB), "x" * MIB, b"x" * 20_000])
async def test_send_waits_for_a_peer_that_does_not_read(message: Any) -> None:
    """Large payloads are written beside their headers, which must not get around the limits."""
    sent: list[int] = []
    connections: list[ServerConnection] = []

    async def handler(connection: ServerConnection) -> None:
        connections.append(connection)
        while True:
            await connection.send(message)
            sent.append(len(message))

    async with serve(handler, "127.0.0.1", 0, compression=None, close_timeout=0.1) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(wire.request())
        await no_more(sent)
        assert sum(sent) < 64 * MIB
        assert connections[0].transport.get_write_buffer_size() < MIB + 2**16
        writer.transport.abort()


@pytest.mark.parametrize("size", [2**14 - 1, 2**14, 100_000, 5 * MIB])
@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_large_messages_arrive_intact(size: int, compression: str | None) -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    # No period of it fits the size of a buffer.
    messages: list[Any] = [(bytes(range(251)) * (size // 251 + 1))[:size], "\u00e9" * (size // 2), "x" * size]
    options: dict[str, Any] = {"compression": compression, "max_size": None}
    async with serve(echo, "127.0.0.1", 0, **options) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/", proxy=None, **options) as client:
            for message in messages:
                await client.send(message)
            assert [await client.recv() for _ in messages] == messages
