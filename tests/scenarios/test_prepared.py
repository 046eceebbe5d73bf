"""Messages that are prepared once for many connections."""

from __future__ import annotations

from typing import Any

import pytest

from _kit import wire
from scenarios._world import World
from scenarios._worlds import both_sides, in_every_world
from websockets import PreparedMessage
from websockets.exceptions import ConnectionClosedOK
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.protocol import Side


@both_sides
@pytest.mark.parametrize(
    ("data", "text", "frame"),
    [
        ("é", None, (wire.TEXT, "é".encode())),
        ("a", False, (wire.BINARY, b"a")),
        (b"a", None, (wire.BINARY, b"a")),
        (b"a", True, (wire.TEXT, b"a")),
        (memoryview(b"abc")[::2], None, (wire.BINARY, b"ac")),
        (bytes(300_000), None, (wire.BINARY, bytes(300_000))),
    ],
)
@in_every_world()
async def test_send(world: World, side: Side, data: Any, text: bool | None, frame: tuple[int, bytes]) -> None:
    message = PreparedMessage(data, text=text)
    async with world.one_end(side) as (connection, peer):
        for _ in range(2):
            await connection.send(message)
            await peer.expect(*frame)
        await world.broadcast([connection], message)
        await peer.expect(*frame)


@in_every_world()
async def test_text_is_told_before(world: World) -> None:
    async with world.pair() as (client, _):
        with pytest.raises(TypeError, match="text must be given to PreparedMessage"):
            await client.send(PreparedMessage("a"), text=True)
        with pytest.raises(TypeError, match="text must be given to PreparedMessage"):
            await world.broadcast([client], PreparedMessage("a"), text=False)


@both_sides
@pytest.mark.parametrize("no_takeover", [False, True])
@in_every_world()
async def test_compression_is_shared_and_contexts_stay_intact(world: World, side: Side, no_takeover: bool) -> None:
    message = PreparedMessage("compressed once, " * 50)
    async with world.pair() as pair:
        sender, receiver = pair if side is Side.CLIENT else reversed(pair)
        (deflate,) = sender.protocol.extensions
        assert isinstance(deflate, PerMessageDeflate)
        deflate.local_no_context_takeover = no_takeover
        for number in range(3):
            own = f"compressed each time, {number}, " * 50
            for sent in (own, message, message, own, own):
                await sender.send(sent)
                assert await receiver.recv() == (own if sent is own else "compressed once, " * 50)
        assert len(message._compressed) == 1


@in_every_world()
async def test_one_encoding_for_each_kind_of_connection(world: World) -> None:
    message = PreparedMessage("0123456789" * 100)
    async with (
        world.pair() as (client, server),
        world.pair() as (other_client, other),
        world.pair(client={"compression": None}) as (plain_client, plain),
    ):
        other.protocol.extensions[0].local_max_window_bits = 9
        for _ in range(3):
            for sender, receiver in ((server, client), (other, other_client), (plain, plain_client)):
                await sender.send(message)
                assert await receiver.recv() == "0123456789" * 100
        assert len(message._compressed) == 2


@in_every_world()
async def test_compression_can_be_chosen(world: World) -> None:
    small, large = PreparedMessage("a" * 20), PreparedMessage("b" * 2000)
    async with world.pair() as (client, server):
        for message, compress, least, most in (
            (small, None, 20, 20),
            (small, True, 1, 19),
            (large, None, 1, 100),
            (large, False, 2000, 2000),
        ):
            before = server.statistics.encoded_sent
            await server.send(message, compress=compress)
            await client.recv()
            assert least <= server.statistics.encoded_sent - before <= most


@in_every_world()
async def test_a_closed_connection(world: World) -> None:
    async with world.pair() as (client, server):
        await client.close()
        with pytest.raises(ConnectionClosedOK):
            await server.send(PreparedMessage("a"))
