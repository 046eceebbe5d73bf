"""The frame of a message in one piece, for one connection."""

from __future__ import annotations

from typing import Any

import pytest

from _kit import wire
from websockets import PreparedMessage
from websockets.exceptions import InvalidState, ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.protocol import Protocol, Side, State
from websockets.protocol._prepared import frame_of

both_sides = pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT])


@both_sides
@pytest.mark.parametrize(
    ("message", "text", "opcode", "payload"),
    [
        ("caf\u00e9", None, wire.TEXT, "caf\u00e9".encode()),
        ("a", False, wire.BINARY, b"a"),
        (b"a", None, wire.BINARY, b"a"),
        (bytearray(b"a"), True, wire.TEXT, b"a"),
        (memoryview(b"a"), None, wire.BINARY, b"a"),
        (PreparedMessage("a"), None, wire.TEXT, b"a"),
    ],
)
def test_one_piece(side: Side, message: Any, text: bool | None, opcode: int, payload: bytes) -> None:
    made = frame_of(Protocol(side, state=State.OPEN), message, text, None)
    assert made is not None
    frame, size = made
    ((row,), rest) = wire.parse(frame)
    assert (row.opcode, row.payload, row.fin, rest, size) == (opcode, payload, True, b"", len(payload))


@pytest.mark.parametrize("message", [["a", "b"], iter("ab"), 5, None])
def test_not_in_one_piece(message: Any) -> None:
    assert frame_of(Protocol(Side.SERVER, state=State.OPEN), message, None, None) is None


def test_text_of_a_prepared_message() -> None:
    with pytest.raises(TypeError, match="^text must be given to PreparedMessage, not with it$"):
        frame_of(Protocol(Side.SERVER, state=State.OPEN), PreparedMessage("a"), True, None)


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize(("compress", "smaller"), [(None, True), (True, True), (False, False)])
def test_compressed(prepared: bool, compress: bool | None, smaller: bool) -> None:
    protocol = Protocol(Side.SERVER, state=State.OPEN)
    protocol.extensions = [PerMessageDeflate(False, False, 15, 15)]
    message = PreparedMessage("a" * 5000) if prepared else "a" * 5000
    made = frame_of(protocol, message, None, compress)
    assert made is not None
    assert (len(made[0]) < 100) is smaller
    assert made[1] == 5000


@pytest.mark.parametrize("message", ["a", PreparedMessage("a")])
def test_when_nothing_may_be_sent(message: Any) -> None:
    protocol = Protocol(Side.SERVER, state=State.OPEN)
    protocol.send_text(b"first", False)
    with pytest.raises(ProtocolError):
        frame_of(protocol, message, None, None)
    protocol.send_continuation(b"", True)
    protocol.send_close(1000)
    with pytest.raises(InvalidState):
        frame_of(protocol, message, None, None)
