"""A second implementation of the wire format: naive, slow and too simple to be wrong.

Tests compare the library with this file. May know: RFC 6455, sections 5.2 (frames), 5.3 (masking), 5.5.1 (Close) and 4
(opening handshake). Must not know: the library.

The builders make any frame, valid or not, because tests of checks need invalid input. Only :func:`parse` checks its
input.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

__all__ = [
    "BINARY",
    "CHUNKERS",
    "CLOSE",
    "CONT",
    "KEY",
    "MASK",
    "PING",
    "PONG",
    "TEXT",
    "Chunker",
    "Headers",
    "LengthForm",
    "Row",
    "accept_key",
    "binary",
    "bytewise",
    "close",
    "cont",
    "frame",
    "halves",
    "interrupted",
    "parse",
    "parse_one",
    "ping",
    "pong",
    "request",
    "response",
    "text",
    "whole",
    "with_tail",
    "xor",
]

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

#: The masking key of ``mask=True``: fixed, so that a failure reads the same each time. RFC 6455 section 5.7 has it too.
MASK = b"\x37\xfa\x21\x3d"

#: The ``Sec-WebSocket-Key`` of :func:`request` and :func:`response`: the one in RFC 6455 section 1.3.
KEY = "dGhlIHNhbXBsZSBub25jZQ=="

LengthForm = Literal["7", "16", "64"]
Chunker = Callable[[bytes], list[bytes]]

#: Changes to default headers: a value replaces, several values repeat the header, None removes it.
#: Bytes go out as they are, so that values no string could hold can be sent.
Headers = Mapping[str, str | bytes | Sequence[str | bytes] | None]


class Row(NamedTuple):
    """A frame as it stands on the wire, payload unmasked.

    Attributes:
        fin: whether this is the last fragment of its message.
        rsv: the three reserved bits as a number; RSV1 is 4.
        opcode: a number from 0 to 15.
        mask: the masking key, or None if the frame was not masked.
        payload: the payload after unmasking.
    """

    fin: bool
    rsv: int
    opcode: int
    mask: bytes | None
    payload: bytes


# Frames: section 5.2.


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | bool | None = None,
    length_form: LengthForm | None = None,
    declared: int | None = None,
) -> bytes:
    """Build any frame, legal or not (RFC 6455 section 5.2).

    Parameters:
        opcode: a number from 0 to 15.
        payload: the payload before masking.
        fin: whether this is the last fragment.
        rsv: the three reserved bits as a number; RSV1 is 4.
        mask: a masking key of 4 bytes, True for :data:`MASK`, None or False for no masking.
        length_form: bits of the length field, to force a form that is not minimal; None chooses the shortest.
        declared: the length to announce instead of the real one, for frames that lie or never end.

    Returns:
        The bytes of the frame.

    Raises:
        ValueError: a number does not fit its field, or the mask is not 4 bytes.
    """
    if not 0 <= opcode <= 15 or not 0 <= rsv <= 7:
        raise ValueError(f"opcode {opcode} must be in 0..15, rsv {rsv} in 0..7")
    key = MASK if mask is True else None if mask is False else mask
    if key is not None and len(key) != 4:
        raise ValueError(f"a masking key has 4 bytes, not {len(key)}")
    length = len(payload) if declared is None else declared
    first = bytes([fin << 7 | rsv << 4 | opcode])
    masked_bit = 0 if key is None else 0x80
    return (
        first + _length_field(length, length_form, masked_bit) + (payload if key is None else key + xor(payload, key))
    )


def _length_field(length: int, form: LengthForm | None, masked_bit: int) -> bytes:
    """Encode a length, in the shortest form unless told otherwise."""
    form = form or ("7" if length <= 125 else "16" if length <= 0xFFFF else "64")
    limit = {"7": 125, "16": 0xFFFF, "64": 2**64 - 1}[form]
    if not 0 <= length <= limit:
        raise ValueError(f"length {length} does not fit the {form}-bit form, whose limit is {limit}")
    if form == "7":
        return bytes([masked_bit | length])
    if form == "16":
        return bytes([masked_bit | 126]) + length.to_bytes(2, "big")
    return bytes([masked_bit | 127]) + length.to_bytes(8, "big")


def xor(data: bytes, key: bytes) -> bytes:
    """Mask or unmask ``data`` with a key of 4 bytes (RFC 6455 section 5.3)."""
    masked = bytearray(len(data))
    for index, octet in enumerate(key):
        masked[index::4] = data[index::4].translate(_xor_table(octet))
    return bytes(masked)


@functools.cache
def _xor_table(octet: int) -> bytes:
    """What becomes of each byte."""
    return bytes(byte ^ octet for byte in range(256))


def text(data: str | bytes = "", *, fin: bool = True, rsv: int = 0, mask: bytes | bool | None = None) -> bytes:
    """Build a text frame; bytes are taken as they are, so they may be invalid UTF-8."""
    return frame(TEXT, data.encode() if isinstance(data, str) else data, fin=fin, rsv=rsv, mask=mask)


def binary(data: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | bool | None = None) -> bytes:
    """Build a binary frame."""
    return frame(BINARY, data, fin=fin, rsv=rsv, mask=mask)


def cont(data: str | bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | bool | None = None) -> bytes:
    """Build a continuation frame, by default the last one of its message."""
    return frame(CONT, data.encode() if isinstance(data, str) else data, fin=fin, rsv=rsv, mask=mask)


def ping(data: bytes = b"", *, mask: bytes | bool | None = None) -> bytes:
    """Build a Ping frame."""
    return frame(PING, data, mask=mask)


def pong(data: bytes = b"", *, mask: bytes | bool | None = None) -> bytes:
    """Build a Pong frame."""
    return frame(PONG, data, mask=mask)


def close(code: int | None = None, reason: str | bytes = "", *, mask: bytes | bool | None = None) -> bytes:
    """Build a Close frame; without a code its payload is the reason alone, normally empty (RFC 6455 section 5.5.1)."""
    body = reason.encode() if isinstance(reason, str) else reason
    return frame(CLOSE, body if code is None else code.to_bytes(2, "big") + body, mask=mask)


def parse(data: bytes) -> tuple[list[Row], bytes]:
    """Read all whole frames at the front of ``data`` (RFC 6455 section 5.2).

    Parameters:
        data: bytes after the opening handshake.

    Returns:
        The frames, and the rest that is not a whole frame yet.

    Raises:
        ValueError: a frame breaks a rule that can be seen in its header alone.
    """
    rows = []
    while (found := parse_one(data)) is not None:
        row, data = found
        rows.append(row)
    return rows, data


def parse_one(data: bytes) -> tuple[Row, bytes] | None:
    """Read one frame at the front of ``data`` and return it with the rest, or None if it is not whole."""
    if len(data) < 2:
        return None
    extended = {126: 2, 127: 8}.get(data[1] & 0x7F, 0)
    mask_at = 2 + extended
    payload_at = mask_at + (4 if data[1] & 0x80 else 0)
    if len(data) < payload_at:
        return None
    length = int.from_bytes(data[2:mask_at], "big") if extended else data[1] & 0x7F
    _check_header(data[0], length, extended)
    end = payload_at + length
    if len(data) < end:
        return None
    key, payload = data[mask_at:payload_at], data[payload_at:end]
    row = Row(bool(data[0] & 0x80), data[0] >> 4 & 7, data[0] & 15, key or None, xor(payload, key) if key else payload)
    return row, data[end:]


def _check_header(first: int, length: int, extended: int) -> None:
    """Refuse what no peer may send, whatever was negotiated."""
    opcode, fin = first & 15, first & 0x80
    if opcode not in (CONT, TEXT, BINARY, CLOSE, PING, PONG):
        raise ValueError(f"opcode {opcode} is reserved")
    if opcode >= 8 and (length > 125 or not fin):
        raise ValueError(f"control frame of {length} bytes with fin={bool(fin)}; it may have 125 and no fragments")
    if length < {0: 0, 2: 126, 8: 0x10000}[extended]:
        raise ValueError(f"length {length} takes {extended} more bytes than it needs")
    if length >= 2**63:
        raise ValueError(f"length {length} has its top bit set")


# Opening handshake: section 4.


def accept_key(key: str) -> str:
    """Compute ``Sec-WebSocket-Accept`` from ``Sec-WebSocket-Key`` (RFC 6455 section 4.2.2)."""
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode(), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def request(
    target: str = "/",
    headers: Headers | None = None,
    *,
    method: str = "GET",
    http: str = "HTTP/1.1",
    host: str = "localhost",
    key: str = KEY,
    raw: bytes = b"",
    body: bytes = b"",
) -> bytes:
    """Build the request of an opening handshake, broken on demand (RFC 6455 section 4.1).

    Parameters:
        target: the request target.
        headers: changes to the default headers; see :data:`Headers`. Names are compared without case.
        method: the method.
        http: the version at the end of the request line.
        host: the value of ``Host``.
        key: the value of ``Sec-WebSocket-Key``.
        raw: header lines added as they are, each with its own line ending.
        body: what follows the blank line.
    """
    defaults = {
        "Host": host,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": "13",
    }
    return _head(f"{method} {target} {http}", defaults, headers or {}, raw) + body


def response(
    status: int = 101,
    headers: Headers | None = None,
    *,
    reason: str = "Switching Protocols",
    http: str = "HTTP/1.1",
    key: str = KEY,
    raw: bytes = b"",
    body: bytes = b"",
) -> bytes:
    """Build the response of an opening handshake, broken on demand (RFC 6455 section 4.2.2).

    Parameters:
        status: the status code; the headers of an accepted handshake are there by default only for 101.
        headers: changes to the default headers; see :data:`Headers`. Names are compared without case.
        reason: the reason phrase.
        http: the version at the front of the status line.
        key: the ``Sec-WebSocket-Key`` to answer.
        raw: header lines added as they are, each with its own line ending.
        body: what follows the blank line.
    """
    accepted = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept_key(key)}
    return _head(f"{http} {status} {reason}", accepted if status == 101 else {}, headers or {}, raw) + body


def _head(start: str, defaults: Mapping[str, str], changes: Headers, raw: bytes) -> bytes:
    """Join a start line and headers; a changed header keeps its place, a new one comes last."""
    fields: dict[str, tuple[str, Iterable[str | bytes]]] = {name.lower(): (name, [v]) for name, v in defaults.items()}
    for name, change in changes.items():
        values = [] if change is None else [change] if isinstance(change, str | bytes) else change
        fields[name.lower()] = (name, values)
    lines = [_latin(name) + b": " + _latin(value) for name, values in fields.values() for value in values]
    return b"".join(line + b"\r\n" for line in [_latin(start), *lines]) + raw + b"\r\n"


def _latin(value: str | bytes) -> bytes:
    """Encode without judging: latin-1 gives each character below 256 its own byte."""
    return value.encode("latin-1") if isinstance(value, str) else value


# Chunkers: the same bytes, arriving differently.


def whole(data: bytes) -> list[bytes]:
    """All bytes in one read."""
    return [data]


def bytewise(data: bytes) -> list[bytes]:
    """Each byte in a read of its own."""
    return [data[index : index + 1] for index in range(len(data))]


def halves(data: bytes) -> list[bytes]:
    """Two reads, cut in the middle."""
    middle = len(data) // 2
    return [data[:middle], data[middle:]]


def interrupted(data: bytes) -> list[bytes]:
    """Three reads, cut after the first byte and before the last."""
    return [data[:1], data[1:-1], data[-1:]] if len(data) > 2 else bytewise(data)


def with_tail(data: bytes, tail: bytes = b"\x00tail\xff") -> list[bytes]:
    """One read that also holds bytes of what comes next; a parser must leave the tail alone."""
    return [data + tail]


#: For ``@pytest.mark.parametrize("chunker", CHUNKERS)``: joined, the chunks of each give the data again.
CHUNKERS: list[Chunker] = [whole, bytewise, halves, interrupted]
