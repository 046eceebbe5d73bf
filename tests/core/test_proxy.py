"""Proxies: which one the system names, their URIs taken apart, the request for a tunnel, and answers to it."""

from __future__ import annotations

import contextlib
import os
import traceback
import urllib.request
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import websockets
from _kit import CHUNKERS, Chunker
from core import proxy_settings
from websockets import proxy as proxy_module
from websockets.datastructures import Headers
from websockets.exceptions import (
    HeaderLineTooLong,
    InvalidHandshake,
    InvalidHeaderValue,
    InvalidProxy,
    InvalidProxyMessage,
    InvalidProxyStatus,
    ProxyError,
    SecurityError,
    StatusLineTooLong,
    TooManyHeaders,
)
from websockets.http11 import MAX_BODY_SIZE, MAX_LINE_LENGTH, MAX_NUM_HEADERS, Response
from websockets.proxy import ConnectReader, Proxy, Route, build_connect_request, find_proxy, get_proxy, parse_proxy
from websockets.uri import WebSocketURI, parse_uri


def test_names() -> None:
    assert set(proxy_module.__all__) == {"Proxy", "get_proxy", "parse_proxy"}
    assert websockets.proxy is proxy_module


# ---------------------------------------------------------------------------------------------------- URIs of proxies


@pytest.mark.parametrize(
    ("uri", "parsed", "shown"),
    [
        ("http://proxy:8080", Proxy("http", "proxy", 8080), "http://proxy:8080"),
        ("https://proxy:8080", Proxy("https", "proxy", 8080), "https://proxy:8080"),
        ("http://proxy:8080/", Proxy("http", "proxy", 8080), "http://proxy:8080"),
        ("HTTP://PROXY:8080?#", Proxy("http", "proxy", 8080), "http://proxy:8080"),
        (" http://proxy:8080\n", Proxy("http", "proxy", 8080), "http://proxy:8080"),
        ("http://[2001:DB8::1]:8080", Proxy("http", "2001:db8::1", 8080), "http://[2001:db8::1]:8080"),
        ("http://é.fr", Proxy("http", "xn--9ca.fr", 80), "http://xn--9ca.fr:80"),
        # Without a scheme.
        ("proxy", Proxy("http", "proxy", 80), "http://proxy:80"),
        ("proxy:8080", Proxy("http", "proxy", 8080), "http://proxy:8080"),
        ("[2001:db8::1]:8080", Proxy("http", "2001:db8::1", 8080), "http://[2001:db8::1]:8080"),
        ("u:p@proxy:8080/path", Proxy("http", "proxy", 8080, "u", "p"), "http://proxy:8080"),
        ("socks5", Proxy("http", "socks5", 80), "http://socks5:80"),
        # What doesn't count.
        ("http://proxy/path", Proxy("http", "proxy", 80), "http://proxy:80"),
        ("http://proxy//", Proxy("http", "proxy", 80), "http://proxy:80"),
        ("http://proxy?query", Proxy("http", "proxy", 80), "http://proxy:80"),
        ("http://proxy#fragment", Proxy("http", "proxy", 80), "http://proxy:80"),
        # Default ports.
        ("http://proxy", Proxy("http", "proxy", 80), "http://proxy:80"),
        ("http://proxy:0", Proxy("http", "proxy", 80), "http://proxy:80"),
        ("https://proxy", Proxy("https", "proxy", 443), "https://proxy:443"),
        ("socks4://proxy", Proxy("socks4", "proxy", 1080), "socks4://proxy:1080"),
        ("socks4a://proxy", Proxy("socks4a", "proxy", 1080), "socks4a://proxy:1080"),
        ("socks5://proxy", Proxy("socks5", "proxy", 1080), "socks5://proxy:1080"),
        ("socks5h://proxy", Proxy("socks5h", "proxy", 1080), "socks5h://proxy:1080"),
        ("socks://proxy", Proxy("socks4", "proxy", 1080), "socks4://proxy:1080"),
        ("SOCKS://proxy:9/", Proxy("socks4", "proxy", 9), "socks4://proxy:9"),
        # Credentials.
        ("http://u:p@proxy", Proxy("http", "proxy", 80, "u", "p"), "http://proxy:80"),
        ("http://:@proxy", Proxy("http", "proxy", 80, "", ""), "http://proxy:80"),
        ("http://u@proxy", Proxy("http", "proxy", 80, "u", ""), "http://proxy:80"),
        ("http://u:@proxy", Proxy("http", "proxy", 80, "u", ""), "http://proxy:80"),
        ("http://@proxy", Proxy("http", "proxy", 80), "http://proxy:80"),
        ("http://us er:p w@proxy", Proxy("http", "proxy", 80, "us er", "p w"), "http://proxy:80"),
        ("http://u%40:p%3A:@proxy", Proxy("http", "proxy", 80, "u@", "p::"), "http://proxy:80"),
        ("http://%c3%a9:%ff@proxy", Proxy("http", "proxy", 80, "é", "\udcff"), "http://proxy:80"),
        ("socks5h://a%3Ab:c@proxy:9", Proxy("socks5h", "proxy", 9, "a:b", "c"), "socks5h://proxy:9"),
    ],
)
def test_valid(uri: str, parsed: Proxy, shown: str) -> None:
    assert parse_proxy(uri) == parsed
    assert str(parsed) == shown


@pytest.mark.parametrize(
    ("uri", "msg"),
    [
        ("", "hostname isn't provided"),
        ("//proxy", "hostname isn't provided"),
        ("://proxy", "scheme isn't supported"),
        ("ftp:proxy", "port isn't a number"),
        ("ftp://proxy", "scheme ftp isn't supported"),
        ("socks6://proxy", "scheme socks6 isn't supported"),
        ("FTP://proxy", "scheme ftp isn't supported"),
        ("http:proxy", "hostname isn't provided"),
        ("http:/proxy", "hostname isn't provided"),
        ("socks:8080", "hostname isn't provided"),
        ("http://", "hostname isn't provided"),
        ("http://:8080", "hostname isn't provided"),
        ("http://proxy:65536", "port is out of range 0-65535"),
        ("http://proxy:http", "port isn't a number"),
        ("http://[::1", "host or port is malformed"),
        ("http://a b", "hostname has characters that aren't allowed"),
        ("http://proxy\r\nA: b", "it contains a control character"),
        ("http://a..b:8080", "hostname has an empty label"),
        ("socks5h://.invalid", "hostname has an empty label"),
        ("https://" + "a" * 64, "hostname has a label of 64 characters, more than 63"),
        ("http://é..fr", "characters outside ASCII can't be encoded"),
    ],
)
def test_invalid(uri: str, msg: str) -> None:
    with pytest.raises(InvalidProxy) as raised:
        parse_proxy(uri)
    assert (raised.value.proxy, raised.value.msg) == (uri, msg)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("uri", [b"http://user:secret@proxy", None, False, 1])
def test_not_a_string(uri: Any) -> None:
    with pytest.raises(InvalidProxy, match=f"it is not a str but {type(uri).__name__}$") as raised:
        parse_proxy(uri)
    assert "secret" not in repr(raised.value)


ENCODED = "special characters in credentials must be percent-encoded"


@pytest.mark.parametrize(
    ("uri", "shown", "msg"),
    [
        ("http://secret@proxy:bad", "http://***@proxy:bad", "port isn't a number"),
        ("http://sec%3Aret:secret@proxy", "http://***@proxy", "username must not contain a colon"),
        ("https://sec%3Aret:secret@proxy", "https://***@proxy", "username must not contain a colon"),
        ("http://user:secret@proxy:bad", "http://***@proxy:bad", "port isn't a number"),
        ("http://user:sec/ret@proxy", "http://***@proxy", ENCODED),
        ("http://user:12/secret@proxy", "http://***@proxy", ENCODED),
        ("http://user:12?secret@proxy", "http://***@proxy", ENCODED),
        ("http://user:12#secret@proxy", "http://***@proxy", ENCODED),
        ("user:12/secret@proxy", "***@proxy", ENCODED),
        ("http://user:secret@\ud800", "http://***@\ud800", "characters outside ASCII can't be encoded"),
        ("http://user:sec\nret@proxy", "http://***@proxy", "it contains a control character"),
        ("ftp://user:secret@proxy", "ftp://***@proxy", "scheme ftp isn't supported"),
        ("http://user:secret\ud800@proxy", "http://***@proxy", "characters outside ASCII can't be encoded"),
        ("secret@", "***@", "hostname isn't provided"),
        ("sec ret:secret@pro xy", "***@pro xy", "hostname has characters that aren't allowed"),
        ("s_ecret://secret@proxy", "***@proxy", "scheme isn't supported"),
    ],
)
def test_credentials_never_show_in_errors(uri: str, shown: str, msg: str) -> None:
    with pytest.raises(InvalidProxy) as raised:
        parse_proxy(uri)
    assert (raised.value.proxy, raised.value.msg) == (shown, msg)
    report = "".join(traceback.format_exception_only(raised.value)) + repr(raised.value)
    assert "sec" not in report
    assert raised.value.__context__ is None


def test_credentials_show_nowhere_else() -> None:
    proxy = parse_proxy("http://user:secret@proxy:8080")
    assert repr(proxy) == "Proxy(scheme='http', host='proxy', port=8080)"
    assert str(proxy) == f"{proxy}" == "http://proxy:8080"
    assert (proxy.username, proxy.password) == proxy.user_info == ("user", "secret")


@pytest.mark.parametrize("credentials", [(), (None, None), ("user",), (None, "secret")])
def test_no_credentials(credentials: tuple[str | None, ...]) -> None:
    assert Proxy("http", "proxy", 8080, *credentials).user_info is None


@given(st.text(":/?#[]@%.a1é\\ \t\ud800", max_size=20))
def test_anything_is_parsed_or_refused(rest: str) -> None:
    # Any other exception fails.
    with contextlib.suppress(InvalidProxy):
        parsed = parse_proxy("http://" + rest)
        assert build_connect_request(parsed, SECURE, None).endswith(b"\r\n\r\n")
        assert 0 < parsed.port <= 65535


# ---------------------------------------------------------------------------------------------- the proxy of the system

PLAIN, SECURE = parse_uri("ws://example.com/"), parse_uri("wss://example.com/")

ALL = {f"{name}_proxy": f"http://{name}_proxy" for name in ("ws", "wss", "socks", "https", "http", "all")}


def set_environment(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in os.environ:
        if name.lower().endswith("_proxy") or name == "REQUEST_METHOD":
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "plain", "secure"),
    [
        ({"http_proxy": "http://a"}, "http://a", None),
        ({"https_proxy": "http://a:1"}, "http://a:1", "http://a:1"),
        ({"HTTPS_PROXY": "http://a"}, "http://a", "http://a"),
        ({"ws_proxy": "http://a"}, "http://a", None),
        ({"wss_proxy": "http://a"}, None, "http://a"),
        ({"socks_proxy": "socks5://a"}, "socks5://a", "socks5://a"),
        ({"socks_proxy": "http://a:1"}, "socks5h://a:1", "socks5h://a:1"),
        ({"https_proxy": ""}, None, None),
        ({"https_proxy": "", "socks_proxy": "", "http_proxy": "http://a"}, "http://a", None),
        # The order of preference, from the top.
        (ALL, "http://ws_proxy", "http://wss_proxy"),
        ({**ALL, "ws_proxy": "", "wss_proxy": ""}, "socks5h://socks_proxy", "socks5h://socks_proxy"),
        ({**ALL, "ws_proxy": "", "wss_proxy": "", "socks_proxy": ""}, "http://https_proxy", "http://https_proxy"),
        (
            {**ALL, "ws_proxy": "", "wss_proxy": "", "socks_proxy": "", "https_proxy": ""},
            "http://http_proxy",
            "http://all_proxy",
        ),
        ({"all_proxy": "socks5h://a"}, "socks5h://a", "socks5h://a"),
        ({"socks_proxy": "a:1"}, "socks5h://a:1", "socks5h://a:1"),
        # As it is, though it can't be used.
        ({"https_proxy": "ftp://a", "all_proxy": "http://b"}, "ftp://a", "ftp://a"),
        # Exceptions.
        ({"https_proxy": "http://a", "no_proxy": "*"}, None, None),
        ({"https_proxy": "http://a", "no_proxy": "other.com,example.com"}, None, None),
        ({"https_proxy": "http://a", "no_proxy": ".com"}, None, None),
        ({"https_proxy": "http://a", "no_proxy": "example.com:80"}, None, "http://a"),
        ({"https_proxy": "http://a", "no_proxy": "www.example.com"}, "http://a", "http://a"),
    ],
)
def test_environment(
    variables: dict[str, str], plain: str | None, secure: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, variables)
    assert (get_proxy(PLAIN), get_proxy(SECURE)) == (plain, secure)


def outcome(proxy: Proxy | None) -> str:
    """Write a proxy as in the table."""
    if proxy is None:
        return "direct"
    assert (proxy.host, proxy.port) == ("proxy", 3128)
    return " ".join([proxy.scheme, *([":".join(proxy.user_info)] if proxy.user_info else [])])


@pytest.mark.parametrize(("variables", "ours"), [row[:2] for row in proxy_settings.SETTINGS])
def test_table_of_settings(variables: dict[str, str], ours: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    here = {name: value.replace(proxy_settings.HERE, "proxy:3128") for name, value in variables.items()}
    set_environment(monkeypatch, here)
    for uri, expected in zip((PLAIN, SECURE), ours, strict=True):
        if expected == "error":
            with pytest.raises(InvalidProxy) as raised:
                find_proxy(uri)
            (name,) = variables
            assert raised.value.msg.endswith(f"; it comes from the environment variable {name}")
        else:
            assert outcome(find_proxy(uri)) == expected


@pytest.mark.parametrize(("no_proxy", "targets"), proxy_settings.EXCEPTIONS)
def test_table_of_exceptions(no_proxy: str, targets: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    here = {name: value.replace("HERE", "proxy") for name, value in proxy_settings.environment(no_proxy).items()}
    set_environment(monkeypatch, here)
    ours = {}
    for target in targets:
        uri = f"ws://{target.removeprefix('https://')}" if "://" not in target else f"wss://{target[8:]}"
        ours[target] = "D" if get_proxy(parse_uri(uri)) is None else "P"
    assert ours == {target: letters[0] for target, letters in targets.items()}


@pytest.mark.parametrize(
    ("no_proxy", "host", "exempt"),
    [
        ("fe80::1", "fe80::1%eth0", True),
        ("fe80::1%eth0", "fe80::1%eth0", True),
        ("[fe80::1%eth0]:80", "fe80:0::1%eth0", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("fe80::1%eth1", "fe80::1%eth0", False),
        ("fe80::1%eth0", "fe80::1", False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("::ffff:0:0/96", "10.1.2.3", True),
        ("::/0", "10.1.2.3", False),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("example.com:080", "example.com", True),
        ("example.com:99999999999999999999", "example.com", False),
        ("*:443", "example.com", False),
        ("*:80", "10.1.2.3", True),
        (".", "example.com", False),
        ("*.", "example.com", False),
        ("[", "example.com", False),
        ("[]", "example.com", False),
        (":80", "example.com", False),
        ("10.1.2.3", "a10.1.2.3", False),
    ],
)
def test_exceptions(no_proxy: str, host: str, exempt: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, {"https_proxy": "http://a", "no_proxy": no_proxy})
    assert (get_proxy(WebSocketURI(False, host, 80, "", "")) is None) is exempt


@pytest.mark.parametrize(
    "names", [("https_proxy",), ("HTTPS_PROXY",), ("Https_Proxy",), ("https_proxy", "HTTPS_PROXY")]
)
def test_error_names_the_variable(names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, dict.fromkeys(names, "ftp://user:secret@a"))
    with pytest.raises(InvalidProxy) as raised:
        find_proxy(SECURE)
    text = "ftp://***@a isn't a valid proxy: scheme ftp isn't supported; it comes from the environment variable"
    assert str(raised.value) == f"{text} {names[0]}"
    assert raised.value.__suppress_context__


def set_settings(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]) -> None:
    """Pretend that this is Windows or macOS, where urllib gives settings of the system as these."""
    set_environment(monkeypatch, {})
    monkeypatch.setattr(urllib.request, "getproxies", lambda: settings)
    monkeypatch.setattr(urllib.request, "proxy_bypass", lambda host: host == "exempt:80")


@pytest.mark.parametrize(
    ("settings", "plain", "secure"),
    [
        ({}, None, None),
        # Windows, with SOCKS for everything: urllib fills in the others.
        (
            {"socks": "socks://a:1", "http": "socks4://a:1", "https": "socks4://a:1"},
            Proxy("socks4", "a", 1),
            Proxy("socks4", "a", 1),
        ),
        # Windows, with SOCKS beside others, which urllib prefers.
        (
            {"socks": "socks://a:1", "http": "http://b:2", "https": "http://c:3"},
            Proxy("http", "c", 3),
            Proxy("http", "c", 3),
        ),
        ({"socks": "socks://a:1", "http": "http://b:2"}, Proxy("http", "b", 2), Proxy("socks4", "a", 1)),
        ({"socks": "socks://a:1"}, Proxy("socks4", "a", 1), Proxy("socks4", "a", 1)),
        ({"socks": "socks5://a:1", "https": "http://c:3"}, Proxy("socks5", "a", 1), Proxy("socks5", "a", 1)),
        # macOS: a bare address.
        ({"socks": "http://a:1", "https": "http://c:3"}, Proxy("socks5h", "a", 1), Proxy("socks5h", "a", 1)),
        # Entries that can't be used are passed over.
        ({"socks": "quic://a:1", "https": "http://c:3"}, Proxy("http", "c", 3), Proxy("http", "c", 3)),
        ({"socks": "socks5://a:b", "https": "http://c:3"}, Proxy("http", "c", 3), Proxy("http", "c", 3)),
        ({"https": "http://", "http": "http://b:2"}, Proxy("http", "b", 2), "https"),
        ({"socks": "quic://a:1", "https": "ftp://c:3"}, "socks", "socks"),
    ],
)
def test_settings_of_the_system(
    settings: dict[str, str], plain: Proxy | str | None, secure: Proxy | str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_settings(monkeypatch, settings)
    for uri, expected in ((PLAIN, plain), (SECURE, secure)):
        if isinstance(expected, str):
            with pytest.raises(InvalidProxy, match=f"; it comes from the system's settings for {expected}$"):
                find_proxy(uri)
            assert get_proxy(uri) == settings[expected]
        else:
            assert find_proxy(uri) == expected
            assert parse_proxy(get_proxy(uri) or "") == expected if expected else get_proxy(uri) is None
    assert find_proxy(parse_uri("ws://exempt/")) is None


def test_environment_wins_over_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    set_settings(monkeypatch, {"https": "http://b"})
    monkeypatch.setenv("http_proxy", "http://a")
    assert (get_proxy(PLAIN), get_proxy(SECURE)) == ("http://a", None)


@pytest.mark.parametrize(
    ("uri", "asked"),
    [
        ("ws://example.com/", "example.com:80"),
        ("wss://example.com/", "example.com:443"),
        ("ws://[2001:db8::1]:8765/", "2001:db8::1:8765"),
    ],
)
def test_the_system_is_asked_for_exceptions(uri: str, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def proxy_bypass(host: str) -> int:
        questions.append(host)
        return len(questions) % 2

    questions: list[str] = []
    set_environment(monkeypatch, {"https_proxy": "http://a"})
    monkeypatch.setattr(urllib.request, "proxy_bypass", proxy_bypass)
    assert get_proxy(parse_uri(uri)) is None
    assert get_proxy(parse_uri(uri)) == "http://a"
    assert questions == [asked, asked]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("localhost.", True),
        ("www.localhost", True),
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("[::1]", True),
        ("[0:0:0:0:0:0:0:1]", True),
        ("[::ffff:127.0.0.1]", True),
        ("notlocalhost", False),
        ("localhost.example.com", False),
        ("128.0.0.1", False),
        ("127.0.0.1.example.com", False),
        ("[::2]", False),
        ("[::ffff:128.0.0.1]", False),
        ("[fe80::1%eth0]", False),
        ("[::1%25lo]", True),
    ],
)
def test_loopback(host: str, loopback: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, {"https_proxy": "http://a"})
    assert (get_proxy(parse_uri(f"ws://{host}:8765/")) is None) is loopback
    assert (get_proxy(parse_uri(f"wss://{host}/")) is None) is loopback


# ------------------------------------------------------------------------------------------------- failures on the way


def test_route_names_the_proxy_and_the_stage() -> None:
    route = Route(parse_proxy("http://user:secret@proxy"), SECURE)
    errors = [OSError("down"), OSError("down")]
    for error, stage in zip(errors, (route.stage, "later"), strict=True):
        route.stage = stage
        with pytest.raises(OSError, match="^down\n"), route:
            raise error
    way = "The connection to example.com port 443 goes through the proxy http://proxy:80; it failed"
    assert [error.__notes__ for error in errors] == [[f"{way} while reaching the proxy"], [f"{way} later"]]
    with route as entered:
        assert entered is route


# --------------------------------------------------------------------------------------------- the request for a tunnel


@pytest.mark.parametrize(
    ("proxy", "uri", "user_agent", "request_"),
    [
        (
            Proxy("http", "proxy", 80),
            "ws://example.com/path?query",
            "me",
            "CONNECT example.com:80 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: me\r\n\r\n",
        ),
        (
            Proxy("http", "proxy", 80, "user", "secret"),
            "wss://name:password@example.com:8765/",
            "me",
            "CONNECT example.com:8765 HTTP/1.1\r\nHost: example.com:8765\r\nUser-Agent: me\r\n"
            "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n",
        ),
        (
            Proxy("https", "proxy", 443, "é", "\udcff"),
            "wss://example.com",
            "",
            "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\nProxy-Authorization: Basic w6k6/w==\r\n\r\n",
        ),
        (
            Proxy("http", "proxy", 80),
            "ws://[2001:DB8::1]/",
            None,
            "CONNECT [2001:db8::1]:80 HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n",
        ),
    ],
)
def test_connect_request(proxy: Proxy, uri: str, user_agent: str | None, request_: str) -> None:
    assert build_connect_request(proxy, parse_uri(uri), user_agent).decode() == request_


def test_request_that_would_break_its_lines() -> None:
    proxy = Proxy("http", "proxy", 80)
    with pytest.raises(InvalidHeaderValue):
        build_connect_request(proxy, PLAIN, "a\r\nb: c")
    uri = parse_uri("ws://example.com/")
    uri.host = "a b"
    with pytest.raises(ValueError, match="^invalid HTTP request line: CONNECT a b:80 HTTP/1.1$"):
        build_connect_request(proxy, uri, None)


# ------------------------------------------------------------------------------------------------------------- answers

every_chunker = pytest.mark.parametrize("chunker", CHUNKERS)


def feed(reader: ConnectReader, chunks: list[bytes]) -> int | None:
    """Feed chunks until the tunnel is open; return how many it took."""
    for number, chunk in enumerate(chunks, 1):
        if reader.feed(chunk):
            return number
    return None


@every_chunker
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nVia: 1.0 proxy\r\n\r\n",
        b"HTTP/1.1 204\r\n\r\n",
        # RFC 9110 section 9.3.6: these mean nothing here.
        b"HTTP/1.1 299 x\r\nContent-Length: 1000\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_open(answer: bytes, chunker: Chunker) -> None:
    reader = ConnectReader()
    chunks = chunker(answer)
    assert feed(reader, chunks) == len(chunks)
    assert reader.rest == b""
    # What comes after it is for others.
    reader = ConnectReader()
    assert feed(reader, [answer + b"more\r\n\r\n"]) == 1
    assert reader.rest == b"more\r\n\r\n"


@every_chunker
@pytest.mark.parametrize(
    ("answer", "response"),
    [
        (b"HTTP/1.1 407 Who?\r\nA: b\r\n\r\n", Response(407, "Who?", Headers({"A": "b"}))),
        (b"HTTP/1.0 502 \r\n\r\n", Response(502, "", Headers())),
        (b"HTTP/1.1 101 x\r\n\r\n", Response(101, "x", Headers())),
        (b"HTTP/1.1 301 x\r\nLocation: /\r\n\r\n", Response(301, "x", Headers({"Location": "/"}))),
        # Nobody waits for the rest: the body may never come, or be too large, or wrong.
        (
            f"HTTP/1.1 403 x\r\nContent-Length: {MAX_BODY_SIZE + 1}\r\n\r\n".encode(),
            Response(403, "x", Headers({"Content-Length": str(MAX_BODY_SIZE + 1)})),
        ),
        (
            b"HTTP/1.1 503 x\r\nTransfer-Encoding: nonsense\r\n\r\n",
            Response(503, "x", Headers({"Transfer-Encoding": "nonsense"})),
        ),
    ],
)
def test_refused(answer: bytes, response: Response, chunker: Chunker) -> None:
    with pytest.raises(InvalidProxyStatus) as raised:
        feed(ConnectReader(), chunker(answer))
    assert raised.value.response == response
    assert str(raised.value) == f"proxy rejected connection: HTTP {response.status_code}"
    assert isinstance(raised.value, ProxyError)
    assert isinstance(raised.value, InvalidHandshake)


NO_HTTP = "did not receive a valid HTTP response from proxy"

HEAD = b"HTTP/1.1 200 OK\r\n"


@every_chunker
@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (b"SSH-2.0-OpenSSH\r\n", ValueError, "invalid HTTP status line: SSH-2.0-OpenSSH"),
        (b"HTTP/2 200 OK\r\n", ValueError, "invalid HTTP status line: HTTP/2 200 OK"),
        (b"HTTP/1.1 2000 OK\r\n", ValueError, "invalid HTTP status line: HTTP/1.1 2000 OK"),
        (b"\x05\xff", ValueError, r"invalid character in HTTP status line: \x05"),
        (HEAD + b"a\r\n", ValueError, "invalid HTTP header line: a"),
        (HEAD + b" c: d\r\n", ValueError, "unsupported folding of HTTP header line:  c: d"),
        (b"HTTP/1.1 100 x\r\n\r\n" * 17, SecurityError, "number of interim responses exceeds limit of 16"),
        (HEAD + b"a b: c\r\n", ValueError, "invalid HTTP header name: a b"),
        (
            b"HTTP/1.1 200 " + b"x" * MAX_LINE_LENGTH,
            StatusLineTooLong,
            f"status line exceeds limit of {MAX_LINE_LENGTH} bytes",
        ),
        (
            HEAD + b"a: " + b"x" * MAX_LINE_LENGTH,
            HeaderLineTooLong,
            f"header line exceeds limit of {MAX_LINE_LENGTH} bytes",
        ),
        (
            HEAD + b"a: b\r\n" * (MAX_NUM_HEADERS + 1),
            TooManyHeaders,
            f"number of headers exceeds limit of {MAX_NUM_HEADERS}",
        ),
    ],
)
def test_no_http(answer: bytes, kind: type[Exception], text: str, chunker: Chunker) -> None:
    with pytest.raises(InvalidProxyMessage) as raised:
        feed(ConnectReader(), chunker(answer))
    assert str(raised.value) == NO_HTTP
    assert isinstance(raised.value.__cause__, kind)
    assert str(raised.value.__cause__).startswith(text)


@pytest.mark.parametrize("cause", [None, ConnectionResetError()])
@every_chunker
@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "connection closed while reading HTTP status line"),
        (b"HTTP/1.1 200 OK\r", "connection closed while reading HTTP status line"),
        (b"HTTP/1.1 200 OK\r\n", "connection closed while reading HTTP headers"),
        (b"HTTP/1.1 200 OK\r\na: b\r\n\r", "connection closed while reading HTTP headers"),
    ],
)
def test_end_too_early(answer: bytes, text: str, chunker: Chunker, cause: Exception | None) -> None:
    reader = ConnectReader()
    assert feed(reader, chunker(answer)) is None
    error = reader.eof(cause)
    assert isinstance(error, InvalidProxyMessage)
    assert str(error) == NO_HTTP
    assert isinstance(error.__cause__, EOFError)
    assert str(error.__cause__) == text
    assert error.__cause__.__cause__ is cause
