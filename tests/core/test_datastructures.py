"""Headers as a multimap, and as what goes on the wire."""

from __future__ import annotations

import copy
import pickle
import string
from collections.abc import Iterable, MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websockets.datastructures import Headers, MultipleValuesError
from websockets.datastructures._shortcuts import add_lines, drop_index, headers_from_lines
from websockets.exceptions import InvalidHeaderFormat, InvalidHeaderValue

TCHARS = "!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters
NAMES = st.text(TCHARS, min_size=1)
VALUES = st.text([chr(code) for code in range(256) if code == 9 or (code >= 32 and code != 127)])
PAIRS = st.lists(st.tuples(NAMES, VALUES))

# Names are equal without case.
SEVERAL = [("Server", "a"), ("Set-Cookie", "b"), ("SET-COOKIE", "c")]


def received(pairs: list[tuple[str, str]]) -> Headers:
    """Headers as a parser makes them."""
    return headers_from_lines("".join(f"{name}:{value} \r\n" for name, value in pairs).encode("iso-8859-1"))


def to_send(pairs: list[tuple[str, str]]) -> Headers:
    """Headers as a server makes them for its responses."""
    return headers_from_lines("".join(f"{name}: {value}\r\n" for name, value in pairs))


def stripped(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What is left of *pairs* when they were sent: blanks around a value get lost."""
    return [(name, value.strip(" \t")) for name, value in pairs]


class DictLike:
    """The least that counts as dict-like."""

    def keys(self) -> Iterable[str]:
        return ["Server"]

    def __getitem__(self, key: str) -> str:
        return key.upper()


@pytest.fixture
def headers() -> Headers:
    return Headers(SEVERAL)


# Accepted, though the types do not promise it.
LISTS: Any = [["Server", "a"]]
NUMBER: Any = 5


@pytest.mark.parametrize(
    ("made", "pairs"),
    [
        (Headers(), []),
        (Headers([]), []),
        (Headers({}), []),
        (Headers(SEVERAL), SEVERAL),
        (Headers(iter(SEVERAL)), SEVERAL),
        (Headers(Headers(SEVERAL)), SEVERAL),
        (Headers(LISTS), [("Server", "a")]),
        (Headers({"Server": "a"}), [("Server", "a")]),
        (Headers(DictLike()), [("Server", "SERVER")]),
        (Headers(Server="a"), [("Server", "a")]),
        (Headers({"Server": "a"}, Date="b"), [("Server", "a"), ("Date", "b")]),
        (Headers({"Server": ""}), [("Server", "")]),
        (Headers({"Age": NUMBER}), [("Age", "5")]),
    ],
)
def test_construction(made: Headers, pairs: list[tuple[str, str]]) -> None:
    assert list(made.raw_items()) == pairs
    assert made == to_send(pairs)


def test_construction_refuses_two_sources() -> None:
    with pytest.raises(TypeError, match="at most 1 positional argument, got 2"):
        Headers({}, {})


@pytest.mark.parametrize("source", [1, None, [1], ["a"], [("a", "b", "c")]])
def test_construction_refuses_other_sources(source: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Headers(source)


def test_is_a_mutable_mapping(headers: Headers) -> None:
    assert isinstance(headers, MutableMapping)
    assert not isinstance(headers, dict)
    with pytest.raises(TypeError, match="unhashable"):
        hash(headers)


def test_written_out(headers: Headers) -> None:
    assert str(headers) == "Server: a\r\nSet-Cookie: b\r\nSET-COOKIE: c\r\n\r\n"
    assert headers.serialize() == str(headers).encode()
    assert Headers().serialize() == b"\r\n"
    assert Headers(A="\xe9").serialize() == b"A: \xe9\r\n\r\n"
    assert repr(headers) == f"Headers({SEVERAL!r})"


def test_reading(headers: Headers) -> None:
    assert headers["server"] == headers["SERVER"] == "a"
    assert headers.get("Date") is None
    assert headers.get_all("Set-cookie") == ["b", "c"]
    assert headers.get_all("Date") == []
    assert "set-cookie" in headers
    assert "Date" not in headers
    assert NUMBER not in headers
    assert list(headers) == list(headers.keys()) == ["server", "set-cookie"]
    assert len(headers) == 2


def test_reading_what_is_missing(headers: Headers) -> None:
    with pytest.raises(KeyError):
        headers["Date"]
    assert headers.get_all("Date") == []


def test_reading_one_of_several(headers: Headers) -> None:
    with pytest.raises(MultipleValuesError) as raised:
        headers["Set-Cookie"]
    assert str(raised.value) == "'Set-Cookie'"
    assert isinstance(raised.value, LookupError)
    assert not isinstance(raised.value, KeyError)
    assert str(MultipleValuesError()) == ""


@pytest.mark.parametrize("looked_at", [False, True])
def test_setting_adds(headers: Headers, looked_at: bool) -> None:
    if looked_at:
        assert "Server" in headers
    headers["server"] = "d"
    headers["Date"] = "e"
    assert list(headers.raw_items()) == [*SEVERAL, ("server", "d"), ("Date", "e")]
    assert headers.get_all("Server") == ["a", "d"]
    assert headers["date"] == "e"


@pytest.mark.parametrize("looked_at", [False, True])
def test_update_adds(headers: Headers, looked_at: bool) -> None:
    if looked_at:
        assert "Server" in headers
    headers.update({"server": "d"}, Date="e")
    assert list(headers.raw_items()) == [*SEVERAL, ("server", "d"), ("Date", "e")]
    assert headers.get_all("Server") == ["a", "d"]
    headers.update()
    assert len(headers) == 3


def test_deleting_removes_all_of_a_name(headers: Headers) -> None:
    del headers["set-Cookie"]
    assert list(headers.raw_items()) == [("Server", "a")]
    assert "Set-Cookie" not in headers
    with pytest.raises(KeyError):
        del headers["Set-Cookie"]
    headers.clear()
    assert str(headers) == "\r\n"
    assert len(headers) == 0


def test_what_a_mapping_has(headers: Headers) -> None:
    assert headers.pop("Server") == "a"
    assert headers.setdefault("Date", "e") == "e"
    del headers["Set-Cookie"]
    assert dict(headers) == {"date": "e"}


@pytest.mark.parametrize(
    ("pairs", "equal"),
    [
        ([("set-cookie", "b"), ("SERVER", "a"), ("Set-Cookie", "c")], True),
        ([("Set-Cookie", "c"), ("Server", "a"), ("Set-Cookie", "b")], False),
        ([("Server", "a"), ("Set-Cookie", "b")], False),
    ],
)
def test_equality_ignores_case_and_order_of_names(headers: Headers, pairs: list[tuple[str, str]], equal: bool) -> None:
    assert (headers == Headers(pairs)) is equal
    assert (headers != Headers(pairs)) is not equal


def test_equality_with_something_else() -> None:
    assert Headers(server="a") != {"server": "a"}


def test_copies_are_independent(headers: Headers) -> None:
    for twin in (headers.copy(), copy.copy(headers), copy.deepcopy(headers), pickle.loads(pickle.dumps(headers))):
        assert twin == headers
        twin["Date"] = "e"
        assert "Date" not in headers


# Every way in leads past the same check.

WAYS_IN = [
    lambda name, value: Headers([(name, value)]),
    lambda name, value: Headers({name: value}),
    lambda name, value: Headers().update({name: value}),
    lambda name, value: Headers().__setitem__(name, value),
    lambda name, value: Headers().setdefault(name, value),
]


@pytest.mark.parametrize("way_in", WAYS_IN)
@pytest.mark.parametrize("name", ["", " ", "a b", "a:", ":a", "a\r\nb", "a\n", "a\0", "\xe9", "\u212a", "a\ud800"])
def test_names_must_be_tokens(way_in: Any, name: str) -> None:
    with pytest.raises(InvalidHeaderFormat, match="expected token") as raised:
        way_in(name, "value")
    assert raised.value.name == name
    assert str(raised.value).isprintable()


def test_error_in_a_name_tells_where() -> None:
    with pytest.raises(InvalidHeaderFormat, match="expected token at 1 in a b"):
        Headers({"a b": "value"})


@pytest.mark.parametrize("way_in", WAYS_IN)
@pytest.mark.parametrize("value", ["\r\nb: c", "\r", "\n", "\0", "\x1f", "\x7f", "\u20ac", "\udc80"])
def test_values_must_stay_on_their_line(way_in: Any, value: str) -> None:
    with pytest.raises(InvalidHeaderValue) as raised:
        way_in("Name", value)
    assert (raised.value.name, raised.value.value) == ("Name", value)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("way_in", WAYS_IN)
@pytest.mark.parametrize("value", [b"a", bytearray(b"a"), memoryview(b"a")])
def test_values_must_not_be_bytes(way_in: Any, value: Any) -> None:
    with pytest.raises(TypeError, match="value of header Name must be str, not "):
        way_in("Name", value)


@pytest.mark.parametrize("way_in", WAYS_IN[:-1])
@pytest.mark.parametrize("name", [1, None, b"a"])
def test_names_must_be_strings(way_in: Any, name: Any) -> None:
    with pytest.raises(TypeError):
        way_in(name, "value")


def test_an_update_that_fails_changes_nothing(headers: Headers) -> None:
    with pytest.raises(InvalidHeaderValue):
        headers.update([("Date", "e"), ("Age", "\r\n")])
    assert list(headers.raw_items()) == SEVERAL


@given(PAIRS)
def test_one_line_a_header(pairs: list[tuple[str, str]]) -> None:
    wire = Headers(pairs).serialize()
    lines = wire.decode("iso-8859-1").split("\r\n")
    assert lines == [f"{name}: {value}" for name, value in pairs] + ["", ""]


@given(PAIRS)
def test_adding_at_once_or_one_by_one_is_the_same(pairs: list[tuple[str, str]]) -> None:
    one_by_one = Headers()
    for name, value in pairs:
        one_by_one[name] = value
    assert str(one_by_one) == str(Headers(pairs))
    assert one_by_one == Headers(pairs)


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1))
def test_nothing_gets_in_that_ends_a_line(pairs: list[tuple[str, str]]) -> None:
    try:
        headers = Headers(pairs)
    except (InvalidHeaderFormat, InvalidHeaderValue):
        return
    assert len(headers.serialize().splitlines()) == len(pairs) + 1


@given(PAIRS, st.sampled_from([Headers, received, to_send]))
def test_index_agrees_with_a_search(pairs: list[tuple[str, str]], make: Any) -> None:
    pairs = stripped(pairs)
    headers = make(pairs)
    for name, _ in pairs:
        assert headers.get_all(name.swapcase()) == [v for n, v in pairs if n.lower() == name.lower()]


def test_settled_headers_answer_as_before() -> None:
    headers = Headers([("A", "1"), ("a", "2"), ("B", "3")])
    assert headers.get_all("a") == ["1", "2"]
    drop_index(headers)
    assert headers._index is None
    assert headers.get_all("a") == ["1", "2"]
    headers["B"] = "4"
    assert headers.get_all("b") == ["3", "4"]


# Headers are kept as lines until somebody changes them: nobody must notice.

CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("set"), NAMES, VALUES),
        st.tuples(st.just("delete"), NAMES),
        st.tuples(st.just("update"), PAIRS),
        st.tuples(st.just("look"), NAMES),
        st.tuples(st.just("settle")),
        st.tuples(st.just("copy")),
        st.tuples(st.just("clear")),
    )
)


def change(headers: Headers, what: str, *arguments: Any) -> Any:
    """Do something to *headers*; return what they are then."""
    match what:
        case "set":
            headers[arguments[0]] = arguments[1]
        case "delete" if arguments[0] in headers:
            del headers[arguments[0]]
        case "update":
            headers.update(arguments[0])
        case "look":
            headers.get_all(*arguments)
        case "settle":
            drop_index(headers)
        case "copy":
            return copy.copy(headers)
        case "clear":
            headers.clear()
    return headers


@given(PAIRS, CHANGES)
def test_lines_and_pairs_are_the_same_to_everybody(pairs: list[tuple[str, str]], changes: list[Any]) -> None:
    pairs = stripped(pairs)
    several = [Headers(pairs), received(pairs), to_send(pairs)]
    for each in changes:
        several = [change(headers, *each) for headers in several]
    plain, *others = several
    for other in others:
        assert other == plain
        assert list(other.raw_items()) == list(plain.raw_items())
        assert other.serialize() == plain.serialize()
        assert repr(other) == repr(plain)


@given(PAIRS)
def test_copies_of_lines_are_independent(pairs: list[tuple[str, str]]) -> None:
    for headers in (Headers(pairs), received(pairs), to_send(pairs)):
        before = list(headers.raw_items())
        headers.copy()["A"] = "1"
        copied = headers.copy()
        headers["A"] = "1"
        assert list(copied.raw_items()) == before
        assert list(headers.raw_items()) == [*before, ("A", "1")]


def test_all_values_are_a_list_of_their_own(headers: Headers) -> None:
    headers.get_all("Set-Cookie").append("d")
    assert headers.get_all("Set-Cookie") == ["b", "c"]


@pytest.mark.parametrize("looked_at", [False, True])
@pytest.mark.parametrize(
    "headers",
    [Headers(A="b"), headers_from_lines("A: b\r\n"), headers_from_lines(b"A:b\r\n")],
    ids=["pairs", "to send", "received"],
)
def test_adding_lines(headers: Headers, looked_at: bool) -> None:
    headers = headers.copy()
    if looked_at:
        assert headers["A"] == "b"
    add_lines(headers, "C: d\r\na: e\r\n")
    assert headers.get_all("A") == ["b", "e"]
    assert headers.serialize() == b"A: b\r\nC: d\r\na: e\r\n\r\n"


@pytest.mark.parametrize("looked_at", [False, True])
def test_setting_without_a_check(looked_at: bool) -> None:
    for headers in (Headers(A="b"), headers_from_lines("A: b\r\n")):
        if looked_at:
            assert headers["A"] == "b"
        headers.set_insecure("X Y", "c\r\nd")
        headers.set_insecure("a", "e")
        assert headers["x y"] == "c\r\nd"
        assert headers.get_all("A") == ["b", "e"]
        assert headers.serialize() == b"A: b\r\nX Y: c\r\nd\r\na: e\r\n\r\n"
        with pytest.raises(InvalidHeaderValue):
            headers["A"] = "c\r\nd"
