"""The sans-I/O protocol after the opening handshake: events in, bytes out, and every way in which it ends."""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _kit import CHUNKERS, Chunker, Row, splits, wire
from websockets._rules.messages import Inbox
from websockets.exceptions import (
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidState,
    PayloadTooBig,
    ProtocolError,
)
from websockets.extensions.base import Extension
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import SEND_EOF, Protocol, Side, State
from websockets.protocol._port import Port

SIDES = [Side.SERVER, Side.CLIENT]


def peer_masks(side: Side) -> bool:
    """Whether what ``side`` receives is masked: it comes from a client."""
    return side is Side.SERVER


def feed(protocol: Protocol, chunks: list[bytes]) -> None:
    for chunk in chunks:
        protocol.receive_data(chunk)


def sent_rows(protocol: Protocol) -> list[Row | None]:
    """What a protocol wants to send, read by the naive parser; None for the end of the stream."""
    rows: list[Row | None] = []
    for data in protocol.data_to_send():
        if data == SEND_EOF:
            rows.append(None)
        else:
            parsed, rest = wire.parse(data)
            assert rest == b""
            rows += parsed
    return rows


def sent(protocol: Protocol) -> list[tuple[int, bytes] | None]:
    """Opcodes and payloads of what a protocol wants to send."""
    return [row and (row.opcode, row.payload) for row in sent_rows(protocol)]


def close_payload(code: int, reason: str = "") -> bytes:
    return code.to_bytes(2, "big") + reason.encode()


# --------------------------------------------------------------------------------------------------------------- data

FRAMES = [
    (wire.text, "", Frame(Opcode.TEXT, b"")),
    (wire.text, "caf\u00e9", Frame(Opcode.TEXT, "caf\u00e9".encode())),
    (wire.binary, b"\x00\xff", Frame(Opcode.BINARY, b"\x00\xff")),
    (wire.binary, bytes(70_000), Frame(Opcode.BINARY, bytes(70_000))),
    (wire.ping, b"hello", Frame(Opcode.PING, b"hello")),
    (wire.pong, b"", Frame(Opcode.PONG, b"")),
]


@pytest.mark.parametrize("chunker", CHUNKERS, ids=lambda chunker: chunker.__name__)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("build", "payload", "event"), FRAMES)
def test_receive_frame(build: Any, payload: Any, event: Frame, side: Side, chunker: Chunker) -> None:
    protocol = Protocol(side)
    feed(protocol, chunker(build(payload, mask=peer_masks(side))))
    assert protocol.events_received() == [event]
    assert protocol.state is State.OPEN


@pytest.mark.parametrize("side", SIDES)
def test_fragments_with_ping_between(side: Side) -> None:
    protocol, mask = Protocol(side), peer_masks(side)
    protocol.receive_data(
        wire.text("a\u00e9"[:1], fin=False, mask=mask) + wire.ping(b"p", mask=mask) + wire.cont("b", mask=mask)
    )
    assert protocol.events_received() == [
        Frame(Opcode.TEXT, b"a", fin=False),
        Frame(Opcode.PING, b"p"),
        Frame(Opcode.CONT, b"b"),
    ]
    assert sent(protocol) == [(wire.PONG, b"p")]


SENDS = [
    ("send_text", (b"abc",), Row(True, 0, wire.TEXT, None, b"abc")),
    ("send_text", (b"abc", False), Row(False, 0, wire.TEXT, None, b"abc")),
    ("send_binary", (b"\x00",), Row(True, 0, wire.BINARY, None, b"\x00")),
    ("send_binary", (bytearray(300), False), Row(False, 0, wire.BINARY, None, bytes(300))),
    ("send_ping", (b"x" * 125,), Row(True, 0, wire.PING, None, b"x" * 125)),
    ("send_pong", (memoryview(b"y"),), Row(True, 0, wire.PONG, None, b"y")),
    ("send_close", (1001, "bye"), Row(True, 0, wire.CLOSE, None, b"\x03\xe9bye")),
    ("send_close", (), Row(True, 0, wire.CLOSE, None, b"")),
]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("method", "arguments", "row"), SENDS)
def test_send(method: str, arguments: Any, row: Row, side: Side) -> None:
    protocol = Protocol(side)
    getattr(protocol, method)(*arguments)
    (got,) = sent_rows(protocol)
    assert got is not None
    assert got._replace(mask=None) == row
    assert (got.mask is not None) is (side is Side.CLIENT)


def test_masks_differ() -> None:
    protocol = Protocol(Side.CLIENT)
    for _ in range(2000):
        protocol.send_binary(b"")
    masks = {row.mask for row in sent_rows(protocol) if row}
    assert len(masks) > 1990


def test_send_fragments_in_order() -> None:
    protocol = Protocol(Side.SERVER)
    with pytest.raises(ProtocolError, match="^unexpected continuation frame$"):
        protocol.send_continuation(b"", True)
    protocol.send_text(b"a", fin=False)
    for method in (protocol.send_text, protocol.send_binary):
        with pytest.raises(ProtocolError, match="^expected a continuation frame$"):
            method(b"")
    protocol.send_ping(b"")
    protocol.send_continuation(b"b", False)
    protocol.send_continuation(b"c", True)
    protocol.send_binary(b"d")
    assert sent(protocol) == [(1, b"a"), (9, b""), (0, b"b"), (0, b"c"), (2, b"d")]


def test_send_text_wants_bytes() -> None:
    protocol = Protocol(Side.SERVER)
    with pytest.raises(TypeError, match="a bytes-like object is required, not 'str'"):
        protocol.send_text("abc")  # type: ignore[arg-type]
    assert protocol.data_to_send() == []
    assert protocol.state is State.OPEN


# ---------------------------------------------------------------------------------------------------------- bad input

UTF8_START = "invalid start byte at position 0"
BAD_INPUT: list[tuple[str, Any, int, str]] = [
    ("opcode 3", lambda mask: wire.frame(3, mask=mask), 1002, "invalid opcode"),
    ("opcode 11", lambda mask: wire.frame(11, mask=mask), 1002, "invalid opcode"),
    ("masking", lambda mask: wire.text("a", mask=not mask), 1002, "incorrect masking"),
    ("RSV1", lambda mask: wire.text("a", rsv=4, mask=mask), 1002, "reserved bits must be 0"),
    ("RSV2", lambda mask: wire.text("a", rsv=2, mask=mask), 1002, "reserved bits must be 0"),
    ("RSV3 on ping", lambda mask: wire.frame(9, rsv=1, mask=mask), 1002, "reserved bits must be 0"),
    ("long ping", lambda mask: wire.frame(9, bytes(126), mask=mask), 1002, "control frame too long"),
    ("fragmented ping", lambda mask: wire.frame(9, fin=False, mask=mask), 1002, "fragmented control frame"),
    ("lone continuation", lambda mask: wire.cont(b"", mask=mask), 1002, "unexpected continuation frame"),
    (
        "interleaved messages",
        lambda mask: wire.text("a", fin=False, mask=mask) + wire.text("b", mask=mask),
        1002,
        "expected a continuation frame",
    ),
    ("short Close", lambda mask: wire.frame(8, b"\x03", mask=mask), 1002, "close frame too short"),
    *(
        (f"Close {code}", lambda mask, code=code: wire.close(code, mask=mask), 1002, "invalid status code")
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    ),
    ("reason", lambda mask: wire.close(1000, b"\xff", mask=mask), 1007, UTF8_START),
    ("text", lambda mask: wire.text(b"\xff", mask=mask), 1007, UTF8_START),
    ("cut text", lambda mask: wire.text(b"a\xc3", mask=mask), 1007, "unexpected end of data at position 1"),
    (
        "text in fragments",
        lambda mask: wire.text(b"ab\xe2", fin=False, mask=mask) + wire.cont(b"\x28", mask=mask),
        1007,
        "invalid continuation byte at position 2",
    ),
    (
        "length not minimal",
        lambda mask: wire.frame(2, b"a", length_form="16", mask=mask),
        1002,
        "payload length 1 isn't in its shortest form",
    ),
    (
        "length too long",
        lambda mask: wire.frame(2, b"a", length_form="64", declared=2**63, mask=mask),
        1002,
        "payload length 9223372036854775808 exceeds 2**63 - 1",
    ),
    ("size", lambda mask: wire.binary(bytes(101), mask=mask), 1009, "frame with 101 bytes exceeds limit of 100 bytes"),
    (
        "size in fragments",
        lambda mask: wire.binary(bytes(95), fin=False, mask=mask) + wire.cont(bytes(6), mask=mask),
        1009,
        "frame with 6 bytes after reading 95 bytes exceeds limit of 100 bytes",
    ),
]
KINDS: dict[int, type[Exception]] = {1002: ProtocolError, 1007: Exception, 1009: PayloadTooBig}


@pytest.mark.parametrize("chunker", CHUNKERS, ids=lambda chunker: chunker.__name__)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("build", "code", "text"), [row[1:] for row in BAD_INPUT], ids=[row[0] for row in BAD_INPUT])
def test_bad_input(build: Any, code: int, text: str, side: Side, chunker: Chunker) -> None:
    """The code and the text of each error; what was received whole before it stays; nothing after it counts."""
    protocol, mask = Protocol(side, max_size=100), peer_masks(side)
    before = wire.text("before", mask=mask)
    feed(protocol, [*chunker(before + build(mask)), wire.text("after", mask=mask), wire.ping(mask=mask)])

    events = [event for event in protocol.events_received() if isinstance(event, Frame) and event.fin]
    assert events == [Frame(Opcode.TEXT, b"before")]
    # A server that failed the connection also ends the stream; a client waits for it to end.
    end = [None] if side is Side.SERVER else []
    assert sent(protocol) == [(wire.CLOSE, close_payload(code, text)), *end]
    assert protocol.state is State.CLOSING
    assert protocol.close_expected()
    assert isinstance(protocol.parser_exc, KINDS[code])

    protocol.receive_eof()
    assert protocol.close_code == 1006
    exc = protocol.close_exc
    assert isinstance(exc, ConnectionClosedError)
    assert exc.__cause__ is protocol.parser_exc
    assert str(exc) == f"sent {Close(code, text)}; no close frame received"


@pytest.mark.parametrize("max_size", [100, (100, None), (None, 100), (100, 100), (1000, 100)])
def test_exactly_max_size(max_size: Any) -> None:
    protocol = Protocol(Side.CLIENT, max_size=max_size)
    protocol.receive_data(wire.binary(bytes(100)))
    assert protocol.events_received() == [Frame(Opcode.BINARY, bytes(100))]


def test_max_size_of_fragments() -> None:
    protocol = Protocol(Side.CLIENT, max_size=(None, 10))
    protocol.receive_data(wire.binary(bytes(10), fin=False) + wire.cont(bytes(10)) + wire.binary(bytes(11)))
    assert len(protocol.events_received()) == 2
    assert protocol.close_sent == Close(1009, "frame with 11 bytes exceeds limit of 10 bytes")


@pytest.mark.parametrize("limits", [(None, 10), (100, 10), (10, 100)])
@pytest.mark.parametrize("size", [10, 11])
def test_max_size_of_what_a_frame_is_inflated_to(limits: tuple[int | None, int], size: int) -> None:
    client, server = Protocol(Side.CLIENT), Protocol(Side.SERVER, max_size=limits)
    for protocol in client, server:
        protocol.extensions = [PerMessageDeflate(False, False, 15, 15)]
    client.send_binary(bytes(size))
    server.receive_data(b"".join(client.data_to_send()))
    assert server.events_received() == ([Frame(Opcode.BINARY, bytes(10))] if size == 10 else [])
    assert (server.close_sent is None) is (size == 10)


@pytest.mark.parametrize("bits", [9, 15])
def test_exactly_max_size_of_what_deflate_makes_longer(bits: int) -> None:
    noise = random.Random(1).randbytes(100_000)
    for size, fits in ((100_000, True), (99_999, False)):
        client, server = Protocol(Side.CLIENT), Protocol(Side.SERVER, max_size=size)
        client.extensions = [PerMessageDeflate(False, False, bits, bits, {"memLevel": 1})]
        server.extensions = [PerMessageDeflate(False, False, bits, bits)]
        client.send_binary(noise)
        (data,) = client.data_to_send()
        assert len(data) > len(noise)
        server.receive_data(data)
        assert (server.events_received() == [Frame(Opcode.BINARY, noise)]) is fits
        assert (server.state is State.OPEN) is fits


def test_max_size_spares_control_frames() -> None:
    protocol = Protocol(Side.CLIENT, max_size=5)
    protocol.receive_data(wire.binary(bytes(5), fin=False) + wire.ping(bytes(20)) + wire.cont(b""))
    assert [event.opcode for event in protocol.events_received() if isinstance(event, Frame)] == [2, 9, 0]


def test_no_max_size() -> None:
    protocol = Protocol(Side.CLIENT, max_size=None)
    protocol.receive_data(wire.binary(bytes(2**21)))
    assert len(protocol.events_received()) == 1


# ------------------------------------------------------------------------------------------------------------- closing


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("payload", "close"),
    [
        (b"", Close(1005, "")),
        (close_payload(1000), Close(1000, "")),
        (close_payload(1001, "bye"), Close(1001, "bye")),
        (close_payload(4999, "\u00e9" * 61), Close(4999, "\u00e9" * 61)),
    ],
)
def test_peer_closes(payload: bytes, close: Close, side: Side) -> None:
    protocol, mask = Protocol(side), peer_masks(side)
    protocol.receive_data(wire.frame(8, payload, mask=mask) + wire.text("late", mask=mask))
    assert protocol.events_received() == [Frame(Opcode.CLOSE, payload)]
    # The same payload comes back: 1005 never travels.
    assert sent(protocol) == [(wire.CLOSE, payload), *([None] if side is Side.SERVER else [])]
    assert (protocol.close_rcvd, protocol.close_sent, protocol.close_rcvd_then_sent) == (close, close, True)
    assert protocol.state is State.CLOSING
    assert (protocol.close_code, protocol.close_reason) == (None, None)
    protocol.receive_eof()
    assert sent(protocol) == ([] if side is Side.SERVER else [None])
    assert (protocol.close_code, protocol.close_reason) == (close.code, close.reason)


@pytest.mark.parametrize("side", SIDES)
def test_we_close(side: Side) -> None:
    protocol, mask = Protocol(side), peer_masks(side)
    protocol.send_close(1000)
    assert protocol.close_expected()
    protocol.receive_data(wire.text("in flight", mask=mask) + wire.ping(mask=mask) + wire.close(1000, mask=mask))
    assert [type(event) for event in protocol.events_received()] == [Frame, Frame, Frame]
    end = [None] if side is Side.SERVER else []
    assert sent(protocol) == [(wire.CLOSE, close_payload(1000)), (wire.PONG, b""), *end]
    assert protocol.close_rcvd_then_sent is False
    protocol.receive_eof()
    assert isinstance(protocol.close_exc, ConnectionClosedOK)
    assert str(protocol.close_exc) == "sent 1000 (OK); then received 1000 (OK)"


def test_close_inside_a_message_is_answered_in_kind() -> None:
    protocol = Protocol(Side.SERVER)
    protocol.receive_data(wire.text("a", fin=False, mask=True) + wire.close(1000, mask=True))
    assert sent(protocol) == [(wire.CLOSE, close_payload(1000)), None]


@pytest.mark.parametrize(
    ("rcvd", "sent_code", "ok"),
    [(1000, 1000, True), (1001, 1000, True), (None, None, True), (3000, 3000, False), (1012, 1012, False)],
)
def test_ok_or_error(rcvd: int | None, sent_code: int | None, ok: bool) -> None:
    protocol = Protocol(Side.SERVER)
    protocol.send_close(sent_code)
    protocol.receive_data(wire.close(rcvd, mask=True))
    protocol.receive_eof()
    assert isinstance(protocol.close_exc, ConnectionClosedOK if ok else ConnectionClosedError)


@pytest.mark.parametrize("side", SIDES)
def test_eof_without_close(side: Side) -> None:
    protocol = Protocol(side)
    protocol.receive_data(wire.frame(2, declared=10, mask=peer_masks(side)))
    protocol.receive_eof()
    protocol.receive_eof()
    assert protocol.events_received() == []
    assert sent(protocol) == [None]
    assert (protocol.state, protocol.close_code, protocol.close_reason) == (State.CLOSED, 1006, "")
    assert str(protocol.close_exc) == "no close frame received or sent"
    assert isinstance(protocol.close_exc.__cause__, EOFError)
    with pytest.raises(EOFError, match="^stream ended$"):
        protocol.receive_data(b"")


def test_the_end_of_the_stream_while_a_failure_is_held_back() -> None:
    """Nobody will read what came before, so there is no reason to hold it back any more."""
    protocol = Protocol(Side.SERVER)
    Port(protocol, Inbox())
    protocol.receive_data(wire.text("before", mask=wire.MASK) + wire.frame(3, mask=wire.MASK))
    assert protocol.close_sent is None
    protocol.receive_eof()
    assert protocol.close_sent == Close(1002, "invalid opcode")


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", ["send_close", "fail"])
def test_once_our_close_is_out_no_failure_is_held_back(side: Side, when: str, method: str) -> None:
    protocol, mask = Protocol(side), peer_masks(side)
    Port(protocol, Inbox())
    bad = wire.text("before", mask=mask) + wire.frame(3, mask=mask)
    if when == "before":
        protocol.receive_data(bad)
        assert protocol.parser_exc is None
    getattr(protocol, method)(1000)
    if when == "after":
        protocol.receive_data(bad)
    # Who has given up doesn't look any more.
    assert isinstance(protocol.parser_exc, ProtocolError) is not (method == "fail" and when == "after")
    assert sent(protocol) == [(wire.CLOSE, close_payload(1000)), *([None] if side is Side.SERVER else [])]


WRONG_STATE: list[tuple[State, str, tuple[Any, ...]]] = [
    *((state, "send_text", (b"",)) for state in (State.CONNECTING, State.CLOSING, State.CLOSED)),
    *((state, "send_binary", (b"",)) for state in (State.CONNECTING, State.CLOSING, State.CLOSED)),
    *((state, "send_close", (1000,)) for state in (State.CONNECTING, State.CLOSING, State.CLOSED)),
    *((state, "send_ping", (b"",)) for state in (State.CONNECTING, State.CLOSED)),
    *((state, "send_pong", (b"",)) for state in (State.CONNECTING, State.CLOSED)),
]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("state", "method", "arguments"), WRONG_STATE)
def test_wrong_state(state: State, method: str, arguments: Any, side: Side) -> None:
    protocol = Protocol(side, state=state)
    with pytest.raises(InvalidState, match=f"^connection is {state.name.lower()}$"):
        getattr(protocol, method)(*arguments)
    assert protocol.state is state
    assert protocol.data_to_send() == []


BAD_CLOSES: list[tuple[tuple[Any, ...], str]] = [
    ((None, "why"), "cannot send a reason without a code"),
    ((999,), "invalid status code"),
    ((1005,), "invalid status code"),
    ((1006,), "invalid status code"),
    ((1015,), "invalid status code"),
    ((5000,), "invalid status code"),
    ((1000, "x" * 124), "control frame too long"),
]


@pytest.mark.parametrize(("arguments", "text"), BAD_CLOSES)
def test_bad_close(arguments: Any, text: str) -> None:
    protocol = Protocol(Side.SERVER)
    with pytest.raises(ProtocolError, match=rf"^{text}(\n|$)"):
        protocol.send_close(*arguments)
    assert protocol.state is State.OPEN


CLOSES_OF_WRONG_TYPES: list[tuple[tuple[Any, ...], str]] = [
    (("1000",), "code must be an int, not str: '1000'"),
    ((1000.0, ""), "code must be an int, not float: 1000.0"),
    ((True,), "code must be an int, not bool: True"),
    ((1000, b"x"), "reason must be a str, not bytes: b'x'"),
    ((1000, 0), "reason must be a str, not int: 0"),
]


@pytest.mark.parametrize("method", ["send_close", "fail"])
@pytest.mark.parametrize(("arguments", "text"), CLOSES_OF_WRONG_TYPES)
def test_closing_with_wrong_types(method: str, arguments: Any, text: str) -> None:
    protocol = Protocol(Side.SERVER)
    with pytest.raises(TypeError, match=f"^{text}$"):
        getattr(protocol, method)(*arguments)
    assert protocol.state is State.OPEN
    assert protocol.data_to_send() == []


def test_fail_needs_a_code() -> None:
    with pytest.raises(TypeError, match="^code must be an int, not NoneType: None$"):
        Protocol(Side.SERVER).fail(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["send_close", "fail"])
def test_closing_without_a_reason(method: str) -> None:
    protocol = Protocol(Side.SERVER)
    getattr(protocol, method)(1000, None)
    assert protocol.close_sent == Close(1000, "")
    assert sent(protocol)[0] == (wire.CLOSE, close_payload(1000))


def test_control_frame_too_long() -> None:
    protocol = Protocol(Side.SERVER)
    for method in (protocol.send_ping, protocol.send_pong):
        with pytest.raises(ProtocolError, match="^control frame too long\\n"):
            method(bytes(126))
    assert protocol.data_to_send() == []


def test_fail_cuts_a_long_reason_between_characters() -> None:
    protocol = Protocol(Side.CLIENT)
    protocol.fail(1011, "\u00e9" * 100)
    assert protocol.close_sent == Close(1011, "\u00e9" * 61)


@pytest.mark.parametrize("side", SIDES)
def test_fail_after_close_ends_the_stream(side: Side) -> None:
    protocol = Protocol(side)
    protocol.send_close(1000)
    protocol.fail(1002, "enough")
    assert sent(protocol) == [(wire.CLOSE, close_payload(1000)), *([None] if side is Side.SERVER else [])]
    protocol.fail(1002, "enough")
    assert sent(protocol) == []


def test_close_exc_needs_a_closed_connection() -> None:
    with pytest.raises(AssertionError, match="connection isn't closed yet"):
        _ = Protocol(Side.SERVER).close_exc


def test_opening_is_not_for_the_base_class() -> None:
    with pytest.raises(InvalidState):
        Protocol(Side.SERVER, state=State.CONNECTING).receive_data(b"GET")


# ---------------------------------------------------------------------------------------------------------- extensions


class Rot(Extension):
    """An extension of somebody else: it adds to every byte, of control frames too, and sets RSV2."""

    name = "x-rot"  # type: ignore[assignment]

    def __init__(self, by: int) -> None:
        self.by = by

    def encode(self, frame: Frame) -> Frame:
        data = bytes((byte + self.by) % 256 for byte in bytes(frame.data))
        return Frame(frame.opcode, data, frame.fin, frame.rsv1, True, frame.rsv3)

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        assert frame.rsv2
        data = bytes((byte - self.by) % 256 for byte in bytes(frame.data))
        return Frame(frame.opcode, data, frame.fin, frame.rsv1, False, frame.rsv3)


def deflates() -> list[Extension]:
    return [PerMessageDeflate(False, False, 15, 15)]


PIPELINES = {"deflate": deflates, "custom": lambda: [Rot(3)], "both": lambda: [*deflates(), Rot(200)]}


@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=PIPELINES)
def test_extensions_both_ways(pipeline: Any) -> None:
    client, server = Protocol(Side.CLIENT), Protocol(Side.SERVER)
    client.extensions, server.extensions = pipeline(), pipeline()
    client.send_text("caf\u00e9".encode())
    client.send_text(b"caf\xc3", fin=False)
    client.send_ping(b"p")
    client.send_continuation(b"\xa9" * 1 + b"!" * 1000, True)
    client.send_binary(b"\xff")
    client.send_close(1000, "bye")
    for data in client.data_to_send():
        feed(server, wire_bytes(data))
    assert server.parser_exc is None
    assert [(e.opcode, bytes(e.data), e.fin) for e in server.events_received() if isinstance(e, Frame)] == [
        (1, "caf\u00e9".encode(), True),
        (1, b"caf\xc3", False),
        (9, b"p", True),
        (0, b"\xa9" + b"!" * 1000, True),
        (2, b"\xff", True),
        (8, close_payload(1000, "bye"), True),
    ]
    assert (server.close_rcvd, server.close_sent) == (Close(1000, "bye"), Close(1000, "bye"))


def wire_bytes(data: bytes) -> list[bytes]:
    return wire.bytewise(data)


@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=PIPELINES)
@pytest.mark.parametrize(
    ("fragments", "code"),
    [([b"\xff"], 1007), ([b"a\xc3"], 1007), ([b"a\xc3", b"("], 1007), ([bytes(101)], 1009), ([bytes(99), b"ab"], 1009)],
)
def test_limits_and_text_behind_extensions(pipeline: Any, fragments: list[bytes], code: int) -> None:
    client, server = Protocol(Side.CLIENT), Protocol(Side.SERVER, max_size=100)
    client.extensions, server.extensions = pipeline(), pipeline()
    client.send_text(fragments[0], fin=len(fragments) == 1)
    for index, fragment in enumerate(fragments[1:], 2):
        client.send_continuation(fragment, index == len(fragments))
    for data in client.data_to_send():
        server.receive_data(data)
    assert server.close_sent is not None
    assert server.close_sent.code == code


@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=PIPELINES)
def test_text_behind_extensions_fails_at_its_first_wrong_byte(pipeline: Any) -> None:
    """The first two bytes of a surrogate, at the end of a fragment: the position is that in the message."""
    client, server = Protocol(Side.CLIENT), Protocol(Side.SERVER)
    client.extensions, server.extensions = pipeline(), pipeline()
    client.send_text(b"abcde", fin=False)
    client.send_continuation(b"f\xed\xa0", fin=False)
    for data in client.data_to_send():
        server.receive_data(data)
    assert server.close_sent == Close(1007, "invalid continuation byte at position 6")


@pytest.mark.parametrize("side", SIDES)
def test_small_messages_pass_deflate_by(side: Side) -> None:
    """By whatever way they are sent; fragments are compressed, as nobody knows how many are to follow."""
    source, target = Protocol(side), Protocol(Side(1 - side))
    source.extensions = [PerMessageDeflate(False, False, 15, 15, threshold=5)]
    target.extensions = deflates()
    for data in (b"Hello", b"Hell", b""):
        source.writes.append(source._frame_message(Opcode.TEXT, data))
        source.send_binary(data)
    source.send_text(b"a", fin=False)
    source.send_continuation(b"b", True)
    writes = source.data_to_send()
    assert [data[0] for data in writes] == [0xC1, 0xC2, 0x81, 0x82, 0x81, 0x82, 0x41, 0x80]
    for data in writes:
        target.receive_data(data)
    received = [(frame.opcode, frame.data) for frame in target.events_received() if isinstance(frame, Frame)]
    assert received == [(op, data) for data in (b"Hello", b"Hell", b"") for op in (1, 2)] + [(1, b"a"), (0, b"b")]


def test_reserved_bits_that_no_extension_claims() -> None:
    protocol = Protocol(Side.CLIENT)
    protocol.extensions = [PerMessageDeflate(False, False, 15, 15)]
    protocol.receive_data(wire.text("plain") + wire.text("x", rsv=2))
    assert protocol.events_received() == [Frame(Opcode.TEXT, b"plain")]
    assert protocol.close_sent == Close(1002, "reserved bits must be 0")


def test_custom_extension_that_leaves_reserved_bits() -> None:
    class Careless(Rot):
        def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
            return frame

    protocol = Protocol(Side.CLIENT)
    protocol.extensions = [Careless(0)]
    protocol.receive_data(wire.text("x", rsv=2))
    assert protocol.close_sent == Close(1002, "reserved bits must be 0")


def test_extension_that_gives_more_than_it_may() -> None:
    class Doubling(Rot):
        def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
            return Frame(frame.opcode, bytes(frame.data) * 2, frame.fin)

    protocol = Protocol(Side.CLIENT, max_size=100)
    protocol.extensions = [Doubling(0)]
    protocol.receive_data(wire.binary(bytes(50)) + wire.binary(bytes(51)))
    assert protocol.events_received() == [Frame(Opcode.BINARY, bytes(100))]
    assert protocol.close_sent is not None
    assert protocol.close_sent.code == 1009


def test_compressed_messages_for_a_front_end_that_keeps_them() -> None:
    protocol = Protocol(Side.CLIENT)
    port = Port(protocol, Inbox())
    protocol.extensions = deflates()
    protocol._find_deflate()
    assert port.inflate(0xC1, bytes.fromhex("f248cdc9c90700")) == "Hello"
    assert port.inflate(0xC2, b"\xff\xff") is None
    assert protocol.close_sent == Close(1002, "decompression failed")


def test_nothing_counts_after_a_close_that_only_an_extension_could_see() -> None:
    class Veiled(Rot):
        def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
            return Frame(Opcode(frame.data[0]), frame.data[1:])

    protocol = Protocol(Side.CLIENT)
    protocol.extensions = [Veiled(0)]
    protocol.receive_data(wire.binary(b"\x01text") + wire.binary(b"\x08" + close_payload(1001)) + wire.binary(b"\x01x"))
    assert protocol.events_received() == [Frame(Opcode.TEXT, b"text"), Frame(Opcode.CLOSE, close_payload(1001))]
    assert (protocol.close_rcvd, protocol.parser_exc) == (Close(1001, ""), None)


def test_bug_in_an_extension(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Rot):
        def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
            raise ZeroDivisionError("secret detail")

    protocol = Protocol(Side.CLIENT)
    protocol.extensions = [Broken(0)]
    protocol.receive_data(wire.text("x"))
    assert protocol.close_sent == Close(1011, "")
    assert isinstance(protocol.parser_exc, ZeroDivisionError)
    assert [(record.levelname, record.message) for record in caplog.records] == [("ERROR", "parser failed")]


# ------------------------------------------------------------------------------------------------------------- logging


def test_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets")
    protocol = Protocol(Side.SERVER)
    protocol.receive_data(wire.text("hi", mask=True) + wire.ping(b"p", mask=True) + wire.close(1000, mask=True))
    protocol.receive_eof()
    assert [record.getMessage() for record in caplog.records] == [
        "= connection is OPEN",
        "< TEXT 'hi' [2 bytes]",
        "< PING 'p' [text, 1 byte]",
        "> PONG 'p' [text, 1 byte]",
        "< CLOSE 1000 (OK) [2 bytes]",
        "> CLOSE 1000 (OK) [2 bytes]",
        "= connection is CLOSING",
        "> EOF",
        "< EOF",
        "= connection is CLOSED",
    ]
    assert {record.name for record in caplog.records} == {"websockets.server"}


def test_id_is_unique_and_stays() -> None:
    one, two = Protocol(Side.SERVER), Protocol(Side.SERVER)
    assert one.id == one.id != two.id
    assert one.id.version == 4


# ---------------------------------------------------------------------------------------------------------------- laws

PIECES = st.lists(
    st.one_of(
        st.builds(lambda data: wire.text(data, mask=True), st.text(max_size=20)),
        st.builds(lambda data: wire.binary(data, mask=True), st.binary(max_size=300)),
        st.builds(lambda data: wire.ping(data, mask=True), st.binary(max_size=125)),
        st.builds(
            lambda a, b: wire.binary(a, fin=False, mask=True) + wire.cont(b, mask=True), st.binary(), st.binary()
        ),
        st.builds(lambda data: wire.text(data, mask=True), st.binary(max_size=4)),
        st.builds(lambda code: wire.close(code, mask=True), st.integers(0, 65535)),
        st.binary(min_size=1, max_size=3),
    ),
    max_size=6,
)


@given(st.data())
def test_any_split_gives_the_same(data: st.DataObject) -> None:
    stream = b"".join(data.draw(PIECES))
    one, many = Protocol(Side.SERVER, max_size=250), Protocol(Side.SERVER, max_size=250)
    one.receive_data(stream)
    feed(many, data.draw(splits(stream)))
    assert one.events_received() == many.events_received()
    assert one.data_to_send() == many.data_to_send()
    assert one.state is many.state
    assert str(one.parser_exc) == str(many.parser_exc)


MESSAGES = st.lists(st.tuples(st.sampled_from(["send_text", "send_binary"]), st.text(max_size=200)), max_size=5)


@given(MESSAGES, st.sampled_from(SIDES), st.booleans())
def test_what_is_sent_is_received(messages: list[tuple[str, str]], side: Side, deflate: bool) -> None:
    source, target = Protocol(side), Protocol(Side(1 - side))
    if deflate:
        source.extensions, target.extensions = deflates(), deflates()
    for method, message in messages:
        getattr(source, method)(message.encode())
    for data in source.data_to_send():
        target.receive_data(data)
    opcodes = {"send_text": Opcode.TEXT, "send_binary": Opcode.BINARY}
    assert target.events_received() == [Frame(opcodes[method], message.encode()) for method, message in messages]
