"""The values of the headers of the opening handshake, read and written."""

from __future__ import annotations

import contextlib
import string
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websockets.exceptions import InvalidHeaderFormat, InvalidHeaderValue
from websockets.headers import (
    MAX_REMEMBERED,
    _remembered_extensions,
    build_authorization_basic,
    build_extension,
    build_host,
    build_subprotocol,
    build_www_authenticate_basic,
    parse_authorization_basic,
    parse_connection,
    parse_extension,
    parse_subprotocol,
    parse_upgrade,
    validate_subprotocols,
)

PARSERS = {
    "Connection": parse_connection,
    "Upgrade": parse_upgrade,
    "Sec-WebSocket-Extensions": parse_extension,
    "Sec-WebSocket-Protocol": parse_subprotocol,
    "Authorization": parse_authorization_basic,
}

TOKENS = st.text("!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters, min_size=1)
EXTENSIONS = st.lists(st.tuples(TOKENS, st.lists(st.tuples(TOKENS, st.none() | TOKENS))), min_size=1)


def error(name: str, header: str) -> str:
    """Return what reading *header* as the header called *name* complains about."""
    with pytest.raises((InvalidHeaderFormat, InvalidHeaderValue)) as raised:
        PARSERS[name](header)
    assert raised.value.name == name
    return str(raised.value).removeprefix(f"invalid {name} header: ")


# Lists of tokens.


@pytest.mark.parametrize("parse", [parse_connection, parse_upgrade, parse_subprotocol])
@pytest.mark.parametrize(
    ("header", "items"),
    [
        ("a", ["a"]),
        ("Keep-Alive", ["Keep-Alive"]),
        ("a, b", ["a", "b"]),
        ("a,b", ["a", "b"]),
        (" a\t,\tb ", ["a", "b"]),
        ("a,", ["a"]),
        (",a", ["a"]),
        ("a,,b", ["a", "b"]),
        (", ,a, ,", ["a"]),
        ("a, a", ["a", "a"]),
        ("!#$%&'*+-.^_`|~", ["!#$%&'*+-.^_`|~"]),
    ],
)
def test_lists(parse: Any, header: str, items: list[str]) -> None:
    assert parse(header) == items


@pytest.mark.parametrize("name", ["Connection", "Sec-WebSocket-Protocol"])
@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("", "expected token at 0 in "),
        (",", "expected token at 1 in ,"),
        (" , \t,", "expected token at 5 in  , \\t,"),
        ("a b", "expected comma at 2 in a b"),
        ("a \t b", "expected comma at 4 in a \\t b"),
        ("a;", "expected comma at 1 in a;"),
        ("a, é", "expected token at 3 in a, é"),
        ('"a"', 'expected token at 0 in "a"'),
        ("a/b", "expected comma at 1 in a/b"),
        ("a\n", "expected comma at 1 in a\\n"),
        ("a\r\nb: c", "expected comma at 1 in a\\r\\nb: c"),
    ],
)
def test_malformed_lists(name: str, header: str, text: str) -> None:
    assert error(name, header) == text


@pytest.mark.parametrize(
    ("header", "protocols"),
    [
        ("websocket", ["websocket"]),
        ("WebSocket, h2c", ["WebSocket", "h2c"]),
        ("http/2.0 , websocket/13", ["http/2.0", "websocket/13"]),
    ],
)
def test_upgrade(header: str, protocols: list[str]) -> None:
    assert parse_upgrade(header) == protocols


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("", "expected protocol at 0 in "),
        ("/3", "expected protocol at 0 in /3"),
        ("h2/", "expected comma at 2 in h2/"),
        ("a/b/c", "expected comma at 3 in a/b/c"),
        ("websocket;x", "expected comma at 9 in websocket;x"),
    ],
)
def test_malformed_upgrade(header: str, text: str) -> None:
    assert error("Upgrade", header) == text


# Host.


@pytest.mark.parametrize(
    ("host", "port", "secure", "header", "header_with_port"),
    [
        ("localhost", 80, False, "localhost", "localhost:80"),
        ("localhost", 443, False, "localhost:443", "localhost:443"),
        ("localhost", 443, True, "localhost", "localhost:443"),
        ("localhost", 80, True, "localhost:80", "localhost:80"),
        ("127.0.0.1", 8080, False, "127.0.0.1:8080", "127.0.0.1:8080"),
        ("::1", 80, False, "[::1]", "[::1]:80"),
        ("::1", 8080, True, "[::1]:8080", "[::1]:8080"),
        ("[::1]", 80, False, "[::1]", "[::1]:80"),
        # A dot at the end is a part of the name; a zone means something here and nowhere else.
        ("localhost.", 80, False, "localhost.", "localhost.:80"),
        ("fe80::1%eth0", 8080, False, "[fe80::1]:8080", "[fe80::1]:8080"),
        ("fe80::1%eth0", 80, False, "[fe80::1]", "[fe80::1]:80"),
    ],
)
def test_host(host: str, port: int, secure: bool, header: str, header_with_port: str) -> None:
    assert build_host(host, port, secure) == header
    assert build_host(host, port, secure, always_include_port=True) == header_with_port


# Extensions.

# Read in both directions.
CANONICAL_EXTENSIONS: list[tuple[str, Any]] = [
    ("foo", [("foo", [])]),
    ("foo, bar", [("foo", []), ("bar", [])]),
    ("foo; name; token=token", [("foo", [("name", None), ("token", "token")])]),
    ("foo; a=1, foo; a=2; a=3", [("foo", [("a", "1")]), ("foo", [("a", "2"), ("a", "3")])]),
    (
        "permessage-deflate; client_max_window_bits; server_max_window_bits=10",
        [("permessage-deflate", [("client_max_window_bits", None), ("server_max_window_bits", "10")])],
    ),
]


@pytest.mark.parametrize(("header", "extensions"), CANONICAL_EXTENSIONS)
def test_extensions(header: str, extensions: Any) -> None:
    assert parse_extension(header) == extensions
    assert build_extension(extensions) == header


@pytest.mark.parametrize(
    ("header", "extensions"),
    [
        ("foo;bar;baz=1,qux", [("foo", [("bar", None), ("baz", "1")]), ("qux", [])]),
        ("foo ; bar = 1 ; baz , ,qux ,", [("foo", [("bar", "1"), ("baz", None)]), ("qux", [])]),
        ('foo; bar="1"; baz="a\\bc"', [("foo", [("bar", "1"), ("baz", "abc")])]),
    ],
)
def test_extensions_written_otherwise(header: str, extensions: Any) -> None:
    assert parse_extension(header) == extensions


def test_no_extension() -> None:
    assert build_extension([]) == ""


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("", "expected token at 0 in "),
        ("foo bar", "expected comma at 4 in foo bar"),
        ("foo;", "expected token at 4 in foo;"),
        ("foo;;bar", "expected token at 4 in foo;;bar"),
        ("foo; =1", "expected token at 5 in foo; =1"),
        ("foo; bar=", "expected token at 9 in foo; bar="),
        ("foo; bar= ;", "expected token at 10 in foo; bar= ;"),
        ("foo; bar=é", "expected token at 9 in foo; bar=é"),
        ("foo; bar=1 baz", "expected comma at 11 in foo; bar=1 baz"),
        ('foo; bar="', 'expected quoted string at 9 in foo; bar="'),
        ('foo; bar="a', 'expected quoted string at 9 in foo; bar="a'),
        ('foo; bar="a\\"', 'expected quoted string at 9 in foo; bar="a\\"'),
        ('foo; bar="\x00"', 'expected quoted string at 9 in foo; bar="\\x00"'),
        ('foo; bar=""', 'invalid quoted header content at 9 in foo; bar=""'),
        ('foo; bar="a b"', 'invalid quoted header content at 9 in foo; bar="a b"'),
        ('foo; bar="a\\"b"', 'invalid quoted header content at 9 in foo; bar="a\\"b"'),
        ('foo; bar="a;b"', 'invalid quoted header content at 9 in foo; bar="a;b"'),
    ],
)
def test_malformed_extensions(header: str, text: str) -> None:
    assert error("Sec-WebSocket-Extensions", header) == text


@given(EXTENSIONS)
def test_extensions_written_and_read(extensions: Any) -> None:
    assert parse_extension(build_extension(extensions)) == extensions


# Subprotocols.


@given(st.lists(TOKENS, min_size=1))
def test_subprotocols_written_and_read(subprotocols: Any) -> None:
    validate_subprotocols(subprotocols)
    assert parse_subprotocol(build_subprotocol(subprotocols)) == subprotocols


@pytest.mark.parametrize("subprotocols", [[], ("chat",), ["chat", "superchat"]])
def test_valid_subprotocols(subprotocols: Any) -> None:
    validate_subprotocols(subprotocols)
    assert build_subprotocol(subprotocols) == ", ".join(subprotocols)


@pytest.mark.parametrize(
    ("subprotocols", "exc_type", "text"),
    [
        ("chat", TypeError, "subprotocols must be a list, not a str"),
        ({"chat"}, TypeError, "subprotocols must be a list"),
        (None, TypeError, "subprotocols must be a list"),
        ([1], TypeError, "expected string or bytes-like object"),
        (["a b"], ValueError, "invalid subprotocol: a b"),
        ([""], ValueError, "invalid subprotocol: "),
        (["chat", "a\r\nb"], ValueError, r"invalid subprotocol: a\\r\\nb"),
        (["a,b"], ValueError, "invalid subprotocol: a,b"),
    ],
)
def test_invalid_subprotocols(subprotocols: Any, exc_type: type[Exception], text: str) -> None:
    with pytest.raises(exc_type, match=text):
        validate_subprotocols(subprotocols)


# Basic authentication.


@pytest.mark.parametrize(
    ("realm", "header"),
    [
        ("", 'Basic realm="", charset="UTF-8"'),
        ("the realm", 'Basic realm="the realm", charset="UTF-8"'),
        ('"\\', 'Basic realm="\\"\\\\", charset="UTF-8"'),
        ("\xe9\t", 'Basic realm="\xe9\t", charset="UTF-8"'),
    ],
)
def test_www_authenticate(realm: str, header: str) -> None:
    assert build_www_authenticate_basic(realm) == header


@pytest.mark.parametrize("realm", ["\r\n", "\0", "\x7f", "\u20ac"])
def test_www_authenticate_refuses_what_would_break_the_header(realm: str) -> None:
    with pytest.raises(ValueError, match="invalid characters for quoted-string encoding"):
        build_www_authenticate_basic(realm)


@pytest.mark.parametrize(
    ("header", "username", "password"),
    [
        ("Basic Og==", "", ""),
        ("Basic dTpw", "u", "p"),
        ("Basic dTo=", "u", ""),
        ("Basic dTpwOng=", "u", "p:x"),
        ("Basic w6k6/w==", "é", "\udcff"),
        ("Basic Cjpw", "\n", "p"),
    ],
)
def test_authorization(header: str, username: str, password: str) -> None:
    assert parse_authorization_basic(header) == (username, password)
    assert build_authorization_basic(username, password) == header


@pytest.mark.parametrize("header", ["basic dTpw", "BASIC  dTpw"])
def test_authorization_written_otherwise(header: str) -> None:
    assert parse_authorization_basic(header) == ("u", "p")


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("", "expected token at 0 in "),
        ("Bearer dTpw", "unsupported scheme: Bearer"),
        ("Basic", "expected space after scheme at 5 in (not shown)"),
        ("Basic\tdTpw", "expected space after scheme at 5 in (not shown)"),
        ("Basic ", "expected token68 at 6 in (not shown)"),
        ("Basic %%", "expected token68 at 6 in (not shown)"),
        ("Basic dTpw, Basic dTpw", "trailing data at 10 in (not shown)"),
        ("Basic dTpw\n", "trailing data at 10 in (not shown)"),
        ("Basic dTp", "expected base64-encoded credentials"),
        ("Basic d.pw", "expected base64-encoded credentials"),
        ("Basic dQ==", "expected username:password credentials"),
    ],
)
def test_malformed_authorization_is_not_shown(header: str, text: str) -> None:
    assert error("Authorization", header) == text


@given(st.binary().filter(lambda data: b":" not in data), st.binary())
def test_credentials_survive_as_bytes(username: bytes, password: bytes) -> None:
    decoded = [part.decode(errors="surrogateescape") for part in (username, password)]
    read = parse_authorization_basic(build_authorization_basic(*decoded))
    # Not compared as text: bytes on both sides of the colon never join, so the parts decode as the whole does.
    assert [part.encode(errors="surrogateescape") for part in read] == [username, password]


@pytest.mark.parametrize(
    ("username", "password", "text"),
    [
        ("a:b", "c", "username must not contain a colon"),
        ("\ud800", "", "surrogates not allowed"),
        ("", "\ud800", "surrogates not allowed"),
    ],
)
def test_credentials_that_cannot_be_sent(username: str, password: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        build_authorization_basic(username, password)


# Hostile input.


@pytest.mark.parametrize("name", PARSERS)
@given(st.text('aB1 \t,;="\\/\xe9:', max_size=40))
def test_anything_is_read_or_refused(name: str, header: str) -> None:
    # Any other exception fails.
    with contextlib.suppress(InvalidHeaderFormat, InvalidHeaderValue):
        assert PARSERS[name](header)


@pytest.mark.scenario(20)
@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize(
    "header",
    [
        "a" + " " * 8000 + "b",
        "a" + "," * 8000 + ";",
        "a" + " ," * 4000 + ";",
        "," * 8000,
        "a," * 4000 + "\x7f",
        "a/" * 4000,
        "a;" * 4000 + "=",
        "a" + "; b" * 2600 + "=",
        "a" + " ; b =" * 1300,
        'a; b="' + "c" * 8000,
        'a; b="' + "\\" * 8000,
        'a; b="' + "\\c" * 4000,
        'a; b="' + '\\"' * 4000 + '"',
        "a; b" + " " * 8000 + "=",
        "Basic " + " " * 8000,
        "Basic " + "=" * 8000,
        "Basic " + "a" * 8000 + "%",
        "Basic a" + "=" * 8000 + "%",
    ],
)
def test_cost_is_linear(name: str, header: str) -> None:
    def cost() -> float:
        start = time.thread_time()
        with contextlib.suppress(InvalidHeaderFormat, InvalidHeaderValue):
            PARSERS[name](header)
        return time.thread_time() - start

    # Linear work takes milliseconds; quadratic work on 8 kB, seconds. The garbage of other tests may be collected
    # meanwhile, though not each time.
    assert min(cost() for _ in range(3)) < 0.25


@pytest.mark.parametrize("padding", ["", "x" * 200])
def test_extensions_are_the_caller_s_own(padding: str) -> None:
    header = f"a; b={padding or 'c'}"
    expected = [("a", [("b", padding or "c")])]
    first = parse_extension(header)
    assert first == expected
    parameters = first[0][1]
    assert isinstance(parameters, list)
    parameters.clear()
    first.clear()
    assert parse_extension(header) == expected


def test_long_extensions_are_not_remembered() -> None:
    _remembered_extensions.cache_clear()
    parse_extension("a" * MAX_REMEMBERED)
    parse_extension("a" * (MAX_REMEMBERED + 1))
    assert _remembered_extensions.cache_info().currsize == 1
