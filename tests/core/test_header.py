"""The header of a frame: its names agree with RFC 6455, with the public enumeration, and with those in C."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from websockets import frames
from websockets._codec import build_frame, header
from websockets.frames import CTRL_OPCODES, DATA_OPCODES, Opcode

C_HEADER = Path(__file__).parents[2] / "src" / "websockets" / "_codec" / "_header.h"

# RFC 6455 sections 5.2 and 5.5, written down once more.
BITS = {"FIN": 128, "RSV1": 64, "RSV2": 32, "RSV3": 16, "RSV_MASK": 112, "OPCODE_MASK": 15, "MASK_BIT": 128,
        "LENGTH_MASK": 127, "LENGTH_16": 126, "LENGTH_64": 127, "MAX_LENGTH_7": 125, "MAX_LENGTH_16": 65535,
        "MAX_PAYLOAD": 9223372036854775807, "MAX_CONTROL_PAYLOAD": 125}  # fmt: skip


def numbers_in_c(text: str) -> dict[str, int]:
    """Return the members of all enumerations in C, whose values may refer to members before them."""
    numbers: dict[str, int] = {}
    for body in re.findall(r"enum \{(.*?)\}", text, re.DOTALL):
        for member in body.split(","):
            name, value = member.split("=")
            words = [word.strip() for word in value.split("|")]
            numbers[name.strip()] = sum(numbers[word] if word in numbers else int(word, 0) for word in words)
    return numbers


def test_numbers_are_those_of_the_rfc() -> None:
    assert {name: getattr(header, name) for name in BITS} == BITS


def test_opcodes_agree_with_the_public_enumeration() -> None:
    ours = {name.removeprefix("OPCODE_"): value for name, value in vars(header).items() if name.startswith("OPCODE_")}
    del ours["MASK"]
    assert ours == {opcode.name: opcode.value for opcode in Opcode}
    assert all(type(value) is int for value in ours.values())


def test_numbers_in_c_are_the_same() -> None:
    numbers = numbers_in_c(C_HEADER.read_text("utf-8"))
    assert len(numbers) > 15
    assert numbers == {name: getattr(header, name) for name in numbers}


def test_what_reads_numbers_in_c() -> None:
    text = "enum { A = 0x80, B = 2 };\n/* C = 3 */\nenum {\n    D = A | B,\n    E = B };"
    assert numbers_in_c(text) == {"A": 128, "B": 2, "D": 130, "E": 2}


@pytest.mark.parametrize("opcode", Opcode)
@pytest.mark.parametrize("fin", [False, True])
@pytest.mark.parametrize("reserved", range(8))
def test_questions_to_the_first_byte(opcode: Opcode, fin: bool, reserved: int) -> None:
    head = 128 * fin + 16 * reserved + opcode
    assert header.opcode_of(head) == opcode
    assert header.is_final(head) is fin
    assert header.is_control(head) is (opcode in CTRL_OPCODES)
    frame = frames.Frame.from_head(head, b"")
    assert frame == frames.Frame(opcode, b"", fin, reserved >= 4, reserved % 4 >= 2, reserved % 2 == 1)
    assert frame.head == head


def test_every_opcode_is_of_one_kind() -> None:
    assert {opcode for opcode in Opcode if not header.is_control(opcode)} == DATA_OPCODES


@pytest.mark.parametrize("mask", [None, b"mask"], ids=["plain", "masked"])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_length_of_the_payload(size: int, mask: bytes | None) -> None:
    frame = build_frame(header.WHOLE_BINARY, bytes(size), mask)
    assert header.frame_length(b"before" + frame[:14], 6) == len(frame)
    assert header.payload_length(build_frame(header.WHOLE_BINARY, bytes(size), mask)) == size
