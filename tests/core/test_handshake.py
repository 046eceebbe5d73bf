"""What both sides of the opening handshake share: the accept key, the upgrade, single headers, and the log."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _kit import wire
from websockets._rules.handshake import (
    SECRET_HEADERS,
    VERSION,
    HostNames,
    accept_key,
    check_upgrade,
    log_headers,
    single_value,
)
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeader, InvalidHeaderFormat, InvalidUpgrade


def test_version() -> None:
    assert VERSION == "13"


def test_accept_key_of_the_rfc() -> None:
    # RFC 6455 section 1.3.
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@given(st.text(alphabet=st.characters(max_codepoint=0x7F), max_size=30))
def test_accept_key_is_what_the_kit_says(key: str) -> None:
    assert accept_key(key) == wire.accept_key(key)


# -------------------------------------------------------------------------------------------------------- single values


def test_single_value() -> None:
    assert single_value(Headers([("Host", "a"), ("X", "b")]), "host") == "a"
    assert single_value(Headers(X=""), "X") == ""


@pytest.mark.parametrize(
    ("values", "error", "value"),
    [([], "missing X header", None), (["a", "a"], "invalid X header: multiple values", "multiple values")],
)
def test_single_value_is_not_there_once(values: list[str], error: str, value: str | None) -> None:
    with pytest.raises(InvalidHeader) as caught:
        single_value(Headers([("X", each) for each in values]), "X")
    assert str(caught.value) == error
    assert (caught.value.name, caught.value.value) == ("X", value)


# -------------------------------------------------------------------------------------------------------------- upgrade

GOOD_UPGRADES: list[tuple[list[str], list[str]]] = [
    (["Upgrade"], ["websocket"]),
    (["upgrade"], ["WebSocket"]),
    (["keep-alive, UPGRADE"], ["websocket"]),
    (["keep-alive", "Upgrade"], ["WEBSOCKET"]),
]


@pytest.mark.parametrize(("connection", "upgrade"), GOOD_UPGRADES)
def test_upgrade(connection: list[str], upgrade: list[str]) -> None:
    check_upgrade(upgrade_headers(connection, upgrade))


def upgrade_headers(connection: list[str], upgrade: list[str]) -> Headers:
    return Headers([*(("Connection", value) for value in connection), *(("Upgrade", value) for value in upgrade)])


BAD_UPGRADES: list[tuple[list[str], list[str], str]] = [
    ([], ["websocket"], "missing Connection header"),
    (["close"], ["websocket"], "invalid Connection header: close"),
    (["keep-alive", "close"], ["websocket"], "invalid Connection header: keep-alive, close"),
    (["upgraded"], ["websocket"], "invalid Connection header: upgraded"),
    (["Upgrade"], [], "missing Upgrade header"),
    (["Upgrade"], ["h2c"], "invalid Upgrade header: h2c"),
    (["Upgrade"], ["websocket, h2c"], "invalid Upgrade header: websocket, h2c"),
    (["Upgrade"], ["websocket", "websocket"], "invalid Upgrade header: websocket, websocket"),
    (["Upgrade"], ["websocket/13"], "invalid Upgrade header: websocket/13"),
]


@pytest.mark.parametrize(("connection", "upgrade", "error"), BAD_UPGRADES)
def test_something_else_than_an_upgrade(connection: list[str], upgrade: list[str], error: str) -> None:
    with pytest.raises(InvalidUpgrade) as caught:
        check_upgrade(upgrade_headers(connection, upgrade))
    assert str(caught.value) == error


@pytest.mark.parametrize(("connection", "upgrade"), [([""], ["websocket"]), (["Upgrade"], ["web socket"])])
def test_malformed_upgrade(connection: list[str], upgrade: list[str]) -> None:
    with pytest.raises(InvalidHeaderFormat):
        check_upgrade(upgrade_headers(connection, upgrade))


# ------------------------------------------------------------------------------------------------------- names of hosts


@pytest.mark.parametrize(
    ("hosts", "header", "found"),
    [
        ("localhost", "localhost", True),
        ("localhost", "LocalHost:8765", True),
        ("Example.COM", "example.com", True),
        ("localhost", "localhost:", True),
        ("localhost", "localhost:80a", False),
        ("localhost", "localhost:8765:1", False),
        ("localhost", "localhost.evil.example", False),
        ("localhost", "evil.example", False),
        ("localhost", "me@localhost", False),
        ("localhost", " localhost", False),
        ("localhost", "[localhost]", False),
        ("localhost", "", False),
        ("localhost", ":8765", False),
        ("127.0.0.1", "127.0.0.1:80", True),
        ("::1", "[::1]", True),
        ("[::1]", "[::1]:8765", True),
        ("0:0:0:0:0:0:0:1", "[::1]", True),
        ("2001:DB8::A", "[2001:db8:0::a]:443", True),
        ("::1", "::1", False),
        ("::1", "[::2]", False),
        ("::1", "[::1]x", False),
        ("::1", "[::1", False),
        ("b\xfccher.example", "xn--bcher-kva.example", True),
        (["a", "b"], "b:1", True),
        (("a", "b"), "c", False),
        (re.compile("(www\\.)?example\\.com"), "WWW.example.com:443", True),
        (re.compile("Example\\.com"), "example.com", True),
        (re.compile("example\\.com"), "example.com.evil.example", False),
        (re.compile("example"), "notexample", False),
        ([re.compile("a+"), "b"], "aaa", True),
        (re.compile(".*"), "", False),
        (re.compile("::[0-9a-f]+"), "[::00AB]:1", True),
    ],
)
def test_host(hosts: Any, header: str, found: bool) -> None:
    assert (header in HostNames.of(hosts)) is found


@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_hosts_in_any_container(kind: Any) -> None:
    names = HostNames.of(kind(["a", re.compile("b")]))
    assert repr(names) == "['a', re.compile('b')]"
    assert HostNames.of(names) is names


@pytest.mark.parametrize(
    ("hosts", "error"),
    [
        ([], "hosts is empty: nobody could connect"),
        ("", "hosts must be names: ''"),
        ("localhost:8765", "hosts must be names without scheme and port: 'localhost:8765'"),
        (["[::1]:80"], "hosts must be names without scheme and port: '[::1]:80'"),
        (["http://a"], "hosts must be names without scheme and port: 'http://a'"),
        (["a b"], "hosts must be names: 'a b'"),
        (["*/"], "hosts must be names: '*/'"),
        (["\xfc" * 70], f"hosts must be names: {chr(0xFC) * 70!r}"),
    ],
)
def test_what_is_no_host(hosts: Any, error: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(error)}$"):
        HostNames.of(hosts)


@pytest.mark.parametrize(
    ("hosts", "what"), [(5, "5"), ([None], "None"), ([b"a"], "b'a'"), ([re.compile(b"a")], "re.compile(b'a')")]
)
def test_hosts_of_no_good_type(hosts: Any, what: str) -> None:
    with pytest.raises(TypeError, match=f"^hosts must be names or compiled patterns, not {re.escape(what)}$"):
        HostNames.of(hosts)


@given(st.text(st.characters(max_codepoint=255)))
def test_no_header_breaks_the_comparison(header: str) -> None:
    assert (header in HostNames.of([re.compile("."), "ab"])) in (True, False)


# -------------------------------------------------------------------------------------------------------------- the log


def logged(headers: Headers, caplog: pytest.LogCaptureFixture) -> list[str]:
    logger = logging.getLogger("tests.handshake")
    caplog.set_level(logging.DEBUG, logger.name)
    log_headers(logger, "<", headers)
    assert {record.levelname for record in caplog.records} <= {"DEBUG"}
    return [record.getMessage() for record in caplog.records]


def test_headers_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    headers = Headers([("Host", "localhost"), ("X", "1"), ("x", "2")])
    assert logged(headers, caplog) == ["< Host: localhost", "< X: 1", "< x: 2"]


@pytest.mark.parametrize("name", ["Authorization", "PROXY-Authorization", "cookie", "Set-Cookie"])
def test_secrets_stay_out_of_the_log(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert name.lower() in SECRET_HEADERS
    assert logged(Headers([(name, "s3cret"), ("X", "y")]), caplog) == [f"< {name}: [redacted]", "< X: y"]


def test_control_characters_stay_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    (line,) = logged(Headers(X="a\x9b31m\tb"), caplog)
    assert line == "< X: a\\x9b31m\\tb"
