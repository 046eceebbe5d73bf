"""The header of a frame (RFC 6455 section 5.2): the names of its bits, the opcodes, the limits of its lengths.

May know: the first two bytes of a frame, and how long the rest of its header is.
Must not know: payloads, the order of frames, what a frame means to a connection.

``head`` is the first byte of a frame: FIN, three reserved bits, and four bits for the opcode. The second byte says
whether the payload is masked, and how long it is or where its length stands. Code that runs for every frame tests a bit
by its name, as in ``head & CONTROL_BIT``; other code calls the functions below.

``_header.h`` beside this file gives the same names to the compiled twin. :class:`websockets.frames.Opcode` is the
enumeration of the opcodes for users. Tests compare the three.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CONTROL_BIT",
    "FIN",
    "LENGTH_16",
    "LENGTH_64",
    "LENGTH_MASK",
    "MASK_BIT",
    "MAX_CONTROL_PAYLOAD",
    "MAX_LENGTH_7",
    "MAX_LENGTH_16",
    "MAX_PAYLOAD",
    "OPCODE_BINARY",
    "OPCODE_CLOSE",
    "OPCODE_CONT",
    "OPCODE_MASK",
    "OPCODE_PING",
    "OPCODE_PONG",
    "OPCODE_TEXT",
    "RSV1",
    "RSV2",
    "RSV3",
    "RSV_MASK",
    "WHOLE",
    "WHOLE_BINARY",
    "WHOLE_TEXT",
    "frame_length",
    "is_control",
    "is_final",
    "opcode_of",
    "payload_length",
]

# The first byte.
FIN: Final = 0x80
RSV1: Final = 0x40
RSV2: Final = 0x20
RSV3: Final = 0x10
RSV_MASK: Final = 0x70
OPCODE_MASK: Final = 0x0F
# Of the opcode's four bits, the one that only control frames set (RFC 6455 section 5.5).
CONTROL_BIT: Final = 0x08

# The opcodes as plain integers. A comparison with a member of an enumeration takes longer.
OPCODE_CONT: Final = 0x00
OPCODE_TEXT: Final = 0x01
OPCODE_BINARY: Final = 0x02
OPCODE_CLOSE: Final = 0x08
OPCODE_PING: Final = 0x09
OPCODE_PONG: Final = 0x0A

# The first byte of a message in one frame that no extension has changed.
WHOLE_TEXT: Final = FIN | OPCODE_TEXT
WHOLE_BINARY: Final = FIN | OPCODE_BINARY
WHOLE: Final = (WHOLE_TEXT, WHOLE_BINARY)

# The second byte.
MASK_BIT: Final = 0x80
LENGTH_MASK: Final = 0x7F
# These two values of its seven bits say that the length follows, in 16 or in 64 bits.
LENGTH_16: Final = 126
LENGTH_64: Final = 127

# The largest payloads, in bytes, whose lengths fit in seven and in 16 bits. Of the 64 bits the highest must be 0.
MAX_LENGTH_7: Final = 125
MAX_LENGTH_16: Final = 0xFFFF
MAX_PAYLOAD: Final = 2**63 - 1
# The length of a control frame must fit in seven bits (RFC 6455 section 5.5).
MAX_CONTROL_PAYLOAD: Final = MAX_LENGTH_7


def opcode_of(head: int) -> int:
    """Return the opcode of a frame; it may be one that RFC 6455 reserves.

    Parameters:
        head: the first byte of the frame.
    """
    return head & OPCODE_MASK


def is_control(head: int) -> bool:
    """Return whether a frame is a control frame: Close, ping or pong (RFC 6455 section 5.5).

    Parameters:
        head: the first byte of the frame.
    """
    return head & CONTROL_BIT != 0


def is_final(head: int) -> bool:
    """Return whether a frame is the last one of its message (RFC 6455 section 5.4).

    Parameters:
        head: the first byte of the frame.
    """
    return head & FIN != 0


def _header_length(second: int) -> int:
    """Return the length of a header in bytes, given its second byte."""
    extended = {LENGTH_16: 2, LENGTH_64: 8}.get(second & LENGTH_MASK, 0)
    return 2 + extended + (4 if second & MASK_BIT else 0)


# The length of a header by its second byte. Sent frames are counted with it, so it is computed once.
_HEADER_LENGTHS: Final = bytes(map(_header_length, range(256)))


def frame_length(data: bytes, start: int) -> int:
    """Return the length of a frame in bytes, as its header announces it; it isn't checked.

    Parameters:
        data: bytes that contain the whole header.
        start: the index at which it begins.
    """
    second = data[start + 1]
    length = second & LENGTH_MASK
    if length > MAX_LENGTH_7:
        width = 2 if length == LENGTH_16 else 8
        length = int.from_bytes(data[start + 2 : start + 2 + width], "big")
    return _HEADER_LENGTHS[second] + length


def payload_length(frame: bytes) -> int:
    """Return the length of the payload of a whole frame, in bytes.

    Parameters:
        frame: the frame, with its header.
    """
    return len(frame) - _HEADER_LENGTHS[frame[1]]
