"""A connection over a real socket whose other end is in the hands of a test."""

from __future__ import annotations

import pytest

from _kit import wire
from _kit.sockets import socket_end
from robustness.worlds import both_sides, each_loop
from websockets.exceptions import ConnectionClosedError
from websockets.protocol import Side

each_layer = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


@each_layer
@both_sides
@each_loop
async def test_frames_go_both_ways(tls: bool, side: Side) -> None:
    async with socket_end(side, tls=tls) as (connection, peer):
        await peer.texts("one", "two")
        assert [await connection.recv(), await connection.recv()] == ["one", "two"]
        await peer.frame(wire.BINARY, bytes(100_000))
        assert await connection.recv() == bytes(100_000)
        await connection.send("three")
        await connection.send(bytes(100_000))
        assert await peer.read_frames(2) == [(wire.TEXT, b"three"), (wire.BINARY, bytes(100_000))]
        await connection.send("four")
        await peer.expect((wire.TEXT, b"four"))
        await connection.send("five")
        with pytest.raises(AssertionError):
            await peer.expect((wire.TEXT, b"six."))


@both_sides
@each_loop
async def test_frames_are_taken_without_a_turn_of_the_loop(side: Side) -> None:
    async with socket_end(side) as (connection, peer):
        await connection.send("one")
        assert peer.take(1) == [(wire.TEXT, b"one")]


@both_sides
@each_loop
async def test_the_end_of_the_stream(side: Side) -> None:
    async with socket_end(side) as (connection, peer):
        connection.transport.close()
        with pytest.raises(EOFError, match=r"^the stream ended after 0 bytes of what was awaited$"):
            await peer.next()
        with pytest.raises(ConnectionClosedError):
            await connection.recv()


@both_sides
@each_loop
async def test_options_and_room(side: Side) -> None:
    async with socket_end(side, room=2**12, compression="deflate", write_limit=1000, max_size=5) as (connection, peer):
        assert connection.protocol.max_message_size == 5
        assert connection.transport.get_write_buffer_limits() == (250, 1000)
        assert peer.mask is (side is Side.SERVER)
        # What the kernel holds is little: most of it waits here.
        connection.transport.write(bytes(2**18))
        assert connection.buffered_amount > 2**17
