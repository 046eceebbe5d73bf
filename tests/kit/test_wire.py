"""The naive wire format, against the examples of RFC 6455 and by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _kit import (
    CHUNKERS,
    Chunker,
    Row,
    accept_key,
    frame,
    parse,
    request,
    response,
    splits,
    wire,
    with_tail,
)

KEY = wire.MASK

# Bytes and value in a row: what is built from the value, and what is parsed from the bytes. The first five are in
# RFC 6455 section 5.7.
LEGAL = [
    pytest.param(b"\x81\x05Hello", Row(True, 0, 1, None, b"Hello"), id="text"),
    pytest.param(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", Row(True, 0, 1, KEY, b"Hello"), id="masked"),
    pytest.param(b"\x01\x03Hel", Row(False, 0, 1, None, b"Hel"), id="first fragment"),
    pytest.param(b"\x80\x02lo", Row(True, 0, 0, None, b"lo"), id="last fragment"),
    pytest.param(b"\x89\x05Hello", Row(True, 0, 9, None, b"Hello"), id="ping"),
    pytest.param(b"\x8a\x00", Row(True, 0, 10, None, b""), id="empty"),
    pytest.param(b"\x82\x80\x37\xfa\x21\x3d", Row(True, 0, 2, KEY, b""), id="empty and masked"),
    pytest.param(b"\xc1\x01x", Row(True, 4, 1, None, b"x"), id="rsv1"),
    pytest.param(b"\xb2\x01x", Row(True, 3, 2, None, b"x"), id="rsv2 and rsv3"),
    pytest.param(b"\x82\x7d" + bytes(125), Row(True, 0, 2, None, bytes(125)), id="125"),
    pytest.param(b"\x82\x7e\x00\x7e" + bytes(126), Row(True, 0, 2, None, bytes(126)), id="126"),
    pytest.param(b"\x82\x7e\xff\xff" + bytes(65535), Row(True, 0, 2, None, bytes(65535)), id="65535"),
    pytest.param(
        b"\x82\x7f" + bytes(5) + b"\x01\x00\x00" + bytes(65536), Row(True, 0, 2, None, bytes(65536)), id="65536"
    ),
]

ILLEGAL = [
    pytest.param(b"\x83\x00", "opcode 3 is reserved", id="reserved data opcode"),
    pytest.param(b"\x8b\x00", "opcode 11 is reserved", id="reserved control opcode"),
    pytest.param(b"\x09\x00", "control frame of 0 bytes with fin=False", id="fragmented control frame"),
    pytest.param(b"\x89\x7e\x00\x7e", "control frame of 126 bytes", id="long control frame"),
    pytest.param(frame(2, length_form="16", declared=125), "length 125 takes 2", id="16 bits for 125"),
    pytest.param(frame(2, length_form="64", declared=65535), "length 65535 takes 8", id="64 bits for 65535"),
    pytest.param(frame(2, declared=2**63), "top bit", id="top bit"),
]

BUILT = [
    pytest.param(wire.text("é"), b"\x81\x02\xc3\xa9", id="text of a string"),
    pytest.param(wire.text(b"\xff", fin=False, rsv=4), b"\x41\x01\xff", id="text of bytes"),
    pytest.param(wire.binary(b"x", mask=b"\x01\x02\x03\x04"), b"\x82\x81\x01\x02\x03\x04y", id="binary"),
    pytest.param(wire.cont("é"), b"\x80\x02\xc3\xa9", id="continuation of a string"),
    pytest.param(wire.cont(b"x", fin=False), b"\x00\x01x", id="continuation"),
    pytest.param(wire.ping(b"x"), b"\x89\x01x", id="ping"),
    pytest.param(wire.pong(mask=False), b"\x8a\x00", id="pong"),
    pytest.param(wire.close(), b"\x88\x00", id="empty close"),
    pytest.param(wire.close(1000, "é"), b"\x88\x04\x03\xe8\xc3\xa9", id="close"),
    pytest.param(wire.close(None, b"x"), b"\x88\x01x", id="broken close"),
    pytest.param(frame(15, rsv=7, fin=False), b"\x7f\x00", id="all wrong"),
    pytest.param(frame(2, b"x", length_form="16"), b"\x82\x7e\x00\x01x", id="16 bits for 1"),
    pytest.param(frame(2, b"x", length_form="64", mask=bytes(4)), b"\x82\xff" + bytes(7) + b"\x01" + bytes(4) + b"x"),
    pytest.param(frame(2, b"x", declared=3), b"\x82\x03x", id="announces too much"),
    pytest.param(frame(2, declared=2**64 - 1), b"\x82\x7f" + b"\xff" * 8, id="announces everything"),
]

IMPOSSIBLE = [
    pytest.param({"opcode": 16}, "opcode 16", id="opcode"),
    pytest.param({"opcode": 1, "rsv": 8}, "rsv 8", id="rsv"),
    pytest.param({"opcode": 1, "mask": b"abc"}, "4 bytes, not 3", id="short mask"),
    pytest.param({"opcode": 1, "mask": b""}, "4 bytes, not 0", id="empty mask"),
    pytest.param({"opcode": 1, "declared": 126, "length_form": "7"}, "length 126 does not fit the 7-bit", id="7 bits"),
    pytest.param({"opcode": 1, "declared": 65536, "length_form": "16"}, "limit is 65535", id="16 bits"),
    pytest.param({"opcode": 1, "declared": 2**64}, "does not fit the 64-bit", id="64 bits"),
    pytest.param({"opcode": 1, "declared": -1}, "length -1", id="negative"),
]


@pytest.mark.parametrize(("data", "row"), LEGAL)
def test_frame_builds_the_row(data: bytes, row: Row) -> None:
    assert frame(row.opcode, row.payload, fin=row.fin, rsv=row.rsv, mask=row.mask) == data


@pytest.mark.parametrize(("data", "row"), LEGAL)
def test_parse_reads_the_row(data: bytes, row: Row) -> None:
    assert parse(data) == ([row], b"")
    assert parse(data + data) == ([row, row], b"")
    [with_start_of_next] = with_tail(data, b"\x81")
    assert parse(with_start_of_next) == ([row], b"\x81")


@pytest.mark.parametrize(("data", "row"), LEGAL)
def test_parse_waits_for_the_last_byte(data: bytes, row: Row) -> None:
    for size in {0, 1, 2, 3, 5, len(data) // 2, len(data) - 1}:
        if size < len(data):
            assert parse(data[:size]) == ([], data[:size])


@pytest.mark.parametrize(("data", "message"), ILLEGAL)
def test_parse_refuses(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(data)


@pytest.mark.parametrize(("built", "expected"), BUILT)
def test_builders(built: bytes, expected: bytes) -> None:
    assert built == expected


@pytest.mark.parametrize(("arguments", "message"), IMPOSSIBLE)
def test_frame_refuses_what_no_header_can_say(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frame(**arguments)  # type: ignore[arg-type]


def test_true_means_the_fixed_mask() -> None:
    assert wire.text("Hello", mask=True) == wire.text("Hello", mask=wire.MASK)


@given(st.binary(max_size=20), st.binary(min_size=4, max_size=4))
def test_masking_twice_changes_nothing(data: bytes, key: bytes) -> None:
    assert wire.xor(wire.xor(data, key), key) == data


def test_accept_key_of_the_rfc() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_default_request() -> None:
    assert request() == (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )


def test_changed_request() -> None:
    changes: wire.Headers = {
        "host": None,
        "UPGRADE": "h2c",
        "Connection": ["a", b"\xff"],
        "Sec-WebSocket-Key": None,
        "Sec-WebSocket-Version": [],
        "Origin": "é",
    }
    built = request("/x", changes, method="PUT", http="HTTP/1.0", raw=b"broken\n", body=b"body")
    assert built == (
        b"PUT /x HTTP/1.0\r\nUPGRADE: h2c\r\nConnection: a\r\nConnection: \xff\r\nOrigin: \xe9\r\nbroken\n\r\nbody"
    )


def test_default_response() -> None:
    assert response() == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )


def test_changed_response() -> None:
    assert response(403, {"X": "y"}, reason="No", http="HTTP/1.0", body=b"no") == b"HTTP/1.0 403 No\r\nX: y\r\n\r\nno"
    assert accept_key("abc").encode() in response(key="abc")


@pytest.mark.parametrize("chunker", CHUNKERS)
@pytest.mark.parametrize("data", [b"", b"a", b"ab", b"abc", b"abcdefgh"])
def test_chunkers_keep_the_data(chunker: Chunker, data: bytes) -> None:
    assert b"".join(chunker(data)) == data


def test_chunkers_differ() -> None:
    chunks = [chunker(b"abcd") for chunker in CHUNKERS]
    assert chunks == [[b"abcd"], [b"a", b"b", b"c", b"d"], [b"ab", b"cd"], [b"a", b"bc", b"d"]]


@given(st.data(), st.binary(max_size=20))
def test_splits_keep_the_data_and_are_never_empty(data: st.DataObject, payload: bytes) -> None:
    chunks = data.draw(splits(payload))
    assert b"".join(chunks) == payload
    assert all(chunks)
