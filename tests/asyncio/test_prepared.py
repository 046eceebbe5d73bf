"""Messages that are prepared once for many connections: what a protocol makes of them."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from websockets import PreparedMessage
from websockets.exceptions import InvalidState, ProtocolError
from websockets.extensions.base import Extension
from websockets.frames import Frame
from websockets.protocol import Protocol, Side


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


def test_repr() -> None:
    assert repr(PreparedMessage("é")) == "<PreparedMessage: text, 2 bytes>"
    assert repr(PreparedMessage(b"")) == "<PreparedMessage: binary, 0 bytes>"
