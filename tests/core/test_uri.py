"""WebSocket URIs taken apart."""

from __future__ import annotations

import contextlib
import socket
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websockets.exceptions import InvalidURI
from websockets.uri import WebSocketURI, hide_credentials, parse_uri, tls_name

CONTROLS = "/%C2%85%E3%80%80%E2%80%A8b"
ENCODED_ONCE = "/%C3%A9?%c3%A9=%C3%AB"
STRAY = "/%252%20%25%C3%A9%25"


@pytest.mark.parametrize(
    ("uri", "parsed", "resource_name"),
    [
        ("ws://localhost/", WebSocketURI(False, "localhost", 80, "/", ""), "/"),
        ("wss://localhost/", WebSocketURI(True, "localhost", 443, "/", ""), "/"),
        ("ws://localhost", WebSocketURI(False, "localhost", 80, "", ""), "/"),
        ("ws://localhost?a=b", WebSocketURI(False, "localhost", 80, "", "a=b"), "/?a=b"),
        ("ws://localhost/path?query", WebSocketURI(False, "localhost", 80, "/path", "query"), "/path?query"),
        ("ws://localhost/path;params", WebSocketURI(False, "localhost", 80, "/path;params", ""), "/path;params"),
        ("ws://localhost/?a?b", WebSocketURI(False, "localhost", 80, "/", "a?b"), "/?a?b"),
        ("ws://localhost/?", WebSocketURI(False, "localhost", 80, "/", ""), "/"),
        ("ws://localhost/#", WebSocketURI(False, "localhost", 80, "/", ""), "/"),
        ("WSS://LOCALHOST/PATH?QUERY", WebSocketURI(True, "localhost", 443, "/PATH", "QUERY"), "/PATH?QUERY"),
        (" ws://localhost/\r\n", WebSocketURI(False, "localhost", 80, "/", ""), "/"),
        ("ws://localhost/%20%zz|<", WebSocketURI(False, "localhost", 80, "/%20%zz|<", ""), "/%20%zz|<"),
        ("ws://localhost//a//b", WebSocketURI(False, "localhost", 80, "//a//b", ""), "//a//b"),
        # Ports.
        ("ws://localhost:8765/", WebSocketURI(False, "localhost", 8765, "/", ""), "/"),
        ("wss://localhost:80/", WebSocketURI(True, "localhost", 80, "/", ""), "/"),
        ("ws://localhost:/", WebSocketURI(False, "localhost", 80, "/", ""), "/"),
        ("wss://localhost:0/", WebSocketURI(True, "localhost", 443, "/", ""), "/"),
        ("ws://localhost:65535/", WebSocketURI(False, "localhost", 65535, "/", ""), "/"),
        ("ws://localhost:" + "0" * 5000 + "8/", WebSocketURI(False, "localhost", 8, "/", ""), "/"),
        # Hosts.
        ("ws://127.0.0.1/", WebSocketURI(False, "127.0.0.1", 80, "/", ""), "/"),
        ("ws://[::1]/", WebSocketURI(False, "::1", 80, "/", ""), "/"),
        ("ws://[2001:DB8::A]:8765/", WebSocketURI(False, "2001:db8::a", 8765, "/", ""), "/"),
        ("ws://[::ffff:127.0.0.1]/", WebSocketURI(False, "::ffff:127.0.0.1", 80, "/", ""), "/"),
        ("ws://my_host.local./", WebSocketURI(False, "my_host.local.", 80, "/", ""), "/"),
        ("ws://" + "a" * 63 + ".fr./", WebSocketURI(False, "a" * 63 + ".fr.", 80, "/", ""), "/"),
        ("ws://" + "a." * 127 + "a/", WebSocketURI(False, "a." * 127 + "a", 80, "/", ""), "/"),
        ("ws://%2Ftmp%2Fsocket/", WebSocketURI(False, "%2ftmp%2fsocket", 80, "/", ""), "/"),
        # Zones, encoded and bare.
        ("ws://[FE80::1%25Eth0]/", WebSocketURI(False, "fe80::1%Eth0", 80, "/", ""), "/"),
        ("ws://[FE80::1%Eth0]/", WebSocketURI(False, "fe80::1%Eth0", 80, "/", ""), "/"),
        ("ws://[fe80::1%25eth%30.100]/", WebSocketURI(False, "fe80::1%eth0.100", 80, "/", ""), "/"),
        ("ws://[fe80::1%251]/", WebSocketURI(False, "fe80::1%1", 80, "/", ""), "/"),
        ("ws://[fe80::1%25]/", WebSocketURI(False, "fe80::1%25", 80, "/", ""), "/"),
        ("ws://[fe80::1%2525]/", WebSocketURI(False, "fe80::1%25", 80, "/", ""), "/"),
        # Credentials.
        ("ws://u:p@localhost/", WebSocketURI(False, "localhost", 80, "/", "", "u", "p"), "/"),
        ("ws://:@localhost/", WebSocketURI(False, "localhost", 80, "/", "", "", ""), "/"),
        ("ws://a%20b:%40@localhost/", WebSocketURI(False, "localhost", 80, "/", "", "a b", "@"), "/"),
        ("ws://u@v:p:q@localhost/", WebSocketURI(False, "localhost", 80, "/", "", "u@v", "p:q"), "/"),
        ("ws://%c3%a9:%ff%00@localhost/", WebSocketURI(False, "localhost", 80, "/", "", "é", "\udcff\0"), "/"),
        # IRIs.
        ("ws://é.fr/", WebSocketURI(False, "xn--9ca.fr", 80, "/", ""), "/"),
        ("ws://\uff45xample.com/", WebSocketURI(False, "example.com", 80, "/", ""), "/"),
        (
            "ws://localhost/é?ê=ë",
            WebSocketURI(False, "localhost", 80, "/%C3%A9", "%C3%AA=%C3%AB"),
            "/%C3%A9?%C3%AA=%C3%AB",
        ),
        ("ws://localhost/é[!]<", WebSocketURI(False, "localhost", 80, "/%C3%A9[!]%3C", ""), "/%C3%A9[!]%3C"),
        ("ws://u:é@localhost/", WebSocketURI(False, "localhost", 80, "/", "", "u", "é"), "/"),
        ("ws://localhost/\x85\u3000\u2028b", WebSocketURI(False, "localhost", 80, CONTROLS, ""), CONTROLS),
        # Blanks: those of ASCII around it don't belong to it.
        ("ws://localhost/\u00a0", WebSocketURI(False, "localhost", 80, "/%C2%A0", ""), "/%C2%A0"),
        ("ws://localhost/a b", WebSocketURI(False, "localhost", 80, "/a%20b", ""), "/a%20b"),
        ("ws://localhost?a b#", WebSocketURI(False, "localhost", 80, "", "a%20b"), "/?a%20b"),
        (
            "ws://localhost/?name=José García",
            WebSocketURI(False, "localhost", 80, "/", "name=Jos%C3%A9%20Garc%C3%ADa"),
            "/?name=Jos%C3%A9%20Garc%C3%ADa",
        ),
        ("ws://us er:p%20w é@localhost/", WebSocketURI(False, "localhost", 80, "/", "", "us er", "p w é"), "/"),
        # What is encoded already stays as it is; a percent sign that encodes nothing doesn't.
        ("ws://localhost/é%20 b", WebSocketURI(False, "localhost", 80, "/%C3%A9%20%20b", ""), "/%C3%A9%20%20b"),
        ("ws://localhost/é?%c3%A9=ë", WebSocketURI(False, "localhost", 80, "/%C3%A9", "%c3%A9=%C3%AB"), ENCODED_ONCE),
        ("ws://é.fr/%20", WebSocketURI(False, "xn--9ca.fr", 80, "/%20", ""), "/%20"),
        ("ws://localhost/100% é", WebSocketURI(False, "localhost", 80, "/100%25%20%C3%A9", ""), "/100%25%20%C3%A9"),
        ("ws://localhost/%2 %é%", WebSocketURI(False, "localhost", 80, "/%252%20%25%C3%A9%25", ""), STRAY),
    ],
)
def test_valid(uri: str, parsed: WebSocketURI, resource_name: str) -> None:
    assert parse_uri(uri) == parsed
    assert parsed.resource_name == resource_name


@pytest.mark.parametrize(
    ("uri", "msg"),
    [
        ("", "scheme isn't ws or wss"),
        ("localhost", "scheme isn't ws or wss"),
        ("//localhost/", "scheme isn't ws or wss"),
        ("http://localhost/", "scheme isn't ws or wss"),
        ("ws ://localhost/", "scheme isn't ws or wss"),
        ("ws:localhost", "hostname isn't provided"),
        ("ws:/localhost", "hostname isn't provided"),
        ("ws://", "hostname isn't provided"),
        ("ws:///path", "hostname isn't provided"),
        ("ws://:8765/", "hostname isn't provided"),
        ("ws://localhost/#fragment", "fragment identifier is meaningless"),
        ("ws://localhost#fragment", "fragment identifier is meaningless"),
        # Ports.
        ("ws://localhost:65536/", "port is out of range 0-65535"),
        ("ws://localhost:99999/", "port is out of range 0-65535"),
        ("ws://localhost:" + "9" * 5000 + "/", "port is out of range 0-65535"),
        ("ws://localhost:-1/", "port isn't a number"),
        ("ws://localhost:+1/", "port isn't a number"),
        ("ws://localhost:8_0/", "port isn't a number"),
        ("ws://localhost:\uff18\uff10/", "port isn't a number"),
        ("ws://localhost:80:80/", "port isn't a number"),
        ("ws://::1/", "hostname isn't provided"),
        # Hosts.
        ("ws://[::1:bad/", "host or port is malformed"),
        ("ws://::1]/", "hostname isn't provided"),
        ("ws://[::1]x/", "host or port is malformed"),
        ("ws://x[::1]/", "host or port is malformed"),
        ("ws://[]/", "address in brackets isn't an IPv6 address"),
        ("ws://[::g]/", "address in brackets isn't an IPv6 address"),
        ("ws://[127.0.0.1]/", "address in brackets isn't an IPv6 address"),
        ("ws://[v1.x]/", "address in brackets isn't an IPv6 address"),
        ("ws://[::1%]/", "zone of the IPv6 address is malformed"),
        ("ws://[::1%a<b]/", "zone of the IPv6 address is malformed"),
        ("ws://[::1%25a%3Cb]/", "zone of the IPv6 address is malformed"),
        ("ws://[::1%25a%2Fb]/", "zone of the IPv6 address is malformed"),
        ("ws://[::1%25a%b]/", "zone of the IPv6 address is malformed"),
        ("ws://[::1%25%C3%A9]/", "zone of the IPv6 address is malformed"),
        ("ws://[::1%25a..b]/", "hostname has an empty label"),
        ("ws://[::1%25" + "a" * 60 + "]/", "hostname has a label of 64 characters, more than 63"),
        # What resolvers of Python refuse with a UnicodeError.
        ("ws://a..b/", "hostname has an empty label"),
        ("ws://.invalid/", "hostname has an empty label"),
        ("ws://invalid../", "hostname has an empty label"),
        ("ws://./", "hostname has an empty label"),
        ("ws://.../", "hostname has an empty label"),
        ("ws://" + "a" * 64 + ".fr/", "hostname has a label of 64 characters, more than 63"),
        ("ws://fr." + "a" * 64 + "/", "hostname has a label of 64 characters, more than 63"),
        ("ws://a\\b/", "hostname has characters that aren't allowed"),
        ("ws://a<b/", "hostname has characters that aren't allowed"),
        ("ws://local host/", "hostname has characters that aren't allowed"),
        ("ws:// localhost/", "hostname has characters that aren't allowed"),
        ("ws://é b/", "hostname has characters that aren't allowed"),
        ("ws://localhost:80 /", "port isn't a number"),
        ("ws://[::1 ]/", "address in brackets isn't an IPv6 address"),
        ("ws://localhost/a#b c", "fragment identifier is meaningless"),
        ("ws://a℀b/", "hostname has characters that aren't allowed"),
        ("ws://" + "a" * 256 + "/", "hostname has 256 characters, more than 255"),
        ("ws://a。。b/", "characters outside ASCII can't be encoded"),
        ("ws://é..fr/", "characters outside ASCII can't be encoded"),
        ("ws://é" + "a" * 70 + "/", "characters outside ASCII can't be encoded"),
        ("ws://\ud800/", "characters outside ASCII can't be encoded"),
        ("ws://localhost/\ud800", "characters outside ASCII can't be encoded"),
        # What would break the request line or the Host header.
        ("ws://localhost/\r\nHost: evil", "it contains a control character"),
        ("ws://localhost/é \r\nHost: evil", "it contains a control character"),
        ("ws://localhost\t/", "it contains a control character"),
        ("ws://localhost/a\tb", "it contains a control character"),
        ("ws://localhost/?\0", "it contains a control character"),
        ("ws://localhost/\x1f b", "it contains a control character"),
        ("ws://localhost/\x7f", "it contains a control character"),
    ],
)
def test_invalid(uri: str, msg: str) -> None:
    with pytest.raises(InvalidURI) as raised:
        parse_uri(uri)
    assert (raised.value.uri, raised.value.msg) == (uri, msg)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("uri", [b"ws://user:secret@localhost/", None, 1])
def test_not_a_string(uri: Any) -> None:
    with pytest.raises(InvalidURI, match=f"it is not a str but {type(uri).__name__}$") as raised:
        parse_uri(uri)
    assert "secret" not in repr(raised.value)


@pytest.mark.scenario(73)
@pytest.mark.parametrize(
    ("uri", "shown", "msg"),
    [
        ("ws://secret@localhost/", "ws://***@localhost/", "username provided without password"),
        ("ws://@localhost/", "ws://***@localhost/", "username provided without password"),
        ("ws://sec%3Aret:secret@localhost/", "ws://***@localhost/", "username must not contain a colon"),
        ("ws://user:secret@localhost:bad/", "ws://***@localhost:bad/", "port isn't a number"),
        ("ws://user:sec/ret@localhost/", "ws://***@localhost/", "port isn't a number"),
        ("ws://secret/ret:x@localhost/#f", "ws://***@localhost/#f", "fragment identifier is meaningless"),
        ("ws://user:secret@[::1:bad/", "ws://***@[::1:bad/", "host or port is malformed"),
        ("ws://user:secret@\ud800/", "ws://***@\ud800/", "characters outside ASCII can't be encoded"),
        ("ws://user:sec\nret@localhost/", "ws://***@localhost/", "it contains a control character"),
        ("ws://user:secret\ud800@localhost/", "ws://***@localhost/", "characters outside ASCII can't be encoded"),
        ("ws://user:sec ret@local host/", "ws://***@local host/", "hostname has characters that aren't allowed"),
        ("http://user:secret@localhost/", "http://***@localhost/", "scheme isn't ws or wss"),
        ("user:secret@localhost", "***@localhost", "scheme isn't ws or wss"),
    ],
)
def test_credentials_never_show_in_errors(uri: str, shown: str, msg: str) -> None:
    with pytest.raises(InvalidURI) as raised:
        parse_uri(uri)
    assert (raised.value.uri, raised.value.msg) == (shown, msg)
    report = "".join(traceback.format_exception_only(raised.value)) + repr(raised.value)
    assert "sec" not in report
    assert raised.value.__context__ is None


@pytest.mark.scenario(73)
def test_credentials_do_not_show_in_repr() -> None:
    uri = parse_uri("wss://user:secret@localhost/path?query")
    assert repr(uri) == "WebSocketURI(secure=True, host='localhost', port=443, path='/path', query='query')"
    assert (uri.username, uri.password) == uri.user_info == ("user", "secret")


def test_what_was_parsed_once_belongs_to_one_caller() -> None:
    first = parse_uri("wss://localhost:8080/")
    first.host, first.port = "example.com", 80
    assert parse_uri("wss://localhost:8080/") == WebSocketURI(True, "localhost", 8080, "/", "")
    assert parse_uri("ws://user:secret@localhost:8080/path").user_info == ("user", "secret")
    assert parse_uri("ws://localhost/").port == 80
    assert parse_uri("wss://localhost/").port == 443


def test_no_credentials() -> None:
    uri = parse_uri("wss://localhost/")
    assert (uri.username, uri.password, uri.user_info) == (None, None, None)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("ws://localhost/path", "ws://localhost/path"),
        ("socks5h://user:secret@localhost:1080", "socks5h://***@localhost:1080"),
        ("http:user:secret@localhost", "***@localhost"),
        ("ws://user:se\ncret@localhost\n", "ws://***@localhost\n"),
    ],
)
def test_hide_credentials(uri: str, shown: str) -> None:
    assert hide_credentials(uri) == shown


@given(st.text(":/?#[]@%.a1é\\ \t\ud800", max_size=20))
def test_anything_is_parsed_or_refused(rest: str) -> None:
    # Any other exception fails.
    with contextlib.suppress(InvalidURI):
        parsed = parse_uri("ws://" + rest)
        assert f"{parsed.resource_name} {parsed.host}".isascii()
        assert len(f"{parsed.resource_name} {parsed.host}".split()) == 2
        assert 0 < parsed.port <= 65535


@given(st.booleans(), st.integers(1, 65535), st.from_regex(r"[a-z]{1,20}(\.[a-z]{1,20})*", fullmatch=True))
def test_written_and_parsed(secure: bool, port: int, host: str) -> None:
    uri = f"{'wss' if secure else 'ws'}://{host}:{port}/path?query"
    assert parse_uri(uri) == WebSocketURI(secure, host, port, "/path", "query")


# Labels that are too long or missing, dots of all scripts, zones, what is encoded.
PARTS = st.sampled_from(
    [*".。-_%é", "a", "a" * 63, "a" * 64, "xn--", "[", "]", "[fe80::1%25", "[::1%", "%41", "1", "ß"]
)


@given(st.lists(PARTS, max_size=8).map("".join))
def test_resolvers_take_whatever_is_a_host(host: str) -> None:
    with contextlib.suppress(InvalidURI):
        found = parse_uri(f"ws://{host}/").host
        # That is how Python's resolver begins; the flag keeps it from asking anybody.
        assert found.encode("idna").decode() == found
        with contextlib.suppress(socket.gaierror):
            socket.getaddrinfo(found, 80, flags=socket.AI_NUMERICHOST)
        assert tls_name(found).encode("idna")


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("example.com", "example.com"),
        ("example.com.", "example.com"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%eth0.100", "fe80::1"),
    ],
)
def test_name_in_tls(host: str, name: str) -> None:
    assert tls_name(host) == name
