"""Size and text of messages whose payloads extensions decode, which the decoder of frames can't check.

May know: frames, UTF-8, the current message. Must not know: which extensions there are, and what they do.
"""

from __future__ import annotations

from .._codec import FrameDecoder, build_frame
from .._codec.header import FIN, OPCODE_CONT, OPCODE_MASK, OPCODE_TEXT, RSV1
from ..typing import Data
from .failures import InvalidText

__all__ = ["DecompressedMessage"]


class DecompressedMessage:
    """State of a received message whose payload only extensions can decode."""

    __slots__ = ("checker", "opcode", "size")

    def __init__(self) -> None:
        self.opcode = 0  # opcode of the message, with RSV1
        self.size = 0  # bytes in its fragments so far
        self.checker: FrameDecoder | None = None

    def check(self, head: int, payload: bytes, decode: bool) -> Data:
        """Count a decoded payload; check it if it is text (RFC 6455 section 8.1).

        Parameters:
            head: first byte of its frame.
            payload: the payload.
            decode: whether to return the text of a message in one frame as a ``str``.

        Returns:
            The payload, or its text.

        Raises:
            InvalidText: the fragments received so far aren't UTF-8.
            UnicodeDecodeError: a message in one frame isn't UTF-8.
        """
        final = head & FIN != 0
        first = head & OPCODE_MASK != OPCODE_CONT
        self.size = 0 if final else self.size + len(payload)
        if self.opcode & OPCODE_MASK != OPCODE_TEXT:
            return payload
        if final and first:
            text = payload.decode()
            return text if decode else payload
        if first or self.checker is None:
            # A decoder of frames without extensions can check text in pieces.
            self.checker = FrameDecoder(False, 0, -1, -1, False)
        self.checker.feed(build_frame(head & ~RSV1, payload, None))
        if self.checker.failure is not None:
            raise InvalidText(self.checker.failure[1])
        return payload
