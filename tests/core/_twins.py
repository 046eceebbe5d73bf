"""Both twins of the accelerator, and a naive third to compare them with.

The oracle is too slow to be wrong: it reads the whole stream from its beginning each time, masks byte by byte, and
leaves UTF-8 to the codec of the standard library over the whole message so far. It may know RFC 6455 and the texts of
failures; it must not know how either twin works.
"""

from __future__ import annotations

import codecs
import contextlib
import importlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from websockets._codec import load_native

__all__ = ["NATIVE", "TWINS", "Rules", "Verdict", "decode", "oracle"]

NATIVE = "websockets._codec._native"


def present_twins() -> dict[str, Any]:
    """The twins that can be tested: the compiled one only where it was built, and from these sources."""
    twins: dict[str, Any] = {"python": importlib.import_module("websockets._codec._python")}
    with contextlib.suppress(ImportError):
        twins["native"] = load_native()
    return twins


TWINS = present_twins()


class Rules(NamedTuple):
    """The arguments of a decoder, in its order."""

    masked: bool = False
    reserved: int = 0
    max_fragment: int = -1
    max_message: int = -1
    text: bool = False


class Verdict(NamedTuple):
    """What a decoder makes of a stream."""

    frames: list[Any]
    failure: tuple[Any, ...] | None
    ended: bool


class Refused(Exception):
    """Why the oracle refuses a stream."""


def oracle(data: bytes, rules: Rules) -> Verdict:
    """What must come out once ``data`` has arrived, in whichever pieces."""
    frames: list[Any] = []
    message: list[tuple[int, bytes]] = []
    at = 0
    try:
        while (found := one_frame(data, at, rules, message)) is not None:
            head, payload, at = found
            result: bytes | str = payload
            if head & 8 == 0:
                message.append((head, payload))
                if head == 0x81 and rules.text and rules.reserved != 0x70:
                    result = payload.decode()
                if head & 0x80:
                    message = []
            frames += head, result
            if head & 15 == 8:
                return Verdict(frames, None, True)
    except Refused as refused:
        return Verdict(frames, refused.args, False)
    return Verdict(frames, None, False)


def one_frame(data: bytes, at: int, rules: Rules, message: list[tuple[int, bytes]]) -> tuple[int, bytes, int] | None:
    """The frame at index ``at`` and the index after it; None if it isn't whole and not wrong so far."""
    if len(data) < at + 2:
        return None
    head, second = data[at], data[at + 1]
    if error := head_error(head, second, rules, bool(message)):
        raise Refused(1002, error)
    size, width = second & 127, {126: 2, 127: 8}.get(second & 127, 0)
    if len(data) < at + 2 + width:
        return None
    if width:
        size = sum(byte << 8 * place for place, byte in enumerate(reversed(data[at + 2 : at + 2 + width])))
        check_length(size, width)
    if head & 8 == 0:
        compressed = bool((message[0][0] if message else head) & 64)
        check_limits(size, rules, sum(len(payload) for _, payload in message), compressed)
    begin = at + 2 + width + (4 if rules.masked else 0)
    if len(data) < begin:
        return None
    payload = data[begin : begin + size]
    if rules.masked:
        payload = bytes(byte ^ data[begin - 4 + index % 4] for index, byte in enumerate(payload))
    whole = len(payload) == size
    if head & 8 == 0 and rules.reserved != 0x70:
        check_text([*message, (head, payload)], final=whole and head >= 128)
    return (head, payload, begin + size) if whole else None


def head_error(head: int, second: int, rules: Rules, inside: bool) -> str | None:
    """What the first two bytes of a frame break; ``inside`` a message, or not."""
    opcode, control = head % 16, head % 16 >= 8
    if opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        return "invalid opcode"
    if rules.reserved == 0 and head & 0x70:
        return "reserved bits must be 0"
    if rules.reserved == 0x40 and (head & 0x30 or (head & 0x40 and opcode not in (1, 2))):
        return "reserved bits must be 0"
    if control and head < 128:
        return "fragmented control frame"
    if rules.masked != (second >= 128):
        return "incorrect masking"
    if control and second % 128 > 125:
        return "control frame too long"
    if inside and opcode in (1, 2):
        return "expected a continuation frame"
    if not inside and opcode == 0:
        return "unexpected continuation frame"
    return None


def check_length(size: int, width: int) -> None:
    if size >= 2**63:
        raise Refused(1002, f"payload length {size} exceeds 2**63 - 1")
    if (width == 2 and size <= 125) or (width == 8 and size <= 65535):
        raise Refused(1002, f"payload length {size} isn't in its shortest form")


def check_limits(size: int, rules: Rules, received: int, compressed: bool) -> None:
    def allowed(limit: int) -> int:
        return limit + limit // 8 + limit // 64 + 64 if compressed else limit

    if rules.max_fragment != -1 and size > allowed(rules.max_fragment):
        raise Refused(1009, size, rules.max_fragment, 0)
    if rules.max_message != -1 and received + size > allowed(rules.max_message):
        raise Refused(1009, size, rules.max_message, received)


def check_text(message: list[tuple[int, bytes]], final: bool) -> None:
    first, _ = message[0]
    if first & 0x4F != 1:
        return
    data = b"".join(payload for _, payload in message)
    try:
        _, length = codecs.utf_8_decode(data, "strict", final)
    except UnicodeDecodeError as error:
        raise Refused(1007, f"{error.reason} at position {error.start}") from None
    if not may_begin_character(data[length:]):
        raise Refused(1007, f"invalid continuation byte at position {length}")


def may_begin_character(data: bytes) -> bool:
    """Whether some character begins with ``data``; the codec isn't sure of surrogates until it sees three bytes."""
    for rest in [b"", b"\x80", b"\x80" * 2, b"\x80" * 3, b"\xbf", b"\xbf" * 2, b"\xbf" * 3]:
        try:
            (data + rest).decode()
        except UnicodeDecodeError:
            continue
        return True
    return False


def decode(twin: Any, rules: Rules, chunks: Iterable[bytes]) -> Verdict:
    """What a twin makes of a stream that arrives in ``chunks``."""
    decoder = twin.FrameDecoder(*rules)
    frames = [item for chunk in chunks for item in decoder.feed(chunk)]
    return Verdict(frames, decoder.failure, decoder.ended)
