"""The client's side of the opening handshake: the request, and what becomes of each response, however it arrives."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from _kit import CHUNKERS, KEY, Chunker, accept_key, response, splits, wire
from _kit.pair import ProtocolPair
from websockets import http11
from websockets.client import ClientConnection, ClientProtocol
from websockets.exceptions import (
    HeaderLineTooLong,
    InvalidHandshake,
    InvalidHeader,
    InvalidHeaderFormat,
    InvalidHeaderValue,
    InvalidMessage,
    InvalidParameterValue,
    InvalidStatus,
    InvalidUpgrade,
    NegotiationError,
    SecurityError,
    StatusLineTooLong,
    TooManyHeaders,
)
from websockets.extensions.base import ClientExtensionFactory, Extension
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
    enable_client_permessage_deflate,
)
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import SEND_EOF, State
from websockets.uri import parse_uri

every_chunker = pytest.mark.parametrize("chunker", CHUNKERS, ids=lambda chunker: chunker.__name__)


def make_client(uri: str = "ws://example.com/", **options: Any) -> ClientProtocol:
    """A client whose key is that of the kit."""
    client = ClientProtocol(parse_uri(uri), **options)
    client.key = KEY
    return client


def asked(uri: str = "ws://example.com/", **options: Any) -> ClientProtocol:
    """A client that sent its request."""
    client = make_client(uri, **options)
    client.send_request(client.connect())
    client.data_to_send()
    return client


def told(client: ClientProtocol, chunks: Sequence[bytes]) -> ClientProtocol:
    for chunk in chunks:
        client.receive_data(chunk)
    return client


# ------------------------------------------------------------------------------------------------------------ request

DEFLATE = "permessage-deflate; client_max_window_bits"

REQUESTS: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("plain", "ws://example.com", {}, ["GET / HTTP/1.1", "Host: example.com"]),
    ("port", "ws://Example.com:8000/", {}, ["GET / HTTP/1.1", "Host: example.com:8000"]),
    ("default port", "wss://example.com:443/", {}, ["GET / HTTP/1.1", "Host: example.com"]),
    ("port of the other scheme", "wss://example.com:80/", {}, ["GET / HTTP/1.1", "Host: example.com:80"]),
    ("IPv6", "ws://[::1]:8000/", {}, ["GET / HTTP/1.1", "Host: [::1]:8000"]),
    ("path and query", "ws://example.com/a%20b?c=d", {}, ["GET /a%20b?c=d HTTP/1.1", "Host: example.com"]),
    ("query alone", "ws://example.com?c=d", {}, ["GET /?c=d HTTP/1.1", "Host: example.com"]),
    (
        "credentials",
        "ws://user:p%C3%A4ss@example.com/",
        {},
        ["GET / HTTP/1.1", "Host: example.com", "Authorization: Basic dXNlcjpww6Rzcw=="],
    ),
]


@pytest.mark.parametrize(("uri", "options", "start"), [row[1:] for row in REQUESTS], ids=[row[0] for row in REQUESTS])
def test_request(uri: str, options: dict[str, Any], start: list[str]) -> None:
    client = make_client(uri, **options)
    client.send_request(client.connect())
    (data,) = client.data_to_send()
    assert data.decode().split("\r\n") == [
        *start,
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        "",
        "",
    ]
    assert client.state is State.CONNECTING


def test_request_with_everything() -> None:
    options = {
        "origin": "https://example.com",
        "extensions": [*enable_client_permessage_deflate(None), ClientPerMessageDeflateFactory()],
        "subprotocols": ["chat.v2", "chat"],
    }
    client = make_client("wss://user:pass@example.com/", **options)
    event = client.connect()
    event.headers["X-More"] = "y"
    client.send_request(event)
    (data,) = client.data_to_send()
    assert data.decode() == (
        "GET / HTTP/1.1\r\n"
        "Host: example.com\r\n"
        "Authorization: Basic dXNlcjpwYXNz\r\n"
        "Origin: https://example.com\r\n"
        "Upgrade: websocket\r\n"
        "Connection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\n"
        "Sec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Extensions: {DEFLATE}, {DEFLATE}\r\n"
        "Sec-WebSocket-Protocol: chat.v2, chat\r\n"
        "X-More: y\r\n"
        "\r\n"
    )


@pytest.mark.scenario(76)
def test_keys_are_random() -> None:
    keys = {ClientProtocol(parse_uri("ws://example.com/")).key for _ in range(100)}
    assert len(keys) == 100
    assert {len(base64.b64decode(key, validate=True)) for key in keys} == {16}


@pytest.mark.parametrize("options", [{"origin": "a\r\nb: c"}, {"subprotocols": ["a\r\nb: c"]}])
def test_no_line_break_gets_into_the_request(options: dict[str, Any]) -> None:
    with pytest.raises((InvalidHeaderValue, ValueError)):
        make_client(**options).connect()


# ----------------------------------------------------------------------------------------------------------- refusals


NONE: dict[str, Any] = {}


class Refusal(NamedTuple):
    """A response, and why it opens nothing; ``event`` tells whether it is a response at all."""

    what: str
    data: bytes
    kind: type[Exception]
    error: str
    event: bool = True
    cause: type[Exception] | None = None
    cause_text: str = ""
    options: dict[str, Any] = NONE


def bad(what: str, headers: wire.Headers, kind: type[Exception], error: str, **options: Any) -> Refusal:
    return Refusal(what, response(headers=headers), kind, error, options=options)


def no_http(what: str, data: bytes, text: str, cause: type[Exception] = ValueError) -> Refusal:
    return Refusal(what, data, InvalidMessage, "did not receive a valid HTTP response", False, cause, text)


def no_body(what: str, headers: wire.Headers, text: str, body: bytes = b"") -> Refusal:
    error = "server rejected WebSocket connection: HTTP 404"
    return Refusal(what, response(404, headers, body=body), InvalidStatus, error, True, ValueError, text)


def status(code: int, headers: wire.Headers | None = None, **more: Any) -> Refusal:
    error = f"server rejected WebSocket connection: HTTP {code}"
    data = response(code, {"Content-Length": "0", **(headers or {})}, reason="X", **more)
    return Refusal(f"status {code} {headers or ''}", data, InvalidStatus, error)


def with_deflate() -> dict[str, Any]:
    return {"extensions": enable_client_permessage_deflate(None)}


ACCEPT = accept_key(KEY)

REFUSALS = [
    *(status(code) for code in (200, 204, 304, 400, 401, 404, 426, 500, 503, 599)),
    *(status(code, http="HTTP/1.0") for code in (200, 302, 404, 503)),
    *(status(code, http="HTTP/1.2") for code in (302, 404, 600, 999)),
    status(301, {"Location": "ws://example.com/"}),
    Refusal("no reason", b"HTTP/1.0 503\r\nContent-Length: 0\r\n\r\n", InvalidStatus,
            "server rejected WebSocket connection: HTTP 503"),
    Refusal("folded length", response(404, raw=b"Content-Length:\r\n 0\r\n"), InvalidStatus,
            "server rejected WebSocket connection: HTTP 404"),
    # What a response must say.
    bad("no Connection", {"Connection": None}, InvalidUpgrade, "missing Connection header"),
    bad("other Connection", {"Connection": "close"}, InvalidUpgrade, "invalid Connection header: close"),
    bad("no Upgrade", {"Upgrade": None}, InvalidUpgrade, "missing Upgrade header"),
    bad("other Upgrade", {"Upgrade": "h2c"}, InvalidUpgrade, "invalid Upgrade header: h2c"),
    bad("Upgrade twice", {"Upgrade": ["websocket"] * 2}, InvalidUpgrade,
        "invalid Upgrade header: websocket, websocket"),
    bad("malformed Connection", {"Connection": "a b"}, InvalidHeaderFormat,
        "invalid Connection header: expected comma at 2 in a b"),
    bad("no Accept", {"Sec-WebSocket-Accept": None}, InvalidHeader, "missing Sec-WebSocket-Accept header"),
    bad("Accept twice", {"Sec-WebSocket-Accept": [ACCEPT] * 2}, InvalidHeader,
        "invalid Sec-WebSocket-Accept header: multiple values"),
    *(
        bad(f"Accept {value}", {"Sec-WebSocket-Accept": value}, InvalidHeaderValue,
            f"invalid Sec-WebSocket-Accept header: {value}")
        for value in (KEY, ACCEPT.lower(), ACCEPT[:-1], ACCEPT + "=", accept_key("other"), "x")
    ),
    bad("empty Accept", {"Sec-WebSocket-Accept": ""}, InvalidHeaderValue, "empty Sec-WebSocket-Accept header"),
    # What nobody asked for.
    bad("extension", {"Sec-WebSocket-Extensions": "a"}, NegotiationError, "no extensions supported"),
    bad("empty extension", {"Sec-WebSocket-Extensions": ""}, NegotiationError, "no extensions supported"),
    bad("other extension", {"Sec-WebSocket-Extensions": "a; b=c"}, NegotiationError,
        "Unsupported extension: name = a, params = [('b', 'c')]", **with_deflate()),
    bad("extension twice", {"Sec-WebSocket-Extensions": "permessage-deflate, permessage-deflate"}, NegotiationError,
        "Unsupported extension: name = permessage-deflate, params = []", **with_deflate()),
    bad("malformed extension", {"Sec-WebSocket-Extensions": ";"}, InvalidHeaderFormat,
        "invalid Sec-WebSocket-Extensions header: expected token at 0 in ;", **with_deflate()),
    *(
        bad(f"parameter {param}", {"Sec-WebSocket-Extensions": f"permessage-deflate; {param}"}, NegotiationError,
            f"Unsupported extension: name = permessage-deflate, params = {params}", **with_deflate())
        for param, params in [
            ("server_max_window_bits=7", [("server_max_window_bits", "7")]),
            ("server_max_window_bits=99999999999999999999", [("server_max_window_bits", "9" * 20)]),
            ("server_max_window_bits", [("server_max_window_bits", None)]),
            ("unknown", [("unknown", None)]),
        ]
    ),
    bad("subprotocol", {"Sec-WebSocket-Protocol": "a"}, NegotiationError, "no subprotocols supported"),
    bad("other subprotocol", {"Sec-WebSocket-Protocol": "c"}, NegotiationError, "unsupported subprotocol: c",
        subprotocols=["a", "b"]),
    bad("subprotocol in other case", {"Sec-WebSocket-Protocol": "A"}, NegotiationError, "unsupported subprotocol: A",
        subprotocols=["a"]),
    *(
        bad(f"two subprotocols {value}", {"Sec-WebSocket-Protocol": value}, InvalidHeader,
            "invalid Sec-WebSocket-Protocol header: multiple values: a, b", subprotocols=["a", "b"])
        for value in ("a, b", ["a", "b"])
    ),
    bad("malformed subprotocol", {"Sec-WebSocket-Protocol": "a b"}, InvalidHeaderFormat,
        "invalid Sec-WebSocket-Protocol header: expected comma at 2 in a b", subprotocols=["a"]),
    # Limits.
    Refusal("long status line", response(reason="a" * 8192), StatusLineTooLong,
            "status line exceeds limit of 8192 bytes", False),
    Refusal("endless status line", b"a" * 8193, StatusLineTooLong, "status line exceeds limit of 8192 bytes", False),
    no_http("long header line", response(headers={"a": "b" * 8192}), "header line exceeds limit of 8192 bytes",
            HeaderLineTooLong),
    no_http("many headers", response(raw=b"a: b\r\n" * 126), "number of headers exceeds limit of 128", TooManyHeaders),
    no_http("long folded header line", response(raw=b"a: b\r\n" + b" c\r\n" * 2048),
            "header line exceeds limit of 8192 bytes", HeaderLineTooLong),
    no_http("endless folding", response(raw=b"a: b\r\n" + b" \r\n" * 3000),
            "header line exceeds limit of 8192 bytes", HeaderLineTooLong),
    no_http("many interim responses", response(100) * 17, "number of interim responses exceeds limit of 16",
            SecurityError),
    # Not HTTP, or what two readers could read in two ways.
    no_http("frames", wire.text("hello"), r"invalid character in HTTP status line: \x81\x05"),
    no_http("garbage", b"hello\r\n\r\n", "invalid HTTP status line: hello"),
    no_http("HTTP/1.0 that upgrades", response(http="HTTP/1.0"), "unsupported protocol; expected HTTP/1.1: HTTP/1.0"),
    no_http("status of two digits", b"HTTP/1.1 99 X\r\n\r\n", "invalid HTTP status line: HTTP/1.1 99 X"),
    no_http("status 099", b"HTTP/1.1 099 X\r\n\r\n", "invalid HTTP status line: HTTP/1.1 099 X"),
    no_http("NUL in reason", b"HTTP/1.1 101 \x00\r\n\r\n", r"invalid character in HTTP status line: HTTP/1.1 101 \x00"),
    no_http("folding of nothing", b"HTTP/1.1 101 X\r\n a: b\r\n\r\n", "unsupported folding of HTTP header line:  a: b"),
    no_http("bad interim response", b"HTTP/1.1 103 X\r\na\r\n\r\n" + response(), "invalid HTTP header line: a"),
    no_http("bad response behind an interim one", response(100) + b"hello\r\n", "invalid HTTP status line: hello"),
    no_http("space before colon", response(raw=b"a : b\r\n"), "invalid HTTP header name: a "),
    no_http("bare LF", response(raw=b"a: b\nc: d\r\n"), r"invalid character in HTTP header line: a: b\n"),
    # A refusal all the same, whatever its body.
    no_body("malformed length", {"Content-Length": "+1"}, "invalid content length: +1"),
    no_body("two lengths", {"Content-Length": ["1", "2"]}, "invalid content length: 1, 2"),
    no_body("unknown coding", {"Transfer-Encoding": "gzip"}, "unsupported transfer coding: gzip"),
    no_body("malformed chunk", {"Transfer-Encoding": "chunked"}, "invalid chunk size: x", b"x\r\n"),
]  # fmt: skip


@every_chunker
@pytest.mark.parametrize("row", REFUSALS, ids=[row.what for row in REFUSALS])
def test_refusal(row: Refusal, chunker: Chunker) -> None:
    client = told(asked(**row.options), chunker(row.data))
    error = client.handshake_exc
    assert type(error) is row.kind
    assert isinstance(error, InvalidHandshake)
    assert str(error) == row.error
    cause = error.__cause__
    assert (type(cause), "" if cause is None else str(cause)) == (row.cause or type(None), row.cause_text)

    events = client.events_received()
    assert [type(event) for event in events] == [Response] * row.event
    assert client.data_to_send() == [SEND_EOF]
    assert (client.state, client.close_expected()) == (State.CONNECTING, True)
    # Nothing that follows counts.
    client.receive_data(response() + wire.text("a"))
    client.receive_eof()
    assert (client.events_received(), client.data_to_send(), client.state) == ([], [], State.CLOSED)
    assert client.handshake_exc is error


def test_given_up_before_the_response() -> None:
    client = asked()
    client.fail(1011, "enough")
    error = client.handshake_exc
    assert isinstance(error, InvalidMessage)
    assert str(error.__cause__) == "opening handshake was given up"
    assert (client.data_to_send(), client.state) == ([SEND_EOF], State.CONNECTING)
    # Nor in the middle of a response.
    early = told(asked(), [response(404, {"Content-Length": "9"}, body=b"abc")])
    early.fail(1011)
    assert (early.take_cut_response(), type(early.handshake_exc)) == (None, InvalidMessage)
    # A response that comes after all opens nothing, and an open connection that fails has had its opening handshake.
    client.receive_data(response())
    client.fail(1011)
    client.receive_eof()
    assert (client.events_received(), client.state, client.handshake_exc) == ([], State.CLOSED, error)
    opened = told(asked(), [response()])
    opened.fail(1011)
    assert opened.handshake_exc is None


@pytest.mark.parametrize("value", ["constructor", "__proto__", "a" * 8000])
def test_names_that_broke_others(value: str) -> None:
    client = told(asked(**with_deflate()), [response(headers={"Sec-WebSocket-Extensions": value})])
    assert isinstance(client.handshake_exc, NegotiationError)


def test_deprecated_exception_of_a_response() -> None:
    client = told(asked(), [response(404, {"Content-Length": "0"})])
    (event,) = client.events_received()
    assert isinstance(event, Response)
    text = "Response.exception is deprecated; use ClientProtocol.handshake_exc instead"
    with pytest.warns(DeprecationWarning, match=f"^{text}$"):
        assert event.exception is client.handshake_exc


# ------------------------------------------------------------------------------------------------------------- bodies

BODIES: list[tuple[str, wire.Headers, bytes, bytes, bool]] = [
    ("length", {"Content-Length": "3"}, b"abc", b"abc", False),
    ("length 0", {"Content-Length": "0"}, b"", b"", False),
    ("length, and more", {"Content-Length": "3"}, b"abcdef", b"abc", False),
    ("chunks", {"Transfer-Encoding": "chunked"}, b"3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n", b"abcd", False),
    ("no chunk", {"Transfer-Encoding": "chunked"}, b"0\r\n\r\n", b"", False),
    ("trailers", {"Transfer-Encoding": "chunked"}, b"1\r\na\r\n0\r\nX: y\r\n\r\n", b"a", False),
    ("end of the stream", {}, b"abc", b"abc", True),
    ("end of the stream, empty", {}, b"", b"", True),
    ("largest", {"Content-Length": "1048576"}, bytes(2**20), bytes(2**20), False),
]


@pytest.mark.parametrize(
    ("headers", "sent", "body", "eof"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES]
)
@every_chunker
def test_body(headers: wire.Headers, sent: bytes, body: bytes, eof: bool, chunker: Chunker) -> None:
    head = response(404, headers, reason="Not Found")
    # A mebibyte byte by byte would only take time.
    data = [head, sent] if len(sent) > 1000 else chunker(head + sent)
    client = told(asked(), data)
    if eof:
        assert (client.handshake_exc, client.events_received()) == (None, [])
        client.receive_eof()
    (event,) = client.events_received()
    assert isinstance(event, Response)
    assert (event.status_code, event.reason_phrase, event.body) == (404, "Not Found", body)
    assert isinstance(client.handshake_exc, InvalidStatus)
    assert client.handshake_exc.response is event


CHUNKS: wire.Headers = {"Transfer-Encoding": "chunked"}

# What is sent of a body, whether the stream ends then, what is kept if that is ten bytes at most, and what is wrong.
PARTS: list[tuple[str, wire.Headers, bytes, bool, bytes, str]] = [
    ("length beyond", {"Content-Length": "11"}, b"0123456789", False, b"0123456789", "11 bytes exceed limit of 10"),
    ("length far beyond", {"Content-Length": "9" * 18}, b"0123456789abc", False, b"0123456789", "exceed limit of 10"),
    ("length beyond, cut", {"Content-Length": "11"}, b"abc", True, b"abc", "ends after 3 bytes, expected 11 bytes"),
    ("no end", {}, b"0123456789a", False, b"0123456789", "11 bytes exceed limit of 10"),
    ("chunk beyond", CHUNKS, b"b\r\n0123456789", False, b"0123456789", "11 bytes exceed limit of 10"),
    ("chunks beyond", CHUNKS, b"4\r\nabcd\r\nfffffffff\r\n012345", False, b"abcd012345", "exceed limit of 10"),
    ("another chunk", CHUNKS, b"a\r\n0123456789\r\n1\r\n", False, b"0123456789", "11 bytes exceed limit of 10"),
    ("chunk beyond, cut", CHUNKS, b"b\r\nabc", True, b"abc", "stream ends after 3 bytes, expected more chunks"),
    ("bad chunk size", CHUNKS, b"3\r\nabc\r\nx\r\n", False, b"abc", "invalid chunk size: x"),
    ("bad chunk end", CHUNKS, b"3\r\nabcd", False, b"abc", "chunk without CRLF"),
    ("bad trailer", CHUNKS, b"3\r\nabc\r\n0\r\nx\r\n", False, b"abc", "invalid HTTP header line: x"),
    ("long chunk size line", CHUNKS, b"3\r\nabc\r\n1;" + b"x" * 9000, False, b"abc", "line exceeds limit of 8192"),
    ("many trailers", CHUNKS, b"0\r\n" + b"a: b\r\n" * 129, False, b"", "number of headers exceeds limit of 128"),
    ("cut", {"Content-Length": "9"}, b"abc", True, b"abc", "stream ends after 3 bytes, expected 9 bytes"),
    ("chunk cut", CHUNKS, b"3\r\nab", True, b"ab", "stream ends after 2 bytes, expected more chunks"),
    ("trailers cut", CHUNKS, b"1\r\na\r\n0\r\n", True, b"a", "stream ends after 1 bytes, expected more chunks"),
]


@pytest.mark.scenario(71)
@pytest.mark.parametrize(
    ("headers", "sent", "eof", "body", "error"), [row[1:] for row in PARTS], ids=[row[0] for row in PARTS]
)
@every_chunker
def test_refusal_whose_body_is_not_whole(
    headers: wire.Headers, sent: bytes, eof: bool, body: bytes, error: str, chunker: Chunker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(http11, "MAX_BODY_SIZE", 10)
    client = told(asked(), chunker(response(404, headers) + sent))
    if eof:
        assert (client.handshake_exc, client.events_received()) == (None, [])
        client.receive_eof()
    refusal = client.handshake_exc
    assert isinstance(refusal, InvalidStatus)
    assert (refusal.response.status_code, refusal.response.body) == (404, body)
    assert error in str(refusal.__cause__)
    assert client.events_received() == [refusal.response]
    assert client.data_to_send() == [SEND_EOF]


@pytest.mark.scenario(71)
def test_body_that_never_ends_is_bounded() -> None:
    client = told(asked(), [response(404)])
    fed = 0
    while client.handshake_exc is None:
        client.receive_data(bytes(2**16))
        fed += 2**16
        assert fed <= 2**20 + 2**16
    assert isinstance(client.handshake_exc, InvalidStatus)
    assert client.handshake_exc.response.body == bytes(2**20)
    assert isinstance(client.handshake_exc.__cause__, SecurityError)


def test_waiting_no_longer_for_a_body() -> None:
    client = told(asked(), [response(404, {"Content-Length": "9"}), b"abc"])
    refusal = client.take_cut_response()
    assert isinstance(refusal, InvalidStatus)
    assert refusal is client.handshake_exc
    assert refusal.response.body == b"abc"
    assert (refusal.__cause__, client.data_to_send()) == (None, [SEND_EOF])
    # There is nothing else to wait for, nor was there anything before the head.
    assert client.take_cut_response() is None
    for chunks in ([], [b"HTTP/1.1 404 X\r\n"], [response(100)], [response()]):
        client = told(asked(), chunks)
        state = client.state
        assert client.take_cut_response() is None
        assert (client.state, client.handshake_exc, client.data_to_send()) == (state, None, [])


# -------------------------------------------------------------------------------------------------- interim responses

INTERIM = [
    response(100, {"Connection": None, "Upgrade": None}, reason="Continue"),
    b"HTTP/1.1 102\r\n\r\n",
    b"HTTP/1.0 103 Early Hints\r\nLink: </a>\r\n\r\n",
    response(199, {"Content-Length": "5", "Transfer-Encoding": "chunked"}),
    response(100) * 16,
]


@every_chunker
@pytest.mark.parametrize("interim", INTERIM, ids=range(len(INTERIM)))
@pytest.mark.parametrize("final", [response(body=wire.text("a")), response(503, {"Content-Length": "3"}, body=b"abc")])
def test_interim_responses_are_skipped(interim: bytes, final: bytes, chunker: Chunker) -> None:
    client, expected = told(asked(), chunker(interim + final)), told(asked(), [final])
    assert client.events_received() == expected.events_received()
    assert (client.state, str(client.handshake_exc)) == (expected.state, str(expected.handshake_exc))


@pytest.mark.parametrize("end", [b"", response(100), response(100) + b"HTTP/1.1 1"])
def test_nothing_but_interim_responses(end: bytes) -> None:
    client = told(asked(), [response(103) + end])
    client.receive_eof()
    assert isinstance(client.handshake_exc, InvalidMessage)
    assert str(client.handshake_exc.__cause__) == "connection closed while reading HTTP status line"


@every_chunker
def test_folded_headers(chunker: Chunker) -> None:
    accept = accept_key(KEY)
    folded = response(
        headers={"Sec-WebSocket-Accept": None},
        raw=b"Sec-WebSocket-Accept: \r\n\t %b\r\nX: a \r\n  b\t\r\n \r\n\tc \r\nY: d\r\n" % accept.encode(),
    )
    client = told(asked(), chunker(folded))
    (event,) = client.events_received()
    assert isinstance(event, Response)
    assert event.headers["Sec-WebSocket-Accept"] == accept
    assert event.headers["X"].split() == ["a", "b", "c"]
    assert event.headers["Y"] == "d"
    assert client.state is State.OPEN


ENDS = [
    (b"", "connection closed while reading HTTP status line"),
    (b"HTTP/1.1 10", "connection closed while reading HTTP status line"),
    (b"HTTP/1.1 101 X\r\nUpg", "connection closed while reading HTTP headers"),
    (response()[:-1], "connection closed while reading HTTP headers"),
]


@every_chunker
@pytest.mark.parametrize(("data", "cause"), ENDS)
def test_end_before_the_response_is_whole(data: bytes, cause: str, chunker: Chunker) -> None:
    client = told(asked(), chunker(data))
    assert (client.handshake_exc, client.state, client.close_expected()) == (None, State.CONNECTING, False)
    client.receive_eof()
    assert isinstance(client.handshake_exc, InvalidMessage)
    assert str(client.handshake_exc) == "did not receive a valid HTTP response"
    assert isinstance(client.handshake_exc.__cause__, EOFError)
    assert str(client.handshake_exc.__cause__) == cause
    assert (client.state, client.data_to_send(), client.events_received()) == (State.CLOSED, [SEND_EOF], [])
    with pytest.raises(EOFError, match=r"^stream ended$"):
        client.receive_data(b"a")


# ----------------------------------------------------------------------------------------------------------- accepted


class Named(Extension):
    """An extension that does nothing."""

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[assignment]


class NamedFactory(ClientExtensionFactory):
    """Negotiates :class:`Named`."""

    def __init__(self, name: str, problem: Exception | None = None) -> None:
        self.name = name  # type: ignore[assignment]
        self.problem = problem
        self.seen: list[Any] = []

    def get_request_params(self) -> Any:
        return [("x", None)]

    def process_response_params(self, params: Any, accepted_extensions: Sequence[Extension]) -> Extension:
        self.seen.append((list(params), [extension.name for extension in accepted_extensions]))
        if self.problem is not None:
            raise self.problem
        return Named(self.name)


ACCEPTED: list[tuple[str, bytes, dict[str, Any], dict[str, Any]]] = [
    ("plain", response(), {}, {"subprotocol": None, "extensions": []}),
    ("other reason", response(reason="caf\xe9 au lait"), {}, {}),
    ("no reason", response(reason=""), {}, {}),
    ("Upgrade in capitals", response(headers={"Upgrade": "WebSocket"}), {}, {}),
    ("several options", response(headers={"Connection": ["keep-alive", "x, upgrade"]}), {}, {}),
    ("nothing chosen", response(), {"subprotocols": ["a"], **with_deflate()}, {"subprotocol": None, "extensions": []}),
    ("first subprotocol", response(headers={"Sec-WebSocket-Protocol": "a"}), {"subprotocols": ["a", "b"]},
     {"subprotocol": "a"}),
    ("last subprotocol", response(headers={"Sec-WebSocket-Protocol": " b "}), {"subprotocols": ["a", "b"]},
     {"subprotocol": "b"}),
    ("values that mean nothing for 101", response(headers={"Content-Length": "5", "Transfer-Encoding": "x"}), {}, {}),
]  # fmt: skip


@every_chunker
@pytest.mark.parametrize(("data", "options", "known"), [row[1:] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_accepted(data: bytes, options: dict[str, Any], known: dict[str, Any], chunker: Chunker) -> None:
    client = told(asked(**options), chunker(data))
    assert (client.state, client.handshake_exc, client.data_to_send()) == (State.OPEN, None, [])
    (event,) = client.events_received()
    assert isinstance(event, Response)
    assert (event.status_code, event.body) == (101, b"")
    for name, value in known.items():
        assert getattr(client, name) == value


@every_chunker
def test_compression(chunker: Chunker) -> None:
    data = response(headers={"Sec-WebSocket-Extensions": "permessage-deflate; server_max_window_bits=10"})
    client = told(asked(**with_deflate()), chunker(data))
    (extension,) = client.extensions
    assert isinstance(extension, PerMessageDeflate)
    assert client.state is State.OPEN


def test_several_extensions_in_the_order_of_the_response() -> None:
    factories = [NamedFactory("a"), NamedFactory("b")]
    client = told(asked(extensions=factories), [response(headers={"Sec-WebSocket-Extensions": ["b; y=z", "a"]})])
    assert [extension.name for extension in client.extensions] == ["b", "a"]
    assert [factory.seen for factory in factories] == [[([], ["b"])], [([("y", "z")], [])]]


def test_second_offer_takes_what_the_first_refuses() -> None:
    factories = [NamedFactory("a", InvalidParameterValue("x", "y")), NamedFactory("a")]
    client = told(asked(extensions=factories), [response(headers={"Sec-WebSocket-Extensions": "a"})])
    assert (client.state, len(client.extensions)) == (State.OPEN, 1)


@every_chunker
def test_frames_behind_the_response(chunker: Chunker) -> None:
    client = told(asked(), chunker(response(body=wire.text("first") + wire.ping(b"p"))))
    event, *frames = client.events_received()
    assert isinstance(event, Response)
    assert frames == [Frame(Opcode.TEXT, b"first"), Frame(Opcode.PING, b"p")]
    (pong,) = client.data_to_send()
    (row,), rest = wire.parse(pong)
    assert (row.opcode, row.payload, rest) == (wire.PONG, b"p", b"")


@every_chunker
def test_close_behind_the_response(chunker: Chunker) -> None:
    client = told(asked(), chunker(response(body=wire.close(1013, "busy"))))
    assert (client.state, client.close_rcvd and client.close_rcvd.code) == (State.CLOSING, 1013)
    client.receive_eof()
    assert (client.close_code, client.close_reason, client.handshake_exc) == (1013, "busy", None)


def test_masked_frame_behind_the_response() -> None:
    client = told(asked(), [response(body=wire.text("a", mask=True))])
    (close,) = client.data_to_send()
    (row,), _ = wire.parse(close)
    assert (row.opcode, row.payload) == (wire.CLOSE, b"\x03\xeaincorrect masking")
    assert client.handshake_exc is None


def test_compressed_frame_behind_the_response() -> None:
    # The example of RFC 7692 section 7.2.3.1.
    frame = wire.frame(wire.TEXT, bytes.fromhex("f248cdc9c90700"), rsv=4)
    data = response(headers={"Sec-WebSocket-Extensions": "permessage-deflate"}, body=frame)
    client = told(asked(**with_deflate()), [data])
    assert client.events_received()[1:] == [Frame(Opcode.TEXT, b"Hello")]


# ------------------------------------------------------------------------------------ what the application may override


def test_overridden_methods() -> None:
    class Lax(ClientProtocol):
        def process_extensions(self, headers: Any) -> Any:
            return []

        def process_subprotocol(self, headers: Any) -> Any:
            return "any"

    client = Lax(parse_uri("ws://example.com/"))
    client.key = KEY
    client.send_request(client.connect())
    client.receive_data(response(headers={"Sec-WebSocket-Extensions": ";;", "Sec-WebSocket-Protocol": ""}))
    assert (client.state, client.subprotocol) == (State.OPEN, "any")


def test_error_of_any_type_in_an_overridden_method() -> None:
    class Broken(ClientProtocol):
        def process_response(self, response: Response) -> None:
            raise LookupError("broken")

    client = Broken(parse_uri("ws://example.com/"))
    client.receive_data(response())
    assert isinstance(client.handshake_exc, LookupError)
    assert client.data_to_send() == [SEND_EOF]


# ----------------------------------------------------------------------------------------------------------------- log


def test_log_of_an_opening_handshake(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets.client")
    client = told(asked("ws://example.com/a"), [response(raw=b"X: y\r\n", body=wire.text("hi"))])
    client.receive_eof()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("DEBUG", line)
        for line in [
            "= connection is CONNECTING",
            "> GET /a HTTP/1.1",
            "> Host: example.com",
            "> Upgrade: websocket",
            "> Connection: Upgrade",
            f"> Sec-WebSocket-Key: {KEY}",
            "> Sec-WebSocket-Version: 13",
            "< HTTP/1.1 101 Switching Protocols",
            "< Upgrade: websocket",
            "< Connection: Upgrade",
            f"< Sec-WebSocket-Accept: {ACCEPT}",
            "< X: y",
            "= connection is OPEN",
            "< TEXT 'hi' [2 bytes]",
            "< EOF",
            "> EOF",
            "= connection is CLOSED",
        ]
    ]


def test_log_of_a_refusal(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets.client")
    told(asked(), [response(404, {"Content-Length": "4"}, reason="No\x9b", body=b"body")])
    assert [record.getMessage() for record in caplog.records][-4:] == [
        r"< HTTP/1.1 404 No\x9b",
        "< Content-Length: 4",
        "< [body] (4 bytes)",
        "> EOF",
    ]


def test_log_of_interim_responses(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets.client")
    early = b"HTTP/1.1 103 Early Hints\r\nSet-Cookie: a\r\n\r\nHTTP/1.1 100\r\n\r\n"
    client = told(asked(), [early, early + b"HTTP/1.0 404 X\r\n\r\nbody"])
    client.receive_eof()
    told(asked(), [early + b"?\r\n"])
    lines = [record.getMessage() for record in caplog.records]
    hints = ["< HTTP/1.1 103 Early Hints", "< Set-Cookie: [redacted]", "< HTTP/1.1 100 "]
    end = lines.index("= connection is CLOSED") + 1
    assert lines[end - 11 : end] == [
        *(hints + hints),
        "< EOF",
        "< HTTP/1.0 404 X",
        "< [body] (4 bytes)",
        "> EOF",
        "= connection is CLOSED",
    ]
    assert lines[-4:] == [*hints, "> EOF"]


def test_log_hides_secrets_and_control_characters(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets.client")
    client = make_client("ws://user:secret@example.com/")
    event = client.connect()
    event.headers.update({"Cookie": "secret", "proxy-authorization": "secret"})
    client.send_request(event)
    client.receive_data(response(headers={"Set-Cookie": ["secret", "secret"], "X": "\x9b2J"}))
    lines = [record.getMessage() for record in caplog.records]
    assert "secret" not in "".join(lines)
    assert base64.b64encode(b"user:secret").decode() not in "".join(lines)
    assert "> Authorization: [redacted]" in lines
    assert lines.count("< Set-Cookie: [redacted]") == 2
    assert r"< X: \x9b2J" in lines


@pytest.mark.parametrize("data", [response(), response(404, {"Content-Length": "0"}), b"\r\n"])
def test_client_says_nothing_at_info(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.client")
    told(asked(), [data]).receive_eof()
    assert caplog.records == []


def test_logger_of_ones_own(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mine")
    asked(logger=logging.getLogger("mine"))
    assert {record.name for record in caplog.records} == {"mine"}


def test_credentials_stay_out_of_errors() -> None:
    client = told(asked("ws://user:secret@example.com/"), [response(401, {"Content-Length": "0"})])
    assert "secret" not in repr(client.handshake_exc) + str(client.handshake_exc) + repr(client.uri)


# ---------------------------------------------------------------------------------------------------------------- laws


def outcome(chunks: Sequence[bytes]) -> tuple[Any, ...]:
    """All that can be seen of a client that was sent ``chunks`` and then the end of the stream."""
    client = told(asked(subprotocols=["a", "b"], **with_deflate()), chunks)
    before = client.state
    client.receive_eof()
    error = client.handshake_exc
    # Frames that answer have random masks.
    rows, _ = wire.parse(b"".join(client.data_to_send()))
    events = [event if isinstance(event, Response) else str(event) for event in client.events_received()]
    return before, client.state, events, type(error), str(error), [row._replace(mask=None) for row in rows]


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """Responses with something cut out, put in, or replaced."""
    noise = st.one_of(st.binary(max_size=8), st.sampled_from([b"\r\n", b"\n", b": ", b" ", b",", b";", b"\x00", b"9"]))

    def replace(start: int, length: int, new: bytes) -> bytes:
        return data[:start] + new + data[start + length :]

    return st.builds(replace, st.integers(0, len(data)), st.integers(0, 20), noise)


CHOSEN = {"Sec-WebSocket-Extensions": "permessage-deflate; server_max_window_bits=10", "Sec-WebSocket-Protocol": "a"}
OPENING = response(headers=CHOSEN, body=wire.text("hello") + wire.ping(b"p"))
CHUNKED = response(404, {"Transfer-Encoding": "chunked"}, body=b"5;a=b\r\nhello\r\n2\r\n!!\r\n0\r\nX: y\r\n\r\n")
anything = st.one_of(st.binary(max_size=200), *(mutated(data) for data in (OPENING, CHUNKED)))


@pytest.mark.scenario(70)
@given(data=anything, pieces=st.data())
@example(data=OPENING, pieces=None)
@example(data=CHUNKED, pieces=None)
def test_any_input_in_any_pieces(data: bytes, pieces: st.DataObject | None) -> None:
    expected = outcome([data])
    before, end, events, error, *_ = expected
    assert end is State.CLOSED
    if before is State.CONNECTING:
        assert issubclass(error, InvalidHandshake)
        assert all(isinstance(event, Response) for event in events)
    else:
        assert error is type(None)
    if pieces is not None:
        assert outcome(pieces.draw(splits(data))) == expected
    assert outcome(wire.bytewise(data)) == expected


names = st.sampled_from(["Connection", "Upgrade", *CHOSEN, "Sec-WebSocket-Accept", "Content-Length", "Location"])
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60)


@given(
    code=st.sampled_from([101, 200, 302]),
    headers=st.dictionaries(names, st.one_of(values, st.lists(values, max_size=3))),
)
def test_any_values_in_headers(code: int, headers: dict[str, Any]) -> None:
    _, end, _, error, *_ = outcome([response(code, headers)])
    assert end is State.CLOSED
    assert error is type(None) or issubclass(error, InvalidHandshake)


tokens = st.lists(st.text("abcXYZ09!#$%&'*+-.^_`|~", min_size=1, max_size=8), max_size=4, unique=True)
bits = st.one_of(st.none(), st.integers(9, 15))
paths = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#?"), max_size=20)


@given(
    host=st.sampled_from(["example.com", "[::1]", "127.0.0.1:8000"]),
    path=paths,
    subprotocols=tokens,
    others=tokens,
    origin=st.sampled_from([None, "null", "https://example.com"]),
    flags=st.tuples(*[st.booleans()] * 4),
    sizes=st.tuples(bits, bits, bits, bits),
)
def test_any_client_and_any_server_come_to_terms(
    host: str, path: str, subprotocols: list[str], others: list[str], origin: str | None, flags: Any, sizes: Any
) -> None:
    """Whatever both sides support, the connection opens, and carries a message each way."""
    offer = ClientPerMessageDeflateFactory(flags[0], flags[1], sizes[0], sizes[1])
    support = ServerPerMessageDeflateFactory(flags[2], flags[3], sizes[2], sizes[3])
    common = [name for name in others if name in subprotocols]
    pair = ProtocolPair(
        f"ws://user:pass@{host}/{path}",
        {"origin": origin, "subprotocols": subprotocols, "extensions": [offer]},
        {
            "origins": [origin, re.compile("x")],
            # A server that has subprotocols refuses clients that have none of them.
            "subprotocols": others if common else None,
            "extensions": [support],
        },
    )
    assert pair.client.subprotocol == pair.server.subprotocol == (common[0] if common else None)
    assert pair.server.origin == origin
    assert pair.request.path == "/" + path  # type: ignore[union-attr]
    assert len(pair.client.extensions) == len(pair.server.extensions)
    pair.client.send_text(b"ping" * 100)
    pair.server.send_text(b"pong" * 100)
    received, reached = pair.events()
    assert [bytes(event.data) for event in received] == [b"pong" * 100]  # type: ignore[union-attr]
    assert [bytes(event.data) for event in reached] == [b"ping" * 100]  # type: ignore[union-attr]


def test_old_name_of_the_class() -> None:
    with pytest.warns(DeprecationWarning, match=r"^ClientConnection was renamed to ClientProtocol$") as caught:
        client = ClientConnection(parse_uri("ws://example.com/"), origin="null")
    assert [warning.filename for warning in caught] == [__file__]
    assert client.connect().headers["Origin"] == "null"
