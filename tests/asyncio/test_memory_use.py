"""What a connection keeps after a burst: nothing, however large the burst was.

Over real sockets, as peers in memory keep what they received.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from _kit import steps, wire
from _kit.sockets import SocketPeer, socket_end
from robustness.worlds import both_sides, each_loop, until
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import broadcast
from websockets.protocol import Side

MIB = 2**20

# What may be left of it: of what threads keep for masks, above all. In bytes.
LEFT = 40_000


async def _messages_that_wait(connection: Connection, peer: SocketPeer) -> None:
    count = 20_000
    await peer.send(wire.text("x", mask=peer.mask) * count)
    await until(lambda: len(connection._ws_queue) == count)
    for _ in range(count):
        await connection.recv()


async def _large_message(connection: Connection, peer: SocketPeer) -> None:
    for opcode in (wire.TEXT, wire.BINARY):
        sending = asyncio.create_task(peer.frame(opcode, b"x" * MIB))
        assert len(await connection.recv()) == MIB
        await sending


async def _fragments(connection: Connection, peer: SocketPeer) -> None:
    await peer.frame(wire.TEXT, b"x" * 1000, fin=False)
    await peer.send(wire.frame(wire.CONT, b"x" * 1000, fin=False, mask=peer.mask) * 500)
    receiving = asyncio.create_task(connection.recv())
    await peer.frame(wire.CONT, b"x")
    assert len(await receiving) == 501_001


async def _stream_that_was_left(connection: Connection, peer: SocketPeer) -> None:
    await peer.frame(wire.TEXT, b"x" * 1000, fin=False)
    fragments = connection.recv_streaming()
    await anext(fragments)
    await fragments.aclose()  # type: ignore[attr-defined]
    await peer.send(wire.frame(wire.CONT, b"x" * 1000, fin=False, mask=peer.mask) * 500)
    await peer.frame(wire.CONT, b"x")
    await peer.texts("next")
    assert await connection.recv() == "next"


async def _answers_held_back(connection: Connection, peer: SocketPeer) -> None:
    await peer.texts(*("question" for _ in range(60)))
    await until(lambda: len(connection._ws_queue) == 60)
    for _ in range(60):
        await connection.recv()
        await connection.send("x" * 1000)
    await peer.expect(*[(wire.TEXT, b"x" * 1000)] * 60)


async def _broadcasts_held_back(connection: Connection, peer: SocketPeer) -> None:
    for _ in range(60):
        broadcast([connection], "x" * 1000)
    await peer.expect(*[(wire.TEXT, b"x" * 1000)] * 60)
    await steps(5)


async def _peer_that_did_not_read(connection: Connection, peer: SocketPeer) -> None:
    sending = [asyncio.create_task(connection.send(bytes(MIB))) for _ in range(8)]
    await steps(20)
    await peer.expect(*[(wire.BINARY, bytes(MIB))] * 8)
    await asyncio.gather(*sending)


async def _crowd(connection: Connection, peer: SocketPeer) -> None:
    count = 20_000
    await peer.send(wire.frame(wire.PONG, b"p", mask=peer.mask) * count)
    await peer.texts("last")
    assert await connection.recv() == "last"


BURSTS: list[Callable[[Connection, SocketPeer], Awaitable[None]]] = [
    *(_messages_that_wait, _large_message, _fragments, _stream_that_was_left, _answers_held_back),
    *(_broadcasts_held_back, _peer_that_did_not_read, _crowd),
]


@both_sides
@pytest.mark.parametrize("burst", BURSTS, ids=lambda burst: burst.__name__[1:])
@each_loop
async def test_memory_is_given_back_after(side: Side, burst: Any) -> None:
    # Another connection makes all that is made only once.
    async with socket_end(side, max_queue=None) as warm:
        await burst(*warm)
    async with socket_end(side, max_queue=None) as (connection, peer):
        await peer.texts("first")
        assert await connection.recv() == "first"
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            await burst(connection, peer)
            await steps(5)
            gc.collect()
            left, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert left - before < LEFT < most - before
