"""Header lines of HTTP in one pass, in both twins: compared with reading them one by one, and with each other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core._twins import TWINS
from websockets import http11

every_twin = pytest.mark.parametrize("twin", TWINS.values(), ids=TWINS)

# Characters that are allowed nowhere, in names, in values, and at their ends; and complete lines of all kinds.
BYTES = st.binary(max_size=6) | st.text("aZ09:\r\n\t !\x00\x7f\x80ÿ-_~,", max_size=8).map(lambda s: s.encode("latin-1"))
VALID = [
    b"A: b\r\n",
    b"a:c\r\n",
    b"B: \t x y\t \r\n",
    b"C:\r\n",
    b"D: \xe9\xff\r\n",
    b"H: :\r\n",
    b"^_`|~!#$%&'*+.-09azAZ: 1\r\n",
]
INVALID = [b"D : x\r\n", b" x\r\n", b": x\r\n", b"E: x\n", b"F: \x00\r\n", b"G x\r\n", b"\r\n", b"\r"]
LINES = st.sampled_from(VALID + INVALID)
DATA = st.lists(LINES | BYTES, max_size=8).map(b"".join)


def one_by_one(data: bytes, most: int) -> tuple[dict[str, str | list[str]], int] | None:
    """What the parser for unusual heads reads: each line by itself."""
    index: dict[str, str | list[str]] = {}
    lines = data.split(b"\r\n")
    for number, line in enumerate(lines[:-1]):
        if not line:
            return index, len(b"\r\n".join(lines[: number + 1])) + 2
        if number == most or not http11.is_field_line(line):
            return None
        name, _, value = line.decode("latin-1").partition(":")
        name, value = name.lower(), value.strip(" \t")
        before = index.get(name)
        if before is None:
            index[name] = value
        else:
            index[name] = [*([before] if isinstance(before, str) else before), value]
    return None


@every_twin
@given(data=DATA, before=st.binary(max_size=5), most=st.integers(0, 9))
@example(data=b"\r\n", before=b"", most=0)
@example(data=b"A: b\r\nA: b\r\na:\r\nB: c\r\n\r\nrest", before=b"x: y", most=4)
@example(data=b"A: b\r\nB: c\r\n\r\n", before=b"", most=1)
def test_lines_in_one_pass(twin: Any, data: bytes, before: bytes, most: int) -> None:
    expected = one_by_one(data, most)
    if expected is not None:
        expected = expected[0], expected[1] + len(before)
    assert twin.read_fields(before + data, len(before), most) == expected


@every_twin
@pytest.mark.parametrize("byte", range(256))
def test_every_byte_in_a_name_and_in_a_value(twin: Any, byte: int) -> None:
    for data in (b"a%cb: c\r\n\r\n" % byte, b"%c: c\r\n\r\n" % byte, b"a: b%cc\r\n\r\n" % byte, b"a:%c\r\n\r\n" % byte):
        assert twin.read_fields(data, 0, 9) == one_by_one(data, 9)


@every_twin
def test_every_beginning_of_a_head_is_incomplete(twin: Any) -> None:
    data = b"Host: a\r\nCookie: b\r\nCookie: c\r\nX:\r\n\r\n"
    index = {"host": "a", "cookie": ["b", "c"], "x": ""}
    assert twin.read_fields(data, 0, 4) == (index, len(data))
    for end in range(len(data)):
        assert twin.read_fields(data[:end], 0, 4) is None


@every_twin
@pytest.mark.parametrize("start", [-1, 3])
def test_where_there_is_no_byte(twin: Any, start: int) -> None:
    with pytest.raises(ValueError, match=f"there is no byte {start}"):
        twin.read_fields(b"\r\n", start, 1)
    assert twin.read_fields(b"\r\n", 2, 1) is None


@every_twin
def test_only_bytes(twin: Any) -> None:
    with pytest.raises(TypeError):
        twin.read_fields("\r\n", 0, 1)
