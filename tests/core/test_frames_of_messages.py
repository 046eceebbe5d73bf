"""The frame of a message in one piece, for one connection."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

from _kit import wire
from websockets import PreparedMessage
from websockets._session.fragments import Fragmenter
from websockets.exceptions import InvalidState, ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
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


# -------------------------------------------------------------------------------------------- buffers that change later


def changed_at(step: int, call: Callable[[], object], change: Callable[[], object]) -> bool:
    """Call something, and change something at one of its steps, as another thread could; return whether it got there.

    Parameters:
        step: the number of the step.
        call: what to call.
        change: how to change something.
    """
    left = step

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal left
        frame.f_trace_opcodes = True
        left -= 1
        if left == 0:
            change()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return left <= 0


@pytest.mark.parametrize("size", [125, 70_000])
@pytest.mark.parametrize("side", [Side.CLIENT, Side.SERVER])
@pytest.mark.parametrize("way", ["a message", "fragments", "compressed fragments"])
def test_a_bytearray_that_another_thread_resizes(way: str, side: Side, size: int) -> None:
    """The frame is whole, with the content before or after that: its header tells no other length."""
    step, reached = 0, True
    while reached:
        step += 2 if step < 200 else 50
        data = bytearray(b"x" * size)
        protocol = Protocol(side, max_size=None)
        protocol.extensions = [PerMessageDeflate(False, False, 15, 15)] * (way == "compressed fragments")
        sent: list[bytes] = []

        def send(protocol: Protocol = protocol, data: bytearray = data, sent: list[bytes] = sent) -> None:
            if way == "a message":
                made = frame_of(protocol, data, None, None)
                assert made is not None
                sent.append(made[0])
                return
            fragments = Fragmenter(protocol, data, None, way == "compressed fragments")
            fragments.start()
            fragments.finish()
            sent.extend(protocol.data_to_send())

        def grow(data: bytearray = data) -> None:
            # Not while somebody looks at it.
            with contextlib.suppress(BufferError):
                data.extend(b"y" * 70_000)

        reached = changed_at(step, send, grow)
        peer = Protocol(Side.SERVER if side is Side.CLIENT else Side.CLIENT, max_size=None)
        peer.extensions = [PerMessageDeflate(False, False, 15, 15) for _ in protocol.extensions]
        peer.receive_data(b"".join(sent))
        assert peer.close_sent is None
        frames = [event for event in peer.events_received() if isinstance(event, Frame)]
        assert b"".join(bytes(frame.data) for frame in frames) in (b"x" * size, bytes(data))
        assert len(frames) == (1 if way == "a message" else 2)
