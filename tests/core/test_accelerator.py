"""Both twins of the accelerator: laws that compare them with a naive oracle, and tables of what is refused when."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _kit import CHUNKERS, Chunker, bytewise, examples, splits, wire
from core._twins import TWINS, Rules, Verdict, decode, oracle


@pytest.fixture(params=list(TWINS))
def twin(request: pytest.FixtureRequest) -> Any:
    return TWINS[request.param]


# -------------------------------------------------------------------------------------------------------------- laws

TEXTS = st.text(max_size=12).map(str.encode)
# Rarely UTF-8, and sometimes so cut that it isn't any more.
PAYLOADS = st.one_of(
    st.binary(max_size=12),
    st.builds(lambda text, end: text[: len(text) - end], TEXTS, st.integers(0, 2)),
    st.one_of(st.integers(0, 20), st.sampled_from([125, 126, 127, 300])).map(bytes),
)
MASKS = st.binary(min_size=4, max_size=4)
LIMITS = st.sampled_from([-1] * 12 + [300, 126, 9, 0])
RULES = st.builds(Rules, st.booleans(), st.sampled_from([0, 0, 0x40, 0x70]), LIMITS, LIMITS, st.booleans())


@st.composite
def messages(draw: st.DrawFn, rules: Rules) -> bytes:
    """A message in fragments, with control frames between them; what the rules allow, except that text may not be."""
    opcode, mask = draw(st.sampled_from([1, 1, 2])), draw(MASKS) if rules.masked else None
    payload = draw(TEXTS if opcode == 1 and draw(st.integers(0, 9)) != 5 else PAYLOADS)
    pieces = draw(splits(payload)) or [b""]
    rsv = draw(st.sampled_from([0, 0, rules.reserved >> 4]))
    stream = b""
    for index, piece in enumerate(pieces):
        fin = index == len(pieces) - 1
        bits = rsv if index == 0 or rules.reserved == 0x70 else 0
        stream += wire.frame(opcode if index == 0 else 0, piece, fin=fin, rsv=bits, mask=mask)
        if draw(st.integers(0, 9)) == 5:
            stream += wire.frame(draw(st.sampled_from([9, 10])), draw(st.binary(max_size=9)), mask=mask)
    return stream


# What is odd about a frame: arguments of the naive builder that replace those of a good one.
ODDITIES: list[dict[str, Any]] = [
    *({"opcode": opcode} for opcode in (0, 3, 7, 11, 15)),
    *({"rsv": rsv} for rsv in (1, 2, 4, 7)),
    *({"opcode": opcode, "fin": False} for opcode in (1, 2, 8, 9, 10)),
    *({"opcode": opcode, "payload": bytes(126)} for opcode in (8, 9, 10)),
    *({"length_form": form} for form in ("16", "64")),
    *({"declared": size} for size in (13, 2**16, 2**32, 2**63 - 1, 2**63)),
    *({"opcode": 8, "payload": payload} for payload in (b"", b"\x03\xe8", b"\x03\xe8bye")),
    {"mask": None},
    {"mask": True},
]


@st.composite
def odd_frames(draw: st.DrawFn, rules: Rules) -> bytes:
    """One frame that mostly breaks a rule."""
    good = {"opcode": 2, "payload": draw(st.binary(max_size=12)), "mask": draw(MASKS) if rules.masked else None}
    return wire.frame(**good | draw(st.sampled_from(ODDITIES)))


@st.composite
def streams(draw: st.DrawFn) -> tuple[Rules, bytes]:
    """Rules, and a stream that follows them for a while; at times a byte is replaced, or the end cut off."""
    rules = draw(RULES)
    parts = draw(st.lists(messages(rules), min_size=1, max_size=5))
    change = draw(st.sampled_from(["none", "odd", "byte", "cut", "odd", "byte"]))
    if change == "odd":
        parts.insert(draw(st.integers(0, len(parts))), draw(odd_frames(rules)))
    data = bytearray(b"".join(parts))
    if change == "byte":
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    elif change == "cut":
        del data[draw(st.integers(0, len(data))) :]
    return rules, bytes(data)


@pytest.mark.scenario(86)
@examples(100)
@given(case=streams(), data=st.data())
def test_any_split_gives_what_the_oracle_gives(case: tuple[Rules, bytes], data: st.DataObject) -> None:
    rules, stream = case
    chunks = data.draw(splits(stream))
    expected = oracle(stream, rules)
    for twin in TWINS.values():
        assert decode(twin, rules, [stream]) == expected
        assert decode(twin, rules, chunks) == expected
        assert decode(twin, rules, bytewise(stream)) == expected


@examples(50)
@given(streams())
def test_every_byte_is_judged_when_it_arrives(case: tuple[Rules, bytes]) -> None:
    rules, stream = case
    for twin in TWINS.values():
        decoder, frames = twin.FrameDecoder(*rules), []
        for end in range(1, len(stream) + 1):
            frames += decoder.feed(stream[end - 1 : end])
            assert Verdict(frames, decoder.failure, decoder.ended) == oracle(stream[:end], rules)


@examples(80)
@given(data=st.data(), reserved=st.sampled_from([0, 0x40, 0x70]))
def test_heads_of_any_kind_by_the_oracle(data: st.DataObject, reserved: int) -> None:
    rules = Rules(data.draw(st.booleans()), reserved, text=data.draw(st.booleans()))
    stream = data.draw(st.binary(max_size=40))
    chunks = data.draw(splits(stream))
    for twin in TWINS.values():
        assert decode(twin, rules, chunks) == oracle(stream, rules)


# Any frame that may be sent: opcode, FIN and size.
SENDABLE = st.one_of(
    st.tuples(st.sampled_from([8, 9, 10]), st.just(True), st.integers(0, 125)),
    st.tuples(
        st.sampled_from([0, 1, 2]),
        st.booleans(),
        st.one_of(st.integers(0, 300), st.sampled_from([65535, 65536, 70_000])),
    ),
)


@examples(80)
@given(frame=SENDABLE, rsv=st.integers(0, 7), mask=st.none() | MASKS, seed=st.binary(min_size=1, max_size=7))
def test_decode_undoes_encode(frame: tuple[int, bool, int], rsv: int, mask: bytes | None, seed: bytes) -> None:
    opcode, fin, size = frame
    payload = (seed * size)[:size]
    head = fin << 7 | rsv << 4 | opcode
    begin = b"" if opcode else wire.binary(fin=False, mask=mask)
    for twin in TWINS.values():
        built = twin.build_frame(head, payload, mask)
        # The naive builder and the naive parser agree with ours, so lengths are in their shortest form.
        assert built == wire.frame(opcode, payload, fin=fin, rsv=rsv, mask=mask)
        assert wire.parse(built) == ([wire.Row(fin, rsv, opcode, mask, payload)], b"")
        verdict = decode(twin, Rules(masked=mask is not None, reserved=0x70), [begin, built])
        assert verdict.frames[-2:] == [head, payload]


@given(data=st.binary(max_size=70), times=st.sampled_from([1, 100]), mask=MASKS)
def test_mask_is_what_the_naive_one_is(data: bytes, times: int, mask: bytes) -> None:
    data *= times
    for twin in TWINS.values():
        masked = twin.apply_mask(data, mask)
        assert masked == wire.xor(data, mask)
        assert twin.apply_mask(masked, mask) == data
        assert type(masked) is bytes


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_payload_of_any_kind(twin: Any, kind: Callable[[bytes], Any]) -> None:
    payload = kind(b"hello")
    assert twin.apply_mask(payload, b"\x01\x02\x03\x04") == b"igohn"
    assert twin.build_frame(0x82, payload, None) == b"\x82\x05hello"
    # RFC 6455 section 5.7.
    assert twin.build_frame(0x81, kind(b"Hello"), b"\x37\xfa\x21\x3d") == bytes.fromhex("818537fa213d7f9f4d5158")
    assert decode(twin, Rules(), [kind(b"\x82\x05hello")]) == Verdict([0x82, b"hello"], None, False)
    large = kind(bytes(range(256)) * 32)
    assert twin.apply_mask(large, b"\x01\x02\x03\x04") == wire.xor(bytes(large), b"\x01\x02\x03\x04")
    assert payload == b"hello"
    assert large == bytes(range(256)) * 32


# ------------------------------------------------------------------------------------------------------ frames, tables

FRAMES: list[tuple[str, Rules, bytes, list[Any]]] = [
    ("empty text as str", Rules(text=True), wire.text(), [0x81, ""]),
    ("empty text as bytes", Rules(), wire.text(), [0x81, b""]),
    ("text as str", Rules(text=True), wire.text("h\u00e9"), [0x81, "h\u00e9"]),
    ("text as bytes", Rules(), wire.text("h\u00e9"), [0x81, b"h\xc3\xa9"]),
    ("fragments are bytes", Rules(text=True), wire.text("a", fin=False) + wire.cont("b"), [0x01, b"a", 0x80, b"b"]),
    ("masked", Rules(masked=True), wire.binary(b"abcdefg", mask=True), [0x82, b"abcdefg"]),
    ("compressed isn't text", Rules(reserved=0x40, text=True), wire.text(b"\xff", rsv=4), [0xC1, b"\xff"]),
    (
        "nor is its continuation",
        Rules(reserved=0x40, text=True),
        wire.text(b"\xff", rsv=4, fin=False) + wire.cont(b"\xff") + wire.text("a"),
        [0x41, b"\xff", 0x80, b"\xff", 0x81, "a"],
    ),
    ("compression claimed, not used", Rules(reserved=0x40, text=True), wire.text("a"), [0x81, "a"]),
    ("encoded by anything", Rules(reserved=0x70, text=True), wire.text(b"\xff"), [0x81, b"\xff"]),
    (
        "all reserved bits everywhere",
        Rules(reserved=0x70),
        wire.text(b"\xff", rsv=7, fin=False) + wire.frame(9, rsv=7) + wire.cont(b"\xff", rsv=7),
        [0x71, b"\xff", 0xF9, b"", 0xF0, b"\xff"],
    ),
    (
        "control frames between fragments",
        Rules(),
        wire.text(b"\xe2", fin=False) + wire.ping(b"\xff") + wire.cont(b"\x82", fin=False) + wire.cont(b"\xac"),
        [0x01, b"\xe2", 0x89, b"\xff", 0x00, b"\x82", 0x80, b"\xac"],
    ),
    ("7 bits", Rules(), wire.binary(bytes(125)), [0x82, bytes(125)]),
    ("16 bits, least", Rules(), wire.binary(bytes(126)), [0x82, bytes(126)]),
    ("16 bits, most", Rules(), wire.binary(bytes(65535)), [0x82, bytes(65535)]),
    ("64 bits, least", Rules(), wire.binary(bytes(65536)), [0x82, bytes(65536)]),
    ("largest control frame", Rules(max_fragment=0, max_message=0), wire.ping(bytes(125)), [0x89, bytes(125)]),
    ("largest fragment", Rules(max_fragment=3), wire.binary(bytes(3)), [0x82, bytes(3)]),
    (
        "compressed, as large as zlib makes it",
        Rules(reserved=0x40, max_message=0),
        b"\xc2\x40" + bytes(64),
        [0xC2, bytes(64)],
    ),
    ("largest message", Rules(max_message=3), wire.binary(bytes(3)) * 2, [0x82, bytes(3)] * 2),
    (
        "largest fragmented message, twice",
        Rules(max_message=3),
        (wire.binary(b"ab", fin=False) + wire.ping(b"ping") + wire.cont(b"c")) * 2,
        [0x02, b"ab", 0x89, b"ping", 0x80, b"c"] * 2,
    ),
    (
        "empty frames and fragments",
        Rules(max_message=0),
        wire.text(fin=False) + wire.cont(fin=False) + wire.cont() + wire.binary(),
        [0x01, b"", 0x00, b"", 0x80, b"", 0x82, b""],
    ),
]


@pytest.mark.parametrize("chunker", CHUNKERS, ids=lambda chunker: chunker.__name__)
@pytest.mark.parametrize(("rules", "stream", "frames"), [row[1:] for row in FRAMES], ids=[row[0] for row in FRAMES])
def test_frames(twin: Any, rules: Rules, stream: bytes, frames: list[Any], chunker: Chunker) -> None:
    assert decode(twin, rules, chunker(stream)) == Verdict(frames, None, False) == oracle(stream, rules)


MAX63, MSB = 2**63 - 1, 2**63
LONGER_THAN_NEEDED = "payload length {} isn't in its shortest form".format
BEYOND = "payload length {} exceeds 2**63 - 1".format

# What was sent before, a header that is refused, and how: with the last of these bytes, and not with the one before.
REFUSED: list[tuple[str, Rules, bytes, bytes, tuple[Any, ...]]] = [
    ("control from its header", Rules(), b"", b"\x89\x7e", (1002, "control frame too long")),
    ("control of 64 bits", Rules(), b"", b"\x88\x7f", (1002, "control frame too long")),
    ("fragmented control", Rules(), b"", b"\x09\x00", (1002, "fragmented control frame")),
    ("opcode", Rules(), b"", b"\x83\x00", (1002, "invalid opcode")),
    ("RSV1", Rules(), b"", b"\xc1\x00", (1002, "reserved bits must be 0")),
    ("RSV2 beside compression", Rules(reserved=0x40), b"", b"\xa1\x00", (1002, "reserved bits must be 0")),
    ("RSV1 on control", Rules(reserved=0x40), b"", b"\xc9\x00", (1002, "reserved bits must be 0")),
    ("RSV1 on continuation", Rules(reserved=0x40), b"\x41\x00", b"\xc0\x00", (1002, "reserved bits must be 0")),
    ("not masked", Rules(masked=True), b"", b"\x82\x00", (1002, "incorrect masking")),
    ("masked", Rules(), b"", b"\x82\x80", (1002, "incorrect masking")),
    ("lone continuation", Rules(), b"", b"\x80\x00", (1002, "unexpected continuation frame")),
    ("after a message", Rules(), b"\x01\x00\x80\x00", b"\x80\x00", (1002, "unexpected continuation frame")),
    ("text in text", Rules(), b"\x01\x00", b"\x81\x00", (1002, "expected a continuation frame")),
    ("binary in text", Rules(), b"\x01\x00\x89\x00", b"\x02\x00", (1002, "expected a continuation frame")),
    ("16 bits for 125", Rules(), b"", b"\x82\x7e\0\x7d", (1002, LONGER_THAN_NEEDED(125))),
    ("16 bits for 0", Rules(), b"", b"\x82\x7e\0\0", (1002, LONGER_THAN_NEEDED(0))),
    ("64 bits for 65535", Rules(), b"", b"\x82\x7f\0\0\0\0\0\0\xff\xff", (1002, LONGER_THAN_NEEDED(65535))),
    ("64 bits for 125", Rules(masked=True), b"", b"\x82\xff\0\0\0\0\0\0\0\x7d", (1002, LONGER_THAN_NEEDED(125))),
    ("MSB", Rules(), b"", b"\x82\x7f\x80" + bytes(7), (1002, BEYOND(MSB))),
    ("all bits", Rules(), b"", b"\x82\x7f" + b"\xff" * 8, (1002, BEYOND(2**64 - 1))),
    ("MSB before limits", Rules(max_message=5), b"", b"\x82\x7f\x80" + bytes(7), (1002, BEYOND(MSB))),
    ("compressed and too big", Rules(reserved=0x40, max_message=64), b"", b"\xc2\x7e\x00\x8a", (1009, 138, 64, 0)),
    ("fragment too big", Rules(max_fragment=3), b"", b"\x82\x04", (1009, 4, 3, 0)),
    ("message too big", Rules(max_message=3), b"", b"\x82\x04", (1009, 4, 3, 0)),
    ("before its mask", Rules(masked=True, max_message=3), b"", b"\x82\x84", (1009, 4, 3, 0)),
    ("limit of nothing", Rules(max_message=0), b"", b"\x81\x01", (1009, 1, 0, 0)),
    ("16 bits too big", Rules(max_message=65535), b"", b"\x82\x7f\0\0\0\0\0\1\0\0", (1009, 65536, 65535, 0)),
    ("sum of fragments", Rules(max_message=3), b"\x02\x02ab\x89\x01p\x00\x00", b"\x80\x02", (1009, 2, 3, 2)),
    ("fragment before message", Rules(max_fragment=3, max_message=3), b"\x02\x01a", b"\x80\x04", (1009, 4, 3, 0)),
    (
        "sum that would overflow",
        Rules(max_message=MAX63),
        b"\x02\x01a",
        b"\x00\x7f\x7f" + b"\xff" * 7,
        (1009, MAX63, MAX63, 1),
    ),
]


@pytest.mark.parametrize(
    ("rules", "before", "header", "failure"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refused_by_its_header(twin: Any, rules: Rules, before: bytes, header: bytes, failure: tuple[Any, ...]) -> None:
    decoder = twin.FrameDecoder(*rules)
    decoder.feed(before)
    for byte in bytewise(header[:-1]):
        assert decoder.feed(byte) == []
        assert decoder.failure is None
    assert decoder.feed(header[-1:]) == []
    assert decoder.failure == failure
    assert decode(twin, rules, [before + header + b"tail"]) == oracle(before + header, rules)


def test_limits_that_change(twin: Any) -> None:
    """They count from the next header on: a payload whose header was accepted arrives."""
    decoder = twin.FrameDecoder(*Rules(max_fragment=5, max_message=5))
    assert (decoder.max_fragment, decoder.max_message) == (5, 5)
    assert decoder.feed(b"\x82\x05ab") == []
    decoder.max_message = 3
    assert len(decoder.feed(b"cde")) == 2
    decoder.max_message = decoder.max_fragment = 6
    assert len(decoder.feed(b"\x82\x06abcdef")) == 2
    decoder.max_message = -1
    assert decoder.feed(b"\x82\x07") == []
    assert decoder.failure == (1009, 7, 6, 0)


# First bytes that may begin a frame, by the reserved bits that are claimed; the oracle knows the others.
CONTROL = {0x88, 0x89, 0x8A}
ALLOWED = {
    (0x00, False): {0x01, 0x02, 0x81, 0x82} | CONTROL,
    (0x00, True): {0x00, 0x80} | CONTROL,
    (0x40, False): {0x01, 0x02, 0x41, 0x42, 0x81, 0x82, 0xC1, 0xC2} | CONTROL,
    (0x40, True): {0x00, 0x80} | CONTROL,
    (0x70, False): {h | rsv << 4 for h in {0x01, 0x02, 0x81, 0x82} | CONTROL for rsv in range(8)},
    (0x70, True): {h | rsv << 4 for h in {0x00, 0x80} | CONTROL for rsv in range(8)},
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("reserved", "inside"), ALLOWED)
def test_every_first_byte(twin: Any, reserved: int, inside: bool, masked: bool) -> None:
    rules = Rules(masked=masked, reserved=reserved)
    before = wire.binary(b"", fin=False, mask=masked) if inside else b""
    passed = set()
    for head in range(256):
        stream = before + bytes([head, 0x81 if masked else 0x01]) + b"1234x"[not masked and 4 :]
        verdict = decode(twin, rules, [stream])
        assert verdict == oracle(stream, rules)
        if verdict.failure is None:
            passed.add(head)
    assert passed == ALLOWED[reserved, inside]


# -------------------------------------------------------------------------------------------------------------- UTF-8

START, CONTINUATION, END = "invalid start byte", "invalid continuation byte", "unexpected end of data"

# A text, the index of the byte with which it is wrong, and what is said of which position.
INVALID_TEXTS: list[tuple[bytes, int, str, int]] = [
    (b"\x80", 0, START, 0),
    (b"ab\xbf", 2, START, 2),
    (b"\xc3\xa9\xa9", 2, START, 2),
    (b"\xfe", 0, START, 0),
    (b"\xff", 0, START, 0),
    (b"\xc3\x28", 1, CONTINUATION, 0),
    (b"\xc3\xc3", 1, CONTINUATION, 0),
    (b"\xe2\x28\xa1", 1, CONTINUATION, 0),
    (b"\xe2\x82\x28", 2, CONTINUATION, 0),
    (b"\xf0\x28\x8c\xbc", 1, CONTINUATION, 0),
    (b"\xf0\x9f\x28\x80", 2, CONTINUATION, 0),
    (b"\xf0\x9f\x98\x28", 3, CONTINUATION, 0),
    # Overlong forms.
    (b"\xc0\xaf", 0, START, 0),
    (b"\xc1\xbf", 0, START, 0),
    (b"\xe0\x80\xaf", 1, CONTINUATION, 0),
    (b"\xe0\x9f\xbf", 1, CONTINUATION, 0),
    (b"\xf0\x80\x80\xaf", 1, CONTINUATION, 0),
    (b"\xf0\x8f\xbf\xbf", 1, CONTINUATION, 0),
    (b"\xf8\x88\x80\x80\x80", 0, START, 0),
    (b"\xfc\x84\x80\x80\x80\x80", 0, START, 0),
    # Surrogates, first and last, and a pair of them.
    (b"\xed\xa0\x80", 1, CONTINUATION, 0),
    (b"\xed\xbf\xbf", 1, CONTINUATION, 0),
    (b"a\xed\xa0\x80\xed\xb0\x80", 2, CONTINUATION, 1),
    # Beyond U+10FFFF.
    (b"\xf4\x90\x80\x80", 1, CONTINUATION, 0),
    (b"\xf5\x80\x80\x80", 0, START, 0),
    (b"\xf7\xbf\xbf\xbf", 0, START, 0),
    # What Autobahn sends.
    ("\u03ba\u1f79\u03c3\u03bc\u03b5".encode() + b"\xed\xa0\x80edited", 12, CONTINUATION, 11),
    ("\u03ba\u1f79\u03c3\u03bc\u03b5".encode() + b"\xf4\x90\x80\x80edited", 12, CONTINUATION, 11),
    # Cut off, which only the end of the message tells.
    (b"\xc3", 0, END, 0),
    (b"ab\xe2", 2, END, 2),
    (b"\xe2\x82", 1, END, 0),
    (b"\xf0\x9f", 1, END, 0),
    (b"a\xf0\x9f\x98", 3, END, 1),
    (b"\xed\x9f", 1, END, 0),
]

invalid_texts = pytest.mark.parametrize(("text", "index", "reason", "position"), INVALID_TEXTS)
both_maskings = pytest.mark.parametrize("mask", [None, b"\x37\xfa\x21\x3d"], ids=["plain", "masked"])


@both_maskings
@invalid_texts
@pytest.mark.parametrize("before", [b"", b"x", "\u20ac".encode()])
def test_fail_at_the_first_wrong_byte(
    twin: Any, text: bytes, index: int, reason: str, position: int, mask: bytes | None, before: bytes
) -> None:
    # Unless only its end is wrong, the frame never ends.
    declared = len(before) + len(text) + (0 if reason == END else 1000)
    decoder = twin.FrameDecoder(*Rules(masked=mask is not None, text=True))
    stream = wire.frame(1, before + text, mask=mask, declared=declared)
    wrong = len(stream) - len(text) + index
    for byte in bytewise(stream[:wrong]):
        assert decoder.feed(byte) == []
        assert decoder.failure is None
    assert decoder.feed(stream[wrong : wrong + 1]) == []
    assert decoder.failure == (1007, f"{reason} at position {len(before) + position}")


@both_maskings
@invalid_texts
def test_fail_in_fragments(twin: Any, text: bytes, index: int, reason: str, position: int, mask: bytes | None) -> None:
    rules = Rules(masked=mask is not None, text=True)
    failure = (1007, f"{reason} at position {position}")
    for cut in range(len(text) + 1):
        first = wire.text(text[:cut], fin=False, mask=mask) + wire.ping(b"\xff", mask=mask)
        second = wire.cont(text[cut:], mask=mask)
        verdict = decode(twin, rules, [first, second])
        # The first fragment and the ping are given if nothing in them was wrong.
        assert verdict.frames == ([] if reason != END and index < cut else [0x01, text[:cut], 0x89, b"\xff"])
        assert verdict.failure == failure
        assert decode(twin, rules, bytewise(first + second)) == verdict == oracle(first + second, rules)


@both_maskings
@invalid_texts
def test_fail_with_a_byte_a_fragment(
    twin: Any, text: bytes, index: int, reason: str, position: int, mask: bytes | None
) -> None:
    fragments = [wire.frame(0, byte, fin=False, mask=mask) for byte in bytewise(text)]
    fragments[0] = wire.text(text[:1], fin=False, mask=mask)
    decoder = twin.FrameDecoder(*Rules(masked=mask is not None))
    for fragment in fragments[:index]:
        assert len(decoder.feed(fragment)) == 2
    if reason == END:
        assert len(decoder.feed(fragments[index])) == 2
        assert decoder.failure is None
        assert decoder.feed(wire.cont(mask=mask)) == []
    else:
        assert decoder.feed(fragments[index]) == []
    assert decoder.failure == (1007, f"{reason} at position {position}")


@both_maskings
@pytest.mark.parametrize("size", [7, 8, 40, 100])
def test_no_place_in_a_long_text_is_overlooked(twin: Any, size: int, mask: bytes | None) -> None:
    rules = Rules(masked=mask is not None, text=True)
    for place in range(size):
        before, after = "a" * place, "b" * (size - place)
        good, bad = f"{before}\u20ac{after}", before.encode() + b"\xff" + after.encode()
        assert decode(twin, rules, [wire.text(good, mask=mask)]).frames == [0x81, good]
        failure = (1007, f"invalid start byte at position {place}")
        assert decode(twin, rules, [wire.text(bad, mask=mask)]) == Verdict([], failure, False)


def test_text_before_a_wrong_one_is_given(twin: Any) -> None:
    stream = wire.text("good") + wire.text(b"\xff") + wire.text("never")
    assert decode(twin, Rules(text=True), [stream]) == Verdict(
        [0x81, "good"], (1007, "invalid start byte at position 0"), False
    )


# The first and the last character of each length, on both sides of the surrogates, and the last of all.
EDGES = "\u0000\u007f\u0080\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff"


@both_maskings
@pytest.mark.parametrize("text", ["", *EDGES, EDGES])
def test_split_characters_are_accepted(twin: Any, text: str, mask: bytes | None) -> None:
    payload, rules = text.encode(), Rules(masked=mask is not None, text=True)
    assert decode(twin, rules, bytewise(wire.text(payload, mask=mask))).frames == [0x81, text]
    for cut in range(len(payload) + 1):
        stream = (
            wire.text(payload[:cut], fin=False, mask=mask) + wire.pong(mask=mask) + wire.cont(payload[cut:], mask=mask)
        )
        expected = Verdict([0x01, payload[:cut], 0x8A, b"", 0x80, payload[cut:]], None, False)
        assert decode(twin, rules, [stream]) == decode(twin, rules, bytewise(stream)) == expected


def test_positions_start_over_with_each_message(twin: Any) -> None:
    message = wire.text("abc", fin=False) + wire.cont("def")
    verdict = decode(
        twin, Rules(), bytewise(message + wire.text("xy") + wire.text(b"z", fin=False) + wire.cont(b"\xff"))
    )
    assert verdict.failure == (1007, "invalid start byte at position 1")


# ------------------------------------------------------------------------------------------------ after the last frame

ENDINGS: list[tuple[bytes, bool]] = [(wire.close(1000), True), (wire.close(), True), (b"\x83\x00", False)]


@pytest.mark.parametrize("rest", [b"", wire.text("more"), wire.close(), b"\x83\x00", b"\x82", b"\x82\x7f\xff"])
@pytest.mark.parametrize(("ending", "ended"), ENDINGS)
@pytest.mark.parametrize("before", [b"", wire.text("a", fin=False)])
def test_input_after_the_end_is_ignored(twin: Any, before: bytes, ending: bytes, ended: bool, rest: bytes) -> None:
    decoder = twin.FrameDecoder(*Rules())
    frames = decoder.feed(before + ending + rest)
    failure = decoder.failure
    assert frames == oracle(before + ending, Rules()).frames
    assert (failure is None) is ended is decoder.ended
    for chunk in (rest, wire.text("more"), b"", b"\x83\x00"):
        assert decoder.feed(chunk) == []
        assert (decoder.failure, decoder.ended) == (failure, ended)


# ------------------------------------------------------------------------------------------------------ time and space


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 2**40])
def test_header_alone(twin: Any, size: int) -> None:
    header = twin.build_header(0x82, size)
    assert header == wire.frame(2, declared=size)
    if size < 2**20:
        assert header + bytes(size) == twin.build_frame(0x82, bytes(size), None)


@pytest.mark.parametrize("head", [-1, 256])
def test_header_of_no_frame(twin: Any, head: int) -> None:
    with pytest.raises(ValueError, match=r"256|0\.\.255"):
        twin.build_header(head, 0)


@pytest.mark.scenario(35)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", [0x81, 0x82])
def test_nothing_is_allocated_for_what_is_announced(twin: Any, masked: bool, kind: int) -> None:
    stream = wire.frame(kind & 15, b"0123456789", mask=masked, declared=2**62)
    decoder = twin.FrameDecoder(*Rules(masked=masked))
    tracemalloc.start()
    try:
        frames = decoder.feed(stream)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (frames, decoder.failure) == ([], None)
    assert peak < 65536


def test_nothing_is_allocated_for_what_is_refused(twin: Any) -> None:
    decoder = twin.FrameDecoder(*Rules(max_message=2**20))
    tracemalloc.start()
    try:
        decoder.feed(wire.frame(2, b"0123456789", declared=2**40))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert decoder.failure == (1009, 2**40, 2**20, 0)
    assert peak < 65536


def empty_fragments(count: int) -> list[bytes]:
    """A text in ``count`` empty fragments, in one read."""
    return [wire.text(fin=False) + wire.cont(fin=False) * (count - 2) + wire.cont()]


def dripping_payload(count: int) -> list[bytes]:
    """A text in one frame that arrives in ``count`` reads."""
    stream = wire.text(b"a" * 20 * count, mask=True)
    return [stream[at : at + 20] for at in range(0, len(stream), 20)]


def seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


@pytest.mark.parametrize(("build", "masked"), [(empty_fragments, False), (dripping_payload, True)])
def test_floods_are_linear(twin: Any, build: Callable[[int], list[bytes]], masked: bool) -> None:
    few, many = build(2_000), build(80_000)
    verdict = decode(twin, Rules(masked=masked), many)
    assert verdict.failure is None
    assert len(verdict.frames) in (2, 160_000)
    # 40 times the input: 40 times the time if linear, 1600 times if quadratic. Between them is room for any noise.
    short, long = (seconds(partial(decode, twin, Rules(masked=masked), chunks)) for chunks in (few, many))
    assert long < 400 * max(short, 0.001)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", [bytearray, lambda data: memoryview(bytearray(data))], ids=["bytearray", "memoryview"])
def test_nothing_of_the_input_is_referred_to(twin: Any, kind: Callable[[bytes], Any], masked: bool) -> None:
    stream = (
        wire.binary(b"first", mask=masked)
        + wire.text("second", mask=masked)
        + wire.binary(bytes(range(200)), mask=masked)
    )
    expected = oracle(stream, Rules(masked=masked)).frames
    for cut in range(len(stream)):
        decoder, frames = twin.FrameDecoder(*Rules(masked=masked)), []
        for piece in (stream[:cut], stream[cut:]):
            data = kind(piece)
            frames += decoder.feed(data)
            data[:] = b"\xaa" * len(data)
            resize(data)
        assert frames == expected


def resize(data: bytearray | memoryview) -> None:
    """Resize the buffer, which fails with BufferError while anything refers to it."""
    if isinstance(data, memoryview):
        buffer = data.obj
        data.release()
    else:
        buffer = data
    assert isinstance(buffer, bytearray)
    buffer.clear()
