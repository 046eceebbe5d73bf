"""From fragments to messages and back: the inbox beside a plain list, floods, and what users pass and get."""

from __future__ import annotations

import array
import collections
import importlib.util
import time
import tracemalloc
import types
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from _kit import examples
from websockets._codec import _python
from websockets._codec._python import MERGE_AFTER
from websockets._rules import messages as _messages
from websockets._rules.messages import (
    MISSING,
    Assembly,
    Inbox,
    converter,
    encode_item,
    encode_message,
    fragment_converter,
    refuse_mapping,
)
from websockets.exceptions import TooManyFragments

# First bytes of frames.
TEXT, BINARY, CONT = 0x01, 0x02, 0x00
FIN = 0x80

# ------------------------------------------------------------------------------------------------------------- messages


def fill(inbox: Inbox, *frames: tuple[int, Any]) -> Inbox:
    for head, payload in frames:
        inbox.put(head, payload)
    return inbox


def assembly_of(inbox: Inbox) -> Assembly:
    (item, *_) = inbox.items
    assert isinstance(item, _messages.Assembly)
    return item


MESSAGES: list[tuple[list[tuple[int, Any]], list[Any]]] = [
    ([], []),
    ([(FIN | TEXT, "abc")], ["abc"]),
    ([(FIN | TEXT, "")], [""]),
    ([(FIN | BINARY, b"\x00")], [b"\x00"]),
    ([(FIN | TEXT, "a"), (FIN | BINARY, b"b"), (FIN | TEXT, "c")], ["a", b"b", "c"]),
    ([(TEXT, b"a"), (FIN | CONT, b"b")], ["ab"]),
    ([(TEXT, b"\xc3"), (CONT, b""), (FIN | CONT, b"\xa9")], ["\u00e9"]),
    ([(BINARY, b"a"), (CONT, b""), (FIN | CONT, b"\xff")], [b"a\xff"]),
    ([(BINARY, b""), (FIN | CONT, b"")], [b""]),
    ([(TEXT, b""), (FIN | CONT, b"")], [""]),
    ([(TEXT, b"a"), (FIN | CONT, b"b"), (FIN | BINARY, b"c"), (BINARY, b"d"), (FIN | CONT, b"")], ["ab", b"c", b"d"]),
    ([(FIN | TEXT, "a"), (TEXT, b"b"), (CONT, b"c")], ["a"]),
    # With reserved bits, as extensions that the decoder can't read leave them.
    ([(FIN | 0x40 | TEXT, "a"), (0x40 | BINARY, b"b"), (0x20 | FIN | CONT, b"c")], ["a", b"bc"]),
]


@pytest.mark.parametrize(("frames", "messages"), MESSAGES)
def test_messages(frames: list[tuple[int, Any]], messages: list[Any]) -> None:
    inbox, got = Inbox(), []
    for head, payload in frames:
        inbox.put(head, payload)
        if (message := inbox.get()) is not MISSING:
            got.append(message)
    assert got == messages
    assert [type(message) for message in got] == [type(message) for message in messages]
    together = fill(Inbox(), *frames)
    assert [together.get() for _ in messages] == messages
    assert together.get() is MISSING


def test_bytes_of_a_whole_text_are_kept_as_they_are() -> None:
    payload = b"abc"
    assert fill(Inbox(), (FIN | TEXT, payload)).get() is payload


# -------------------------------------------------------------------------------------------------- beside a plain list


class Row:
    """A message in the plain list."""

    def __init__(self, whole: str | bytes | None, text: bool) -> None:
        self.whole = whole
        self.text = text
        self.pieces: list[bytes] = []
        self.complete = whole is not None

    def message(self) -> str | bytes:
        if self.whole is not None:
            return self.whole
        joined = b"".join(self.pieces)
        return joined.decode() if self.text else joined


PIECES = st.sampled_from([b"", b"a", b"bc", b"def"])


class InboxMachine(RuleBasedStateMachine):
    """An inbox, and a list of what it must hold: two who read and write in any order that a connection allows."""

    merging = False

    @initialize(high=st.sampled_from([None, 0, 1, 2, 4, 6]), low=st.integers(0, 2))
    def start(self, high: int | None, low: int) -> None:
        self.inbox = Inbox(high, low)
        self.rows: list[Row] = []
        self.under_way = False  # whether the peer is in the middle of a message
        self.current: Row | None = None  # that message, unless nobody wants it any more
        self.reading: tuple[Row, Assembly] | None = None
        self.high, self.thrown = high, False

    # What arrives.

    def put(self, head: int, payload: str | bytes) -> bool:
        """Put a frame in; return whether it was not thrown away."""
        full = self.inbox.discarding and self.high is not None and self.expected_count() > self.high
        # Whoever reads sees no gap: once a frame was thrown away, all later ones are.
        thrown = self.thrown = self.thrown or full
        self.inbox.put(head, payload)
        if thrown and self.current is not None:
            self.rows.remove(self.current)
            self.current = None
        return not thrown

    @rule(text=st.booleans())
    @precondition(lambda self: not self.under_way)
    def whole_message(self, text: bool) -> None:
        payload = "text" if text else b"binary"
        if self.put(FIN | (TEXT if text else BINARY), payload):
            self.rows.append(Row(payload, text))

    @rule(text=st.booleans(), piece=PIECES)
    @precondition(lambda self: not self.under_way)
    def first_fragment(self, text: bool, piece: bytes) -> None:
        self.under_way = True
        if self.put(TEXT if text else BINARY, piece):
            self.current = Row(None, text)
            self.current.pieces.append(piece)
            self.rows.append(self.current)

    @rule(pieces=st.lists(PIECES, min_size=1, max_size=4), final=st.booleans())
    @precondition(lambda self: self.under_way)
    def more_fragments(self, pieces: list[bytes], final: bool) -> None:
        for index, piece in enumerate(pieces):
            last = final and index == len(pieces) - 1
            if self.put(FIN | CONT if last else CONT, piece) and self.current is not None:
                self.current.pieces.append(piece)
                self.current.complete = last
            if last:
                self.under_way, self.current = False, None

    @rule(turn=st.integers(0, 9))
    def discard(self, turn: int) -> None:
        self.inbox.discarding = self.inbox.discarding or turn == 5

    # Who reads.

    @rule()
    @precondition(lambda self: self.reading is None)
    def get(self) -> None:
        if self.rows and self.rows[0].complete:
            assert self.inbox.get() == self.rows.pop(0).message()
        else:
            assert self.inbox.get() is MISSING

    @rule()
    @precondition(lambda self: self.reading is None and self.rows and self.rows[0].whole is None)
    def begin_streaming(self) -> None:
        assembly = assembly_of(self.inbox)
        assert (assembly.text, assembly.complete) == (self.rows[0].text, self.rows[0].complete)
        self.reading = self.rows[0], assembly

    @rule(times=st.integers(1, 3))
    @precondition(lambda self: self.reading)
    def take(self, times: int) -> None:
        assert self.reading is not None
        row, assembly = self.reading
        for _ in range(times):
            piece = self.inbox.take(assembly)
            if not self.merging:
                assert piece == (row.pieces.pop(0) if row.pieces else None)
                continue
            # Some of what is there, joined in any way.
            left = b"".join(row.pieces)
            assert left.startswith(piece) if piece else piece is not None or not left
            row.pieces = [left[len(piece or b"") :]]

    @rule()
    @precondition(lambda self: self.reading)
    def release(self) -> None:
        assert self.reading is not None
        row, assembly = self.reading
        self.inbox.release(assembly)
        if row in self.rows:
            assert self.rows.pop(0) is row
        if self.current is row:
            self.current = None
        self.reading = None

    # What is always so.

    def expected_count(self) -> int:
        if self.merging:
            return sum(max(item.waiting, 1) if isinstance(item, _messages.Assembly) else 1 for item in self.inbox.items)
        return sum(max(len(row.pieces), 1) for row in self.rows)

    @invariant()
    def counts(self) -> None:
        count, high = self.expected_count(), self.high
        assert self.inbox.count == count
        assert self.inbox.full is (self.thrown or (high is not None and count > high))
        assert self.inbox.drained is (count <= self.inbox.low)
        assert self.inbox.holds() is any(row.complete for row in self.rows)
        assert len(self.inbox.items) == len(self.rows)


class MergingInboxMachine(InboxMachine):
    merging = True


STATEFUL = examples(40, steps=40)


def test_inbox_is_a_plain_list() -> None:
    run_state_machine_as_test(InboxMachine, settings=STATEFUL)


def test_inbox_is_a_plain_list_when_it_merges(monkeypatch: pytest.MonkeyPatch) -> None:
    # The number is fixed in the compiled twin; test_assembly compares the twins.
    for name in ("Assembly", "Queue"):
        monkeypatch.setattr(_messages, name, getattr(_python, name))
    monkeypatch.setattr(_python, "MERGE_AFTER", 3)
    run_state_machine_as_test(MergingInboxMachine, settings=STATEFUL)


# ---------------------------------------------------------------------------------------------------------- discarding


def test_nothing_is_discarded_unless_told() -> None:
    inbox = fill(Inbox(1), (FIN | TEXT, "a"), (FIN | TEXT, "b"), (FIN | TEXT, "c"))
    assert [inbox.get() for _ in range(3)] == ["a", "b", "c"]


def test_marks() -> None:
    inbox = fill(Inbox(1), (FIN | TEXT, "a"))
    assert (inbox.full, inbox.drained) == (False, False)
    fill(inbox, (FIN | TEXT, "b"))
    assert (inbox.full, inbox.drained) == (True, False)
    inbox.get()
    inbox.get()
    assert (inbox.full, inbox.drained) == (False, True)


def test_discard_only_beyond_the_limit() -> None:
    inbox = fill(Inbox(1, 0), (FIN | TEXT, "a"))
    inbox.discarding = True
    fill(inbox, (FIN | TEXT, "b"), (FIN | TEXT, "c"), (FIN | TEXT, "d"))
    assert [inbox.get(), inbox.get(), inbox.get()] == ["a", "b", MISSING]


def test_discard_whole_messages() -> None:
    inbox = Inbox(2, 0)
    inbox.discarding = True
    fill(inbox, (FIN | TEXT, "a"), (TEXT, b"b"), (CONT, b"c"), (CONT, b"d"))
    # With "d" there are too many, so nothing of that message stays, nor comes again when there is room.
    assert inbox.count == 1
    fill(inbox, (CONT, b"e"), (FIN | CONT, b"f"))
    assert [inbox.get(), inbox.get()] == ["a", MISSING]


def test_discard_all_that_comes_later() -> None:
    """Whoever still receives sees no gap: nothing is missing before the last message."""
    inbox = fill(Inbox(1, 0), (FIN | TEXT, "a"), (FIN | TEXT, "b"))
    inbox.discarding = True
    fill(inbox, (FIN | TEXT, "c"))
    assert [inbox.get(), inbox.get(), inbox.get()] == ["a", "b", MISSING]
    fill(inbox, (FIN | TEXT, "d"), (TEXT, b"e"), (FIN | CONT, b"f"))
    assert (inbox.get(), inbox.count) == (MISSING, 0)


def test_no_limit_no_discarding() -> None:
    inbox = Inbox()
    inbox.discarding = True
    fill(inbox, *[(FIN | TEXT, "a")] * 1000)
    assert inbox.count == 1000
    assert not inbox.full


def test_discard_while_somebody_reads_fragments() -> None:
    inbox = fill(Inbox(1, 0), (TEXT, b"a"), (CONT, b"b"))
    assembly = assembly_of(inbox)
    assert inbox.take(assembly) == b"a"
    inbox.discarding = True
    fill(inbox, (CONT, b"c"), (CONT, b"d"))
    # Thrown away, but what the reader holds stays good, and it lets go of nothing that isn't its own.
    assert inbox.count == 0
    fill(inbox, (FIN | CONT, b"e"))
    assert [inbox.take(assembly) for _ in range(3)] == [b"b", b"c", None]
    assert not assembly.complete
    inbox.release(assembly)
    assert inbox.count == 0


# ------------------------------------------------------------------------------------------------------------ streaming


def test_stream_while_fragments_arrive() -> None:
    inbox = fill(Inbox(), (TEXT, b"a"))
    assembly = assembly_of(inbox)
    assert [inbox.take(assembly), inbox.take(assembly)] == [b"a", None]
    fill(inbox, (CONT, b"b"), (FIN | CONT, b""))
    assert [inbox.take(assembly), inbox.take(assembly), inbox.take(assembly)] == [b"b", b"", None]
    assert assembly.complete
    inbox.release(assembly)
    assert inbox.count == 0


@pytest.mark.parametrize("rest", [[], [(CONT, b"c")]])
def test_release_in_the_middle(rest: list[tuple[int, bytes]]) -> None:
    inbox = fill(Inbox(), (TEXT, b"a"), (CONT, b"b"))
    assembly = assembly_of(inbox)
    assert inbox.take(assembly) == b"a"
    inbox.release(assembly)
    assert inbox.count == 0
    fill(inbox, *rest, (FIN | CONT, b"z"), (FIN | TEXT, "next"))
    assert inbox.count == 1
    assert inbox.get() == "next"


def test_release_keeps_what_comes_after() -> None:
    inbox = fill(Inbox(), (TEXT, b"a"), (FIN | CONT, b"b"), (TEXT, b"c"), (CONT, b"d"))
    inbox.release(assembly_of(inbox))
    assert inbox.count == 2
    fill(inbox, (FIN | CONT, b"e"))
    assert inbox.get() == "cde"


# --------------------------------------------------------------------------------------------------------------- floods


def flood(count: int, piece: Callable[[int], bytes]) -> Inbox:
    """An inbox with a message of ``count`` fragments that nobody took."""
    inbox = Inbox()
    inbox.put(BINARY, piece(0))
    for number in range(1, count - 1):
        inbox.put(CONT, piece(number))
    inbox.put(FIN | CONT, piece(count - 1))
    return inbox


def two_bytes(number: int) -> bytes:
    return (number & 0xFFFF).to_bytes(2, "big")


def peak_of(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        kept = work()
        _, peak = tracemalloc.get_traced_memory()
        del kept
    finally:
        tracemalloc.stop()
    return peak


@pytest.mark.scenario(57)
def test_tiny_fragments_cost_little_more_than_their_bytes() -> None:
    assert peak_of(lambda: flood(50_000, two_bytes)) < 4 * 100_000


@pytest.mark.scenario(46)
def test_empty_fragments_cost_nothing() -> None:
    assert peak_of(lambda: flood(50_000, lambda number: b"")) < 16_384


def test_a_flood_arrives_whole() -> None:
    message = b"".join(map(two_bytes, range(50_000)))
    assert flood(50_000, two_bytes).get() == message
    inbox = flood(50_000, two_bytes)
    assert inbox.count == 50_000
    assembly = assembly_of(inbox)
    pieces = [inbox.take(assembly)]
    assert inbox.count == assembly.waiting == 50_000 % MERGE_AFTER
    while (piece := inbox.take(assembly)) is not None:
        pieces.append(piece)
    assert b"".join(piece or b"" for piece in pieces) == message
    # The merged ones at once, the others one by one.
    assert len(pieces) == 1 + 50_000 % MERGE_AFTER
    assert inbox.count == 1


def test_empty_fragments_leave_no_piece_when_merged() -> None:
    inbox = flood(2 * MERGE_AFTER, lambda number: b"")
    assembly = assembly_of(inbox)
    assert inbox.take(assembly) is None
    assert (assembly.waiting, inbox.count, assembly.complete) == (0, 1, True)


def seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


@pytest.mark.parametrize("piece", [two_bytes, lambda number: b""], ids=["two bytes", "empty"])
def test_floods_are_linear(piece: Callable[[int], bytes]) -> None:
    # 40 times the input: 40 times the time if linear, 1600 times if quadratic. Between them is room for any noise.
    short, long = (seconds(partial(flood, count, piece)) for count in (5_000, 200_000))
    assert long < 400 * max(short, 0.001)


@pytest.mark.parametrize(("value", "limit"), [(None, None), ("4", 4)])
def test_number_of_fragments_is_limited_where_that_is_wanted(
    monkeypatch: pytest.MonkeyPatch, value: str | None, limit: int | None
) -> None:
    monkeypatch.delenv("WEBSOCKETS_MAX_FRAGMENTS", raising=False)
    if value is not None:
        monkeypatch.setenv("WEBSOCKETS_MAX_FRAGMENTS", value)
    spec = importlib.util.spec_from_file_location("websockets._rules.messages_again", _messages.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert limit == module.MAX_FRAGMENTS


def test_as_many_fragments_as_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_messages, "MAX_FRAGMENTS", 4)
    assert flood(4, lambda number: b"a").get() == b"aaaa"
    # The limit is that of a message, not of all that wait; and a message in one frame has no fragments.
    inbox = fill(
        Inbox(), *[(BINARY, b"a"), (CONT, b"b"), (CONT, b"c"), (FIN | CONT, b"d")] * 2, *[(FIN | TEXT, "e")] * 5
    )
    assert [inbox.get() for _ in range(7)] == [b"abcd"] * 2 + ["e"] * 5


def test_more_fragments_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_messages, "MAX_FRAGMENTS", 4)
    inbox = fill(Inbox(), (TEXT, b""), (CONT, b""), (CONT, b"a"), (CONT, b""))
    with pytest.raises(TooManyFragments) as caught:
        inbox.put(CONT, b"")
    assert caught.value.max_fragments == 4


def test_fragments_that_were_taken_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_messages, "MAX_FRAGMENTS", 2)
    inbox = fill(Inbox(), (BINARY, b"a"))
    assembly = assembly_of(inbox)
    for _ in range(10):
        assert inbox.take(assembly) == b"a"
        inbox.put(CONT, b"a")


# ---------------------------------------------------------------------------------------------------- as users want it

CONVERTED: list[tuple[bool | None, Any, Any]] = [
    (None, "\u00e9", "\u00e9"),
    (None, b"\xc3\xa9", b"\xc3\xa9"),
    (True, "\u00e9", "\u00e9"),
    (True, b"\xc3\xa9", "\u00e9"),
    (False, "\u00e9", b"\xc3\xa9"),
    (False, b"\xc3\xa9", b"\xc3\xa9"),
]


@pytest.mark.parametrize(("decode", "message", "converted"), CONVERTED)
def test_convert_message(decode: bool | None, message: Any, converted: Any) -> None:
    assert converter(decode)(message) == converted


def test_converted_text_must_be_text() -> None:
    with pytest.raises(UnicodeDecodeError):
        converter(True)(b"\xff")


FRAGMENTS = [b"a\xc3", b"", b"\xa9b\xe2\x82", b"\xac"]


@pytest.mark.parametrize(
    ("decode", "text", "converted"),
    [
        (None, True, ["a", "", "\u00e9b", "\u20ac"]),
        (True, True, ["a", "", "\u00e9b", "\u20ac"]),
        (True, False, ["a", "", "\u00e9b", "\u20ac"]),
        (None, False, FRAGMENTS),
        (False, True, FRAGMENTS),
        (False, False, FRAGMENTS),
    ],
)
def test_convert_fragments(decode: bool | None, text: bool, converted: list[Any]) -> None:
    convert = fragment_converter(decode, text)
    assert [convert(piece, index == 3) for index, piece in enumerate(FRAGMENTS)] == converted


def test_converted_fragments_must_end_as_text() -> None:
    with pytest.raises(UnicodeDecodeError):
        fragment_converter(True, False)(b"\xc3", True)


def test_fragment_converters_share_nothing() -> None:
    first, second = fragment_converter(None, True), fragment_converter(None, True)
    assert first(b"\xc3", False) == ""
    assert second(b"a", True) == "a"


# ---------------------------------------------------------------------------------------------------- as the wire wants

SENT: list[tuple[Any, bool | None, Any]] = [
    ("\u00e9", None, (1, b"\xc3\xa9")),
    ("\u00e9", True, (1, b"\xc3\xa9")),
    ("\u00e9", False, (2, b"\xc3\xa9")),
    (b"a", None, (2, b"a")),
    (b"a", True, (1, b"a")),
    (b"a", False, (2, b"a")),
    (bytearray(b"a"), None, (2, b"a")),
    (bytearray(b"a"), True, (1, b"a")),
    (memoryview(b"a"), None, (2, b"a")),
    (memoryview(b"a"), True, (1, b"a")),
    (memoryview(b"abcd")[::2], None, (2, b"ac")),
    (memoryview(array.array("H", [1, 2])), None, (2, array.array("H", [1, 2]).tobytes())),
    (["a"], None, None),
    (None, None, None),
    (1, True, None),
    ({"a": 1}, None, None),
]


@pytest.mark.parametrize(("message", "text", "encoded"), SENT)
def test_encode_message(message: Any, text: bool | None, encoded: Any) -> None:
    assert encode_message(message, text) == encoded


@given(st.one_of(st.text(), st.binary()))
def test_decode_undoes_encode(message: str | bytes) -> None:
    encoded = encode_message(message, None)
    assert encoded is not None
    opcode, payload = encoded
    assert converter(opcode == 1)(bytes(payload)) == message


@pytest.mark.parametrize("mapping", [{}, {"a": 1}, collections.OrderedDict(a=1), types.MappingProxyType({})])
def test_refuse_mapping(mapping: Any) -> None:
    with pytest.raises(TypeError, match=r"^data is a dict-like object\n"):
        refuse_mapping(mapping)


@pytest.mark.parametrize("message", ["a", b"a", ["a"], iter(["a"]), {"a"}, None])
def test_what_is_no_mapping(message: Any) -> None:
    refuse_mapping(message)


@pytest.mark.parametrize(
    ("item", "first", "encoded"),
    [
        ("\u00e9", None, (True, b"\xc3\xa9")),
        ("\u00e9", True, (True, b"\xc3\xa9")),
        (b"a", None, (False, b"a")),
        (bytearray(b"a"), False, (False, b"a")),
        (memoryview(b"ab")[::-1], False, (False, b"ba")),
    ],
)
def test_encode_item(item: Any, first: bool | None, encoded: Any) -> None:
    assert encode_item(item, first) == encoded


@pytest.mark.parametrize(
    ("item", "first", "error"),
    [
        (1, None, "iterable must contain bytes or str"),
        (None, True, "iterable must contain bytes or str"),
        (["a"], True, "iterable must contain bytes or str"),
        ({}, False, "iterable must contain bytes or str"),
        ("a", False, "iterable must contain uniform types"),
        (b"a", True, "iterable must contain uniform types"),
    ],
)
def test_refuse_item(item: Any, first: bool | None, error: str) -> None:
    with pytest.raises(TypeError, match=rf"^{error}(\n|$)"):
        encode_item(item, first)
