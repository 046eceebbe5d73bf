"""What the raw side of a measurement sends and counts, compared with the naive description of the wire format."""

from __future__ import annotations

import json
import zlib

import pytest

from _kit import wire as naive
from bench.cases import CASES, Case, choose
from bench.wire import (
    CLOSE_ANSWER,
    CLOSE_FRAME,
    FIN,
    MASK,
    RSV1,
    TEXT,
    ByteCounter,
    FrameCounter,
    Traffic,
    check_response,
    counter,
    frame,
    inflated,
    messages,
    parse_frame,
    request,
    response,
)

# On either side of the limits between the three forms of a length.
SIZES = [0, 1, 3, 4, 125, 126, 127, 65535, 65536, 70000]


def case(name: str) -> Case:
    (found,) = choose(CASES, [name])
    return found


# --------------------------------------------------------------------------------------------------------------- frames


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mask", [None, MASK])
def test_frame(size: int, mask: bytes | None) -> None:
    payload = bytes(number % 251 for number in range(size))
    assert naive.parse(frame(FIN | TEXT, payload, mask)) == ([naive.Row(True, 0, naive.TEXT, mask, payload)], b"")


def test_frames_that_close() -> None:
    for data, mask in ((CLOSE_FRAME, MASK), (CLOSE_ANSWER, None)):
        assert naive.parse(data) == ([naive.Row(True, 0, naive.CLOSE, mask, b"\x03\xe8")], b"")


@pytest.mark.parametrize("size", SIZES)
def test_parse_frame(size: int) -> None:
    data = frame(FIN | TEXT, bytes(size))
    assert parse_frame(data + b"tail") == (FIN | TEXT, bytes(size))
    assert parse_frame(data[:-1]) is None


# -------------------------------------------------------------------------------------------------------------- traffic


def test_messages_have_their_size_and_differ() -> None:
    found = messages(1024, 16)
    assert {len(message.encode()) for message in found} == {1024}
    assert len({*found}) == 16
    assert found == messages(1024, 16)


def test_messages_look_like_json() -> None:
    (message,) = messages(1024, 1)
    rows = json.loads(message[: message.rindex("}") + 1] + "]")
    assert len(rows) > 10


@pytest.mark.parametrize("mask", [None, MASK])
def test_traffic_sends_one_message_again_and_again(mask: bytes | None) -> None:
    traffic = Traffic(case("server-echo-256B-x64"), mask)
    expected = naive.Row(True, 0, naive.TEXT, mask, traffic.messages[0].encode())
    for count in (1, 3, 64):
        assert naive.parse(bytes(traffic.take(count))) == ([expected] * count, b"")


def test_traffic_goes_beyond_what_is_in_flight() -> None:
    traffic = Traffic(case("server-echo-256B"), MASK)
    assert bytes(traffic.take(3)) == traffic.frames[0] * 3


def test_compressed_messages_take_turns() -> None:
    traffic = Traffic(case("server-json-1KB-*"), MASK)
    rows, rest = naive.parse(b"".join(bytes(traffic.take(1)) for _ in range(len(traffic.messages) + 1)))
    assert rest == b""
    assert {(row.fin, row.rsv, row.opcode, row.mask) for row in rows} == {(True, 4, naive.TEXT, MASK)}
    expected = [*traffic.messages, traffic.messages[0]]
    assert [inflated(row.payload).decode() for row in rows] == expected


def test_compressed_messages_can_be_inflated_in_any_order_by_one_receiver() -> None:
    traffic = Traffic(case("server-json-32KB-*"), None)
    inflater = zlib.decompressobj(-12)
    for number in (3, 0, 3, 15):
        found = parse_frame(traffic.frames[number])
        assert found is not None
        assert found[0] == FIN | RSV1 | TEXT
        assert inflater.decompress(found[1] + b"\x00\x00\xff\xff") == traffic.messages[number].encode()


# ------------------------------------------------------------------------------------------------------------- counting


def pieces(data: bytes, size: int) -> list[memoryview]:
    return [memoryview(data)[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 4096, 1 << 20])
@pytest.mark.parametrize("mask", [None, MASK])
def test_frame_counter(mask: bytes | None, piece: int) -> None:
    data = b"".join(frame(FIN | TEXT, bytes(size), mask) for size in SIZES)
    count = FrameCounter()
    assert sum(count.feed(part) for part in pieces(data, piece)) == len(SIZES)


@pytest.mark.parametrize("piece", [1, 2, 5, 1000])
def test_frame_counter_counts_messages(piece: int) -> None:
    fragments = frame(TEXT, b"one ") + frame(0, b"") + frame(FIN, b"message")
    control = frame(FIN | 0x9, b"ping") + frame(FIN | 0xA, b"")
    count = FrameCounter()
    data = control + fragments + control + frame(FIN | TEXT, b"another")
    assert sum(count.feed(part) for part in pieces(data, piece)) == 2


def test_frame_counter_counts_at_the_last_byte() -> None:
    data = frame(FIN | TEXT, bytes(200), MASK)
    count = FrameCounter()
    assert [count.feed(part) for part in pieces(data, len(data) - 1)] == [0, 1]


@pytest.mark.parametrize("piece", [1, 10, 300])
def test_byte_counter(piece: int) -> None:
    data = frame(FIN | TEXT, bytes(256)) * 10
    count = ByteCounter(len(data) // 10, FIN | TEXT)
    assert sum(count.feed(part) for part in pieces(data, piece)) == 10


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("piece", [1, 2, 10, 262, 300, 1 << 20])
def test_byte_counter_does_not_count_pings(mask: bytes | None, piece: int) -> None:
    """A library that pings after 20 s doesn't spoil a measurement on a busy machine."""
    message = frame(FIN | TEXT, bytes(256), mask)
    for ping in (frame(FIN | 0x9, b"", mask), frame(FIN | 0x9, b"four", mask)):
        for data in (ping + message * 10, message * 4 + ping + message * 6 + ping, message * 9 + (ping + message) * 2):
            count = ByteCounter(len(message), FIN | TEXT)
            assert sum(count.feed(part) for part in pieces(data, piece)) == data.count(message)


def test_counter_counts_bytes_unless_compression_makes_sizes_differ() -> None:
    for name, kind in (("server-echo-256B", ByteCounter), ("server-json-1KB-*", FrameCounter)):
        assert type(counter(case(name), Traffic(case(name), MASK).frames)) is kind


# -------------------------------------------------------------------------------------------------------------- opening


@pytest.mark.parametrize("deflate", [False, True])
def test_opening(deflate: bool) -> None:
    asked = request(1234, deflate)
    answered = response(asked, deflate)
    key = asked.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0].decode()
    assert f"Sec-WebSocket-Accept: {naive.accept_key(key)}\r\n".encode() in answered
    check_response(answered, deflate)


def test_answer_keeps_to_the_window_that_a_client_asks_for() -> None:
    asked = request(1234, True).replace(b"client_max_window_bits", b"server_max_window_bits=12")
    assert b"permessage-deflate; server_max_window_bits=12\r\n" in response(asked, True)


def test_request_without_key_is_refused() -> None:
    with pytest.raises(ValueError, match="no Sec-WebSocket-Key"):
        response(b"GET / HTTP/1.1\r\n\r\n")


def test_refusals_are_seen() -> None:
    accepted = response(request(1234))
    with pytest.raises(ValueError, match="the server refused the connection: http/1.1 403 forbidden"):
        check_response(b"HTTP/1.1 403 Forbidden\r\n\r\n")
    with pytest.raises(ValueError, match="declined compression"):
        check_response(accepted, True)
    with pytest.raises(ValueError, match="accepted compression"):
        check_response(response(request(1234, True), True))
