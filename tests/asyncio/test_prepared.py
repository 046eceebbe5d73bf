"""Messages that are prepared once for many connections."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from _kit import virtual, wire
from _kit.ends import open_end
from websockets import PreparedMessage
from websockets.asyncio.server import broadcast
from websockets.exceptions import ConnectionClosedOK, InvalidState, ProtocolError
from websockets.extensions.base import Extension
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
from websockets.protocol import Protocol, Side
from websockets.testing import connected_pair

both_sides = pytest.mark.parametrize("side", list(Side), ids=lambda side: side.name.lower())


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
@virtual
async def test_send(side: Side, data: Any, text: bool | None, frame: tuple[int, bytes]) -> None:
    message = PreparedMessage(data, text=text)
    async with open_end(side) as (connection, peer):
        for _ in range(2):
            await connection.send(message)
            await peer.expect(*frame)
        broadcast([connection], message)
        await peer.expect(*frame)


def test_what_can_be_changed_later_is_copied() -> None:
    data = bytearray(b"before")
    message = PreparedMessage(data)
    data[:] = b"after!"
    protocol = Protocol(Side.SERVER)
    protocol.send_prepared(message)
    assert protocol.data_to_send() == [b"\x82\x06before"]


@pytest.mark.parametrize("data", [None, 5, ["a"], {"a": 1}, iter("a")])
def test_what_cannot_be_prepared(data: Any) -> None:
    with pytest.raises(TypeError, match="data must be str or bytes"):
        PreparedMessage(data)


@virtual
async def test_text_is_told_before() -> None:
    async with connected_pair() as (client, _):
        with pytest.raises(TypeError, match="text must be given to PreparedMessage"):
            await client.send(PreparedMessage("a"), text=True)
        with pytest.raises(TypeError, match="text must be given to PreparedMessage"):
            broadcast([client], PreparedMessage("a"), text=False)


@both_sides
@pytest.mark.parametrize("no_takeover", [False, True])
@virtual
async def test_compression_is_shared_and_contexts_stay_intact(side: Side, no_takeover: bool) -> None:
    message = PreparedMessage("compressed once, " * 50)
    async with connected_pair() as pair:
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


@virtual
async def test_one_encoding_for_each_kind_of_connection() -> None:
    message = PreparedMessage("0123456789" * 100)
    async with (
        connected_pair() as (client, server),
        connected_pair() as (other_client, other),
        connected_pair(client={"compression": None}) as (plain_client, plain),
    ):
        other.protocol.extensions[0].local_max_window_bits = 9  # type: ignore[attr-defined]
        for _ in range(3):
            for sender, receiver in ((server, client), (other, other_client), (plain, plain_client)):
                await sender.send(message)
                assert await receiver.recv() == "0123456789" * 100
        assert len(message._compressed) == 2


@virtual
async def test_compression_can_be_chosen() -> None:
    small, large = PreparedMessage("a" * 20), PreparedMessage("b" * 2000)
    async with connected_pair() as (client, server):
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


class Exclaim(Extension):
    """An extension of somebody else."""

    name: Any = "x-exclaim"

    def encode(self, frame: Frame) -> Frame:
        return Frame(frame.opcode, bytes(frame.data) + b"!") if frame.opcode < 8 else frame

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        return frame


def test_other_extensions_have_their_say() -> None:
    protocol = Protocol(Side.SERVER)
    protocol.extensions = [Exclaim()]
    message = PreparedMessage("hey")
    protocol.send_prepared(message)
    protocol.send_prepared(message)
    assert protocol.data_to_send() == [b"\x81\x04hey!"] * 2


def test_frames_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "websockets.server"):
        protocol = Protocol(Side.SERVER)
        protocol.send_prepared(PreparedMessage("hey"))
    assert "> TEXT 'hey' [3 bytes]" in caplog.messages


def test_when_it_cannot_be_sent() -> None:
    protocol = Protocol(Side.SERVER)
    protocol.send_text(b"a", fin=False)
    with pytest.raises(ProtocolError, match="expected a continuation frame"):
        protocol.send_prepared(PreparedMessage("a"))
    protocol.receive_eof()
    with pytest.raises(InvalidState):
        protocol.send_prepared(PreparedMessage("a"))


@virtual
async def test_a_closed_connection() -> None:
    async with connected_pair() as (client, server):
        await client.close()
        with pytest.raises(ConnectionClosedOK):
            await server.send(PreparedMessage("a"))


def test_repr() -> None:
    assert repr(PreparedMessage("é")) == "<PreparedMessage: text, 2 bytes>"
    assert repr(PreparedMessage(b"")) == "<PreparedMessage: binary, 0 bytes>"
