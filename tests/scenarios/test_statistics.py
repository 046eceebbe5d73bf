"""Statistics of connections, compared with the bytes on the wire that a peer sees."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from _kit import wire
from scenarios._world import World
from scenarios._worlds import both_sides, in_every_world
from websockets import PreparedMessage, Statistics
from websockets.exceptions import ConnectionClosedError
from websockets.protocol import Side

# Sent by every path there is: at once, gathered, in fragments, with and without a copy.
MESSAGES: list[Any] = [
    "",
    "a",
    "é" * 200,
    b"\x00" * 126,
    bytearray(70_000),
    "x" * 300_000,
    b"y" * 300_000,
    ["one", "two", "three"],
    memoryview(b"abcd")[::2],
    PreparedMessage("prepared"),
]
SIZES = [0, 1, 400, 126, 70_000, 300_000, 300_000, 11, 2, 8]


@both_sides
@in_every_world()
async def test_what_is_sent(world: World, side: Side) -> None:
    async with world.one_end(side, ping_interval=None) as (connection, peer):
        for message in MESSAGES:
            await connection.send(message)
        await world.broadcast([connection], "all")
        await connection.ping()
        await connection.pong()
        await world.settle()
        rows, rest = wire.parse(peer.unread)
        assert rest == b""
        statistics = connection.statistics
        assert statistics.messages_sent == sum(row.fin and row.opcode < 8 for row in rows) == len(MESSAGES) + 1
        assert statistics.payload_sent == sum(len(row.payload) for row in rows if row.opcode < 8) == sum(SIZES) + 3
        assert statistics.encoded_sent == statistics.payload_sent
        assert statistics.bytes_sent == len(peer.received)
        assert (statistics.pings_sent, statistics.pings_received) == (1, 0)


@both_sides
@pytest.mark.parametrize("max_queue", [16, 1])
@in_every_world()
async def test_what_is_received(world: World, side: Side, max_queue: int) -> None:
    async with world.one_end(side, ping_interval=None, max_queue=max_queue, max_size=None) as (connection, peer):
        before = connection.statistics
        assert before.bytes_received > 100  # the opening handshake
        frames = [
            (wire.TEXT, b"", True),
            (wire.TEXT, "é".encode() * 100, True),
            (wire.BINARY, bytes(5000), True),
            (wire.BINARY, bytes(400_000), True),
            (wire.TEXT, b"frag", False),
            (wire.PING, b"p", True),
            (wire.CONT, b"ments", True),
            (wire.TEXT, b"x" * 400_000, True),
        ]
        frames += [(wire.TEXT, b"", False), *[(wire.CONT, b"z", False)] * 2000, (wire.CONT, b"", True)]
        wired = [wire.frame(opcode, payload, fin=fin, mask=peer.mask) for opcode, payload, fin in frames]
        sending = world.start(peer.write, b"".join(wired))
        messages = [await connection.recv() for _ in range(7)]
        await sending.result()
        statistics = connection.statistics
        assert statistics.bytes_received == before.bytes_received + sum(map(len, wired))
        assert statistics.messages_received == len(messages)
        assert statistics.payload_received == sum(len(payload) for opcode, payload, _ in frames if opcode < 8)
        assert statistics.pings_received == 1


@pytest.mark.parametrize("takeover", [True, False])
@in_every_world()
async def test_compression(world: World, takeover: bool) -> None:
    async with world.pair(server={"compression": "deflate"}) as (client, server):
        if not takeover:
            server.protocol.extensions[0].local_no_context_takeover = True
        messages: list[Any] = ["a" * 5000, "é" * 5000, b"b" * 100_000, "short", ["frag" * 100, "ment"]]
        sizes = 5000 + 10_000 + 100_000 + 5 + 404
        for message in messages:
            await server.send(message)
            await client.recv()
        await world.broadcast([server], "c" * 4000)
        await server.send(PreparedMessage("d" * 4000))
        await client.recv()
        await client.recv()
        mine, theirs = server.statistics, client.statistics
        assert mine.messages_sent == theirs.messages_received == len(messages) + 2
        assert mine.payload_sent == theirs.payload_received == sizes + 8000
        assert mine.encoded_sent == theirs.encoded_received
        assert mine.bytes_sent == theirs.bytes_received
        assert mine.ratio_sent == theirs.ratio_received == mine.encoded_sent / mine.payload_sent < 0.02
        assert theirs.ratio_sent == mine.ratio_received == 1.0


@in_every_world()
async def test_pings_and_latency(world: World) -> None:
    async with world.pair(client={"ping_interval": 20}, server={"ping_interval": None}) as (client, server):
        await world.advance(61)
        assert client.statistics.pings_sent == server.statistics.pings_received == 3
        await (await server.ping())
        assert (server.statistics.pings_sent, client.statistics.pings_received) == (1, 1)
        assert server.statistics.latency == server.latency


@both_sides
@in_every_world()
async def test_they_outlive_the_connection(world: World, side: Side) -> None:
    async with world.one_end(side, ping_interval=None) as (connection, peer):
        await peer.text("abc")
        await connection.recv()
        await connection.send("hello")
        open_statistics = connection.statistics
        peer.reset()
        with pytest.raises(ConnectionClosedError):
            await connection.recv()
        statistics = connection.statistics
        assert (statistics.messages_received, statistics.payload_received) == (1, 3)
        assert dataclasses.replace(statistics, bytes_sent=0) == dataclasses.replace(open_statistics, bytes_sent=0)


@in_every_world()
async def test_a_snapshot(world: World) -> None:
    async with world.pair() as (client, _):
        snapshot = client.statistics
        await client.send("a")
        assert snapshot.messages_sent == 0
        with pytest.raises(dataclasses.FrozenInstanceError):
            snapshot.messages_sent = 1  # type: ignore[misc]
    assert Statistics().ratio_sent == Statistics().ratio_received == 1.0
