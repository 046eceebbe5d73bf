"""Where redirects lead, what may be told there, and after how many the attempts end."""

from __future__ import annotations

import importlib.util
import logging
from types import ModuleType
from typing import Any

import pytest

from websockets._session import redirects as _redirects
from websockets._session.connector import Connector
from websockets._session.options import ClientOptions
from websockets._session.redirects import Redirects, redirect_location, redirect_target, redirected, resolve_location
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, InvalidHeader, InvalidStatus, InvalidURI, SecurityError
from websockets.http11 import Response
from websockets.proxy import Route, parse_proxy
from websockets.uri import parse_uri


def refusal(status: int, *headers: tuple[str, str]) -> InvalidStatus:
    return InvalidStatus(Response(status, "", Headers(headers)))


def load_again() -> ModuleType:
    """The module as it loads now, beside the one that everybody uses."""
    spec = importlib.util.spec_from_file_location("websockets._session.redirects_again", _redirects.__file__)
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
    # A fragment stays with the client that asks.
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


# -------------------------------------------------------------------------------------------------- one after the other


def connector(uri: str, kind: type[Connector] = Connector, headers: Any = None, **arguments: Any) -> Connector:
    options = ClientOptions(
        uri=parse_uri(uri),
        open_timeout=None,
        proxy=None,
        additional_headers=headers,
        user_agent_header=None,
        process_exception=None,
        reconnect_delays=None,
        create_connection=None,
        arguments=arguments,
        of_connection={},
        of_protocol={"logger": logging.getLogger("x")},
    )
    return kind(uri, options, object)


def follow(redirects: Redirects, exc: Exception) -> bool:
    """Do as a front-end does: follow while the error is handled."""
    try:
        raise exc
    except Exception as error:
        return redirects.follow(error)


def moved(location: str) -> InvalidStatus:
    return refusal(302, ("Location", location))


def test_hops() -> None:
    here = connector("ws://example.com/a", headers={"X": "1", "Cookie": "c"})
    redirects = Redirects(here)
    first = redirects.next_hop()
    assert (first.location, first.uri) == ("ws://example.com/a", parse_uri("ws://example.com/a"))
    assert first.headers is here.additional_headers
    assert follow(redirects, moved("b"))
    second = redirects.next_hop()
    assert (second.location, second.uri.path, here.ws_uri) == ("ws://example.com/b", "/b", second.uri)
    assert second.headers is first.headers
    assert follow(redirects, moved("wss://example.org/"))
    third = redirects.next_hop()
    assert (third.location, third.uri.secure) == ("wss://example.org/", True)
    assert list(Headers(third.headers or ())) == ["x"]
    assert here._ws_connector_state.hop is third
    # The next attempts begin anew.
    assert (here.uri, Redirects(here).next_hop().uri) == ("ws://example.com/a", first.uri)


def test_attempts_are_counted() -> None:
    here = connector("ws://example.com/")
    here._ws_connector_state.max_redirects = 3
    redirects = Redirects(here)
    for number in range(3):
        redirects.next_hop()
        assert follow(redirects, moved(f"/{number}"))
    with pytest.raises(SecurityError, match="^more than 3 redirects\n") as caught:
        redirects.next_hop()
    assert caught.value.__notes__ == [
        "Redirected: ws://example.com/ -> ws://example.com/0 -> ws://example.com/1 -> ws://example.com/2"
    ]
    assert caught.value.__context__ is None


def test_what_debuggers_show() -> None:
    assert repr(connector("ws://me:secret@example.com/x")) == "<Connector to ws://***@example.com/x>"
    assert repr(connector("ws://example.com/@x")) == "<Connector to ws://example.com/@x>"


def test_errors_name_the_way_without_credentials() -> None:
    redirects = Redirects(connector("ws://me:secret@example.com/@a"))
    with pytest.raises(OSError, match="^down$"), redirects.next_hop():
        raise OSError("down")
    assert follow(redirects, moved("/@b"))
    assert follow(redirects, moved("ws://example.org/@c"))
    with pytest.raises(OSError, match="^down\n") as caught, redirects.next_hop():
        raise OSError("down")
    way = ["ws://***@a", "ws://***@b", "ws://example.org/@c"]
    assert caught.value.__notes__ == [f"Redirected: {' -> '.join(way)}"]


@pytest.mark.parametrize("exc", [OSError("x"), refusal(404), refusal(302)], ids=repr)
def test_what_is_not_followed(exc: Exception) -> None:
    redirects = Redirects(connector("ws://example.com/"))
    redirects.next_hop()
    assert not follow(redirects, exc)


class Choosing(Connector):
    """Its hook returns or raises what it was told to, and remembers what it saw."""

    choice: Exception | str | None = None
    seen: tuple[Exception, str] | None = None

    def process_redirect(self, exc: Exception) -> Exception | str:
        self.seen = exc, self.uri
        if self.choice is None:
            raise LookupError
        return self.choice


def choosing() -> Choosing:
    here = connector("ws://example.com/a", Choosing)
    assert isinstance(here, Choosing)
    return here


def test_hook_sees_the_uri_that_redirects() -> None:
    here, exc = choosing(), refusal(404)
    redirects = Redirects(here)
    here.choice = "ws://example.com/b"
    redirects.next_hop()
    assert follow(redirects, exc)
    assert (here.seen, here.uri) == ((exc, "ws://example.com/a"), "ws://example.com/a")
    redirects.next_hop()
    here.choice = None
    with pytest.raises(LookupError):
        follow(redirects, exc)
    assert (here.seen, here.uri) == ((exc, "ws://example.com/b"), "ws://example.com/a")


@pytest.mark.parametrize("cause", [None, LookupError()])
def test_error_that_the_hook_chose(cause: Exception | None) -> None:
    here, exc = choosing(), refusal(404)
    here.choice = error = SecurityError("not there")
    error.__cause__ = cause
    redirects = Redirects(here)
    redirects.next_hop()
    with pytest.raises(SecurityError, match="^not there$") as caught:
        follow(redirects, exc)
    assert caught.value.__cause__ is (cause or exc)


@pytest.mark.parametrize(
    ("uri", "location", "arguments", "kind", "text"),
    [
        ("wss://example.com/", "ws://example.com/", {}, SecurityError, "non-secure URI"),
        ("ws://example.com/", "ws://example.org/", {"host": "x"}, ValueError, "an explicit host"),
        ("ws://example.com/", "wss://example.com/", {"ssl": None}, ValueError, "^ssl=None is incompatible with a wss"),
        ("ws://example.com/", "ws://[", {}, InvalidURI, "malformed"),
        ("ws://example.com/", "", {}, InvalidHeader, "^empty Location header$"),
    ],
)
def test_redirect_to_no_place(
    uri: str, location: str, arguments: dict[str, Any], kind: type[Exception], text: str
) -> None:
    redirects = Redirects(connector(uri, **arguments))
    redirects.next_hop()
    with pytest.raises(kind, match=text) as caught:
        follow(redirects, moved(location))
    assert isinstance(caught.value.__context__, InvalidStatus)


def test_default_of_the_hook() -> None:
    exc = OSError()
    assert redirect_target(exc, "ws://example.com/") is exc
    assert redirect_target(moved("/x"), "ws://example.com/") == "ws://example.com/x"
    assert isinstance(redirect_target(moved(""), "ws://example.com/"), InvalidHeader)
    assert isinstance(redirect_target(moved("/\t"), "ws://example.com/"), InvalidURI)


def test_errors_of_a_hop_name_its_proxy() -> None:
    hop = Redirects(connector("ws://example.com/")).next_hop()
    first, second = ConnectionError(), ConnectionError()
    with pytest.raises(ConnectionError), hop:
        raise first
    hop.route = Route(parse_proxy("http://proxy:8080"), hop.uri)
    with pytest.raises(ConnectionError), hop:
        raise second
    assert not hasattr(first, "__notes__")
    assert "goes through the proxy http://proxy:8080" in second.__notes__[0]
    with hop as entered:
        assert entered is hop


# ------------------------------------------------------------------------------------------------- when the time is up


def test_time_out_keeps_the_notes_of_what_it_interrupted() -> None:
    redirects = Redirects(connector("ws://example.com/"))
    interrupted = LookupError()
    assert not hasattr(redirects.timed_out(None), "__notes__")
    assert not hasattr(redirects.timed_out(interrupted), "__notes__")
    interrupted.add_note("first")
    interrupted.add_note("second")
    error = redirects.timed_out(interrupted)
    assert (type(error), str(error)) == (TimeoutError, "timed out during opening handshake")
    assert error.__notes__ == ["first", "second"]


def test_refusal_whose_end_did_not_come_in_time() -> None:
    redirects = Redirects(connector("ws://example.com/"))
    redirects.stopped(None)
    assert type(redirects.timed_out(None)) is TimeoutError
    refused = refusal(404)
    redirects.stopped(refused)
    redirects.stopped(None)
    redirects.stopped(refusal(500))
    assert redirects.timed_out(None) is refused
