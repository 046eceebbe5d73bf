"""What goes over the wire, made and counted by the raw side of a measurement (RFC 6455, RFC 7692).

Charter: bytes only, no sockets; nothing of any library, so that none is measured by its own code. Whatever a side sends
is made before the clock runs, and what comes back is only counted.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import random
import re
import struct
import zlib
from collections.abc import Sequence

from bench.cases import Case

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = b"c29tZSBzaXh0ZWVuIGJ5dA=="
MASK = b"\x12\x9a\x5c\xe3"

FIN = 0x80
RSV1 = 0x40
TEXT = 0x1
CLOSE = 0x8
CONTROL = 0x8
MASKED = 0x80

END_OF_HEADERS = b"\r\n\r\n"

# Of the windows that the libraries at hand ask of their clients the smallest, and so right for all of them.
WINDOW_BITS = 12

# So many different messages take turns where they are compressed: one that is still in the window would compress to
# nothing, and the largest holds 32 of 1 KB. A prime: connections that are served in order would otherwise see few.
VARIETY = 83

NORMAL_CLOSURE = struct.pack("!H", 1000)


# -------------------------------------------------------------------------------------------------------------- opening


def request(port: int, deflate: bool = False) -> bytes:
    """The opening handshake of a client; its offer of compression is that of a browser."""
    offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" if deflate else b""
    return (
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: %b\r\nSec-WebSocket-Version: 13\r\n%b\r\n" % (port, KEY, offer)
    )


def response(request: bytes, deflate: bool = False) -> bytes:
    """The opening handshake of a server, in answer to a request."""
    key = re.search(rb"\r\nsec-websocket-key: *([^\s]+)\r\n", request, re.IGNORECASE)
    if key is None:
        raise ValueError("the request has no Sec-WebSocket-Key")
    accept = base64.b64encode(hashlib.sha1(key[1] + GUID).digest())
    agreed = b"Sec-WebSocket-Extensions: permessage-deflate%b\r\n" % window(request) if deflate else b""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (accept, agreed)
    )


def window(request: bytes) -> bytes:
    """The parameter for a client that asks its server for a smaller window; others may not know it."""
    return b"; server_max_window_bits=%d" % WINDOW_BITS if b"server_max_window_bits" in request else b""


def check_response(response: bytes, deflate: bool = False) -> None:
    """Make sure that a server accepted a request.

    Raises:
        ValueError: it didn't, or didn't agree to what was asked.
    """
    line, *headers = response.lower().split(b"\r\n")
    if not line.startswith(b"http/1.1 101"):
        raise ValueError(f"the server refused the connection: {line.decode()}")
    agreed = any(h.startswith(b"sec-websocket-extensions:") and b"permessage-deflate" in h for h in headers)
    if agreed is not deflate:
        raise ValueError("the server accepted compression" if agreed else "the server declined compression")


# --------------------------------------------------------------------------------------------------------------- frames


def frame(first: int, payload: bytes, mask: bytes | None = None) -> bytes:
    """A frame in bytes: its first byte, its length, its payload; masked by a client."""
    bit = MASKED if mask else 0
    size = len(payload)
    if size < 126:
        header = struct.pack("!BB", first, bit | size)
    elif size < 1 << 16:
        header = struct.pack("!BBH", first, bit | 126, size)
    else:
        header = struct.pack("!BBQ", first, bit | 127, size)
    return header + payload if mask is None else header + mask + masked(payload, mask)


def masked(payload: bytes, mask: bytes) -> bytes:
    """A payload after masking."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)


def compressed(payload: bytes) -> bytes:
    """A payload compressed on its own, so that it can be sent any number of times, with context takeover too."""
    deflater = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -WINDOW_BITS)
    return (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


def inflated(payload: bytes) -> bytes:
    """A payload that was compressed on its own, or was the first of its connection, as it was before."""
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(payload + b"\x00\x00\xff\xff")


CLOSE_FRAME = frame(FIN | CLOSE, NORMAL_CLOSURE, MASK)
CLOSE_ANSWER = frame(FIN | CLOSE, NORMAL_CLOSURE)


def parse_frame(data: bytes) -> tuple[int, bytes] | None:
    """The first byte and the payload of a frame without mask; None if it isn't whole."""
    if len(data) < 2:
        return None
    length, start = data[1], 2
    if length >= 126:
        start = 4 if length == 126 else 10
        length = int.from_bytes(data[2:start])
    return (data[0], data[start : start + length]) if len(data) >= start + length else None


# ------------------------------------------------------------------------------------------------------------- messages


def messages(size: int, count: int) -> list[str]:
    """Different texts of one size that look like the JSON of an API."""
    dice = random.Random(6455)
    names = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot")
    found = []
    for _ in range(count):
        text = "["
        while len(text) < size:
            row = {"id": dice.randrange(10**6), "name": dice.choice(names), "price": dice.randrange(10**5) / 100}
            text += json.dumps(row) + ", "
        found.append(text[:size])
    return found


class Traffic:
    """The messages of a case, and the frames that carry them in one direction.

    Parameters:
        case: what is measured.
        mask: the mask of a client; None for frames of a server.
    """

    def __init__(self, case: Case, mask: bytes | None) -> None:
        self.messages = messages(case.size, VARIETY if case.deflate else 1)
        payloads = [message.encode() for message in self.messages]
        if case.deflate:
            self.frames = [frame(FIN | RSV1 | TEXT, compressed(payload), mask) for payload in payloads]
        else:
            self.frames = [frame(FIN | TEXT, payload, mask) for payload in payloads]
        self._next = itertools.cycle(self.frames).__next__
        # Any number of frames that may be in flight is a slice of this, if they are all the same.
        self._train = memoryview(self.frames[0] * case.depth)
        self._alike = case.depth if len(self.frames) == 1 else 0

    def take(self, count: int) -> bytes | memoryview:
        """The next frames, as many as are asked for."""
        if count <= self._alike:
            return self._train[: count * len(self.frames[0])]
        return b"".join([self._next() for _ in range(count)])


# ------------------------------------------------------------------------------------------------------------- counting


class ByteCounter:
    """Counts frames that all have one size and one first byte by their bytes.

    Libraries ping after a while, which on a busy machine is within a measurement. From then on headers are read.
    """

    def __init__(self, size: int, first: int) -> None:
        self.size = size
        self.first = first
        self.have = 0
        self.by_headers: FrameCounter | None = None

    def feed(self, data: memoryview) -> int:
        """Take in what was received; returns how many frames that completes."""
        if self.by_headers is None:
            missing = -self.have % self.size
            firsts = bytes(data[missing :: self.size])
            if firsts.count(self.first) == len(firsts):
                whole, self.have = divmod(self.have + len(data), self.size)
                return whole
            self.by_headers = FrameCounter()
            self.by_headers.missing, self.by_headers.counts = missing, True
        return self.by_headers.feed(data)


class FrameCounter:
    """Counts frames with a message, or its end, by their headers."""

    def __init__(self) -> None:
        self.header = b""  # of the frame that comes next, as far as it is here
        self.missing = 0  # bytes of the payload of this frame that are still to come
        self.counts = False  # whether this frame ends a message

    def feed(self, data: memoryview) -> int:
        """Take in what was received; returns how many messages that completes."""
        whole = at = 0
        end = len(data)
        while at < end:
            if not self.missing:
                at = self._read_header(data, at)
                if self.header:
                    break
            step = min(self.missing, end - at)
            at += step
            self.missing -= step
            if not self.missing:
                whole += self.counts
        return whole

    def _read_header(self, data: memoryview, at: int) -> int:
        """Go on with a header; returns where it ends. If it isn't whole, it is kept."""
        had = len(self.header)
        header = self.header + bytes(data[at : at + 14 - had])
        size = header_size(header)
        if len(header) < size:
            self.header = header
            return len(data)
        self.header = b""
        length = header[1] & 127
        if length >= 126:
            length = int.from_bytes(header[2 : 4 if length == 126 else 10])
        self.missing = length
        self.counts = header[0] & FIN != 0 and header[0] & CONTROL == 0
        return at + size - had


def header_size(header: bytes) -> int:
    """How long a header is that begins so; more than there is if that can't be said yet."""
    if len(header) < 2:
        return 2
    extended = {126: 2, 127: 8}.get(header[1] & 127, 0)
    return 2 + extended + (4 if header[1] & MASKED else 0)


def counter(case: Case, frames: Sequence[bytes]) -> ByteCounter | FrameCounter:
    """Counts frames like these: by their bytes if they all have one size."""
    return FrameCounter() if case.deflate else ByteCounter(len(frames[0]), frames[0][0])
