"""Scenarios 29 to 46: frames that break RFC 6455, in both roles, with both twins, however they arrive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from _kit import wire
from robustness.worlds import both_sides, each_twin
from scenarios._world import End, World
from scenarios._worlds import in_every_world
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.protocol import Side

scenario = pytest.mark.scenario

#: Whether a frame must be masked, to bytes of the peer.
Bytes = Callable[[bool], bytes]


@pytest.fixture(params=["whole", "bytewise"])
def pieces(request: pytest.FixtureRequest) -> Callable[[bytes], list[bytes]]:
    """How bytes arrive."""
    chunkers = {"whole": wire.whole, "bytewise": wire.bytewise}
    return chunkers[request.param]


async def violation(world: World, side: Side, data: bytes, code: int, pieces: Any, **options: Any) -> End:
    """Send what breaks a rule behind a good message: the good one arrives, nothing else, and a Close says why."""
    async with world.one_end(side, **options) as (connection, peer):
        got: list[Any] = []
        receiving = world.start(receive, connection, got)
        await peer.text("good")
        for piece in pieces(data):
            await peer.write(piece)
            await world.settle()
        close = await peer.frame()
        while close.opcode == wire.PONG:
            close = await peer.frame()
        assert (close.opcode, int.from_bytes(close.payload[:2])) == (wire.CLOSE, code), close
        assert len(close.payload) > 2, "a reason is given"
        await peer.text("late")
        await peer.finish(code)
        with pytest.raises(ConnectionClosedError):
            await receiving.result()
        assert got == ["good"]
    return connection


async def receive(connection: End, got: list[Any]) -> None:
    while True:
        got.append(await connection.recv())


@scenario(29)
@each_twin
@both_sides
@pytest.mark.parametrize("opcode", [wire.TEXT, wire.BINARY, wire.PING, wire.CLOSE])
@in_every_world()
async def test_s29_wrong_masking(world: World, opcode: int, side: Side, twin: str, pieces: Any) -> None:
    await violation(world, side, wire.frame(opcode, b"\x03\xe8", mask=side is Side.CLIENT), 1002, pieces)


RESERVED: list[tuple[int, int, bytes]] = [
    *((opcode, rsv, b"") for opcode in (wire.TEXT, wire.BINARY, wire.PING, wire.CLOSE) for rsv in (1, 2, 4, 7)),
    (wire.CONT, 4, b"begun"),
    (wire.CONT, 1, b"begun"),
]


@scenario(30)
@each_twin
@both_sides
@pytest.mark.parametrize(("opcode", "rsv", "begun"), RESERVED)
@in_every_world()
async def test_s30_reserved_bits(
    world: World, opcode: int, rsv: int, begun: bytes, side: Side, twin: str, pieces: Any
) -> None:
    mask = side is Side.SERVER
    start = wire.text(begun, fin=False, mask=mask) if begun else b""
    await violation(world, side, start + wire.frame(opcode, b"\x03\xe8", rsv=rsv, mask=mask), 1002, pieces)


@scenario(31)
@each_twin
@both_sides
@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@in_every_world()
async def test_s31_unknown_opcodes(world: World, opcode: int, side: Side, twin: str, pieces: Any) -> None:
    await violation(world, side, wire.frame(opcode, b"x", mask=side is Side.SERVER), 1002, pieces)


def header(opcode: int, declared: int, side: Side, fin: bool = True) -> bytes:
    """The header of a frame whose payload never comes."""
    return wire.frame(opcode, b"", declared=declared, fin=fin, mask=side is Side.SERVER)


@scenario(32)
@each_twin
@both_sides
@pytest.mark.parametrize("opcode", [wire.PING, wire.PONG, wire.CLOSE])
@in_every_world()
async def test_s32_control_frames(world: World, opcode: int, side: Side, twin: str, pieces: Any) -> None:
    """Refused by their first two bytes, whatever else they announce."""
    await violation(world, side, header(opcode, 126, side)[:2], 1002, pieces)
    await violation(world, side, header(opcode, 2**40, side)[:2], 1002, pieces)
    await violation(world, side, header(opcode, 0, side, fin=False)[:2], 1002, pieces)


@scenario(33)
@each_twin
@both_sides
@pytest.mark.parametrize(
    "build",
    [
        lambda mask: wire.cont("x", mask=mask),
        lambda mask: wire.cont("x", fin=False, mask=mask),
        lambda mask: wire.text("x", fin=False, mask=mask) + wire.text("y", mask=mask),
        lambda mask: wire.text("x", fin=False, mask=mask) + wire.binary(b"y", fin=False, mask=mask),
    ],
    ids=["lone", "lone and unfinished", "text in a message", "binary in a message"],
)
@in_every_world()
async def test_s33_order_of_fragments(world: World, build: Bytes, side: Side, twin: str, pieces: Any) -> None:
    await violation(world, side, build(side is Side.SERVER), 1002, pieces)


@scenario(34)
@each_twin
@both_sides
@pytest.mark.parametrize("size", [2**63, 2**63 + 1, 2**64 - 1, 2**64 - 14])
@pytest.mark.parametrize("max_size", [2**20, None])
@in_every_world()
async def test_s34_top_bit_of_64(
    world: World, size: int, max_size: int | None, side: Side, twin: str, pieces: Any
) -> None:
    data = header(wire.BINARY, size, side)
    await violation(world, side, data, 1002, pieces, max_size=max_size)
    begun = wire.binary(b"x", fin=False, mask=side is Side.SERVER)
    await violation(world, side, begun + header(wire.CONT, size, side), 1002, pieces, max_size=max_size)


@scenario(35)
@each_twin
@both_sides
@pytest.mark.parametrize("size", [1001, 65_536, 2**32, 2**63 - 1])
@in_every_world()
async def test_s35_message_too_big_by_its_header(world: World, size: int, side: Side, twin: str, pieces: Any) -> None:
    """Nothing of the payload has been sent, so nothing can have been waited for."""
    connection = await violation(world, side, header(wire.BINARY, size, side), 1009, pieces, max_size=1000)
    assert str(connection.protocol.parser_exc) == f"frame with {size} bytes exceeds limit of 1000 bytes"


@scenario(36)
@each_twin
@both_sides
@pytest.mark.parametrize("last", [1, 2**31, 2**32 - 1000, 2**63 - 1, 2**63 - 1000])
@in_every_world()
async def test_s36_fragments_too_big_together(world: World, last: int, side: Side, twin: str, pieces: Any) -> None:
    mask = side is Side.SERVER
    data = b"".join(
        [
            wire.binary(bytes(400), fin=False, mask=mask),
            wire.cont(bytes(600), fin=False, mask=mask),
            header(wire.CONT, last, side),
        ]
    )
    await violation(world, side, data, 1009, pieces, max_size=1000)


@scenario(37)
@each_twin
@both_sides
@pytest.mark.parametrize(
    ("size", "form"), [(0, "16"), (125, "16"), (0, "64"), (125, "64"), (126, "64"), (65_535, "64")]
)
@in_every_world()
async def test_s37_lengths_that_are_not_minimal(
    world: World, size: int, form: Any, side: Side, twin: str, pieces: Any
) -> None:
    data = wire.frame(wire.BINARY, b"", declared=size, length_form=form, mask=side is Side.SERVER)
    await violation(world, side, data, 1002, pieces)


@scenario(38)
@each_twin
@both_sides
@pytest.mark.parametrize("max_size", [100, (100, None), (100, 60), (None, 100)])
@in_every_world()
async def test_s38_exactly_max_size(world: World, max_size: Any, side: Side, twin: str) -> None:
    async with world.one_end(side, max_size=max_size) as (connection, peer):
        if max_size != (100, 60):
            await peer.send(wire.BINARY, bytes(100))
            assert await connection.recv() == bytes(100)
        await peer.send(wire.BINARY, bytes(60), fin=False)
        await peer.send(wire.PING, bytes(125))
        await peer.send(wire.CONT, bytes(40), fin=False)
        await peer.send(wire.CONT, b"")
        assert await connection.recv() == bytes(100)


BAD_CODES = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]


@scenario(39)
@each_twin
@both_sides
@pytest.mark.parametrize("payload", [b"\x03", *(code.to_bytes(2) for code in BAD_CODES)], ids=["a byte", *BAD_CODES])
@in_every_world()
async def test_s39_close_codes_that_never_travel(
    world: World, payload: bytes, side: Side, twin: str, pieces: Any
) -> None:
    connection = await violation(world, side, wire.frame(wire.CLOSE, payload, mask=side is Side.SERVER), 1002, pieces)
    assert connection.close_code == 1006


@scenario(40)
@each_twin
@both_sides
@in_every_world()
async def test_s40_empty_close(world: World, side: Side, twin: str) -> None:
    async with world.one_end(side) as (connection, peer):
        await peer.send(wire.CLOSE)
        await peer.expect(wire.CLOSE, b"")
        peer.hang_up()
        with pytest.raises(ConnectionClosedOK):
            await connection.recv()
        assert connection.close_code == 1005


@scenario(41)
@each_twin
@both_sides
@pytest.mark.parametrize("reason", [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"])
@in_every_world()
async def test_s41_reason_that_is_no_text(world: World, reason: bytes, side: Side, twin: str, pieces: Any) -> None:
    await violation(world, side, wire.close(1000, reason, mask=side is Side.SERVER), 1007, pieces)


@scenario(42)
@each_twin
@both_sides
@in_every_world()
async def test_s42_data_after_close(world: World, side: Side, twin: str) -> None:
    async with world.one_end(side) as (connection, peer):
        mask = side is Side.SERVER
        late = [wire.text("late", mask=mask), wire.ping(b"late", mask=mask), wire.close(1001, mask=mask), b"\xff" * 100]
        await peer.write(b"".join([wire.close(4000, "bye", mask=mask), *late]))
        await peer.expect_close(4000, "bye")
        # Server: the stream ends. Client: it waits for the end of ours.
        await peer.write(wire.text("later", mask=mask))
        peer.eof()
        assert await peer.read_until_eof() == b""
        with pytest.raises(ConnectionClosedError):
            await connection.recv()
        assert (connection.close_code, connection.close_reason) == (4000, "bye")


@scenario(43)
@each_twin
@both_sides
@in_every_world()
async def test_s43_close_inside_a_message(world: World, side: Side, twin: str) -> None:
    async with world.one_end(side) as (connection, peer):
        await peer.text("fragment", fin=False)
        await peer.close(1000, "enough")
        await peer.expect_close(1000, "enough")
        peer.hang_up()
        with pytest.raises(ConnectionClosedOK):
            await connection.recv()


#: What is no text (RFC 3629), split where the first wrong byte has been seen.
BAD_TEXT: dict[str, tuple[bytes, bytes]] = {
    "overlong, 2 bytes": (b"ok\xc0", b"\xaf"),
    "overlong, 3 bytes": (b"ok\xe0\x80", b"\xaf"),
    "overlong, 4 bytes": (b"ok\xf0\x80", b"\x80\xaf"),
    "surrogate": (b"ok\xed\xa0", b"\x80"),
    "low surrogate": (b"ok\xed\xbf", b"\xbf"),
    "beyond U+10FFFF": (b"ok\xf4\x90", b"\x80\x80"),
    "5 bytes": (b"ok\xf8", b"\x88\x80\x80\x80"),
    "continuation byte": (b"ok\x80", b"ok"),
    "interrupted character": (b"ok\xe2\x82o", b"k"),
}


@scenario(44)
@each_twin
@both_sides
@pytest.mark.parametrize(("seen", "unseen"), BAD_TEXT.values(), ids=BAD_TEXT)
@in_every_world()
async def test_s44_wrong_text_fails_at_its_first_wrong_byte(
    world: World, seen: bytes, unseen: bytes, side: Side, twin: str, pieces: Any
) -> None:
    """The wrong byte is the last that is sent: the rest of the frame, or of the message, is never waited for."""
    mask = side is Side.SERVER
    unfinished = wire.frame(wire.TEXT, seen + unseen + b"more", mask=mask)[: -len(unseen) - 4]
    fragment = wire.text(seen, fin=False, mask=mask)
    continued = wire.text(seen[:3], fin=False, mask=mask) + wire.cont(seen[3:] + b"!", fin=False, mask=mask)
    for data in [wire.text(seen + unseen, mask=mask), unfinished, fragment, continued]:
        await violation(world, side, data, 1007, pieces)


@scenario(44)
@each_twin
@both_sides
@pytest.mark.parametrize("end", [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98"])
@in_every_world()
async def test_s44_text_that_breaks_off(world: World, end: bytes, side: Side, twin: str, pieces: Any) -> None:
    mask = side is Side.SERVER
    await violation(world, side, wire.text(b"ok" + end, mask=mask), 1007, pieces)
    await violation(world, side, wire.text(b"ok" + end, fin=False, mask=mask) + wire.cont(b"", mask=mask), 1007, pieces)


@scenario(44)
@each_twin
@both_sides
@in_every_world()
async def test_s44_split_characters_are_accepted(world: World, side: Side, twin: str) -> None:
    message = "\x00a\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff"
    data = message.encode()
    async with world.one_end(side) as (connection, peer):
        for index in range(len(data) + 1):
            await peer.text(data[:index], fin=False)
            await peer.send(wire.CONT, data[index:])
            assert await connection.recv() == message
        for byte in wire.bytewise(wire.text(data, mask=side is Side.SERVER)):
            await peer.write(byte)
            await world.settle()
        assert await connection.recv() == message


@scenario(45)
@each_twin
@both_sides
@pytest.mark.parametrize("payload", [b"", b"hello", bytes(range(125))], ids=len)
@in_every_world()
async def test_s45_pings_and_pongs(world: World, payload: bytes, side: Side, twin: str) -> None:
    async with world.one_end(side) as (connection, peer):
        await peer.send(wire.PONG, payload)
        await peer.send(wire.PING, payload)
        await peer.expect(wire.PONG, payload)
        await peer.text("in ", fin=False)
        await peer.send(wire.PING, payload)
        await peer.send(wire.PONG, b"nobody asked")
        await peer.expect(wire.PONG, payload)
        await peer.send(wire.CONT, b"pieces")
        assert await connection.recv() == "in pieces"
        assert connection.latency == 0


@scenario(46)
@each_twin
@both_sides
@in_every_world()
async def test_s46_empty_frames(world: World, side: Side, twin: str) -> None:
    """Fine, wherever they are, and a flood of them waits in next to no memory."""
    async with world.one_end(side) as (connection, peer):
        for opcode, message in ((wire.TEXT, ""), (wire.BINARY, b"")):
            await peer.send(opcode)
            assert await connection.recv() == message
            await peer.send(opcode, fin=False)
            await peer.send(wire.CONT, fin=False)
            await peer.send(wire.CONT)
            assert await connection.recv() == message
        mask = side is Side.SERVER
        receiving = world.start(connection.recv)
        for data in (wire.text("a", fin=False, mask=mask), wire.cont("", fin=False, mask=mask) * 20_000):
            await peer.write(data)
        await world.settle()
        ours: Any = connection
        (assembly,) = ours._ws_session.inbox.items
        # tests/core/test_assembly.py shows that few objects hold them.
        assert assembly.waiting == 20_001
        await peer.send(wire.CONT, b"z")
        assert await receiving.result() == "az"
