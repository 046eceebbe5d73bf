"""Frames and close codes: their bytes in both directions, their rules, how a log shows them, and masking keys."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _kit import wire
from core._twins import TWINS
from websockets import frames
from websockets.exceptions import ProtocolError
from websockets.extensions.base import Extension
from websockets.frames import (
    CLOSE_CODE_EXPLANATIONS,
    CTRL_OPCODES,
    DATA_OPCODES,
    Close,
    CloseCode,
    Frame,
    Opcode,
    explain_close_code,
)

CONT, TEXT, BINARY, CLOSE, PING, PONG = Opcode


def load_again(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as it loads now, beside the one that everybody uses."""
    name = "websockets._frames_again"
    spec = importlib.util.spec_from_file_location(name, frames.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


# --------------------------------------------------------------------------------------------------- opcodes and codes


def test_opcodes() -> None:
    assert [int(opcode) for opcode in Opcode] == [0, 1, 2, 8, 9, 10]
    assert {0, 1, 2} == DATA_OPCODES
    assert {8, 9, 10} == CTRL_OPCODES


# Code, the name of its constant if it has one, its words, and whether it may travel.
CODES: list[tuple[int, str | None, str, bool]] = [
    (0, None, "unknown", False),
    (999, None, "unknown", False),
    (1000, "NORMAL_CLOSURE", "OK", True),
    (1001, "GOING_AWAY", "going away", True),
    (1002, "PROTOCOL_ERROR", "protocol error", True),
    (1003, "UNSUPPORTED_DATA", "unsupported data", True),
    (1004, None, "unknown", False),
    (1005, "NO_STATUS_RCVD", "no status received [internal]", False),
    (1006, "ABNORMAL_CLOSURE", "abnormal closure [internal]", False),
    (1007, "INVALID_DATA", "invalid frame payload data", True),
    (1008, "POLICY_VIOLATION", "policy violation", True),
    (1009, "MESSAGE_TOO_BIG", "message too big", True),
    (1010, "MANDATORY_EXTENSION", "mandatory extension", True),
    (1011, "INTERNAL_ERROR", "internal error", True),
    (1012, "SERVICE_RESTART", "service restart", True),
    (1013, "TRY_AGAIN_LATER", "try again later", True),
    (1014, "BAD_GATEWAY", "bad gateway", True),
    (1015, "TLS_HANDSHAKE", "TLS handshake failure [internal]", False),
    (1016, None, "unknown", False),
    (2999, None, "unknown", False),
    (3000, None, "registered", True),
    (3999, None, "registered", True),
    (4000, None, "private use", True),
    (4999, None, "private use", True),
    (5000, None, "unknown", False),
    (65535, None, "unknown", False),
]


@pytest.mark.parametrize(("code", "name", "words", "travels"), CODES)
def test_close_codes(code: int, name: str | None, words: str, travels: bool) -> None:
    assert explain_close_code(code) == words
    assert name is None or CloseCode[name] == code
    assert (code in set(CloseCode)) is (name is not None)
    payload, close = code.to_bytes(2, "big") + b"why", Close(code, "why")
    if travels:
        close.check()
        assert Close.parse(payload) == close
        assert close.serialize() == payload
    else:
        for work in (close.check, close.serialize, lambda: Close.parse(payload)):
            with pytest.raises(ProtocolError, match=r"^invalid status code\n"):
                work()


def test_every_code_that_may_travel() -> None:
    travelling = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
    for code in range(65536):
        try:
            assert Close.parse(code.to_bytes(2, "big")) == Close(code, "")
        except ProtocolError:
            assert code not in travelling
        else:
            assert code in travelling


def test_every_constant_has_words() -> None:
    assert set(CLOSE_CODE_EXPLANATIONS) == set(CloseCode)


# ---------------------------------------------------------------------------------------------------------------- Close

# A payload, what it says, and how that is shown.
CLOSES: list[tuple[bytes, Close, str]] = [
    (b"\x03\xe8", Close(1000, ""), "1000 (OK)"),
    (b"\x03\xe9bye", Close(1001, "bye"), "1001 (going away) bye"),
    (b"\x03\xf3d\xc3\xa9sol\xc3\xa9", Close(1011, "d\u00e9sol\u00e9"), "1011 (internal error) d\u00e9sol\u00e9"),
    (b"\x0b\xb8", Close(3000, ""), "3000 (registered)"),
    (b"\x13\x87" + b"x" * 123, Close(4999, "x" * 123), "4999 (private use) " + "x" * 123),
]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize(("payload", "close", "shown"), CLOSES)
def test_close_both_ways(payload: bytes, close: Close, shown: str, kind: Any) -> None:
    assert Close.parse(kind(payload)) == close
    assert close.serialize() == payload
    assert str(close) == shown


def test_close_without_a_code() -> None:
    assert Close.parse(b"") == Close(1005, "")


def test_close_shown_with_a_constant() -> None:
    assert str(Close(CloseCode.INTERNAL_ERROR, "oops")) == "1011 (internal error) oops"


def test_close_of_one_byte() -> None:
    with pytest.raises(ProtocolError, match=r"^close frame too short$"):
        Close.parse(b"\x03")


@pytest.mark.parametrize("reason", [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\x80"])
def test_close_reason_that_is_not_text(reason: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        Close.parse(b"\x03\xe8" + reason)


@given(st.one_of(st.integers(1000, 1003), st.integers(1007, 1014), st.integers(3000, 4999)), st.text(max_size=30))
def test_parse_undoes_serialize(code: int, reason: str) -> None:
    assert Close.parse(Close(code, reason).serialize()) == Close(code, reason)


# --------------------------------------------------------------------------------------------------------------- frames


@pytest.mark.parametrize("head", [*range(0x70, 0x73), *range(0x88, 0x8B), 0x00, 0x80, 0x41, 0x22, 0x11, 0xC2])
def test_head_both_ways(head: int) -> None:
    frame = Frame.from_head(head, b"abc")
    assert frame.head == head
    rsv = frame.rsv1 << 2 | frame.rsv2 << 1 | frame.rsv3
    assert (frame.fin << 7 | rsv << 4 | frame.opcode, frame.data) == (head, b"abc")
    assert isinstance(frame.opcode, Opcode)
    assert {type(bit) for bit in (frame.fin, frame.rsv1, frame.rsv2, frame.rsv3)} == {bool}


def test_values_have_no_dictionary() -> None:
    assert not hasattr(Frame(TEXT, b""), "__dict__")
    assert not hasattr(Close(1000, ""), "__dict__")


def test_frame_is_final_unless_told() -> None:
    assert Frame(TEXT, b"a") == Frame(TEXT, b"a", True, False, False, False)


FRAMES = [
    Frame(TEXT, b""),
    Frame(TEXT, b"abc", fin=False),
    Frame(CONT, b"\xff"),
    Frame(BINARY, bytearray(125)),
    Frame(BINARY, memoryview(bytes(126))),
    Frame(BINARY, bytes(65535)),
    Frame(BINARY, bytes(65536)),
    Frame(CLOSE, b"\x03\xe8"),
    Frame(PING, bytes(125)),
    Frame(PONG, b""),
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: f"{frame.opcode.name}-{len(frame.data)}")
def test_serialize(frame: Frame) -> None:
    row = wire.Row(frame.fin, 0, frame.opcode, None, bytes(frame.data))
    assert wire.parse(frame.serialize(mask=False)) == ([row], b"")
    (masked,), rest = wire.parse(frame.serialize(mask=True))
    assert masked.mask is not None
    assert (masked._replace(mask=None), rest) == (row, b"")


class Marking(Extension):
    """Sets a reserved bit, and leaves its own mark on the payload."""

    def __init__(self, bit: str, mark: bytes) -> None:
        self.bit, self.mark = bit, mark

    def encode(self, frame: Frame) -> Frame:
        bits = {"rsv1": frame.rsv1, "rsv2": frame.rsv2, "rsv3": frame.rsv3, self.bit: True}
        return Frame(frame.opcode, bytes(frame.data) + self.mark, frame.fin, **bits)


def test_serialize_through_extensions() -> None:
    frame = Frame(BINARY, b"a")
    extensions = [Marking("rsv3", b"1"), Marking("rsv1", b"2")]
    assert wire.parse(frame.serialize(mask=False, extensions=extensions)) == (
        [wire.Row(True, 0b101, 2, None, b"a12")],
        b"",
    )
    assert frame == Frame(BINARY, b"a")
    assert frame.serialize(mask=False, extensions=[]) == b"\x82\x01a"


# Frames that may not be sent, and why.
REFUSED: list[tuple[Frame, str]] = [
    (Frame(TEXT, b"", rsv1=True), "reserved bits must be 0"),
    (Frame(TEXT, b"", rsv2=True), "reserved bits must be 0"),
    (Frame(PING, b"", rsv3=True), "reserved bits must be 0"),
    (Frame(PING, bytes(126)), "control frame too long"),
    (Frame(CLOSE, bytes(126)), "control frame too long"),
    (Frame(PONG, b"", fin=False), "fragmented control frame"),
]


@pytest.mark.parametrize(("frame", "error"), REFUSED)
def test_refuse_to_serialize(frame: Frame, error: str) -> None:
    for work in (frame.check, lambda: frame.serialize(mask=False)):
        with pytest.raises(ProtocolError, match=f"^{error}$"):
            work()


# --------------------------------------------------------------------------------------------------------- in the log

SHOWN: list[tuple[Frame, str]] = [
    (Frame(TEXT, b"abc"), "TEXT 'abc' [3 bytes]"),
    (Frame(TEXT, b"a"), "TEXT 'a' [1 byte]"),
    (Frame(TEXT, b""), "TEXT '' [0 bytes]"),
    (Frame(TEXT, b"", fin=False), "TEXT '' [0 bytes, continued]"),
    (Frame(TEXT, bytearray(b"abc")), "TEXT 'abc' [3 bytes]"),
    (Frame(TEXT, memoryview(b"abc")), "TEXT 'abc' [3 bytes]"),
    (Frame(TEXT, b"it's"), 'TEXT "it\'s" [4 bytes]'),
    (Frame(TEXT, "\u00e9\u20ac\U0001f600".encode()), "TEXT '\u00e9\u20ac\U0001f600' [9 bytes]"),
    (Frame(TEXT, b"{\r\n\t}"), "TEXT '{\\r\\n\\t}' [5 bytes]"),
    (Frame(TEXT, "a\u202eb".encode()), "TEXT 'a\\u202eb' [5 bytes]"),
    (Frame(TEXT, b"abc\xff"), "TEXT 61 62 63 ff [binary, 4 bytes]"),
    (Frame(TEXT, b"\xc3\xa9\x1b\x22\x27"), "TEXT c3 a9 1b 22 27 [binary, 5 bytes]"),
    (Frame(TEXT, b"\x7f"), "TEXT 7f [binary, 1 byte]"),
    (Frame(TEXT, b"\xc2\x85"), "TEXT c2 85 [binary, 2 bytes]"),
    (Frame(BINARY, b"\x01\x02"), "BINARY 01 02 [2 bytes]"),
    (Frame(BINARY, b""), "BINARY '' [0 bytes]"),
    (Frame(BINARY, b"abc"), "BINARY 'abc' [text, 3 bytes]"),
    (Frame(BINARY, b"\xc3\xa9"), "BINARY '\u00e9' [text, 2 bytes]"),
    (Frame(CONT, b"abc", fin=False), "CONT 'abc' [text, 3 bytes, continued]"),
    (Frame(CONT, b"\xff"), "CONT ff [binary, 1 byte]"),
    (Frame(CONT, b""), "CONT '' [0 bytes]"),
    (Frame(CLOSE, b""), "CLOSE '' [0 bytes]"),
    (Frame(CLOSE, b"\x03\xe8"), "CLOSE 1000 (OK) [2 bytes]"),
    (Frame(CLOSE, b"\x03\xe8bye"), "CLOSE 1000 (OK) bye [5 bytes]"),
    (Frame(CLOSE, b"\x03\xe8a\x1b\n"), "CLOSE 1000 (OK) 'a\\x1b\\n' [5 bytes]"),
    (Frame(CLOSE, b"\x03"), "CLOSE 03 [binary, 1 byte]"),
    (Frame(CLOSE, b"\x03\xe7"), "CLOSE 03 e7 [binary, 2 bytes]"),
    (Frame(CLOSE, b"\x03\xe8\xff"), "CLOSE 03 e8 ff [binary, 3 bytes]"),
    (Frame(PING, b""), "PING '' [0 bytes]"),
    (Frame(PING, b"ab"), "PING 'ab' [text, 2 bytes]"),
    (Frame(PING, b"\xc3\xa9"), "PING c3 a9 [binary, 2 bytes]"),
    (Frame(PONG, b"\xff\xfe"), "PONG ff fe [binary, 2 bytes]"),
    # What is longer than 75 characters is cut.
    (Frame(TEXT, b"a" * 73), f"TEXT '{'a' * 73}' [73 bytes]"),
    (Frame(TEXT, b"a" * 74), f"TEXT '{'a' * 47}...{'a' * 23}' [74 bytes]"),
    (Frame(TEXT, b"a" * 200), f"TEXT '{'a' * 47}...{'a' * 23}' [200 bytes]"),
    (Frame(TEXT, "\u00e9".encode() * 100), f"TEXT '{'é' * 47}...{'é' * 23}' [200 bytes]"),
    (Frame(TEXT, b"a" * 99 + b"\nb"), f"TEXT '{'a' * 47}...{'a' * 20}\\nb' [101 bytes]"),
    (Frame(BINARY, b"\xff" * 25), f"BINARY {' '.join(['ff'] * 25)} [25 bytes]"),
    (Frame(BINARY, b"\xff" * 26), f"BINARY {'ff ' * 16}...{' ff' * 8} [26 bytes]"),
    (Frame(PING, b"\x00" * 125), f"PING {'00 ' * 16}...{' 00' * 8} [binary, 125 bytes]"),
    (Frame(CLOSE, b"\x03\xe8" + b"x" * 123), f"CLOSE 1000 (OK) {'x' * 38}...{'x' * 24} [125 bytes]"),
    (Frame(CLOSE, b"\x00" * 125), f"CLOSE {'00 ' * 16}...{' 00' * 8} [binary, 125 bytes]"),
]


@pytest.mark.parametrize(("frame", "shown"), SHOWN, ids=[shown for _, shown in SHOWN])
def test_shown_in_a_log(frame: Frame, shown: str) -> None:
    assert str(frame) == shown


@given(st.sampled_from(Opcode), st.one_of(st.binary(), st.text().map(str.encode)), st.booleans())
def test_log_gets_one_short_printable_line(opcode: Opcode, data: bytes, fin: bool) -> None:
    shown = str(Frame(opcode, data, fin))
    assert shown.isprintable()
    payload = shown.removeprefix(f"{opcode.name} ").rpartition(" [")[0]
    assert 0 < len(payload) <= 75


@pytest.mark.parametrize(
    ("limit", "text", "data"),
    [
        ("5", "'...'", "..."),
        ("8", "'aa...a'", "00 ..."),
        ("9", "'aaa...a'", "00 ... 00"),
        ("12", "'aaaaa...aa'", "00 00 ... 00"),
        ("60", f"'{'a' * 37}...{'a' * 18}'", f"{'00 ' * 13}...{' 00' * 6}"),
        ("152", f"'{'a' * 150}'", f"{'00 ' * 33}...{' 00' * 16}"),
    ],
)
def test_limit_from_the_environment(monkeypatch: pytest.MonkeyPatch, limit: str, text: str, data: str) -> None:
    monkeypatch.setenv("WEBSOCKETS_MAX_LOG_SIZE", limit)
    module = load_again(monkeypatch)
    assert str(module.Frame(module.TEXT, b"a" * 150)) == f"TEXT {text} [150 bytes]"
    assert str(module.Frame(module.BINARY, bytes(150))) == f"BINARY {data} [150 bytes]"


def test_limit_without_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBSOCKETS_MAX_LOG_SIZE", raising=False)
    assert load_again(monkeypatch).MAX_LOG_SIZE == 75


# -------------------------------------------------------------------------------------------------------- masking keys


class CountingRandom:
    """Instead of the operating system: never the same four bytes twice, and a count of how often it was asked."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self._next = 0

    def __call__(self, size: int) -> bytes:
        self.calls.append(size)
        begin, self._next = self._next, self._next + size // 4
        return b"".join(number.to_bytes(4, "big") for number in range(begin, self._next))


@pytest.fixture
def random(monkeypatch: pytest.MonkeyPatch) -> Iterator[CountingRandom]:
    counting = CountingRandom()
    monkeypatch.setattr(os, "urandom", counting)
    forget_all()
    yield counting
    forget_all()


def forget_all() -> None:
    for twin in TWINS.values():
        twin.forget_masks()


every_twin = pytest.mark.parametrize("twin", TWINS.values(), ids=TWINS)


@pytest.mark.scenario(76)
@every_twin
def test_masks_use_all_random_bytes_once(twin: Any, random: CountingRandom) -> None:
    keys = [twin.new_mask() for _ in range(5000)]
    assert keys == [number.to_bytes(4, "big") for number in range(5000)]
    assert {type(key) for key in keys} == {bytes}
    # One call to the system serves a thousand frames.
    assert len(random.calls) == -(-5000 * 4 // random.calls[0])


@every_twin
def test_masks_of_threads_are_their_own(twin: Any, random: CountingRandom) -> None:
    drawn: dict[int, list[bytes]] = {0: [twin.new_mask()]}

    def draw(number: int) -> None:
        drawn[number] = [twin.new_mask() for _ in range(100)]

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(1, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    drawn[0] += [twin.new_mask() for _ in range(100)]
    keys = [key for keys in drawn.values() for key in keys]
    assert len(set(keys)) == len(keys) == 401
    assert len(random.calls) == 4


@every_twin
def test_masks_are_random(twin: Any) -> None:
    first, second = ([twin.new_mask() for _ in range(64)] for _ in range(2))
    assert first != second
    # 512 bytes of which each bit is as often set as not, but for less than one case in a billion billions.
    ones = sum(int.from_bytes(key, "big").bit_count() for key in first + second)
    assert 1700 < ones < 2396


FORK = r"""
import os
from websockets.frames import new_mask

def draw():
    return b"".join(new_mask() for _ in range(8)).hex()

before = draw()
child = os.fork()
after = draw()
# One call each, so that the lines of both don't mix.
os.write(1, f"{after}\n".encode())
if child:
    os.waitpid(child, 0)
    os.write(1, f"{before}\n".encode())
"""

if hasattr(os, "fork"):

    @pytest.mark.scenario(76)
    def test_masks_are_renewed_after_fork() -> None:
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-c", FORK], env=environ, capture_output=True, text=True, check=True)
        lines = done.stdout.split()
        assert len(set(lines)) == len(lines) == 3


@every_twin
def test_forgotten_masks_never_come(twin: Any, random: CountingRandom) -> None:
    twin.new_mask()
    twin.forget_masks()
    assert twin.new_mask() == (random.calls[0] // 4).to_bytes(4, "big")
    assert len(random.calls) == 2


@pytest.mark.skipif("native" not in TWINS, reason="the compiled twin was not built")
@pytest.mark.parametrize("answer", [b"too short", "no bytes"])
def test_too_few_random_bytes_are_an_error(answer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_all()
    with monkeypatch.context() as context:
        context.setattr(os, "urandom", lambda size: answer)
        with pytest.raises(RuntimeError, match="what it was asked for"):
            TWINS["native"].new_mask()
    assert len(TWINS["native"].new_mask()) == 4


def test_masks_where_there_is_no_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "register_at_fork", raising=False)
    assert len(load_again(monkeypatch).new_mask()) == 4
