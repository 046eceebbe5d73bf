"""The readable twin of the accelerator: frames to bytes and back (RFC 6455 section 5), masking, UTF-8, header lines.

May know: bytes, integers, plain lists, and the rules that a receiver can check without knowing what the frames mean.
Must not know: our classes, events, logging, I/O. Of extensions it knows only which reserved bits they use.

This file describes what the compiled twin does; where the two differ, this one is right. A :class:`FrameDecoder` takes
the bytes of each read and returns the frames that are now complete. It refuses what is wrong as early as possible: a
frame by its header, and text by its first wrong byte, even before the rest of the frame has arrived.
"""

from __future__ import annotations

import codecs
import functools
import os
import struct
import threading
from collections import deque
from typing import Any, Final, TypeVar, cast

from .fields import read_fields
from .header import (
    CONTROL_BIT,
    FIN,
    LENGTH_16,
    LENGTH_64,
    LENGTH_MASK,
    MASK_BIT,
    MAX_CONTROL_PAYLOAD,
    MAX_LENGTH_7,
    MAX_LENGTH_16,
    MAX_PAYLOAD,
    OPCODE_BINARY,
    OPCODE_CLOSE,
    OPCODE_CONT,
    OPCODE_MASK,
    OPCODE_PING,
    OPCODE_PONG,
    OPCODE_TEXT,
    RSV1,
    RSV_MASK,
    WHOLE_TEXT,
    is_control,
    is_final,
    opcode_of,
)

__all__ = [
    "Assembly",
    "Encoded",
    "FrameDecoder",
    "Queue",
    "SendingHalf",
    "apply_mask",
    "build_frame",
    "build_header",
    "forget_masks",
    "new_mask",
    "read_buffer",
    "read_fields",
]

Buffer = bytes | bytearray | memoryview

_LENGTH_16: Final = struct.Struct(">BBH").pack
_LENGTH_64: Final = struct.Struct(">BBQ").pack
# Payloads of this size or larger are masked in four lanes. In bytes.
_LANES_FROM: Final = 4096
_UTF8: Final = codecs.getincrementaldecoder("utf-8")

# The bits that a decoder keeps of a message whose frames are still arriving. RSV1 applies to the whole message:
# compressed text can't be checked here.
_KEPT: Final = RSV1 | OPCODE_MASK
# The first byte of a frame that begins a text which isn't compressed.
_PLAIN_TEXT: Final = (WHOLE_TEXT, OPCODE_TEXT)
_OPCODES: Final = (OPCODE_CONT, OPCODE_TEXT, OPCODE_BINARY, OPCODE_CLOSE, OPCODE_PING, OPCODE_PONG)


def apply_mask(data: Buffer, mask: bytes) -> bytes:
    """Mask or unmask ``data`` with the four bytes of ``mask`` (RFC 6455 section 5.3)."""
    size = len(data)
    if size >= _LANES_FROM:
        return _mask_lanes(data, mask)
    # In pure Python nothing is faster than one XOR of two large integers.
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(data, "little") ^ key).to_bytes(size, "little")


def _mask_lanes(data: Buffer, mask: bytes) -> bytes:
    """Mask every fourth byte at a time. For large payloads this is faster than to convert them to integers."""
    masked = bytearray(data)
    for lane in range(4):
        masked[lane::4] = masked[lane::4].translate(_xor_table(mask[lane]))
    return bytes(masked)


@functools.cache
def _xor_table(key: int) -> bytes:
    """Return a table that maps each byte to its XOR with ``key``."""
    return bytes(byte ^ key for byte in range(256))


def build_header(head: int, size: int) -> bytes:
    """Return the header of an unmasked frame: ``head`` is its first byte, ``size`` the payload's length in bytes."""
    return _header(head, size, 0)


def build_frame(head: int, payload: Buffer, mask: bytes | None) -> bytes:
    """Return a frame: ``head`` is its first byte; ``mask`` is four bytes, or None for an unmasked frame."""
    # Another thread may resize a bytearray between two steps, and then the header would lie.
    data = payload if type(payload) is bytes else bytes(payload)
    if mask is None:
        return b"".join((_header(head, len(data), 0), data))
    return b"".join((_header(head, len(data), MASK_BIT), mask, apply_mask(data, mask)))


def _header(head: int, size: int, masked: int) -> bytes:
    if size <= MAX_LENGTH_7:
        return bytes((head, masked | size))
    if size <= MAX_LENGTH_16:
        return _LENGTH_16(head, masked | LENGTH_16, size)
    return _LENGTH_64(head, masked | LENGTH_64, size)


class _Masks(threading.local):
    """Masking keys (RFC 6455 section 5.3), taken from a buffer of random bytes. Each thread has its own buffer.

    Asking the operating system for every key would cost more than the rest of the frame. The bytes still come from its
    random generator: they are unpredictable, and no key is used twice.
    """

    keys = memoryview(b"")
    position = 0

    def draw(self) -> bytes:
        start = self.position
        if start >= len(self.keys):
            self.keys = memoryview(os.urandom(4096))
            start = 0
        self.position = start + 4
        return bytes(self.keys[start : start + 4])

    def forget(self) -> None:
        self.keys, self.position = memoryview(b""), 0


_masks = _Masks()
# new_mask returns four unpredictable bytes to mask a frame with. forget_masks drops the buffer: after a fork, a child
# would otherwise use the same keys as its parent.
new_mask, forget_masks = _masks.draw, _masks.forget

# Fragments are joined when this many are stored, so that many tiny fragments need little more memory than their bytes.
MERGE_AFTER: Final = 64


class Assembly:
    """A fragmented message that is being received.

    Parameters:
        text: whether it is a text message; its bytes have been checked to be UTF-8.

    Attributes:
        complete: whether the last fragment has arrived.
        waiting: number of fragments that have arrived and have not been taken.
    """

    __slots__ = ("_merged", "_pieces", "complete", "text", "waiting")

    def __init__(self, text: bool) -> None:
        self.text = text
        self.complete = False
        self.waiting = 0
        self._merged = bytearray()
        self._pieces: deque[bytes] = deque()

    def add(self, piece: bytes) -> None:
        """Add the payload of the next fragment."""
        self.waiting += 1
        self._pieces.append(piece)
        if len(self._pieces) >= MERGE_AFTER:
            self._merged += b"".join(self._pieces)
            self._pieces.clear()

    def take(self) -> bytes | None:
        """Return the next fragment, or several joined; None if all that have arrived were taken."""
        if self._merged:
            piece = bytes(self._merged)
            self._merged = bytearray()
            self.waiting = len(self._pieces)
            return piece
        if self._pieces:
            self.waiting -= 1
            return self._pieces.popleft()
        self.waiting = 0
        return None

    def whole(self) -> bytes | str:
        """Return all fragments that were not taken, as one message."""
        payload = b"".join((self._merged, *self._pieces))
        return payload.decode() if self.text else payload


Item = TypeVar("Item")


class Queue(deque[Item]):
    """Received messages in the order of their arrival; the compiled queue takes less memory while it is empty.

    A message in one frame is stored as it is. A fragmented message is stored as an :class:`Assembly`, which enters the
    queue with its first fragment.

    Attributes:
        current: the assembly of the message that is arriving in fragments; None if there is none.
        extra: number of fragments in assemblies, not counting the entry that each assembly has in the queue.
        assembles: whether decoders may add fragments to it themselves; only the compiled one does.
    """

    __slots__ = ("assembles", "current", "extra")

    def __init__(self) -> None:
        super().__init__()
        self.current: Assembly | None = None
        self.extra = 0
        self.assembles = True

    def add_fragment(self, head: int, payload: bytes) -> None:
        """Store a fragment in the message that is arriving: the first byte of its frame, and its payload."""
        current = self.current
        if head & OPCODE_MASK != OPCODE_CONT:
            current = self.current = Assembly(head & OPCODE_MASK == OPCODE_TEXT)
            self.append(cast("Item", current))
        elif current is None:  # the rest of a message that was left by its reader, or discarded
            return
        elif current.waiting:
            self.extra += 1
        current.add(payload)
        if head & FIN:
            current.complete = True
            self.current = None

    def take(self) -> bytes | str | None:
        """Remove and return the next message, with its fragments joined; None if it isn't complete."""
        first: Any = self[0] if self else None
        if first is None or (isinstance(first, Assembly) and not first.complete):
            return None
        message = cast("bytes | str", first)
        if isinstance(first, Assembly):
            # First, as there may be no memory for it.
            message, extra = first.whole(), max(first.waiting - 1, 0)
            self.extra -= extra
        # A signal handler runs after a call, so none can come between this and the end.
        del self[0]
        return message


class Encoded:
    """A message, and its frame as it is sent where nothing masks or compresses it."""

    __slots__ = ("_plain", "_size")

    _plain: bytes | None  # None until it is needed
    _size: int  # of the message


class SendingHalf:
    """Whether messages may be sent. This is checked before each of them."""

    __slots__ = ("continuing", "sending")

    sending: Any  # the state of this half of a connection
    continuing: bool  # whether a fragmented message is under way


def read_buffer(size: int) -> memoryview:
    """Return a buffer of ``size`` bytes to read into. The compiled twin aligns it so that the kernel copies fastest."""
    return memoryview(bytearray(size))


class _Refusal(Exception):
    """Carries a failure out of the steps of the decoder; never leaves this file."""


def _head_error(head: int, reserved: int) -> str | None:
    """Return why no frame may begin with the byte ``head``; None if one may."""
    opcode = opcode_of(head)
    if opcode not in _OPCODES:
        return "invalid opcode"
    allowed = reserved if reserved == RSV_MASK or opcode in (OPCODE_TEXT, OPCODE_BINARY) else 0
    if head & RSV_MASK & ~allowed:
        return "reserved bits must be 0"
    if is_control(head) and not is_final(head):
        return "fragmented control frame"
    return None


# Which rule each first byte breaks, for each choice of reserved bits: one look-up per frame instead of four tests.
_HEAD_ERRORS: Final = {
    reserved: [_head_error(head, reserved) for head in range(256)] for reserved in (0, RSV1, RSV_MASK)
}


class FrameDecoder:
    """Finds complete frames in what arrives, and checks the rules that don't depend on what the frames mean.

    Parameters:
        masked: whether frames must be masked (they come from a client) or must not be.
        reserved: the reserved bits that extensions claim. 0: none. RSV1: this bit on the first frame of a message.
            RSV_MASK: all three on any frame; then payloads may be encoded, and aren't checked as text.
        max_fragment: largest payload of a data frame in bytes, -1 for any.
        max_message: largest sum of the payloads of a message in bytes, -1 for any.
        text: whether the payload of a text message in one frame is given as ``str`` instead of ``bytes``.

    Attributes:
        failure: None, or a tuple that begins with a close code: ``(1002, text)``, ``(1007, text)``, or ``(1009, size of
            the frame, limit, bytes of the message before it)``. Once it is set, input is ignored.
        ended: whether a Close frame was seen; input after it is ignored.
        heard: set whenever anything arrives. The caller clears it.
        max_fragment, max_message: the limits. A change applies from the next header on.
        messages: number of messages that arrived completely.
        payload_bytes: bytes of payload in data frames that arrived completely.
        messages_granted: where rates are limited, the value of ``messages`` beyond which somebody must look at the
            clock; and bytes_granted: the number of bytes before that. Whoever feeds the decoder counts them down.
    """

    __slots__ = (
        "_errors",
        "_head",
        "_left",
        "_mask",
        "_masked",
        "_opcode",
        "_payload",
        "_received",
        "_reserved",
        "_tail",
        "_text",
        "_utf8",
        "_validated",
        "bytes_granted",
        "ended",
        "failure",
        "heard",
        "max_fragment",
        "max_message",
        "messages",
        "messages_granted",
        "payload_bytes",
    )

    def __init__(self, masked: bool, reserved: int, max_fragment: int, max_message: int, text: bool) -> None:
        self.failure: tuple[Any, ...] | None = None
        self.ended = False
        self.heard = False
        self.messages = 0
        self.payload_bytes = 0
        self.messages_granted = self.bytes_granted = 0
        self._masked = masked
        self._reserved = reserved
        self.max_fragment = max_fragment
        self.max_message = max_message
        self._text = text
        self._errors = _HEAD_ERRORS[reserved]
        self._tail = b""  # a header that is still incomplete
        # The frame whose payload is still arriving.
        self._head = 0
        self._mask = b""
        self._left = 0
        self._payload: bytearray | None = None
        # The message whose frames are still arriving: its opcode, its bytes in the frames so far.
        self._opcode = 0
        self._received = 0
        # Set while the message, or the frame, under way is text that must be checked piece by piece.
        self._utf8: codecs.IncrementalDecoder | None = None
        self._validated = 0

    @property
    def missing(self) -> int:
        """Number of bytes missing of the payload under way; 0 between two frames, -1 in the middle of a header."""
        if self._payload is not None:
            return self._left
        return -1 if self._tail else 0

    @property
    def spent(self) -> bool:
        """Whether more was taken in than granted."""
        return self.messages > self.messages_granted or self.bytes_granted < 0

    def feed(self, data: Buffer) -> list[Any]:
        """Take in ``data``; return the frames that are now complete as ``[head, payload, head, payload, ...]``.

        ``head`` is the first byte of the frame, ``payload`` is unmasked. ``data`` may be changed afterwards.
        """
        frames: list[Any] = []
        self.heard = True
        if self.failure is not None or self.ended:
            return frames
        chunk = self._tail + bytes(data)
        position = 0
        try:
            while position < len(chunk) and not self.ended:
                step = self._read_frame if self._payload is None else self._read_payload
                moved = step(chunk, position, frames)
                if moved == position:
                    break
                position = moved
        except _Refusal as refusal:
            self.failure = refusal.args
        self._tail = b"" if self.failure or self.ended else chunk[position:]
        return frames

    # Each step returns the position where it ended. If it lacks bytes, it changes nothing and returns ``start``.

    def _read_frame(self, chunk: bytes, start: int, frames: list[Any]) -> int:
        """Read a header, and its payload if all of it has arrived."""
        available = len(chunk) - start
        if available < 2:
            return start
        head, size = chunk[start], chunk[start + 1] & LENGTH_MASK
        self._check_header(head, chunk[start + 1])
        begin = start + 2
        if size > MAX_LENGTH_7:
            width = 2 if size == LENGTH_16 else 8
            begin += width
            if available < 2 + width:
                return start
            size = _extended_length(chunk[begin - width : begin])
        if head & CONTROL_BIT == 0:
            self._check_size(head, size)
        if self._masked:
            begin += 4
            if begin > len(chunk):
                return start
            self._mask = chunk[begin - 4 : begin]
        end = begin + size
        if end > len(chunk):
            self._start_payload(head, size)
            return begin
        payload = chunk[begin:end]
        self._finish(head, apply_mask(payload, self._mask) if self._masked else payload, frames)
        return end

    def _check_header(self, head: int, second: int) -> None:
        """Refuse a header whose first two bytes break a rule."""
        error = self._errors[head]
        if error is None and (second & MASK_BIT != 0) is not self._masked:
            error = "incorrect masking"
        elif error is None and head & CONTROL_BIT:
            if second & LENGTH_MASK > MAX_CONTROL_PAYLOAD:
                error = "control frame too long"
        elif error is None and (head & OPCODE_MASK == OPCODE_CONT) is not (self._opcode != 0):
            error = "expected a continuation frame" if self._opcode else "unexpected continuation frame"
        if error is not None:
            raise _Refusal(1002, error)

    def _check_size(self, head: int, size: int) -> None:
        """Check the limits of size before any of the payload is stored."""
        # The limits apply to the decompressed size, which isn't known yet. The compressed form may be a little larger.
        compressed = (self._opcode if head & OPCODE_MASK == OPCODE_CONT else head) & RSV1
        allowed = _deflate_bound if compressed else int
        if self.max_fragment >= 0 and size > allowed(self.max_fragment):
            raise _Refusal(1009, size, self.max_fragment, 0)
        if self.max_message >= 0 and self._received + size > allowed(self.max_message):
            raise _Refusal(1009, size, self.max_message, self._received)

    def _start_payload(self, head: int, size: int) -> None:
        """Begin a frame whose payload hasn't arrived completely. Its buffer grows with what arrives."""
        self._head, self._left, self._payload = head, size, bytearray()
        if self._is_text(head):
            self._utf8 = self._utf8 or _UTF8()

    def _read_payload(self, chunk: bytes, start: int, frames: list[Any]) -> int:
        """Read another piece of the payload."""
        assert self._payload is not None
        piece = chunk[start : start + self._left]
        if self._masked:
            shift = len(self._payload) % 4
            piece = apply_mask(piece, self._mask[shift:] + self._mask[:shift])
        self._left -= len(piece)
        self._payload += piece
        checked = self._utf8 is not None and self._head & CONTROL_BIT == 0
        if checked:
            self._validate(piece, final=self._left == 0 and self._head & FIN != 0)
        if self._left == 0:
            payload, self._payload = bytes(self._payload), None
            self._finish(self._head, payload, frames, checked)
        return start + len(piece)

    def _finish(self, head: int, payload: bytes, frames: list[Any], checked: bool = False) -> None:
        """Add a complete frame to the result, and update the state of its message."""
        result: bytes | str = payload
        if head & CONTROL_BIT:
            self.ended = head & OPCODE_MASK == OPCODE_CLOSE
        elif head == WHOLE_TEXT and self._is_text(head):
            result = self._whole_text(payload)
            self._account(head, len(payload))
        else:
            if not checked and self._is_text(head):
                self._utf8 = self._utf8 or _UTF8()
                self._validate(payload, final=head & FIN != 0)
            self._account(head, len(payload))
        frames += head, result

    def _account(self, head: int, size: int) -> None:
        self.payload_bytes += size
        if head & FIN:
            self.messages += 1
            self._end_message()
        else:
            self._opcode = self._opcode or head & _KEPT
            self._received += size

    def _end_message(self) -> None:
        self._opcode = self._received = self._validated = 0
        self._utf8 = None

    def _is_text(self, head: int) -> bool:
        """Return whether a frame begins or continues a text message that isn't compressed."""
        if self._reserved == RSV_MASK:
            return False
        return head in _PLAIN_TEXT or (head & OPCODE_MASK == OPCODE_CONT and self._opcode == OPCODE_TEXT)

    def _whole_text(self, payload: bytes) -> bytes | str:
        try:
            text = payload.decode()
        except UnicodeDecodeError as error:
            raise _Refusal(1007, f"{error.reason} at position {error.start}") from None
        return text if self._text else payload

    def _validate(self, piece: bytes, *, final: bool) -> None:
        """Check the next piece of a text; a character may be split between two pieces."""
        assert self._utf8 is not None
        try:
            self._utf8.decode(piece, final)
        except UnicodeDecodeError as error:
            position = self._validated - len(self._utf8.getstate()[0]) + error.start
            raise _Refusal(1007, f"{error.reason} at position {position}") from None
        self._validated += len(piece)
        # Python's decoder rejects a surrogate only at its third byte, although its second is already invalid.
        held = self._utf8.getstate()[0]
        if held[:1] == b"\xed" and held[1:] >= b"\xa0":
            raise _Refusal(1007, f"invalid continuation byte at position {self._validated - len(held)}")


def _deflate_bound(size: int) -> int:
    """Return the largest size that zlib can produce from ``size`` bytes, whatever its settings and the data."""
    return size + (size >> 3) + (size >> 6) + 64


def _extended_length(field: bytes) -> int:
    """Read a length in 16 or 64 bits, and refuse one that fits in fewer (RFC 6455 section 5.2)."""
    size = int.from_bytes(field, "big")
    if size > MAX_PAYLOAD:
        raise _Refusal(1002, f"payload length {size} exceeds 2**63 - 1")
    if size <= (MAX_LENGTH_7 if len(field) == 2 else MAX_LENGTH_16):
        raise _Refusal(1002, f"payload length {size} isn't in its shortest form")
    return size
