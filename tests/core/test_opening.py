"""Where redirects lead and what may be told there, how long a server asks to wait, and the delays between attempts."""

from __future__ import annotations

import email.utils
import importlib.util
import itertools
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from websockets._session import opening as _opening
from websockets._session.opening import (
    Backoff,
    GiveUp,
    describe,
    redirect_location,
    redirected,
    resolve_location,
    retry_after,
    timed_out,
)
from websockets.datastructures import Headers
from websockets.exceptions import (
    InvalidHandshake,
    InvalidHeader,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidURI,
    SecurityError,
)
from websockets.http11 import Response
from websockets.uri import parse_uri


def refusal(status: int, *headers: tuple[str, str]) -> InvalidStatus:
    return InvalidStatus(Response(status, "", Headers(headers)))


def load_again() -> ModuleType:
    """The module as it loads now, beside the one that everybody uses."""
    spec = importlib.util.spec_from_file_location("websockets._session.opening_again", _opening.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_max_redirects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBSOCKETS_MAX_REDIRECTS", raising=False)
    assert load_again().MAX_REDIRECTS == 10
    monkeypatch.setenv("WEBSOCKETS_MAX_REDIRECTS", "3")
    assert load_again().MAX_REDIRECTS == 3


# ----------------------------------------------------------------------------------------------- where a redirect leads

URI = "ws://example.com:8000/path/page?query"

LOCATIONS = [
    ("ws://other.com/x", "ws://other.com/x"),
    ("wss://example.com/", "wss://example.com/"),
    ("/x?y", "ws://example.com:8000/x?y"),
    ("x", "ws://example.com:8000/path/x"),
    ("../x", "ws://example.com:8000/x"),
    ("?y", "ws://example.com:8000/path/page?y"),
    ("//other.com/x", "ws://other.com/x"),
    ("/a b?c d", "ws://example.com:8000/a b?c d"),
    ("ws://us er:p w@other.com/", "ws://us er:p w@other.com/"),
    # What servers know is the address of a page.
    ("http://other.com/x", "ws://other.com/x"),
    ("HTTPS://other.com:8443", "wss://other.com:8443"),
    ("http:/x", "ws:/x"),
    # A fragment is for whoever asks.
    ("/x#y", "ws://example.com:8000/x"),
    ("wss://other.com/?x#/?y#z", "wss://other.com/?x"),
    ("#y", URI),
    # Bytes beyond ASCII, each of which is a character in a header.
    ("/caf\xc3\xa9?\xe2\x82\xac", "ws://example.com:8000/caf%C3%A9?%E2%82%AC"),
    ("/caf\xe9", "ws://example.com:8000/caf%E9"),
    ("caf\xc3\xa9 au%20lait%", "ws://example.com:8000/path/caf%C3%A9 au%20lait%"),
    ("?\x80\xff", "ws://example.com:8000/path/page?%80%FF"),
    ("//caf\xc3\xa9.example/\xe9", "ws://caf\xe9.example/%E9"),
    ("http://caf\xc3\xa9.example?\xe9", "ws://caf\xe9.example?%E9"),
    ("ws://us\xc3\xa9r:p@other.com/", "ws://us\xe9r:p@other.com/"),
]


@pytest.mark.parametrize(("location", "target"), LOCATIONS)
def test_redirect_location(location: str, target: str) -> None:
    assert redirect_location(refusal(302, ("Location", location)), URI) == target


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_statuses_that_redirect(status: int) -> None:
    assert redirect_location(refusal(status, ("location", "/x")), URI) == "ws://example.com:8000/x"


@pytest.mark.parametrize(
    "exc",
    [
        *(refusal(status, ("Location", "/x")) for status in (200, 201, 304, 305, 306, 309, 400, 503)),
        refusal(302),
        refusal(302, ("Location", "/x"), ("Location", "/y")),
        OSError(),
        InvalidHandshake(),
    ],
    ids=repr,
)
def test_what_is_no_redirect(exc: Exception) -> None:
    assert redirect_location(exc, URI) is None


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("ws://[::1:bad/", "ws://[::1:bad/ isn't a valid URI: its host or its credentials are malformed"),
        (
            "ws://user:secret@[::1:bad/",
            "ws://***@[::1:bad/ isn't a valid URI: its host or its credentials are malformed",
        ),
        # The standard library has an error for this, with the credentials in it.
        (
            "ws://user:secret@\xe2\x84\x80/",
            "ws://***@\u2100/ isn't a valid URI: its host or its credentials are malformed",
        ),
        ("/a\tb", "/a\\tb isn't a valid URI: '\\t' is not allowed"),
        ("ws://caf\xe9.example/", "ws://caf\xe9.example/ isn't a valid URI: the host isn't UTF-8"),
        ("//user:secr\xe9t@other.com/", "***@other.com/ isn't a valid URI: the host isn't UTF-8"),
        ("w\ts://other.com/", "w\\ts://other.com/ isn't a valid URI: '\\t' is not allowed"),
        ("ws://user:sec\tret@other.com/", "ws://***@other.com/ isn't a valid URI: '\\t' is not allowed"),
    ],
)
def test_location_that_is_no_uri(location: str, error: str) -> None:
    with pytest.raises(InvalidURI) as caught:
        redirect_location(refusal(302, ("Location", location)), URI)
    assert str(caught.value) == error
    # Nor do its circumstances show what the error hides.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("password", ["p\u2100ss", "p\xe9ss%", "p%C3%A9 ss"])
def test_location_relative_to_a_uri_with_any_password(password: str) -> None:
    # U+2100 looks like "a/c": the standard library takes no such URI, and shows all of it.
    before = f"wss://us\xe9r:{password}@caf\xe9.example/a\xe9?\xe9"
    target = resolve_location("/x", before)
    assert parse_uri(target).user_info == parse_uri(before).user_info
    assert (parse_uri(target).host, parse_uri(target).resource_name) == (parse_uri(before).host, "/x")
    assert resolve_location("//other.example/x", before) == "wss://other.example/x"


def test_location_that_is_empty() -> None:
    with pytest.raises(InvalidHeader, match="^empty Location header$"):
        redirect_location(refusal(302, ("Location", "")), URI)
    with pytest.raises(InvalidHeader, match="^empty Location header$"):
        resolve_location("", URI)


@pytest.mark.parametrize("location", ["/caf\xc3\xa9", "/caf\xe9?\xe9#\xe9", "/a%20b"])
def test_location_is_encoded_once(location: str) -> None:
    target = redirect_location(refusal(302, ("Location", location)), "ws://example.com/")
    assert target is not None
    assert parse_uri(target).resource_name == target.removeprefix("ws://example.com")
    # Another class may resolve what was resolved.
    assert resolve_location(target, "ws://other.com/") == target


@pytest.mark.parametrize("control", ["\0", "\t", "\n", "\r", "\x1f", "\x7f"])
def test_location_with_a_control_character(control: str) -> None:
    # A program can say where to go, too.
    with pytest.raises(InvalidURI, match="is not allowed$"):
        resolve_location(f"/a{control}b", URI)


def test_location_relative_to_a_uri_between_blanks() -> None:
    assert resolve_location("?y", " ws://example.com/a b ") == "ws://example.com/a b?y"


# ---------------------------------------------------------------------------------------------- what may be told there

SECRETS = [("Authorization", "a"), ("X", "1"), ("cookie", "c"), ("Proxy-Authorization", "p"), ("X", "2")]

# From where, to where, and whether that is the same origin.
HOPS = [
    ("ws://example.com/", "ws://example.com/x", True),
    ("ws://example.com/", "ws://example.com:80/x?y", True),
    ("wss://example.com:443/", "wss://EXAMPLE.com/", True),
    ("ws://example.com/", "ws://example.com:81/", False),
    ("ws://example.com/", "ws://example.org/", False),
    ("ws://example.com/", "ws://www.example.com/", False),
    ("ws://example.com/", "wss://example.com/", False),
    ("ws://example.com:443/", "wss://example.com/", False),
]


@pytest.mark.parametrize(("before", "location", "same"), HOPS)
def test_redirected(before: str, location: str, same: bool) -> None:
    headers = Headers(SECRETS)
    uri, kept = redirected(location, parse_uri(before), {"ssl": None}, headers)
    assert uri == parse_uri(location)
    assert isinstance(kept, Headers)
    assert list(kept.raw_items()) == (SECRETS if same else [("X", "1"), ("X", "2")])
    assert list(headers.raw_items()) == SECRETS


@pytest.mark.parametrize("same", [True, False])
def test_redirected_without_headers(same: bool) -> None:
    location = "ws://example.com/x" if same else "ws://example.org/"
    assert redirected(location, parse_uri("ws://example.com/"), {}, None) == (parse_uri(location), None)


@pytest.mark.parametrize("headers", [{"Cookie": "c", "X": "1"}, [("Cookie", "c"), ("X", "1")]])
def test_headers_of_any_kind(headers: Any) -> None:
    _, kept = redirected("ws://example.org/", parse_uri("ws://example.com/"), {}, headers)
    assert list(Headers(kept or ()).raw_items()) == [("X", "1")]


# From where, to where, the arguments of the connection, and why that can't be.
REFUSED: list[tuple[str, str, dict[str, Any], type[Exception], str]] = [
    (
        "wss://example.com/",
        "ws://example.com/",
        {},
        SecurityError,
        "cannot follow redirect to non-secure URI ws://example.com/",
    ),
    (
        "ws://example.com/",
        "ws://example.com/x",
        {"sock": object()},
        ValueError,
        "cannot follow redirect to ws://example.com/x with a preexisting socket",
    ),
    *(
        (
            "ws://example.com/",
            "ws://example.org/",
            {place: "there"},
            ValueError,
            f"cannot follow cross-origin redirect to ws://example.org/ with an explicit {place}",
        )
        for place in ("host", "port", "unix")
    ),
    (
        "ws://example.com/",
        "ws://user:secret@example.com/",
        {"sock": object()},
        ValueError,
        "cannot follow redirect to ws://***@example.com/ with a preexisting socket",
    ),
    (
        "wss://example.com/",
        "ws://user:secret@example.com/",
        {},
        SecurityError,
        "cannot follow redirect to non-secure URI ws://***@example.com/",
    ),
    (
        "ws://example.com/",
        "ws://user:secret@example.org/",
        {"host": "there"},
        ValueError,
        "cannot follow cross-origin redirect to ws://***@example.org/ with an explicit host",
    ),
    (
        "ws://example.com/",
        "http://example.com/",
        {},
        InvalidURI,
        "http://example.com/ isn't a valid URI: scheme isn't ws or wss",
    ),
]


@pytest.mark.parametrize(("before", "location", "arguments", "kind", "error"), REFUSED)
def test_redirect_that_cannot_be_followed(
    before: str, location: str, arguments: dict[str, Any], kind: type[Exception], error: str
) -> None:
    with pytest.raises(kind) as caught:
        redirected(location, parse_uri(before), arguments, None)
    assert str(caught.value) == error
    assert type(caught.value) is kind


@pytest.mark.parametrize("arguments", [{"host": "there", "port": 1}, {"unix": True, "path": "/socket"}, {"sock": None}])
def test_same_origin_honours_explicit_places(arguments: dict[str, Any]) -> None:
    uri, _ = redirected("ws://example.com/x", parse_uri("ws://example.com/"), arguments, None)
    assert uri.path == "/x"


# ------------------------------------------------------------------------------------------------- how long to wait

# 1994-11-06 08:49:37 UTC, in the three formats of RFC 9110 section 5.6.7.
MOMENT = 784111777.0
DATES = ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("value", "delay"), [("0", 0), ("5", 5), ("120", 120), ("007", 7), ("9" * 5000, 999_999_999)])
def test_retry_after_seconds(status: int, value: str, delay: float) -> None:
    exc = refusal(status, ("Retry-After", value))
    assert retry_after(exc, MOMENT) == delay
    # Said by a proxy, it means the same.
    assert retry_after(InvalidProxyStatus(exc.response), MOMENT) == delay


@pytest.fixture
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A local time that is hours away from UTC, where it can be changed."""
    tzset = getattr(time, "tzset", lambda: None)
    monkeypatch.setenv("TZ", "XYZ+5")
    tzset()
    yield
    monkeypatch.undo()
    tzset()


@pytest.mark.usefixtures("far_from_utc")
@pytest.mark.parametrize("date", DATES)
@pytest.mark.parametrize(("since", "delay"), [(-30, 30), (-0.5, 0.5), (0, 0), (30, 0)])
def test_retry_after_date(date: str, since: float, delay: float) -> None:
    assert retry_after(refusal(503, ("Retry-After", date)), MOMENT + since) == delay


@pytest.mark.parametrize(
    "exc",
    [
        *(refusal(status, ("Retry-After", "5")) for status in (301, 404, 500, 502, 504)),
        refusal(503),
        refusal(503, ("Retry-After", "5"), ("Retry-After", "5")),
        *(refusal(503, ("Retry-After", value)) for value in ("", "-5", "1.5", "+5", "5s", "\u00b2", "soon")),
        refusal(503, ("Retry-After", "Sun, 06 Nov 99999999999999999999 08:49:37 GMT")),
        refusal(503, ("Retry-After", "Sun, 06 Nov 1994 08:49:37 +9999999")),
        OSError(),
    ],
    ids=repr,
)
def test_nothing_to_wait_for(exc: Exception) -> None:
    assert retry_after(exc, 0.0) == 0


DATE_LIKE = st.lists(st.sampled_from(["Sun,", "06", "Nov", "1994", "08:49:37", "GMT", "-0000", "+9999", "0", ":", "-"]))


@given(st.one_of(st.text(st.characters(max_codepoint=0xFF)), DATE_LIKE.map(" ".join)))
@example("Fri, 31 Dec 9999 23:59:59 GMT")
@example("Mon, 01 Jan 0001 00:00:00 +2359")
def test_retry_after_never_fails(value: str) -> None:
    headers = Headers()
    try:
        headers["Retry-After"] = value
    except InvalidHandshake:
        return
    assert retry_after(InvalidStatus(Response(503, "", headers)), MOMENT) >= 0


@given(st.integers(0, 2**33))
def test_retry_after_reads_what_the_standard_library_writes(seconds: int) -> None:
    date = email.utils.formatdate(seconds, usegmt=True)
    assert retry_after(refusal(429, ("Retry-After", date)), 0.0) == seconds


# -------------------------------------------------------------------------------------------------------- the delays


def numbered(*delays: float) -> Backoff:
    return Backoff(lambda: iter(delays))


def test_delays_grow_with_each_failure() -> None:
    backoff = numbered(1, 2, 3)
    assert [backoff.after_failure() for _ in range(3)] == [1, 2, 3]
    with pytest.raises(GiveUp):
        backoff.after_failure()


def test_server_may_ask_for_more() -> None:
    backoff = numbered(1, 2, 3)
    assert [backoff.after_failure(10), backoff.after_failure(0.5), backoff.after_failure(3)] == [10, 2, 3]


def test_start_over_after_a_connection_that_outlived_its_delay() -> None:
    backoff = numbered(1, 2, 3)
    assert [backoff.after_failure(), backoff.after_failure()] == [1, 2]
    assert backoff.after_connection(2.1) == 0
    assert [backoff.after_failure(), backoff.after_failure()] == [1, 2]


def test_go_on_after_a_connection_that_did_not() -> None:
    backoff = numbered(1, 2, 3, 4)
    assert backoff.after_failure() == 1
    assert backoff.after_connection(1) == 2
    assert backoff.after_connection(1.5) == 3
    assert backoff.after_failure() == 4


def test_what_the_server_asked_for_must_be_outlived_too() -> None:
    backoff = numbered(1, 2, 3)
    assert backoff.after_failure(60) == 60
    assert backoff.after_connection(30) == 2
    assert backoff.after_failure(60) == 60
    assert backoff.after_connection(61) == 0


def test_connection_without_a_delay_before_it() -> None:
    assert numbered(5, 6).after_connection(4.5) == 5
    backoff = numbered(5, 6)
    # It must outlive the delay that comes next, which is not spent if it does.
    assert backoff.after_connection(5.5) == 0
    assert backoff.after_connection(5) == 5
    assert backoff.after_connection(5) == 6
    with pytest.raises(GiveUp):
        backoff.after_connection(5)


def test_last_delay_can_be_outlived() -> None:
    backoff = numbered(1)
    assert backoff.after_failure() == 1
    assert backoff.after_connection(2) == 0
    assert backoff.after_failure() == 1
    with pytest.raises(GiveUp):
        backoff.after_failure()


def test_no_delays_at_all() -> None:
    with pytest.raises(GiveUp):
        numbered().after_failure()
    with pytest.raises(GiveUp):
        numbered().after_connection(1e9)


def test_accept_then_close_is_no_hot_loop() -> None:
    backoff = Backoff(lambda: itertools.count(1.0))
    delays = [backoff.after_connection(0.001) for _ in range(20)]
    assert delays == [float(number) for number in range(1, 21)]


def test_each_series_is_new() -> None:
    made: list[int] = []

    def series() -> Iterator[float]:
        made.append(len(made))
        return itertools.repeat(1.0 + made[-1])

    backoff = Backoff(series)
    assert made == []
    assert [backoff.after_failure(), backoff.after_connection(9), backoff.after_failure()] == [1, 0, 2]
    assert made == [0, 1]


# -------------------------------------------------------------------------------------------------------------- the log


class Nested:
    class Refused(Exception):
        pass


@pytest.mark.parametrize(
    ("exc", "text"),
    [
        (TimeoutError(), "TimeoutError"),
        (TimeoutError("timed out"), "TimeoutError: timed out"),
        (ConnectionRefusedError(111, "no"), "ConnectionRefusedError: [Errno 111] no"),
        (refusal(503), "websockets.exceptions.InvalidStatus: server rejected WebSocket connection: HTTP 503"),
        (Nested.Refused("é"), f"{__name__}.Nested.Refused: é"),
        (ExceptionGroup("many", [OSError(), OSError()]), "ExceptionGroup: many (2 sub-exceptions)"),
        # A line of the log stays one.
        (OSError("first\r\nsecond\x1b[0m"), "OSError: first\\r\\nsecond\\x1b[0m"),
    ],
    ids=repr,
)
def test_describe(exc: Exception, text: str) -> None:
    assert describe(exc) == text


def test_describe_adds_notes() -> None:
    exc = OSError("no")
    exc.add_note("first\nline")
    exc.add_note("second")
    assert describe(exc) == "OSError: no (first\\nline) (second)"


def test_time_out_keeps_the_notes_of_what_it_interrupted() -> None:
    interrupted = LookupError()
    limit = TimeoutError()
    assert not hasattr(timed_out(limit), "__notes__")
    limit.__cause__ = interrupted
    assert not hasattr(timed_out(limit), "__notes__")
    interrupted.add_note("first")
    interrupted.add_note("second")
    error = timed_out(limit)
    assert (str(error), error.__notes__) == ("timed out during opening handshake", ["first", "second"])
