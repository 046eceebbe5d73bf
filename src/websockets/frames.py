"""Frames and close codes: RFC 6455 sections 5.2, 5.5 and 7.4.

May know: the layout of one frame and of a Close payload, the opcodes and the close codes with their meaning.
Must not know: connections, the order of frames, extensions beyond passing a frame through them, I/O.
``_codec`` reads and writes the bytes.
"""

from __future__ import annotations

import dataclasses
import enum
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from ._codec import build_frame, forget_masks, new_mask
from ._codec.header import FIN, MAX_CONTROL_PAYLOAD, OPCODE_MASK, RSV1, RSV2, RSV3
from ._compat.deprecated import deprecated_names
from ._compat.environment import whole_number
from .exceptions import ProtocolError, advised
from .typing import BytesLike

if TYPE_CHECKING:
    from .extensions.base import Extension

__all__ = ["Close", "CloseCode", "Frame", "Opcode"]


class Opcode(enum.IntEnum):
    """What a frame is for (RFC 6455 section 5.2)."""

    CONT, TEXT, BINARY = 0x00, 0x01, 0x02
    CLOSE, PING, PONG = 0x08, 0x09, 0x0A


CONT, TEXT, BINARY, CLOSE, PING, PONG = Opcode
DATA_OPCODES = frozenset({CONT, TEXT, BINARY})
CTRL_OPCODES = frozenset({CLOSE, PING, PONG})
# A look-up here is much faster than Opcode(number), which also refuses other numbers.
_OPCODES = {int(opcode): opcode for opcode in Opcode}


class CloseCode(enum.IntEnum):
    """Why a connection closed (RFC 6455 section 7.4.1 and the IANA registry)."""

    NORMAL_CLOSURE = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    # 1004 is reserved without a meaning.
    NO_STATUS_RCVD = 1005
    ABNORMAL_CLOSURE = 1006
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_HANDSHAKE = 1015


CLOSE_CODE_EXPLANATIONS: dict[int, str] = {
    CloseCode.NORMAL_CLOSURE: "OK",
    CloseCode.GOING_AWAY: "going away",
    CloseCode.PROTOCOL_ERROR: "protocol error",
    CloseCode.UNSUPPORTED_DATA: "unsupported data",
    CloseCode.NO_STATUS_RCVD: "no status received [internal]",
    CloseCode.ABNORMAL_CLOSURE: "abnormal closure [internal]",
    CloseCode.INVALID_DATA: "invalid frame payload data",
    CloseCode.POLICY_VIOLATION: "policy violation",
    CloseCode.MESSAGE_TOO_BIG: "message too big",
    CloseCode.MANDATORY_EXTENSION: "mandatory extension",
    CloseCode.INTERNAL_ERROR: "internal error",
    CloseCode.SERVICE_RESTART: "service restart",
    CloseCode.TRY_AGAIN_LATER: "try again later",
    CloseCode.BAD_GATEWAY: "bad gateway",
    CloseCode.TLS_HANDSHAKE: "TLS handshake failure [internal]",
}

# An endpoint reports 1005, 1006 and 1015 to its own user, and never sends them (RFC 6455 section 7.4.1).
INTERNAL_CLOSE_CODES = {CloseCode.NO_STATUS_RCVD, CloseCode.ABNORMAL_CLOSURE, CloseCode.TLS_HANDSHAKE}
EXTERNAL_CLOSE_CODES = frozenset(set(CloseCode) - INTERNAL_CLOSE_CODES)
OK_CLOSE_CODES = frozenset({CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.NO_STATUS_RCVD})

# What to do about a code that can't be sent.
SENDABLE = "send one from 1000 to 1003 or 1007 to 1014, or from 3000 to 4999 for codes of your own"

MAX_LOG_SIZE = whole_number("WEBSOCKETS_MAX_LOG_SIZE", 75)

# Control characters, except tabs and ends of lines: rare in text, and frequent in binary data.
find_binary = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\xa0\xad]").search


def explain_close_code(code: int) -> str:
    """Return what a close code means, in words. RFC 6455 section 7.4.2 assigns the ranges."""
    if 3000 <= code < 4000:
        return "registered"
    if 4000 <= code < 5000:
        return "private use"
    return CLOSE_CODE_EXPLANATIONS.get(code, "unknown")


@dataclasses.dataclass(slots=True)
class Close:
    """Code and reason of a Close frame (RFC 6455 section 5.5.1).

    Parameters:
        code: close code, 1000 to 4999.
        reason: text for humans, at most 123 bytes in UTF-8.
    """

    code: int
    reason: str

    def __str__(self) -> str:
        words = f"{self.code:d} ({explain_close_code(self.code)})"
        return f"{words} {self.reason}" if self.reason else words

    @classmethod
    def parse(cls, data: BytesLike) -> Self:
        """Read the payload of a Close frame.

        Returns:
            The code and the reason; 1005 and "" when the payload is empty.

        Raises:
            ProtocolError: the payload is one byte long, or the code must not be sent in a frame.
            UnicodeDecodeError: the reason isn't UTF-8.
        """
        payload = bytes(data)
        if not payload:
            return cls(CloseCode.NO_STATUS_RCVD, "")
        if len(payload) == 1:
            raise ProtocolError("close frame too short")
        close = cls(int.from_bytes(payload[:2], "big"), payload[2:].decode())
        close.check()
        return close

    def serialize(self) -> bytes:
        """Return the payload of the Close frame.

        Raises:
            ProtocolError: the code must not be sent in a frame.
        """
        self.check()
        return self.code.to_bytes(2, "big") + self.reason.encode()

    def check(self) -> None:
        """Refuse codes that must not be sent in a Close frame.

        Raises:
            ProtocolError: the code is neither a registered one nor in 3000-4999.
        """
        if not (self.code in EXTERNAL_CLOSE_CODES or 3000 <= self.code < 5000):
            raise advised(ProtocolError("invalid status code"), f"close code {self.code} can't be sent; {SENDABLE}")


def check_close(code: object, reason: object) -> str:
    """Refuse a close code or a reason of a wrong type.

    Returns:
        The reason; "" for None.

    Raises:
        TypeError: the code isn't an ``int``, or the reason isn't a ``str``.
    """
    if isinstance(code, bool) or not isinstance(code, int):
        raise TypeError(f"code must be an int, not {type(code).__name__}: {code!r}")
    if reason is None:
        return ""
    if not isinstance(reason, str):
        raise TypeError(f"reason must be a str, not {type(reason).__name__}: {reason!r}")
    return reason


def serialize_close(code: int | None, reason: str | None) -> tuple[Close, bytes]:
    """Return the Close that a user asks for, and its payload.

    Parameters:
        code: close code; None for a Close without one.
        reason: text for humans; None for none.

    Raises:
        ProtocolError: the code may not be sent, the reason is too long, or there is a reason without a code.
        TypeError: the code isn't an ``int``, or the reason isn't a ``str``.
    """
    close = Close(CloseCode.NO_STATUS_RCVD if code is None else code, "")
    close.reason = check_close(close.code, reason)
    if code is None:
        if close.reason:
            raise ProtocolError("cannot send a reason without a code")
        return close, b""
    payload = close.serialize()
    if len(payload) > MAX_CONTROL_PAYLOAD:
        limit = MAX_CONTROL_PAYLOAD - 2
        advice = f"the reason has {len(payload) - 2} bytes in UTF-8; at most {limit} can be sent"
        raise advised(ProtocolError("control frame too long"), advice)
    return close, payload


@dataclasses.dataclass(slots=True)
class Frame:
    """One WebSocket frame (RFC 6455 section 5.2), unmasked.

    Parameters:
        opcode: what the frame is for.
        data: payload.
        fin: whether this is the last frame of its message.
        rsv1: first reserved bit; with permessage-deflate, "this message is compressed".
        rsv2: second reserved bit.
        rsv3: third reserved bit.
    """

    opcode: Opcode
    data: BytesLike
    fin: bool = True
    rsv1: bool = False
    rsv2: bool = False
    rsv3: bool = False

    def __str__(self) -> str:
        """Return the frame as a log shows it. The middle of a long payload is left out."""
        shown, kind = _describe(self.opcode, bytes(self.data))
        size = len(self.data)
        notes = [kind, f"{size} byte{'' if size == 1 else 's'}", "" if self.fin else "continued"]
        return f"{self.opcode.name} {shown} [{', '.join(note for note in notes if note)}]"

    @property
    def head(self) -> int:
        """First byte of the frame: FIN, reserved bits and opcode."""
        return self.fin << 7 | self.rsv1 << 6 | self.rsv2 << 5 | self.rsv3 << 4 | self.opcode

    @classmethod
    def from_head(cls, head: int, data: BytesLike) -> Self:
        """Return the frame whose first byte is ``head`` and whose payload is ``data``."""
        rsv1, rsv2, rsv3 = head & RSV1 != 0, head & RSV2 != 0, head & RSV3 != 0
        number = head & OPCODE_MASK
        opcode = _OPCODES[number] if number in _OPCODES else Opcode(number)
        return cls(opcode, data, head & FIN != 0, rsv1, rsv2, rsv3)

    def serialize(self, *, mask: bool, extensions: Sequence[Extension] | None = None) -> bytes:
        """Return the bytes of the frame.

        Parameters:
            mask: whether to mask the payload, as a client must (RFC 6455 section 5.3).
            extensions: applied to the frame in this order.

        Raises:
            ProtocolError: the frame breaks a rule that :meth:`check` checks.
        """
        self.check()
        frame: Frame = self
        for extension in extensions or ():
            frame = extension.encode(frame)
        return build_frame(frame.head, frame.data, new_mask() if mask else None)

    def check(self) -> None:
        """Check the rules for a single frame (RFC 6455 sections 5.2 and 5.5).

        Raises:
            ProtocolError: reserved bits are set, or a control frame is long or fragmented.
        """
        if self.rsv1 or self.rsv2 or self.rsv3:
            raise ProtocolError("reserved bits must be 0")
        if self.opcode in CTRL_OPCODES:
            if len(self.data) > MAX_CONTROL_PAYLOAD:
                raise ProtocolError("control frame too long")
            if not self.fin:
                raise ProtocolError("fragmented control frame")


def _describe(opcode: Opcode, data: bytes) -> tuple[str, str]:
    """Return a payload as the log shows it, and its kind, or "" if the opcode already says it."""
    if not data:
        return "''", ""
    if opcode is CLOSE:
        return _describe_close(data)
    text = _readable(data, ascii_only=opcode in CTRL_OPCODES)
    if text is None:
        return _elide(data.hex(" "), separator=" "), "" if opcode is BINARY else "binary"
    return _elide(repr(text)), "" if opcode is TEXT else "text"


def _describe_close(data: bytes) -> tuple[str, str]:
    try:
        close = Close.parse(data)
    except (ProtocolError, UnicodeDecodeError):
        return _elide(data.hex(" "), separator=" "), "binary"
    # The reason comes from the peer: it may not write control characters into a log.
    reason = close.reason if close.reason.isprintable() else repr(close.reason)
    return _elide(str(Close(close.code, reason))), ""


def _readable(data: bytes, *, ascii_only: bool) -> str | None:
    """Return the text in a payload; None if a log shall show its bytes instead."""
    try:
        text = data.decode("ascii" if ascii_only else "utf-8")
    except UnicodeDecodeError:
        return None
    return None if find_binary(text) else text


def _elide(shown: str, separator: str = "") -> str:
    """Shorten what is longer than the limit: keep its beginning, and half as much of its end."""
    if len(shown) <= MAX_LOG_SIZE:
        return shown
    keep = max(MAX_LOG_SIZE - 3, 2)
    before = keep * 2 // 3
    if separator:  # cut between two bytes
        before = (before + 1) // 3 * 3
        after = (keep - before) // 3 * 3 - 1
        return f"{shown[:before]}... {shown[-after:]}" if after > 0 else f"{shown[:before]}..."
    return f"{shown[:before]}...{shown[before - keep :]}"


# A child process after a fork must not use the same masks as its parent.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_masks)


# Deprecated names.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
