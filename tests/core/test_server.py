"""The server's side of the opening handshake: each request and its answer, however the bytes arrive."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from _kit import CHUNKERS, KEY, Chunker, accept_key, request, splits, wire
from websockets.datastructures import Headers
from websockets.exceptions import (
    HeaderLineTooLong,
    InvalidHandshake,
    InvalidHeader,
    InvalidHeaderFormat,
    InvalidHeaderValue,
    InvalidMessage,
    InvalidMethod,
    InvalidOrigin,
    InvalidProtocol,
    InvalidState,
    InvalidUpgrade,
    NegotiationError,
    RequestLineTooLong,
    TooManyHeaders,
)
from websockets.extensions.base import Extension, ServerExtensionFactory
from websockets.extensions.permessage_deflate import PerMessageDeflate, enable_server_permessage_deflate
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerConnection, ServerProtocol, fail, unavailable, unopened_reason

every_chunker = pytest.mark.parametrize("chunker", CHUNKERS, ids=lambda chunker: chunker.__name__)

FAILED = "Failed to open a WebSocket connection: "
HINT = "\n\nYou cannot access a WebSocket server directly with a browser. You need a WebSocket client.\n"
NONE: dict[str, Any] = {}
NO_TARGET = "invalid HTTP request target; expected a path, or a URI of HTTP or WebSocket, in visible ASCII"
INVALID = "did not receive a valid HTTP request"


class Answer(NamedTuple):
    """A response of a server: status line, headers, body, and whether it ended the stream after that."""

    status: str
    headers: dict[str, list[str]]
    body: bytes
    ended: bool


def converse(server: ServerProtocol, chunks: Sequence[bytes]) -> list[Any]:
    """Play the part of a front-end: answer the request as soon as it is there. Return the other events."""
    events = []
    for chunk in chunks:
        server.receive_data(chunk)
        for event in server.events_received():
            if isinstance(event, Request):
                server.send_response(server.accept(event))
            else:
                events.append(event)
    return events + server.events_received()


def answer(server: ServerProtocol) -> Answer:
    """Read what a server has to send, without the library."""
    writes = server.data_to_send()
    head, _, body = b"".join(writes).partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, value = line.split(": ", 1)
        headers.setdefault(name, []).append(value)
    return Answer(status, headers, body, writes[-1] == SEND_EOF)


def ask(data: bytes, **options: Any) -> tuple[ServerProtocol, Answer]:
    """A server that was sent ``data``, and its answer."""
    server = ServerProtocol(**options)
    converse(server, [data])
    return server, answer(server)


def requested(data: bytes | None = None, **options: Any) -> tuple[ServerProtocol, Request]:
    """A server that received a request and has not answered."""
    server = ServerProtocol(**options)
    server.receive_data(request() if data is None else data)
    (event,) = server.events_received()
    assert isinstance(event, Request)
    return server, event


# ----------------------------------------------------------------------------------------------------------- refusals


class Refusal(NamedTuple):
    """A request, and all that a server says about it."""

    what: str
    data: bytes
    status: str
    kind: type[Exception]
    error: str
    log: str = "! invalid handshake"
    more: dict[str, list[str]] = NONE
    ending: str = ".\n"
    cause: str | None = None
    options: dict[str, Any] = NONE


def upgrade_refusal(what: str, headers: wire.Headers, error: str) -> Refusal:
    more = {"Upgrade": ["websocket"]}
    data = request(headers=headers)
    return Refusal(
        what, data, "426 Upgrade Required", InvalidUpgrade, error, "! invalid upgrade", more, ending="." + HINT
    )


def bad_header(
    what: str, headers: wire.Headers, error: str, kind: type[Exception] = InvalidHeader, **options: Any
) -> Refusal:
    return Refusal(what, request(headers=headers), "400 Bad Request", kind, error, options=options)


def no_http(what: str, data: bytes, cause: str) -> Refusal:
    log = "! no valid HTTP request"
    return Refusal(what, data, "400 Bad Request", InvalidMessage, INVALID, log, cause=cause)


def wrong_origin(what: str, headers: wire.Headers, error: str, origins: Sequence[Any]) -> Refusal:
    data = request(headers=headers)
    return Refusal(what, data, "403 Forbidden", InvalidOrigin, error, "! invalid origin", options={"origins": origins})


def wrong_host(host: str, *hosts: Any) -> Refusal:
    error = f"invalid Host header: {host}" if host else "empty Host header"
    data, options = request(host=host), {"hosts": hosts}
    return Refusal(
        f"host {host}", data, "421 Misdirected Request", InvalidHeaderValue, error, "! invalid host", options=options
    )


def wrong_host_in_target(target: str, host: str, *hosts: Any) -> Refusal:
    """The Host header is a good one, and doesn't count."""
    data = request(target, host="localhost")
    return wrong_host(host, *hosts)._replace(what=f"host in target {target}", data=data)


def wrong_version(version: str) -> Refusal:
    error = f"invalid Sec-WebSocket-Version header: {version}"
    more = {"Upgrade": ["websocket"], "Sec-WebSocket-Version": ["13"]}
    data = request(headers={"Sec-WebSocket-Version": version})
    return Refusal(f"version {version}", data, "426 Upgrade Required", InvalidHeaderValue, error, more=more)


def with_deflate() -> dict[str, Any]:
    return {"extensions": enable_server_permessage_deflate(None)}


REFUSALS = [
    # What an upgrade needs; without any, this is a browser or a health check.
    upgrade_refusal("plain GET", {"Upgrade": None, "Connection": None}, "missing Connection header"),
    upgrade_refusal("no Upgrade", {"Upgrade": None}, "missing Upgrade header"),
    upgrade_refusal("no Connection", {"Connection": None}, "missing Connection header"),
    upgrade_refusal("other Upgrade", {"Upgrade": "h2c"}, "invalid Upgrade header: h2c"),
    upgrade_refusal("two in Upgrade", {"Upgrade": "websocket, h2c"}, "invalid Upgrade header: websocket, h2c"),
    upgrade_refusal("Upgrade twice", {"Upgrade": ["websocket"] * 2}, "invalid Upgrade header: websocket, websocket"),
    upgrade_refusal("other Connection", {"Connection": "close"}, "invalid Connection header: close"),
    upgrade_refusal(
        "no host either", {"Host": None, "Upgrade": None, "Sec-WebSocket-Key": None}, "missing Upgrade header"
    ),
    # Method and version of HTTP.
    Refusal(
        "POST",
        request(method="POST"),
        "405 Method Not Allowed",
        InvalidMethod,
        "unsupported HTTP method: POST",
        "! invalid method",
        {"Allow": ["GET"]},
    ),
    Refusal(
        "HTTP/1.0",
        request(http="HTTP/1.0"),
        "505 HTTP Version Not Supported",
        InvalidProtocol,
        "unsupported HTTP version: HTTP/1.0",
        "! invalid protocol",
    ),
    # Headers that must be there once.
    *(
        row
        for name in ("Host", "Sec-WebSocket-Key", "Sec-WebSocket-Version")
        for row in (
            bad_header(f"no {name}", {name: None}, f"missing {name} header"),
            bad_header(f"{name} twice", {name: ["13", "13"]}, f"invalid {name} header: multiple values"),
        )
    ),
    *(
        bad_header(f"key {key}", {"Sec-WebSocket-Key": key}, f"invalid Sec-WebSocket-Key header: {key}", kind)
        for kind in [InvalidHeaderValue]
        for key in ("!!", KEY[:-2], KEY[:12] + " " + KEY[12:], "c2hvcnQ=", KEY[:-4] + "AAAAAA==", "=" * 24)
    ),
    bad_header("empty key", {"Sec-WebSocket-Key": ""}, "empty Sec-WebSocket-Key header", InvalidHeaderValue),
    *(wrong_version(version) for version in ("0", "8", "12", "14", "013", "13, 8", "x")),
    # Lists.
    bad_header("malformed Connection", {"Connection": "a b"}, "invalid Connection header: expected comma at 2 in a b",
               InvalidHeaderFormat),
    bad_header("malformed Upgrade", {"Upgrade": "/1"}, "invalid Upgrade header: expected protocol at 0 in /1",
               InvalidHeaderFormat),
    bad_header(
        "malformed subprotocols",
        {"Sec-WebSocket-Protocol": "a b"},
        "invalid Sec-WebSocket-Protocol header: expected comma at 2 in a b",
        InvalidHeaderFormat,
    ),
    bad_header(
        "subprotocol beyond ASCII",
        {"Sec-WebSocket-Protocol": "caf\xe9"},
        "invalid Sec-WebSocket-Protocol header: expected comma at 3 in caf\xe9",
        InvalidHeaderFormat,
    ),
    bad_header(
        "no extension at all",
        {"Sec-WebSocket-Extensions": ", ,"},
        "invalid Sec-WebSocket-Extensions header: expected token at 3 in , ,",
        InvalidHeaderFormat,
        **with_deflate(),
    ),
    bad_header(
        "malformed extensions",
        {"Sec-WebSocket-Extensions": "permessage-deflate; ="},
        "invalid Sec-WebSocket-Extensions header: expected token at 20 in permessage-deflate; =",
        InvalidHeaderFormat,
        **with_deflate(),
    ),
    # What does not fit together.
    wrong_origin("other origin", {"Origin": "http://a"}, "invalid Origin header: http://a", ["http://b"]),
    wrong_origin("no origin", {}, "missing Origin header", ["http://b"]),
    wrong_origin("empty origin", {"Origin": ""}, "empty Origin header", ["http://b", None]),
    wrong_origin("origin in other case", {"Origin": "HTTP://b"}, "invalid Origin header: HTTP://b", ["http://b"]),
    wrong_origin("no origins", {"Origin": "http://a"}, "invalid Origin header: http://a", []),
    wrong_origin(
        "origin that a pattern matches in part",
        {"Origin": "http://a.evil"},
        "invalid Origin header: http://a.evil",
        [re.compile(r"http://a")],
    ),
    wrong_origin("no origin for a pattern", {}, "missing Origin header", [re.compile(".*")]),
    wrong_host("evil.example", "localhost", re.compile(r"\w+\.example\.com")),
    wrong_host("", "localhost", re.compile(".*")),
    wrong_host_in_target("http://evil.example/a", "evil.example", "localhost"),
    bad_header("no host", {"Host": None}, "missing Host header", hosts=["a"]),
    bad_header("two hosts", {"Host": ["a", "a"]}, "invalid Host header: multiple values", hosts=["a"]),
    bad_header("two origins", {"Origin": ["a", "b"]}, "invalid Origin header: multiple values", origins=["a"]),
    bad_header("two origins, any allowed", {"Origin": ["a", "b"]}, "invalid Origin header: multiple values"),
    bad_header("no subprotocol", {}, "missing subprotocol", NegotiationError, subprotocols=["a"]),
    bad_header(
        "no common subprotocol",
        {"Sec-WebSocket-Protocol": "c, d"},
        "invalid subprotocol; expected one of a, b",
        NegotiationError,
        subprotocols=["a", "b"],
    ),
    # Limits.
    Refusal(
        "long request line",
        request("/" + "a" * 8192),
        f"414 {HTTPStatus(414).phrase}",
        RequestLineTooLong,
        "request line exceeds limit of 8192 bytes",
        "! request line too long",
    ),
    Refusal(
        "long header line",
        request(headers={"Cookie": "a" * 8192}),
        "431 Request Header Fields Too Large",
        HeaderLineTooLong,
        "header line exceeds limit of 8192 bytes",
        "! header fields too large",
    ),
    Refusal(
        "many headers",
        request(raw=b"a: b\r\n" * 128),
        "431 Request Header Fields Too Large",
        TooManyHeaders,
        "number of headers exceeds limit of 128",
        "! header fields too large",
    ),
    # Not HTTP, or HTTP with something in it that two readers could read in two ways.
    no_http("TLS", b"\x16\x03\x01\x02\x00\x01", r"invalid character in HTTP request line: \x16"),
    no_http("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "unsupported protocol; expected HTTP/1.1 or HTTP/1.0: HTTP/2.0"),
    no_http("garbage", b"hello\r\n\r\n", "invalid HTTP request line: hello"),
    no_http(
        "empty line",
        b"\r\n\r\n",
        "empty HTTP request line; if a PROXY protocol header is sent, see the option proxy_protocol",
    ),
    no_http("target without slash", request("chat"), f"{NO_TARGET}: chat"),
    no_http("target of another scheme", request("ftp://localhost/"), f"{NO_TARGET}: ftp://localhost/"),
    no_http("target beyond ASCII", request("/caf\xe9"), f"{NO_TARGET}: /caf\xe9"),
    no_http("control character in target", request("/\x00"), r"invalid character in HTTP request line: GET /\x00"),
    no_http("bare LF", request(raw=b"a: b\nc: d\r\n"), r"invalid character in HTTP header line: a: b\n"),
    no_http("bare CR", request(raw=b"a: b\rc: d\r\n"), r"invalid character in HTTP header line: a: b\r"),
    no_http("NUL in header", request(raw=b"a: \x00\r\n"), r"invalid character in HTTP header line: a: \x00"),
    no_http("folded header", request(raw=b"a: b\r\n c\r\n"), "unsupported folding of HTTP header line:  c"),
    no_http("space before colon", request(raw=b"a : b\r\n"), "invalid HTTP header name: a "),
    no_http("no colon", request(raw=b"ab\r\n"), "invalid HTTP header line: ab"),
    no_http("malformed method", request(method="G(T"), "invalid HTTP method: G(T"),
    *(
        no_http(
            f"Content-Length: {value!r}",
            request(headers={"Content-Length": value}, body=wire.text("no frame", mask=True)),
            f"unsupported request body with Content-Length: {shown}",
        )
        for value, shown in [
            ("3", "3"),
            ("+0", "+0"),
            ("-1", "-1"),
            ("0x5", "0x5"),
            ("00", "00"),
            (["0", "0"], "0, 0"),
            (["0", "5"], "0, 5"),
            ("", ""),
        ]
    ),
    *(
        no_http(
            f"Transfer-Encoding: {value}",
            request(headers={"Transfer-Encoding": value}, body=b"0\r\n\r\n"),
            f"unsupported request body with Transfer-Encoding: {value}",
        )
        for value in ("chunked", "identity", "")
    ),
]  # fmt: skip


@every_chunker
@pytest.mark.parametrize("row", REFUSALS, ids=[row.what for row in REFUSALS])
def test_refusal(row: Refusal, chunker: Chunker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets.server")
    server = ServerProtocol(**row.options)
    assert converse(server, chunker(row.data)) == []

    what = row.error if row.cause is None else f"{row.error}: {row.cause}"
    body = (FAILED + what + row.ending).encode()
    got = answer(server)
    assert got.status == f"HTTP/1.1 {row.status}"
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", got.headers.pop("Date")[0])
    assert got.headers == {
        "Connection": ["close"],
        "Content-Length": [str(len(body))],
        "Content-Type": ["text/plain; charset=utf-8"],
        **row.more,
    }
    assert (got.body, got.ended) == (body, True)

    error = server.handshake_exc
    assert isinstance(error, row.kind)
    assert isinstance(error, InvalidHandshake)
    assert str(error) == row.error
    assert (None if error.__cause__ is None else str(error.__cause__)) == row.cause

    assert (server.state, server.close_expected()) == (State.CONNECTING, True)
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert ("DEBUG", row.log) in lines
    assert [line for line in lines if line[0] != "DEBUG"] == [("INFO", f"connection rejected ({row.status})")]


def test_refused_connection_ends_with_its_stream(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.server")
    server, got = ask(request(method="PUT"))
    assert got.ended
    server.receive_data(wire.text("ignored", mask=True))
    assert (server.events_received(), server.data_to_send()) == ([], [])
    server.receive_eof()
    assert (server.state, server.data_to_send()) == (State.CLOSED, [])
    assert (server.close_code, server.close_reason) == (1006, "")
    assert [record.getMessage() for record in caplog.records] == [
        "connection rejected (405 Method Not Allowed)",
    ]


@pytest.mark.parametrize("data", [request(method="HEAD"), request("/health", {"Upgrade": None}, method="HEAD")])
def test_answer_to_head_has_no_body(data: bytes) -> None:
    _, got = ask(data)
    assert got.status == "HTTP/1.1 405 Method Not Allowed"
    body = f"{FAILED}unsupported HTTP method: HEAD.\n"
    assert (got.headers["Content-Length"], got.body) == ([str(len(body))], b"")


def test_application_may_answer_head() -> None:
    server, _ = requested(request(method="HEAD"))
    response = server.reject(HTTPStatus.OK, "fine")
    server.send_response(response)
    got = answer(server)
    assert (got.status, got.headers["Content-Length"], got.body) == ("HTTP/1.1 200 OK", ["4"], b"")
    assert response.body == b"fine"


@pytest.mark.parametrize(
    ("start", "end"),
    [(b"GET /", b"a"), (b"GET / HTTP/1.1\r\n", b"a: b\r\n"), (b"GET / HTTP/1.1\r\na: ", b"b")],
    ids=["request line", "headers", "header line"],
)
def test_endless_request_is_refused_in_time(start: bytes, end: bytes) -> None:
    server = ServerProtocol()
    server.receive_data(start)
    fed = 0
    while server.handshake_exc is None:
        server.receive_data(end)
        fed += len(end)
        assert fed < 20_000
    assert answer(server).status[9:12] in ("414", "431")


@pytest.mark.scenario(17)
def test_values_of_the_client_are_not_reflected_as_they_are() -> None:
    _, got = ask(request(headers={"Origin": "http://\x9b31m"}), origins=["http://a"])
    assert got.body.decode() == FAILED + r"invalid Origin header: http://\x9b31m" + ".\n"
    assert "\x9b" not in str(got.headers)


def test_host_before_origin() -> None:
    server, got = ask(request(host="a", headers={"Origin": "http://a"}), hosts=["b"], origins=["http://b"])
    assert got.status == "HTTP/1.1 421 Misdirected Request"
    assert server.origin is None


def test_process_host_may_be_overridden() -> None:
    class Anybody(ServerProtocol):
        def process_host(self, headers: Headers) -> None:
            assert headers["Host"] == "a"

    server = Anybody(hosts=["b"])
    converse(server, [request(host="a")])
    assert server.state is State.OPEN


# ----------------------------------------------------------------------------------------------------------- accepted


class Accepted(NamedTuple):
    """A request, what the answer adds to the usual headers, and what the connection knows then."""

    what: str
    data: bytes
    options: dict[str, Any] = NONE
    more: dict[str, list[str]] = NONE
    known: dict[str, Any] = NONE


def accepted(what: str, headers: wire.Headers, **known: Any) -> Accepted:
    return Accepted(what, request(headers=headers), known=known)


def origin_row(what: str, origin: str | None, *origins: Any) -> Accepted:
    return Accepted(what, request(headers={"Origin": origin}), {"origins": origins}, {}, {"origin": origin})


def host_row(host: str, *hosts: Any) -> Accepted:
    return Accepted(f"host {host}", request(host=host), {"hosts": hosts})


def subprotocol_row(what: str, offer: str | list[str] | None, chosen: str | None, **options: Any) -> Accepted:
    more = {} if chosen is None else {"Sec-WebSocket-Protocol": [chosen]}
    return Accepted(what, request(headers={"Sec-WebSocket-Protocol": offer}), options, more, {"subprotocol": chosen})


ACCEPTED = [
    accepted("plain", {}, origin=None, subprotocol=None, extensions=[]),
    Accepted("path and query", request("/a/b?c=d;e&%20")),
    accepted("Upgrade in capitals", {"Upgrade": "WEBSOCKET"}),
    accepted("Upgrade as in RFC 6455", {"Upgrade": "WebSocket"}),
    accepted("Connection in small letters", {"Connection": "upgrade"}),
    accepted("Connection of Firefox", {"Connection": "keep-alive, Upgrade"}),
    accepted("Connection twice", {"Connection": ["keep-alive", "Upgrade"]}),
    accepted("Connection with empty items", {"Connection": ", ,Upgrade,"}),
    accepted("names in small letters", {"host": "a", "sec-websocket-version": "13", "upgrade": "websocket"}),
    accepted("key whose last character has bits to spare", {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZR=="}),
    accepted("empty Host", {"Host": ""}),
    accepted("Content-Length 0", {"Content-Length": "0"}),
    accepted("values beyond ASCII", {"Cookie": "caf\xe9"}),
    accepted("origin that nobody checks", {"Origin": "null"}, origin="null"),
    accepted("extension that nobody has, malformed", {"Sec-WebSocket-Extensions": "; ;"}, extensions=[]),
    Accepted("128 headers", request(raw=b"a: b\r\n" * 123)),
    origin_row("origin", "http://a", "http://b", "http://a"),
    origin_row("no origin", None, "http://a", None),
    origin_row("origin that a pattern matches", "https://x.a", re.compile(r"https://\w\.a"), None),
    host_row("localhost:8765", "example.com", "localhost"),
    host_row("a.example.com", re.compile(r"\w+\.example\.com")),
    Accepted("host in the target", request("http://example.com/a", host="b"), {"hosts": "example.com"}),
    Accepted("host in the target, with port", request("WS://[::1]:80", host=""), {"hosts": "::1"}),
    Accepted("host as a single name", request(host="EXAMPLE.com"), {"hosts": "example.com"}),
    subprotocol_row("subprotocol that the server prefers", "a, b", "b", subprotocols=["b", "a"]),
    subprotocol_row("subprotocols in two headers", ["a", "b"], "b", subprotocols=["c", "b"]),
    subprotocol_row("subprotocols that nobody has", "a, b", None),
    subprotocol_row("subprotocol selected", "a, b", "b", select_subprotocol=lambda server, offered: offered[-1]),
    subprotocol_row("no subprotocol selected", "a", None, select_subprotocol=lambda server, offered: None),
    subprotocol_row(
        "function goes before the list", None, None, subprotocols=["a"], select_subprotocol=lambda server, offered: None
    ),
]


@every_chunker
@pytest.mark.parametrize("row", ACCEPTED, ids=[row.what for row in ACCEPTED])
def test_accepted(row: Accepted, chunker: Chunker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.server")
    server = ServerProtocol(**row.options)
    assert converse(server, chunker(row.data)) == []
    got = answer(server)
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", row.data)
    assert key is not None
    assert got.status == "HTTP/1.1 101 Switching Protocols"
    assert got.headers.pop("Date")[0].endswith(" GMT")
    assert got.headers == {
        "Upgrade": ["websocket"],
        "Connection": ["Upgrade"],
        "Sec-WebSocket-Accept": [accept_key(key[1].decode())],
        **row.more,
    }
    assert (got.body, got.ended) == (b"", False)
    assert (server.state, server.handshake_exc, server.close_expected()) == (State.OPEN, None, False)
    for name, value in row.known.items():
        assert getattr(server, name) == value
    assert [record.getMessage() for record in caplog.records] == ["connection open"]


@every_chunker
def test_request_event_of_a_target_in_absolute_form(chunker: Chunker) -> None:
    """RFC 9112 section 3.2.2: the host of the target counts, and not the Host header."""
    server = ServerProtocol()
    for piece in chunker(request("HTTP://example.com:8765/a?b=c", {"Cookie": "d"}, host="other")):
        server.receive_data(piece)
    (event,) = server.events_received()
    assert isinstance(event, Request)
    assert event.path == "/a?b=c"
    assert next(iter(event.headers.raw_items())) == ("Host", "example.com:8765")
    assert event.headers["Cookie"] == "d"


def test_request_event() -> None:
    _, event = requested(request("/a?b=c", {"Cookie": "d"}, method="PUT", http="HTTP/1.0"))
    assert (event.path, event.method, event.protocol) == ("/a?b=c", "PUT", "HTTP/1.0")
    assert list(event.headers.raw_items()) == [
        ("Host", "localhost"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", KEY),
        ("Sec-WebSocket-Version", "13"),
        ("Cookie", "d"),
    ]


def test_date_is_made_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_700_000_000.0
    monkeypatch.setattr("websockets._rules.date.time.time", lambda: now)
    server = ServerProtocol()
    dates = [server.reject(200, "").headers["Date"]]
    now += 0.9
    dates.append(server.reject(200, "").headers["Date"])
    now += 0.1
    dates.append(server.reject(200, "").headers["Date"])
    assert dates == ["Tue, 14 Nov 2023 22:13:20 GMT"] * 2 + ["Tue, 14 Nov 2023 22:13:21 GMT"]


# ---------------------------------------------------------------------------------------------- extensions, in detail

MALFORMED = [
    "unknown",
    "server_no_context_takeover=1",
    "server_no_context_takeover; server_no_context_takeover",
    "server_max_window_bits",
    "server_max_window_bits=7",
    "server_max_window_bits=16",
    "server_max_window_bits=012",
    "server_max_window_bits=10; server_max_window_bits=10",
    "client_max_window_bits=x",
]

DEFLATE_OFFERS = [
    ("permessage-deflate", "permessage-deflate"),
    ("x-unknown, permessage-deflate", "permessage-deflate"),
    ("permessage-deflate, permessage-deflate", "permessage-deflate"),
    (
        "permessage-deflate; client_max_window_bits, permessage-deflate",
        "permessage-deflate; client_max_window_bits=12",
    ),
    ("permessage-deflate; server_max_window_bits=15", "permessage-deflate; server_max_window_bits=12"),
    ("permessage-deflate; server_max_window_bits=8", "permessage-deflate; server_max_window_bits=8"),
    *(
        (
            f"permessage-deflate; {wrong}, permessage-deflate; server_max_window_bits=10",
            "permessage-deflate; server_max_window_bits=10",
        )
        for wrong in MALFORMED
    ),
    *((f"permessage-deflate; {wrong}", None) for wrong in MALFORMED),
    ("x-webkit-deflate-frame", None),
]


@pytest.mark.scenario(21)
@pytest.mark.parametrize(("offer", "chosen"), DEFLATE_OFFERS)
@pytest.mark.parametrize("split", [False, True], ids=["one header", "several headers"])
def test_extension_offers(offer: str, chosen: str | None, split: bool) -> None:
    offers: Any = offer.split(", ") if split else offer
    server, got = ask(request(headers={"Sec-WebSocket-Extensions": offers}), **with_deflate())
    assert got.headers.get("Sec-WebSocket-Extensions") == (None if chosen is None else [chosen])
    assert [type(extension) for extension in server.extensions] == ([] if chosen is None else [PerMessageDeflate])
    assert server.state is State.OPEN


@pytest.mark.scenario(22)
def test_thousands_of_offers_are_read_once() -> None:
    offers = ["permessage-deflate; x, " * 300] * 30
    server, got = ask(request(headers={"Sec-WebSocket-Extensions": offers}), **with_deflate())
    assert got.status == "HTTP/1.1 101 Switching Protocols"
    assert server.extensions == []


class Named(Extension):
    """An extension that does nothing."""

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[assignment]


class NamedFactory(ServerExtensionFactory):
    """Negotiates :class:`Named`: answers with the parameters of the offer and the number of extensions before it."""

    def __init__(self, name: str, problem: Exception | None = None) -> None:
        self.name = name  # type: ignore[assignment]
        self.problem = problem

    def process_request_params(self, params: Any, accepted_extensions: Sequence[Extension]) -> Any:
        if self.problem is not None:
            raise self.problem
        return [*params, ("after", str(len(accepted_extensions)))], Named(self.name)


def test_several_extensions_in_the_order_of_the_offers() -> None:
    factories = [NamedFactory("a"), NamedFactory("b"), NamedFactory("c")]
    data = request(headers={"Sec-WebSocket-Extensions": ["c; x=y; z", "d, a"]})
    server, got = ask(data, extensions=factories)
    assert got.headers["Sec-WebSocket-Extensions"] == ["c; x=y; z; after=0, a; after=1"]
    assert [extension.name for extension in server.extensions] == ["c", "a"]


def test_second_factory_of_a_name_gets_what_the_first_declines() -> None:
    factories = [NamedFactory("a", NegotiationError("no")), NamedFactory("a")]
    server, got = ask(request(headers={"Sec-WebSocket-Extensions": "a"}), extensions=factories)
    assert got.headers["Sec-WebSocket-Extensions"] == ["a; after=0"]
    assert len(server.extensions) == 1


# -------------------------------------------------------------------------------- what the application gets to decide


def broken(server: ServerProtocol, offered: Sequence[str]) -> Any:
    raise LookupError("secret")


CRASHES: list[tuple[str, dict[str, Any]]] = [
    ("function crashes", {"select_subprotocol": broken}),
    ("extension crashes", {"extensions": [NamedFactory("a", LookupError("secret"))]}),
    ("subprotocol with a line break", {"select_subprotocol": lambda server, offered: "a\r\nb: secret"}),
    ("subprotocol of a wrong type", {"select_subprotocol": lambda server, offered: b"secret"}),
]


@pytest.mark.parametrize(("what", "options"), CRASHES, ids=[what for what, _ in CRASHES])
def test_crash_of_the_application(what: str, options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    data = request(headers={"Sec-WebSocket-Protocol": "a", "Sec-WebSocket-Extensions": "a"})
    server, got = ask(data, **options)
    assert got.status == "HTTP/1.1 500 Internal Server Error"
    assert got.body == b"Failed to open a WebSocket connection.\nSee server log for more information.\n"
    assert "secret" not in str(got)
    assert (got.headers["Connection"], got.ended) == (["close"], True)
    assert server.handshake_exc is not None
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage() == "opening handshake failed"
    assert record.exc_info is not None
    assert record.exc_info[1] is server.handshake_exc


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        *((options, "failure") for _, options in CRASHES),
        ({"subprotocols": ["b"]}, "invalid handshake"),
        ({"origins": ["http://a"]}, "invalid origin"),
    ],
    ids=[*(what for what, _ in CRASHES), "subprotocol refused", "origin refused"],
)
def test_who_is_to_blame_in_the_statistics(options: dict[str, Any], reason: str) -> None:
    server, _ = ask(request(headers={"Sec-WebSocket-Protocol": "a", "Sec-WebSocket-Extensions": "a"}), **options)
    assert unopened_reason(server) == reason


def test_reasons_of_the_application_and_of_both() -> None:
    server = ServerProtocol()
    server.reject(404, "")
    assert unopened_reason(server) == "application"
    fail(server, InvalidOrigin("a"), "x", server.logger)
    assert unopened_reason(server) == "failure"
    # What was found out last counts.
    unavailable(server, "no room", "x")
    assert unopened_reason(server) == "no room"


def test_select_subprotocol_may_refuse() -> None:
    def refuse(server: ServerProtocol, offered: Sequence[str]) -> Any:
        raise NegotiationError(f"none of {offered} will do")

    data = request(headers={"Sec-WebSocket-Protocol": "a, b"})
    server, got = ask(data, select_subprotocol=refuse)
    assert (got.status, got.body) == ("HTTP/1.1 400 Bad Request", (FAILED + "none of ['a', 'b'] will do.\n").encode())
    assert isinstance(server.handshake_exc, NegotiationError)


def test_select_subprotocol_gets_the_protocol() -> None:
    seen: list[Any] = []

    def select(server: ServerProtocol, offered: Sequence[str]) -> Any:
        seen.append((server, list(offered)))
        return "a"

    server, _ = ask(request(headers={"Sec-WebSocket-Protocol": "a"}), select_subprotocol=select)
    assert seen == [(server, ["a"])]


def test_overridden_methods() -> None:
    class Picky(ServerProtocol):
        def process_origin(self, headers: Headers) -> Any:
            return "the origin"

        def process_extensions(self, headers: Headers) -> Any:
            return "x; y=1", []

        def select_subprotocol(self, subprotocols: Sequence[str]) -> Any:
            return "first of " + str(len(subprotocols))

    server = Picky(origins=[])
    converse(server, [request(headers={"Sec-WebSocket-Protocol": "a, b"})])
    got = answer(server)
    assert got.headers["Sec-WebSocket-Extensions"] == ["x; y=1"]
    assert got.headers["Sec-WebSocket-Protocol"] == ["first of 2"]
    assert (server.origin, server.subprotocol) == ("the origin", "first of 2")


def test_overridden_key() -> None:
    class Odd(ServerProtocol):
        def process_request(self, request: Request) -> Any:
            return "no key at all", None, None

    server = Odd()
    converse(server, [request()])
    assert answer(server).headers["Sec-WebSocket-Accept"] == ["no key at all"]


def test_overridden_process_request() -> None:
    class Closed(ServerProtocol):
        def process_request(self, request: Request) -> Any:
            raise InvalidHandshake("come back tomorrow")

    server = Closed()
    converse(server, [request()])
    assert answer(server).body == (FAILED + "come back tomorrow.\n").encode()


@pytest.mark.parametrize("status", [HTTPStatus.NOT_FOUND, 404])
def test_reject(status: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.server")
    server, _ = requested()
    response = server.reject(status, "caf\xe9\n")
    assert (response.status_code, response.reason_phrase, response.body) == (404, "Not Found", "caf\xe9\n".encode())
    assert set(response.headers) == {"date", "connection", "content-length", "content-type"}
    response.headers["X-More"] = "y"
    server.send_response(response)
    got = answer(server)
    assert got.status == "HTTP/1.1 404 Not Found"
    assert (got.headers["X-More"], got.headers["Content-Length"], got.ended) == (["y"], ["6"], True)
    # The application answered; nothing failed.
    assert server.handshake_exc is None
    assert [record.getMessage() for record in caplog.records] == ["HTTP response sent (404 Not Found)"]


def test_reject_with_unknown_status() -> None:
    with pytest.raises(ValueError, match="999"):
        ServerProtocol().reject(999, "")


@pytest.mark.parametrize(
    ("text", "content_type"),
    [
        ("caf\xe9", "text/plain; charset=utf-8"),
        (b"caf\xc3\xa9", "application/octet-stream"),
        (bytearray(b"caf\xc3\xa9"), "application/octet-stream"),
        (memoryview(b"caf\xc3\xa9"), "application/octet-stream"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("own", [None, "text/html; charset=utf-8"])
def test_reject_with_a_body_of_any_kind(text: Any, content_type: str, own: str | None) -> None:
    server, _ = requested()
    headers = None if own is None else {"content-type": own}
    server.send_response(server.reject(200, text, headers=headers))
    got = answer(server)
    assert got.body == b"caf\xc3\xa9"
    assert {name.lower(): values for name, values in got.headers.items() if name.startswith(("C", "c"))} == {
        "connection": ["close"],
        "content-length": ["5"],
        "content-type": [own or content_type],
    }


def test_reject_with_more_headers() -> None:
    server, _ = requested()
    headers = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Date", "today")]
    server.send_response(server.reject(200, "", headers=headers))
    got = answer(server).headers
    assert (got["Set-Cookie"], got["Date"], got["Content-Length"]) == (["a=1", "b=2"], ["today"], ["0"])


@pytest.mark.parametrize(
    ("text", "headers", "error"),
    [
        ("x", {"content-length": "3"}, "headers must not set Content-Length: 3"),
        ("x", {"Transfer-Encoding": "chunked"}, "headers must not set Transfer-Encoding: chunked"),
        ("x", [("Connection", "a"), ("connection", "b")], "headers must not set Connection: a, b"),
        ("x", {"X": "a\r\nb"}, "X"),
        (5, None, "text must be str or bytes, not int"),
        (None, None, "text must be str or bytes, not NoneType"),
    ],
)
def test_reject_with_what_cannot_be_sent(text: Any, headers: Any, error: str) -> None:
    with pytest.raises((ValueError, TypeError, InvalidHeaderValue), match=error):
        ServerProtocol().reject(200, text, headers=headers)


def test_refusal_without_a_request() -> None:
    server = ServerProtocol()
    server.receive_data(b"GET / HTT")
    server.send_response(server.reject(503, "busy"))
    assert answer(server)[2:] == (b"busy", True)
    server.receive_data(b"P/1.1\r\n\r\n")
    assert server.events_received() == []


def test_switch_made_by_hand() -> None:
    server, _ = requested(request(headers={"Sec-WebSocket-Key": None}))
    server.send_response(Response(101, "Here You Go", Headers({"Upgrade": "websocket"})))
    assert server.data_to_send() == [b"HTTP/1.1 101 Here You Go\r\nUpgrade: websocket\r\n\r\n"]
    assert server.state is State.OPEN


UNSENDABLE = [
    (Response(200, "OK\r\nX: y", Headers()), ValueError),
    (Response(200, "OK", Headers(), "text"), TypeError),  # type: ignore[arg-type]
    (Response("200 OK", "", Headers()), ValueError),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("response", "error"), UNSENDABLE)
def test_response_that_cannot_be_sent_changes_nothing(response: Response, error: type[Exception]) -> None:
    server, event = requested()
    with pytest.raises(error):
        server.send_response(response)
    assert (server.state, server.data_to_send(), server.close_expected()) == (State.CONNECTING, [], False)
    server.send_response(server.accept(event))
    assert server.state is State.OPEN


def respond(server: ServerProtocol, status: int) -> None:
    server.send_response(Response(status, "X", Headers()))


@pytest.mark.parametrize("first", [101, 403])
@pytest.mark.parametrize("second", [101, 403])
def test_second_response_is_an_error(first: int, second: int) -> None:
    server, _ = requested()
    respond(server, first)
    server.data_to_send()
    state = server.state
    with pytest.raises(InvalidState, match=f"^connection is {state.name.lower()}$"):
        respond(server, second)
    assert (server.state, server.data_to_send()) == (state, [])


@pytest.mark.parametrize("status", [101, 403])
def test_response_after_the_end_is_an_error(status: int) -> None:
    server, _ = requested()
    server.receive_eof()
    assert (server.state, server.data_to_send()) == (State.CLOSED, [SEND_EOF])
    with pytest.raises(InvalidState, match=r"^connection is closed$"):
        respond(server, status)
    assert server.data_to_send() == []


# ------------------------------------------------------------------------------------------------ what follows, or not


@every_chunker
def test_frames_behind_the_request(chunker: Chunker) -> None:
    server = ServerProtocol()
    frames = wire.text("first", mask=True) + wire.ping(b"p", mask=True)
    events = converse(server, chunker(request() + frames))
    assert events == [Frame(Opcode.TEXT, b"first"), Frame(Opcode.PING, b"p")]
    head, pong = server.data_to_send()
    assert head.startswith(b"HTTP/1.1 101 ")
    assert pong == wire.pong(b"p")


@every_chunker
@pytest.mark.parametrize("status", [101, 403])
def test_data_before_the_answer(status: int, chunker: Chunker) -> None:
    server, _ = requested()
    for chunk in chunker(wire.text("early", mask=True) + wire.close(1000, mask=True)):
        server.receive_data(chunk)
    assert (server.events_received(), server.data_to_send(), server.state) == ([], [], State.CONNECTING)
    respond(server, status)
    opened = status == 101
    frames = [event.opcode for event in server.events_received() if isinstance(event, Frame)]
    assert frames == ([Opcode.TEXT, Opcode.CLOSE] if opened else [])
    assert server.data_to_send()[1:] == ([wire.close(1000), SEND_EOF] if opened else [SEND_EOF])


def test_much_data_before_the_answer_is_kept_in_linear_time() -> None:
    server, event = requested(max_size=None)
    for _ in range(20_000):
        server.receive_data(wire.ping(b"", mask=True))
    server.send_response(server.accept(event))
    assert len(server.events_received()) == 20_000


def test_unmasked_frame_behind_the_request() -> None:
    server = ServerProtocol()
    assert converse(server, [request() + wire.text("a")]) == []
    assert server.data_to_send()[1:] == [wire.close(1002, "incorrect masking"), SEND_EOF]


ENDS = [
    (b"", "connection closed while reading HTTP request line"),
    (b"GET / HT", "connection closed while reading HTTP request line"),
    (b"GET / HTTP/1.1\r\nHos", "connection closed while reading HTTP headers"),
    (request()[:-1], "connection closed while reading HTTP headers"),
]


@every_chunker
@pytest.mark.parametrize(("data", "cause"), ENDS)
def test_end_before_the_request_is_whole(
    data: bytes, cause: str, chunker: Chunker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "websockets.server")
    server = ServerProtocol()
    assert converse(server, chunker(data)) == []
    server.receive_eof()
    assert (server.state, server.data_to_send()) == (State.CLOSED, [SEND_EOF])
    assert isinstance(server.handshake_exc, InvalidMessage)
    assert isinstance(server.handshake_exc.__cause__, EOFError)
    assert str(server.handshake_exc.__cause__) == cause
    assert [record.getMessage() for record in caplog.records] == [
        "= connection is CONNECTING",
        "< EOF",
        "! no valid HTTP request",
        "> EOF",
        "= connection is CLOSED",
    ]
    with pytest.raises(EOFError, match=r"^stream ended$"):
        server.receive_data(b"a")
    server.receive_eof()


def test_end_before_the_answer() -> None:
    server, _ = requested()
    server.receive_eof()
    assert (server.state, server.handshake_exc) == (State.CLOSED, None)


def test_end_after_the_answer() -> None:
    server, _ = ask(request())
    server.receive_eof()
    assert (server.state, server.data_to_send(), server.close_code) == (State.CLOSED, [SEND_EOF], 1006)


# ----------------------------------------------------------------------------------------------------------------- log


def test_log_of_an_accepted_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets.server")
    _, got = ask(request("/a", raw=b"X: y\r\n"))
    (date,) = got.headers["Date"]
    assert [record.getMessage() for record in caplog.records] == [
        "= connection is CONNECTING",
        "< GET /a HTTP/1.1",
        "< Host: localhost",
        "< Upgrade: websocket",
        "< Connection: Upgrade",
        f"< Sec-WebSocket-Key: {KEY}",
        "< Sec-WebSocket-Version: 13",
        "< X: y",
        "> HTTP/1.1 101 Switching Protocols",
        f"> Date: {date}",
        "> Upgrade: websocket",
        "> Connection: Upgrade",
        f"> Sec-WebSocket-Accept: {accept_key(KEY)}",
        "= connection is OPEN",
        "connection open",
    ]


def test_log_of_a_response_with_a_body(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets.server")
    server, _ = requested()
    caplog.clear()
    server.send_response(Response(200, "OK", Headers({"X": "y"}), b"body"))
    assert [record.getMessage() for record in caplog.records] == [
        "> HTTP/1.1 200 OK",
        "> X: y",
        "> [body] (4 bytes)",
        "HTTP response sent (200 OK)",
        "> EOF",
    ]


def test_log_hides_secrets_and_control_characters(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets.server")
    secrets = {"authorization": "Basic c2VjcmV0", "Cookie": ["secret", "secret"], "PROXY-AUTHORIZATION": "secret"}
    server, _ = requested(request(headers={**secrets, "X": "\x9b2J\t\xe9"}))
    response = server.reject(200, "")
    response.headers["Set-Cookie"] = "secret"
    server.send_response(response)
    lines = [record.getMessage() for record in caplog.records]
    assert "secret" not in "".join(lines)
    assert "c2VjcmV0" not in "".join(lines)
    assert lines.count("< Cookie: [redacted]") == 2
    assert "> Set-Cookie: [redacted]" in lines
    assert "< X: \\x9b2J\\t\xe9" in lines


def test_quiet_logger_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "websockets.server")
    for data in (request(), request(method="PUT"), b"\r\n\r\n"):
        server, _ = ask(data)
        server.receive_eof()
    assert caplog.records == []


def test_logger_of_ones_own(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("mine")
    caplog.set_level(logging.INFO, "mine")
    ask(request(), logger=logger)
    assert [(record.name, record.getMessage()) for record in caplog.records] == [("mine", "connection open")]


# ---------------------------------------------------------------------------------------------------------------- laws


def outcome(chunks: Sequence[bytes], options: Callable[[], dict[str, Any]] = with_deflate) -> tuple[Any, ...]:
    """All that can be seen of a server that was sent ``chunks``, but the date."""
    server = ServerProtocol(**options())
    events = converse(server, chunks)
    state, error = server.state, server.handshake_exc
    sent = re.sub(rb"Date: [^\r]*\r\n", b"", b"".join(server.data_to_send()))
    server.receive_eof()
    return (sent, [str(event) for event in events], state, type(error), str(error), server.state, server.data_to_send())


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """Requests with something cut out, put in, or replaced."""
    places = st.integers(0, len(data))
    noise = st.one_of(
        st.binary(max_size=8), st.sampled_from([b"\r\n", b"\n", b": ", b" ", b",", b";", b"\x00", b"\xff"])
    )

    def replace(start: int, length: int, new: bytes) -> bytes:
        return data[:start] + new + data[start + length :]

    return st.builds(replace, places, st.integers(0, 20), noise)


FULL = request(
    "/chat?x=y",
    {
        "Origin": "http://example.com",
        "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits, x; y=z",
        "Sec-WebSocket-Protocol": "a, b",
        "Cookie": "c=d",
    },
    body=wire.text("hello", mask=True),
)

anything = st.one_of(st.binary(max_size=200), mutated(FULL), mutated(FULL).flatmap(mutated))


@given(data=anything, tail=st.data())
@example(data=FULL, tail=None)
def test_any_input_in_any_pieces(data: bytes, tail: st.DataObject | None) -> None:
    expected = outcome([data])
    sent, _, state, error, _, end, _ = expected
    assert end is State.CLOSED
    if state is State.CONNECTING and sent:
        assert issubclass(error, InvalidHandshake)
        assert re.match(rb"HTTP/1\.1 [45]\d\d ", sent)
        assert b"\r\nConnection: close\r\n" in sent
        assert sent.count(b"\r\n\r\n") == 1
    elif state is State.CONNECTING:
        assert error is type(None)
    else:
        assert sent.startswith(b"HTTP/1.1 101 ")
    if tail is not None:
        assert outcome(tail.draw(splits(data))) == expected
    assert outcome(wire.bytewise(data)) == expected


names = st.sampled_from(
    ["Origin", "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol", "Connection", "Upgrade", "Host"]
)
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60)


@given(headers=st.dictionaries(names, st.one_of(values, st.lists(values, max_size=3))))
def test_any_values_in_headers(headers: dict[str, Any]) -> None:
    """No value of a header crashes the server, whatever it supports."""

    def options() -> dict[str, Any]:
        return {**with_deflate(), "subprotocols": ["a"], "origins": [None, re.compile("a+")]}

    *_, error, _, end, _ = outcome([request(headers=headers)], options)
    assert error is type(None) or issubclass(error, InvalidHandshake)
    assert end is State.CLOSED


@pytest.mark.scenario(20)
@pytest.mark.parametrize(
    "value", [",", " ", "a,", "a ,", "; ", 'a; b="', 'a; b="\\', "/ *, */", "=", "a=", "constructor; "]
)
@pytest.mark.parametrize(
    "name", ["Connection", "Upgrade", "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol", "Origin"]
)
def test_long_values_take_linear_time(name: str, value: str) -> None:
    long = (value * 8000)[:8000]
    _, got = ask(request(headers={name: [long] * 20}), **with_deflate(), origins=[re.compile("a*")])
    assert got.status[9:12] in ("101", "400", "403", "426")


def test_old_name_of_the_class() -> None:
    with pytest.warns(DeprecationWarning, match=r"^ServerConnection was renamed to ServerProtocol$") as caught:
        server = ServerConnection(subprotocols=["a"])
    assert [warning.filename for warning in caught] == [__file__]
    converse(server, [request(headers={"Sec-WebSocket-Protocol": "a"})])
    assert (server.state, server.subprotocol) == (State.OPEN, "a")
