"""Scenarios 47 to 54: compressed messages that are bombs, broken, or unusual, in both roles, with both twins."""

from __future__ import annotations

import asyncio
import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from _kit import wire
from robustness.worlds import (
    DEFLATE,
    VICTIMS,
    both_sides,
    deflated_end,
    each_twin,
    needs_proc,
    real_client,
    victim,
)
from scenarios._world import End, Peer, World
from scenarios._worlds import in_every_world
from websockets.exceptions import ConnectionClosedError
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.protocol import Side

scenario = pytest.mark.scenario

MIB = 2**20
TAIL = b"\x00\x00\xff\xff"


def compressed(*parts: bytes, flush: int = zlib.Z_SYNC_FLUSH, bits: int = 15) -> bytes:
    """The payload of a compressed message."""
    compressor = zlib.compressobj(wbits=-bits)
    data = b"".join(map(compressor.compress, parts)) + compressor.flush(flush)
    return data.removesuffix(TAIL) if flush == zlib.Z_SYNC_FLUSH else data


async def compressed_message(peer: Peer, payload: bytes, opcode: int = wire.BINARY) -> None:
    await peer.send(opcode, payload, rsv=4)


# ------------------------------------------------------------------------------------------------------------- bombs


def zeros(size: int) -> bytes:
    """The payload of a compressed message of so many MiB, a thousandth of that in size."""
    compressor = zlib.compressobj(wbits=-15)
    # From the second on, they have the same past.
    first, other = (compressor.compress(bytes(MIB)) + compressor.flush(zlib.Z_SYNC_FLUSH) for _ in range(2))
    return (first + other * (size - 1)).removesuffix(TAIL)


# A quarter of a gigabyte in a quarter of a megabyte.
BOMB = zeros(256)


def whole(bomb: bytes, mask: bool) -> bytes:
    return wire.binary(bomb, rsv=4, mask=mask)


def in_fragments(bomb: bytes, mask: bool, size: int = 1000) -> bytes:
    pieces = [bomb[index : index + size] for index in range(0, len(bomb), size)]
    first, *more = pieces
    frames = [
        wire.binary(first, fin=False, rsv=4, mask=mask),
        *(wire.cont(piece, fin=False, mask=mask) for piece in more),
    ]
    return b"".join([*frames, wire.cont(b"", mask=mask)])


@scenario(47)
@needs_proc
@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("build", [whole, in_fragments], ids=["whole", "in fragments"])
@pytest.mark.parametrize("loop", VICTIMS)
def test_s47_bombs(loop: str, build: Any, count: int) -> None:
    """In a process of its own, as seen by the kernel: the bomb is refused, and memory stays where it was."""
    bomb = build(BOMB, True)

    async def throw(port: int) -> None:
        async with real_client(port, headers=DEFLATE) as peer:
            peer.send(bomb)
            close = await peer.frame()
            assert (close.opcode, close.payload[:2]) == (wire.CLOSE, (1009).to_bytes(2)), close

    async def throw_all(port: int) -> None:
        await asyncio.gather(*(throw(port) for _ in range(count)))

    with victim(loop) as process:
        before = process.status("VmRSS")
        asyncio.run(throw_all(process.port))
        # What arrived of a fragmented message may wait in each connection, up to max_size. Threads inflate all at once,
        # and each has its message twice for a moment: in pieces, and joined.
        waiting = (count - 1) * (2 if loop == "threads" else 1 if build is in_fragments else 0)
        assert process.status("VmHWM") - before < (24 + waiting) * 1024


@scenario(47)
@each_twin
@pytest.mark.parametrize("build", [whole, in_fragments], ids=["whole", "in fragments"])
@in_every_world()
async def test_s47_bombs_from_a_server(world: World, build: Any, twin: str) -> None:
    async with deflated_end(world, Side.CLIENT, max_size=MIB) as (connection, peer):
        receiving = world.start(connection.recv)
        sending = world.start(peer.write, build(BOMB, False))
        close = await peer.frame()
        assert close.payload[:2] == (1009).to_bytes(2)
        await sending.result()
        peer.hang_up()
        with pytest.raises(ConnectionClosedError, match="exceeds limit of 1048576 bytes"):
            await receiving.result()


@scenario(47)
@both_sides
@each_twin
@in_every_world()
async def test_s47_bombs_of_legal_size(world: World, side: Side, twin: str) -> None:
    """Sixty messages of 1 MiB in 60 KiB: about as much may wait inflated as max_queue and max_size allow."""
    bomb = compressed(bytes(MIB))
    async with deflated_end(world, side, "; client_no_context_takeover; server_no_context_takeover") as (
        connection,
        peer,
    ):
        await peer.write(wire.binary(bomb, rsv=4, mask=side is Side.SERVER) * 60)
        await world.advance(0.1)
        ours: Any = connection
        waiting = sum(len(item) for item in ours._ws_session.inbox.items if isinstance(item, bytes))
        assert waiting <= 24 * MIB


# ------------------------------------------------------------------------------------------------------------ limits


@scenario(48)
@each_twin
@both_sides
@pytest.mark.parametrize("content", [bytes(5000), bytes(range(250)) * 20], ids=["dense", "sparse"])
@pytest.mark.parametrize("fragments", [1, 3])
@in_every_world()
async def test_s48_exactly_the_limit(world: World, content: bytes, fragments: int, side: Side, twin: str) -> None:
    async def send(peer: Peer, payload: bytes) -> None:
        size = -(-len(payload) // fragments)
        for index in range(fragments):
            piece = payload[index * size : (index + 1) * size]
            first, last = index == 0, index == fragments - 1
            await peer.send(wire.BINARY if first else wire.CONT, piece, fin=last, rsv=4 if first else 0)

    async with deflated_end(world, side, max_size=5000) as (connection, peer):
        await send(peer, compressed(content))
        assert await connection.recv() == content
        await send(peer, compressed(content + b"x"))
        assert (await peer.frame()).payload[:2] == (1009).to_bytes(2)


# ------------------------------------------------------------------------------------------------------- broken data

BROKEN = {
    "reserved kind of block": b"\x07" * 10,
    "lengths that disagree": b"\x00\x05\x00\x05\x00hello",
    "distance too far back": bytes.fromhex("ca48cdc9c90700")[:-1] + b"\xff" * 8,
    "gzip": zlib.compress(b"hello", wbits=31),
    "zlib": zlib.compress(b"hello"),
    "cut off": compressed(bytes(range(256)))[:-20],
    "no deflate at all": b"hello world",
}


@scenario(49)
@each_twin
@both_sides
@pytest.mark.parametrize("payload", BROKEN.values(), ids=BROKEN)
@in_every_world()
async def test_s49_bad_data(world: World, payload: bytes, side: Side, twin: str) -> None:
    async with deflated_end(world, side) as (connection, peer):
        receiving = world.start(connection.recv)
        await compressed_message(peer, payload)
        close = await peer.frame()
        code = int.from_bytes(close.payload[:2])
        assert code in (1002, 1007)
        await peer.finish(code)
        with pytest.raises(ConnectionClosedError) as caught:
            await receiving.result()
        assert type(caught.value.__cause__).__module__.startswith("websockets.")


@scenario(49)
@each_twin
@both_sides
@pytest.mark.parametrize("together", [False, True], ids=["reads of their own", "one read"])
@in_every_world()
async def test_s49_nothing_counts_after_bad_data(world: World, together: bool, side: Side, twin: str) -> None:
    """Even if the end waits for a message that arrived before to be read."""
    async with deflated_end(world, side) as (connection, peer):
        data = [
            wire.text("good", mask=peer.mask),
            wire.binary(b"hello world", rsv=4, mask=peer.mask),
            wire.text("too late", mask=peer.mask),
            wire.ping(b"too late", mask=peer.mask),
        ]
        for each in [b"".join(data)] if together else data:
            await peer.write(each)
            await world.settle()
        assert await connection.recv() == "good"
        receiving = world.start(connection.recv)
        close = await peer.frame()
        assert (close.opcode, int.from_bytes(close.payload[:2])) == (wire.CLOSE, 1002)
        await peer.finish(1002)
        with pytest.raises(ConnectionClosedError):
            await receiving.result()


@scenario(50)
@each_twin
@both_sides
@in_every_world()
async def test_s50_the_message_after_bfinal_is_intact(world: World, side: Side, twin: str) -> None:
    async with deflated_end(world, side) as (connection, peer):
        for index in range(5):
            content = bytes(range(index, 256)) * 2
            await compressed_message(peer, compressed(content, flush=zlib.Z_FINISH) + b"\x00" * (index % 2))
            assert await connection.recv() == content
            # The window reaches back over the end of the stream.
            reference = zlib.compressobj(wbits=-15, zdict=content)
            payload = reference.compress(content) + reference.flush(zlib.Z_SYNC_FLUSH)[:-4]
            assert len(payload) < 20
            await compressed_message(peer, payload)
            assert await connection.recv() == content


# ----------------------------------------------------------------------------------------------------------- context


@scenario(51)
@each_twin
@both_sides
@in_every_world()
async def test_s51_no_context_takeover(world: World, side: Side, twin: str) -> None:
    """Each way: a message that refers to the one before it is refused, and ours refer to none."""
    parameters = "; server_no_context_takeover; client_no_context_takeover"
    async with deflated_end(world, side, parameters) as (connection, peer):
        content = bytes(range(256)) * 4
        for _ in range(2):
            await connection.send(content)
            row = await peer.frame()
            assert row.rsv == 4
            # A stream of its own for each.
            assert zlib.decompressobj(-15).decompress(row.payload + TAIL) == content
        await compressed_message(peer, compressed(content))
        assert await connection.recv() == content
        reference = zlib.compressobj(wbits=-15, zdict=content)
        await compressed_message(peer, reference.compress(content) + reference.flush(zlib.Z_SYNC_FLUSH)[:-4])
        assert (await peer.frame()).payload[:2] in ((1002).to_bytes(2), (1007).to_bytes(2))


@scenario(51)
@each_twin
@both_sides
@in_every_world()
async def test_s51_context_takeover(world: World, side: Side, twin: str) -> None:
    async with deflated_end(world, side) as (connection, peer):
        content = bytes(range(256)) * 4
        theirs, ours = zlib.compressobj(wbits=-15), zlib.decompressobj(-15)
        sizes = []
        for _ in range(2):
            await connection.send(content)
            row = await peer.frame()
            assert ours.decompress(row.payload + TAIL) == content
            sizes.append(len(row.payload))
            await compressed_message(peer, theirs.compress(content) + theirs.flush(zlib.Z_SYNC_FLUSH)[:-4])
            assert await connection.recv() == content
        assert sizes[1] < sizes[0] / 4


def held(connection: End) -> list[Any]:
    """What zlib holds for a connection."""
    (extension,) = connection.protocol.extensions
    assert isinstance(extension, PerMessageDeflate)
    return [stream for stream in (extension._compressor, extension._decompressor) if stream is not None]


@scenario(52)
@each_twin
@both_sides
@in_every_world()
async def test_s52_no_memory_of_zlib_before_it_is_needed_nor_after(world: World, side: Side, twin: str) -> None:
    async with deflated_end(world, side) as (connection, peer):
        await peer.text("uncompressed")
        await peer.send(wire.PING, b"1")
        await connection.recv()
        assert held(connection) == []
        await compressed_message(peer, compressed(b"a" * 100))
        await connection.recv()
        assert len(held(connection)) == 1
        await connection.send("a" * 100)
        assert len(held(connection)) == 2
        peer.reset()
        await connection.wait_closed()
        assert held(connection) == []


@scenario(53)
@each_twin
@both_sides
@pytest.mark.parametrize("block", [b"\x00" + TAIL, bytes.fromhex("0208208000")], ids=["stored", "fixed codes"])
@in_every_world()
async def test_s53_a_hundred_thousand_empty_blocks(world: World, block: bytes, side: Side, twin: str) -> None:
    async with deflated_end(world, side) as (connection, peer):
        start = compressed(b"begin") + TAIL
        receiving = world.start(connection.recv)
        await compressed_message(peer, start + block * 100_000 + compressed(b"end"))
        assert await receiving.result() == b"beginend"
        await compressed_message(peer, compressed(b"next"))
        assert await connection.recv() == b"next"


@scenario(54)
@each_twin
@both_sides
@in_every_world()
async def test_s54_what_does_not_compress_hardly_grows(world: World, side: Side, twin: str) -> None:
    """And what the peer sends uncompressed is taken as it is, in between."""
    noise = bytes(index * index % 251 ^ index // 7 % 256 for index in range(60_000))
    noise = zlib.compress(noise, 9)[:20_000]
    async with deflated_end(world, side) as (connection, peer):
        await connection.send(noise)
        row = await peer.frame()
        assert len(row.payload) < len(noise) * 1.002 + 64
        await peer.send(wire.BINARY, noise)
        assert await connection.recv() == noise
        await world.settle()


@scenario(54)
def test_s54_the_documentation_warns_of_crime_and_breach() -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text("utf-8")
    section = re.findall(r"^## Compression and secrets\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    assert len(section) == 1
    assert "CRIME" in section[0]
    assert "compression=None" in section[0]
