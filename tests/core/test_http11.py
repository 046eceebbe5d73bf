"""Requests and responses: read in any chunking, refused with the same words, written out."""

from __future__ import annotations

import dataclasses
import http
import itertools
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websockets import http11
from websockets.datastructures import Headers
from websockets.exceptions import (
    HeaderLineTooLong,
    InvalidHandshake,
    RequestLineTooLong,
    SecurityError,
    StatusLineTooLong,
    TooManyHeaders,
)
from websockets.http11 import (
    MAX_BODY_SIZE,
    MAX_INTERIM,
    MAX_INTERIM_SIZE,
    MAX_LINE_LENGTH,
    MAX_NUM_HEADERS,
    Request,
    RequestParser,
    Response,
    ResponseHeadParser,
    ResponseParser,
)
from websockets.version import version

Parser = RequestParser | ResponseParser
TAIL = b"\x81\x05Hello\r\n\r\n"


def each_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def outcome(parser: Parser, chunks: Iterable[bytes]) -> Any:
    """Feed *chunks* until there is a result or an error; return it, with the number of chunks that were not needed."""
    chunks = list(chunks)
    for index, chunk in enumerate(chunks):
        try:
            result = parser.feed(chunk)
        except (ValueError, InvalidHandshake) as exc:
            return type(exc), str(exc)
        if result is not None:
            return result, parser.rest + b"".join(chunks[index + 1 :])
    return None


def check_in_any_chunking(new_parser: Any, data: bytes, expected: Any) -> None:
    """Check that *data* gives *expected* whole, byte by byte, with a tail, and cut in two or with an empty piece."""
    assert outcome(new_parser(), [data]) == (expected, b"")
    assert outcome(new_parser(), each_byte(data)) == (expected, b"")
    assert outcome(new_parser(), [data + TAIL]) == (expected, TAIL)
    assert outcome(new_parser(), each_byte(data + TAIL)) == (expected, TAIL)
    assert outcome(new_parser(), [b"", data + TAIL]) == (expected, TAIL)
    for cut in range(1, len(data)):
        assert outcome(new_parser(), [data[:cut], data[cut:] + TAIL]) == (expected, TAIL)
        assert outcome(new_parser(), [data[:cut]]) is None


def check_refused(new_parser: Any, data: bytes, expected: Any) -> None:
    """Check that *data* gives the error *expected* whole, byte by byte, and cut in two."""
    assert outcome(new_parser(), [data]) == expected
    assert outcome(new_parser(), each_byte(data)) == expected
    for cut in range(1, min(len(data), 200)):
        assert outcome(new_parser(), [data[:cut], data[cut:]]) == expected
    assert expected[1].isprintable()


# Requests.

CHROME = (
    b"GET /chat?room=1 HTTP/1.1\r\n"
    b"Host: localhost:8765\r\n"
    b"Connection: Upgrade\r\n"
    b"Pragma: no-cache\r\n"
    b"Cache-Control: no-cache\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0\r\n"
    b"Upgrade: websocket\r\n"
    b"Origin: http://localhost:8000\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Accept-Language: en-US,en;q=0.9\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    b"\r\n"
)

# Read in both directions.
CANONICAL_REQUESTS = [
    (b"GET / HTTP/1.1\r\n\r\n", Request("/", Headers())),
    (b"GET /path?query HTTP/1.1\r\nHost: a\r\n\r\n", Request("/path?query", Headers(Host="a"))),
    (b"POST /%20 HTTP/1.0\r\n\r\n", Request("/%20", Headers(), "POST", "HTTP/1.0")),
    (b'x-!~ /"<>^`{|} HTTP/1.1\r\n\r\n', Request('/"<>^`{|}', Headers(), "x-!~")),
    (b"GET / HTTP/1.1\r\nA: b\r\na: c\r\n\r\n", Request("/", Headers([("A", "b"), ("a", "c")]))),
    (b"GET / HTTP/1.1\r\nA: \xe9\t\x80\r\n\r\n", Request("/", Headers(A="\xe9\t\x80"))),
    (b"GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", Request("/", Headers({"Content-Length": "0"}))),
]

REQUESTS = [
    *CANONICAL_REQUESTS,
    (b"GET / HTTP/1.1\r\nA:b\r\n\r\n", Request("/", Headers(A="b"))),
    (b"GET / HTTP/1.1\r\nA:\r\nB: \r\n\r\n", Request("/", Headers(A="", B=""))),
    (b"GET / HTTP/1.1\r\nA: \t b \t\r\nB:\t:c \r\n\r\n", Request("/", Headers(A="b", B=":c"))),
    (b"GET / HTTP/1.1\r\nA: b \r\n\r\n", Request("/", Headers(A="b"))),
    # Targets in absolute-form (RFC 9112 section 3.2.2): the host counts, and not the Host header.
    *(
        (f"GET {target} HTTP/1.1\r\nA: b\r\nhost: other\r\n\r\n".encode(), Request(path, Headers(A="b", host=host)))
        for target, path, host in [
            ("http://h/chat", "/chat", "h"),
            ("http://h:8765/chat?a=http://i/", "/chat?a=http://i/", "h:8765"),
            ("https://example.com", "/", "example.com"),
            ("ws://example.com?a", "/?a", "example.com"),
            ("wss://[::1]:8765//b", "//b", "[::1]:8765"),
            ("WSS://EXAMPLE.com:/%20", "/%20", "EXAMPLE.com:"),
            ("HtTp://1.2.3.4/", "/", "1.2.3.4"),
        ]
    ),
    (b"POST http://h HTTP/1.0\r\n\r\n", Request("/", Headers(), "POST", "HTTP/1.0")),
    (
        b"GET ws://h/a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        Request("/a", Headers([("Host", "a"), ("Host", "b")])),
    ),
]

NO_TARGET = "invalid HTTP request target; expected a path, or a URI of HTTP or WebSocket, in visible ASCII"

REFUSED_REQUESTS: list[tuple[bytes, str]] = [
    # The request line.
    (b"\r\n", "empty HTTP request line; if a PROXY protocol header is sent, see the option proxy_protocol"),
    (b"GET\r\n", "invalid HTTP request line: GET"),
    (b"GET / HTTP/1.1 \r\n", "invalid HTTP request line: GET / HTTP/1.1 "),
    (b"GET  / HTTP/1.1\r\n", "invalid HTTP request line: GET  / HTTP/1.1"),
    (b"GET\t/\tHTTP/1.1\r\n", r"invalid HTTP request line: GET\t/\tHTTP/1.1"),
    (b"GET /a b HTTP/1.1\r\n", "invalid HTTP request line: GET /a b HTTP/1.1"),
    (b"G" * 100 + b"\r\n", f"invalid HTTP request line: {'G' * 77}..."),
    (b"GET / HTTP/1.2\r\n", "unsupported protocol; expected HTTP/1.1 or HTTP/1.0: HTTP/1.2"),
    (b"GET / HTTP/2\r\n", "unsupported protocol; expected HTTP/1.1 or HTTP/1.0: HTTP/2"),
    (b"GET / http/1.1\r\n", "unsupported protocol; expected HTTP/1.1 or HTTP/1.0: http/1.1"),
    (b"PRI * HTTP/2.0\r\n", "unsupported protocol; expected HTTP/1.1 or HTTP/1.0: HTTP/2.0"),
    (b"G(T / HTTP/1.1\r\n", "invalid HTTP method: G(T"),
    (b"G\xe9T / HTTP/1.1\r\n", "invalid HTTP method: G\xe9T"),
    (b" / HTTP/1.1\r\n", "invalid HTTP method: "),
    (b"GET * HTTP/1.1\r\n", f"{NO_TARGET}: *"),
    (b"GET a HTTP/1.1\r\n", f"{NO_TARGET}: a"),
    (b"GET /\xe9 HTTP/1.1\r\n", f"{NO_TARGET}: /\xe9"),
    (b"GET /\t HTTP/1.1\r\n", rf"{NO_TARGET}: /\t"),
    (b"CONNECT h:80 HTTP/1.1\r\n", f"{NO_TARGET}: h:80"),
    (b"GET ftp://h/ HTTP/1.1\r\n", f"{NO_TARGET}: ftp://h/"),
    (b"GET http:/h/ HTTP/1.1\r\n", f"{NO_TARGET}: http:/h/"),
    (b"GET http:///a HTTP/1.1\r\n", f"{NO_TARGET}: http:///a"),
    (b"GET http://:80/ HTTP/1.1\r\n", f"{NO_TARGET}: http://:80/"),
    (b"GET http://u@h/ HTTP/1.1\r\n", f"{NO_TARGET}: http://u@h/"),
    (b"GET http://h:8x/ HTTP/1.1\r\n", f"{NO_TARGET}: http://h:8x/"),
    (b"GET http://h#a HTTP/1.1\r\n", f"{NO_TARGET}: http://h#a"),
    (b"GET http://[::1/ HTTP/1.1\r\n", f"{NO_TARGET}: http://[::1/"),
    (b"GET http://h/\xe9 HTTP/1.1\r\n", f"{NO_TARGET}: http://h/\xe9"),
    (b"GET http://\xe9/ HTTP/1.1\r\n", f"{NO_TARGET}: http://\xe9/"),
    # Control characters, told as soon as they are seen.
    (b"\x16\x03\x01\x02", r"invalid character in HTTP request line: \x16"),
    (b"GET /\0", r"invalid character in HTTP request line: GET /\x00"),
    (b"GET / HTTP/1.1\n", r"invalid character in HTTP request line: GET / HTTP/1.1\n"),
    (b"GET / HTTP/1.1\rA", r"invalid character in HTTP request line: GET / HTTP/1.1\r"),
    (b"GET / HTTP/1.1\r\r\n", r"invalid character in HTTP request line: GET / HTTP/1.1\r"),
    (b"GET / HTTP/1.1\r\nA: b\x1b", r"invalid character in HTTP header line: A: b\x1b"),
    (b"GET / HTTP/1.1\r\nA: b\nB: c\r\n", r"invalid character in HTTP header line: A: b\n"),
    (b"GET / HTTP/1.1\r\nA: b\rB: c\r\n", r"invalid character in HTTP header line: A: b\r"),
    (b"GET / HTTP/1.1\r\nA: \x7f\r\n\r\n", r"invalid character in HTTP header line: A: \x7f"),
    (b"GET / HTTP/1.1\r\n\n", r"invalid character in HTTP header line: \n"),
    # Header lines.
    (b"GET / HTTP/1.1\r\nA b\r\n", "invalid HTTP header line: A b"),
    (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", "unsupported folding of HTTP header line:  c"),
    (b"GET / HTTP/1.1\r\n\tA: b\r\n", r"unsupported folding of HTTP header line: \tA: b"),
    (b"GET / HTTP/1.1\r\nA : b\r\n", "invalid HTTP header name: A "),
    (b"GET / HTTP/1.1\r\nA\t: b\r\n", r"invalid HTTP header name: A\t"),
    (b"GET / HTTP/1.1\r\n: b\r\n", "invalid HTTP header name: "),
    (b"GET / HTTP/1.1\r\nA\xe9: b\r\n", "invalid HTTP header name: A\xe9"),
    (b"GET / HTTP/1.1\r\n(: b\r\nbad\r\n\r\n", "invalid HTTP header name: ("),
    # Bodies.
    (b"Content-Length: 1\r\n", "unsupported request body with Content-Length: 1"),
    (b"content-length: 00\r\n", "unsupported request body with Content-Length: 00"),
    (b"Content-Length: +0\r\n", "unsupported request body with Content-Length: +0"),
    (b"Content-Length: -1\r\n", "unsupported request body with Content-Length: -1"),
    (b"Content-Length: 0x0\r\n", "unsupported request body with Content-Length: 0x0"),
    (b"Content-Length:\r\n", "unsupported request body with Content-Length: "),
    (b"Content-Length: 0, 0\r\n", "unsupported request body with Content-Length: 0, 0"),
    (b"Content-Length: 0\r\nContent-length: 0\r\n", "unsupported request body with Content-Length: 0, 0"),
    (b"Content-Length: 0\r\nContent-length: 5\r\n", "unsupported request body with Content-Length: 0, 5"),
    (b"Transfer-Encoding: chunked\r\n", "unsupported request body with Transfer-Encoding: chunked"),
    (b"transfer-encoding: identity\r\n", "unsupported request body with Transfer-Encoding: identity"),
    (b"Transfer-Encoding: a\r\nTransfer-Encoding: b\r\n", "unsupported request body with Transfer-Encoding: a, b"),
    (b"Content-Length: 0\r\nTransfer-Encoding:\r\n", "unsupported request body with Transfer-Encoding: "),
]


@pytest.mark.parametrize(("data", "request_"), REQUESTS)
def test_request(data: bytes, request_: Request) -> None:
    check_in_any_chunking(RequestParser, data, request_)


@pytest.mark.parametrize(("data", "request_"), CANONICAL_REQUESTS)
def test_request_written_out(data: bytes, request_: Request) -> None:
    assert request_.serialize() == data


@pytest.mark.parametrize(("data", "text"), REFUSED_REQUESTS)
def test_request_refused(data: bytes, text: str) -> None:
    if text.startswith("unsupported request body"):
        data = b"GET / HTTP/1.1\r\nHost: a\r\n" + data + b"\r\n"
    check_refused(RequestParser, data, (ValueError, text))


def test_request_of_a_browser() -> None:
    request = RequestParser().feed(CHROME)
    assert request is not None
    assert request.serialize() == CHROME
    check_in_any_chunking(RequestParser, CHROME, request)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("new_parser", [RequestParser, ResponseParser])
def test_what_was_fed_may_be_used_again(new_parser: Any, kind: Any) -> None:
    head = CHROME if new_parser is RequestParser else b"HTTP/1.1 101 OK\r\nA: b\r\n\r\n"
    whole = outcome(new_parser(), [head + TAIL])
    for cut in (1, len(head)):
        buffer = bytearray(head + TAIL)
        parser = new_parser()
        first, second = buffer[:cut], buffer[cut:]
        result = parser.feed(kind(first)) or parser.feed(kind(second))
        first[:] = second[:] = b""
        assert result == whole[0]
        assert parser.rest + bytes(second) == (TAIL if cut == 1 else b"")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "connection closed while reading HTTP request line"),
        (b"GET / HTTP/1.1\r", "connection closed while reading HTTP request line"),
        (b"GET / HTTP/1.1\r\n", "connection closed while reading HTTP headers"),
        (b"GET / HTTP/1.1\r\nA: b\r\n", "connection closed while reading HTTP headers"),
    ],
)
def test_request_cut_short(data: bytes, text: str) -> None:
    parser = RequestParser()
    assert parser.feed(data) is None
    with pytest.raises(EOFError) as raised:
        parser.eof()
    assert str(raised.value) == text


# Limits.


def request_line(size: int) -> bytes:
    return b"GET /" + b"a" * (size - 16) + b" HTTP/1.1\r\n"


def status_line(size: int) -> bytes:
    return b"HTTP/1.1 101 " + b"a" * (size - 15) + b"\r\n"


def header_line(size: int) -> bytes:
    return b"A: " + b"b" * (size - 5) + b"\r\n"


STARTS = {RequestParser: request_line, ResponseParser: status_line}
NEW_PARSERS = pytest.mark.parametrize("new_parser", STARTS)


@NEW_PARSERS
def test_at_the_limits(new_parser: Any) -> None:
    data = STARTS[new_parser](MAX_LINE_LENGTH) + header_line(MAX_LINE_LENGTH) * MAX_NUM_HEADERS + b"\r\n"
    for size in (len(data + TAIL), 97):
        chunks = [(data + TAIL)[at : at + size] for at in range(0, len(data + TAIL), size)]
        result, rest = outcome(new_parser(), chunks)
        assert len(result.headers.get_all("A")) == MAX_NUM_HEADERS
        assert rest == TAIL


@NEW_PARSERS
@pytest.mark.parametrize("end", [b"", b"\r\n", b"\0", b"\n"])
def test_start_line_too_long(new_parser: Any, end: bytes) -> None:
    line = STARTS[new_parser](MAX_LINE_LENGTH + 1)
    name, exc_type = {
        RequestParser: ("request line", RequestLineTooLong),
        ResponseParser: ("status line", StatusLineTooLong),
    }[new_parser]
    # What comes after the limit does not matter; it is not even waited for.
    data = line if end == b"\r\n" else line[:-2] + b"aa" + end
    check_refused(new_parser, data, (exc_type, f"{name} exceeds limit of {MAX_LINE_LENGTH} bytes"))


@NEW_PARSERS
@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\n\r\n", b"\0"])
def test_header_line_too_long(new_parser: Any, end: bytes) -> None:
    data = STARTS[new_parser](100) + header_line(MAX_LINE_LENGTH + 3)[:-2] + end
    check_refused(new_parser, data, (HeaderLineTooLong, f"header line exceeds limit of {MAX_LINE_LENGTH} bytes"))


@NEW_PARSERS
@pytest.mark.parametrize("more", [b"A: b\r\n", b"A: b\r\n\r\n", b"A: b\r\n" * 1000, b"bad\r\n"])
def test_too_many_headers(new_parser: Any, more: bytes) -> None:
    data = STARTS[new_parser](100) + b"A: b\r\n" * MAX_NUM_HEADERS + more
    check_refused(new_parser, data, (TooManyHeaders, f"number of headers exceeds limit of {MAX_NUM_HEADERS}"))


@NEW_PARSERS
def test_bytes_of_a_line_are_searched_once(new_parser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines just below their limit, byte by byte, cost what their bytes cost."""
    search, searched = http11.find_line_end, 0

    def counting(data: bytearray, start: int) -> re.Match[bytes] | None:
        nonlocal searched
        searched += len(data) - start
        return search(data, start)

    monkeypatch.setattr(http11, "find_line_end", counting)
    data = STARTS[new_parser](MAX_LINE_LENGTH) + header_line(MAX_LINE_LENGTH) * 10
    parser = new_parser()
    for byte in each_byte(data):
        assert parser.feed(byte) is None
    # A byte is looked at again when the next one comes, as it may be the CR of a CRLF.
    assert len(data) <= searched <= 2 * len(data)


# Responses.

NO_BODY = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
CHUNKED = Headers({"Transfer-Encoding": "chunked"})
CHUNKED_HEAD = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n"

# Read in both directions.
CANONICAL_RESPONSES = [
    (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", Response(101, "Switching Protocols", Headers())),
    (b"HTTP/1.1 101 \r\nA: b\r\na: c\r\n\r\n", Response(101, "", Headers([("A", "b"), ("a", "c")]))),
    (b"HTTP/1.1 101 a\tb\xe9\r\nA: \xe9\r\n\r\n", Response(101, "a\tb\xe9", Headers(A="\xe9"))),
    (b"HTTP/1.1 101 OK\r\nContent-Length: 3\r\n\r\n", Response(101, "OK", Headers({"Content-Length": "3"}))),
    (b"HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n", Response(204, "No", Headers({"Content-Length": "3"}))),
    (b"HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n", Response(304, "No", CHUNKED)),
    (NO_BODY, Response(404, "Not Found", Headers({"Content-Length": "0"}))),
    (
        b"HTTP/1.1 599 x\r\nContent-Length: 5\r\n\r\n\0\r\n\r\n",
        Response(599, "x", Headers({"Content-Length": "5"}), b"\0\r\n\r\n"),
    ),
]

RESPONSES = [
    *CANONICAL_RESPONSES,
    (b"HTTP/1.0 404 x\r\nContent-Length: 2\r\n\r\nno", Response(404, "x", Headers({"Content-Length": "2"}), b"no")),
    # A version of HTTP/1 that is later than ours, and statuses that no class has.
    (b"HTTP/1.2 404 x\r\nContent-Length: 2\r\n\r\nno", Response(404, "x", Headers({"Content-Length": "2"}), b"no")),
    (b"HTTP/1.9 101\r\n\r\n", Response(101, "", Headers())),
    (b"HTTP/1.1 600 x\r\nContent-Length: 2\r\n\r\nno", Response(600, "x", Headers({"Content-Length": "2"}), b"no")),
    (b"HTTP/1.1 999\r\nContent-Length: 0\r\n\r\n", Response(999, "", Headers({"Content-Length": "0"}))),
    (b"HTTP/1.0 302\r\nContent-Length: 0\r\n\r\n", Response(302, "", Headers({"Content-Length": "0"}))),
    (b"HTTP/1.1 100 x\r\n\r\n" + NO_BODY, Response(404, "Not Found", Headers({"Content-Length": "0"}))),
    (
        b"HTTP/1.1 103 x\r\nContent-Length: 5\r\n\r\nHTTP/1.0 199\r\n\r\nHTTP/1.1 101 x\r\n\r\n",
        Response(101, "x", Headers()),
    ),
    (b"HTTP/1.1 101 x\r\nA: b\r\n c\r\n\td \r\nE: f\r\n\r\n", Response(101, "x", Headers(A="b c d", E="f"))),
    (b"HTTP/1.1 101 x\r\nA:\r\n b\r\n\r\n", Response(101, "x", Headers(A="b"))),
    (CHUNKED_HEAD + b"0\r\nA: b\r\n c\r\n\r\n", Response(404, "Not Found", CHUNKED)),
    (b"HTTP/1.1 101\r\n\r\n", Response(101, "", Headers())),
    (CHUNKED_HEAD + b"0\r\n\r\n", Response(404, "Not Found", CHUNKED)),
    (
        CHUNKED_HEAD + b"3\r\nabc\r\n00a\r\n0\r\n\r\n567\r\n\r\n0\r\n\r\n",
        Response(404, "Not Found", CHUNKED, b"abc0\r\n\r\n567\r\n"),
    ),
    (
        CHUNKED_HEAD + b'1;a=b;c="d"\r\nx\r\n1 \t;y\r\ny\r\n0;z\r\nA: b\r\nC: d\r\n\r\n',
        Response(404, "Not Found", CHUNKED, b"xy"),
    ),
    (
        b"HTTP/1.1 404 x\r\nTransfer-Encoding: Chunked\r\nContent-Length: 9\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
        Response(404, "x", Headers({"Transfer-Encoding": "Chunked", "Content-Length": "9"}), b"0123456789"),
    ),
]

TUNNELS = [
    (b"HTTP/1.1 100 x\r\n\r\nHTTP/1.1 102\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Response(200, "OK", Headers())),
    (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Response(200, "OK", Headers(A="b c"))),
    (b"HTTP/1.0 200 OK\r\n\r\n", Response(200, "OK", Headers())),
    (b"HTTP/1.1 299 x\r\nContent-Length: 5\r\n\r\n", Response(299, "x", Headers({"Content-Length": "5"}))),
    (b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n", Response(200, "x", CHUNKED)),
    (b"HTTP/1.0 407 x\r\nContent-Length: 2\r\n\r\nno", Response(407, "x", Headers({"Content-Length": "2"}), b"no")),
]

REFUSED_RESPONSES: list[tuple[bytes, str]] = [
    (b"\r\n", "invalid HTTP status line: "),
    (b"xxx\r\n", "invalid HTTP status line: xxx"),
    (b"HTTP/2 200 OK\r\n", "invalid HTTP status line: HTTP/2 200 OK"),
    (b"HTTP/1.1  404 x\r\n", "invalid HTTP status line: HTTP/1.1  404 x"),
    (b"HTTP/1.1 099 x\r\n", "invalid HTTP status line: HTTP/1.1 099 x"),
    (b"HTTP/1.10 404 x\r\n", "invalid HTTP status line: HTTP/1.10 404 x"),
    (b"HTTP/1.1 4040 x\r\n", "invalid HTTP status line: HTTP/1.1 4040 x"),
    (b"HTTP/1.1 +40 x\r\n", "invalid HTTP status line: HTTP/1.1 +40 x"),
    (b"HTTP/1.0 101 x\r\n", "unsupported protocol; expected HTTP/1.1: HTTP/1.0"),
    (b"HTTP/1.1 404 \x01", r"invalid character in HTTP status line: HTTP/1.1 404 \x01"),
    (b"HTTP/1.1 404 x\nA: b\r\n\r\n", r"invalid character in HTTP status line: HTTP/1.1 404 x\n"),
    (b"HTTP/1.1 404 x\r\n a: b\r\n\r\n", "unsupported folding of HTTP header line:  a: b"),
    (b"HTTP/1.1 404 x\r\nA: b\r\n \x01\r\n\r\n", r"invalid character in HTTP header line:  \x01"),
    # Lengths.
    (b"HTTP/1.1 404 x\r\nContent-Length:\r\n\r\n", "invalid content length: "),
    (b"HTTP/1.1 404 x\r\nContent-Length: x\r\n\r\n", "invalid content length: x"),
    (b"HTTP/1.1 404 x\r\nContent-Length: +5\r\n\r\n", "invalid content length: +5"),
    (b"HTTP/1.1 404 x\r\nContent-Length: \xb2\r\n\r\n", "invalid content length: \xb2"),
    (b"HTTP/1.1 404 x\r\nContent-Length: 0000000000000000001\r\n\r\n", "invalid content length: 0000000000000000001"),
    (b"HTTP/1.1 404 x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", "invalid content length: 3, 3"),
    # Codings.
    (b"HTTP/1.1 404 x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "unsupported transfer coding: gzip, chunked"),
    (b"HTTP/1.1 404 x\r\nTransfer-Encoding: gzip\r\n\r\n", "unsupported transfer coding: gzip"),
    (
        b"HTTP/1.1 404 x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "unsupported transfer coding: chunked, chunked",
    ),
    # Chunks.
    (CHUNKED_HEAD + b"\r\n", "invalid chunk size: "),
    (CHUNKED_HEAD + b"x\r\n", "invalid chunk size: x"),
    (CHUNKED_HEAD + b"-1\r\n", "invalid chunk size: -1"),
    (CHUNKED_HEAD + b"0x1\r\n", "invalid chunk size: 0x1"),
    (CHUNKED_HEAD + b"3 \r\n", "invalid chunk size: 3 "),
    (CHUNKED_HEAD + b"0" * 16 + b"\r\n", "invalid chunk size: 0000000000000000"),
    (CHUNKED_HEAD + b"3\n", r"invalid character in HTTP chunk size line: 3\n"),
    (CHUNKED_HEAD + b"3\r\nabcd\r\n", "chunk without CRLF"),
    (CHUNKED_HEAD + b"3\r\nabc\n", "chunk without CRLF"),
    (CHUNKED_HEAD + b"0\r\nbad\r\n", "invalid HTTP header line: bad"),
]

REFUSED_FOR_SAFETY = [
    (
        "HTTP/1.1 101 x\r\nA: " + "b" * (MAX_LINE_LENGTH - 60) + "\r\n" + " c\r\n" * 14,
        f"header line exceeds limit of {MAX_LINE_LENGTH} bytes",
        HeaderLineTooLong,
    ),
    (
        "HTTP/1.1 100 x\r\n\r\n" * (MAX_INTERIM + 1),
        f"number of interim responses exceeds limit of {MAX_INTERIM}",
        SecurityError,
    ),
    (
        CHUNKED_HEAD.decode() + "1;" + "x" * MAX_LINE_LENGTH,
        f"chunk size line exceeds limit of {MAX_LINE_LENGTH} bytes",
        SecurityError,
    ),
    (
        CHUNKED_HEAD.decode() + "0\r\n" + "A: b\r\n" * (MAX_NUM_HEADERS + 1),
        f"number of headers exceeds limit of {MAX_NUM_HEADERS}",
        TooManyHeaders,
    ),
    (
        CHUNKED_HEAD.decode() + "0\r\n" + "A" * (MAX_LINE_LENGTH + 1),
        f"header line exceeds limit of {MAX_LINE_LENGTH} bytes",
        HeaderLineTooLong,
    ),
]


@pytest.mark.parametrize(("data", "response"), RESPONSES)
def test_response(data: bytes, response: Response) -> None:
    check_in_any_chunking(ResponseParser, data, response)


@pytest.mark.parametrize(("data", "response"), TUNNELS)
def test_response_of_a_proxy(data: bytes, response: Response) -> None:
    check_in_any_chunking(lambda: ResponseParser(proxy=True), data, response)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"HTTP/1.1 401 x\r\n\r\n", b"a body of any length"),
        (b"HTTP/1.1 401 x\r\nContent-Length: 5\r\n\r\n", b"some"),
        (b"HTTP/1.1 401 x\r\nContent-Length: what\r\n\r\n", b""),
        (b"HTTP/1.1 401 x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", b"5\r\n"),
        (f"HTTP/1.1 302 x\r\nContent-Length: {MAX_BODY_SIZE + 1}\r\n\r\n".encode(), b"some"),
        (b"HTTP/1.1 101 x\r\n\r\n", b"frames"),
    ],
)
def test_response_without_its_body(head: bytes, body: bytes) -> None:
    whole = ResponseHeadParser()
    response = whole.feed(head + body)
    assert response is not None
    assert (response.status_code, response.body, whole.rest) == (int(head[9:12]), b"", body)
    byte_by_byte = ResponseHeadParser()
    assert [byte_by_byte.feed(bytes([byte])) for byte in head] == [None] * (len(head) - 1) + [response]
    assert byte_by_byte.rest == b""


@pytest.mark.parametrize(("data", "response"), CANONICAL_RESPONSES)
def test_response_written_out(data: bytes, response: Response) -> None:
    assert response.serialize() == data


@pytest.mark.parametrize(("data", "text"), REFUSED_RESPONSES)
def test_response_refused(data: bytes, text: str) -> None:
    check_refused(ResponseParser, data, (ValueError, text))


@pytest.mark.parametrize(("data", "text", "exc_type"), REFUSED_FOR_SAFETY)
def test_response_refused_for_safety(data: str, text: str, exc_type: type[Exception]) -> None:
    check_refused(ResponseParser, data.encode(), (exc_type, text))


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"HTTP/1.1 404 x\r\n\r\n", b""),
        (b"HTTP/1.1 404 x\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 200 x\r\n\r\n" + b"x" * MAX_BODY_SIZE, b"x" * MAX_BODY_SIZE),
    ],
)
def test_response_that_ends_with_the_connection(data: bytes, body: bytes) -> None:
    for chunks in ([data], [data[:20], data[20:]], [*each_byte(data[:50]), data[50:]]):
        parser = ResponseParser()
        assert outcome(parser, chunks) is None
        assert parser.eof().body == body
        assert parser.rest == b""


@pytest.mark.parametrize("proxy", [False, True])
def test_interim_responses(proxy: bool) -> None:
    interim = [Response(100, "x", Headers()), Response(103, "y", Headers(A="b"))]
    data = b"".join(response.serialize() for response in interim) + b"HTTP/1.1 200 x\r\n\r\n"
    for chunks in ([data], each_byte(data)):
        parser = ResponseParser(proxy)
        assert parser.interim == ()
        outcome(parser, chunks)
        assert list(parser.interim) == interim


def test_many_interim_responses_within_the_limits() -> None:
    head = b"HTTP/1.1 103 x\r\nA: " + b"b" * 4058 + b"\r\n\r\n"
    for data in (head * MAX_INTERIM, head[:-4] + b"b" * (MAX_INTERIM_SIZE - 16 * len(head)) + head[-4:] + 15 * head):
        response, _ = outcome(ResponseParser(), [data + NO_BODY])
        assert response.status_code == 404
    more = head.replace(b"x", b"x" * (MAX_INTERIM_SIZE - 16 * len(head) + 2))
    expected = (SecurityError, f"interim responses exceed limit of {MAX_INTERIM_SIZE} bytes")
    assert outcome(ResponseParser(), [head * 15 + more]) == expected
    assert outcome(ResponseParser(), each_byte(head * 15 + more)) == expected


def test_folding_within_the_limits() -> None:
    folds = (MAX_LINE_LENGTH - 6) // 4
    field = b"A: b\r\n" + b" c\r\n" * folds
    for data in (field * 2 + b"A: b\r\n \r\n" * (MAX_NUM_HEADERS - 2) + b"\r\n", field + b"\r\n"):
        for size in (len(data), 997):
            head = b"HTTP/1.1 101 x\r\n" + data
            result, rest = outcome(ResponseParser(), [head[at : at + size] for at in range(0, len(head), size)])
            assert result.headers.get_all("A")[0] == "b" + " c" * folds
            assert rest == b""


def test_body_of_a_length_that_exceeds_the_limit() -> None:
    for start in (
        f"HTTP/1.1 404 x\r\nContent-Length: {MAX_BODY_SIZE + 1}\r\n\r\n".encode(),
        CHUNKED_HEAD + f"{MAX_BODY_SIZE + 1:x}\r\n".encode(),
    ):
        parser = ResponseParser()
        assert parser.feed(start) is None
        assert parser.feed(b"x" * (MAX_BODY_SIZE - 1)) is None
        error = f"^body too large: {MAX_BODY_SIZE + 1} bytes exceed limit of {MAX_BODY_SIZE} bytes$"
        with pytest.raises(SecurityError, match=error):
            parser.feed(b"xy")
        response = parser.cut()
        assert response is not None
        assert response.body == b"x" * MAX_BODY_SIZE


@pytest.mark.parametrize(
    ("head", "sent", "body"),
    [
        (b"HTTP/1.1 302 x\r\n\r\n", b"abc", b"abc"),
        (b"HTTP/1.1 302 x\r\nContent-Length: 5\r\n\r\n", b"abc", b"abc"),
        (b"HTTP/1.1 302 x\r\nContent-Length: 3\r\n\r\n", b"abc", b"abc"),
        (b"HTTP/1.1 302 x\r\nTransfer-Encoding: chunked\r\n\r\n", b"9\r\nabc", b"abc"),
        (b"HTTP/1.1 302 x\r\nTransfer-Encoding: chunked\r\n\r\n", b"", b""),
    ],
)
def test_response_that_is_enough_without_all_of_its_body(head: bytes, sent: bytes, body: bytes) -> None:
    def enough(response: Response) -> bool:
        return response.status_code == 302

    parser = ResponseParser(enough=enough)
    assert [parser.feed(byte) for byte in each_byte(head[:-1])] == [None] * (len(head) - 1)
    response = parser.feed(head[-1:] + sent)
    assert response is not None
    assert (response.body, parser.rest) == (body, b"")
    # Of others, all is read.
    other = ResponseParser(enough=enough)
    assert other.feed(head.replace(b"302", b"404") + body[:1]) is None


def test_response_cut_off() -> None:
    parser = ResponseParser()
    for data in (b"", b"HTTP/1.1 100 x\r\n\r\n", b"HTTP/1.1 404 x\r\nContent-Length: 5\r\n"):
        assert parser.feed(data) is None
        assert parser.cut() is None
    assert parser.feed(b"\r\nabc") is None
    response = parser.cut()
    assert response == Response(404, "x", Headers({"Content-Length": "5"}), b"abc")


def test_response_that_does_not_end() -> None:
    parser = ResponseParser()
    assert parser.feed(b"HTTP/1.1 404 x\r\n\r\n" + b"x" * MAX_BODY_SIZE) is None
    with pytest.raises(
        SecurityError, match=f"^body too large: {MAX_BODY_SIZE + 1} bytes exceed limit of {MAX_BODY_SIZE}"
    ):
        parser.feed(b"x")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "connection closed while reading HTTP status line"),
        (b"HTTP/1.1", "connection closed while reading HTTP status line"),
        (b"HTTP/1.1 404 x\r\n", "connection closed while reading HTTP headers"),
        (b"HTTP/1.1 404 x\r\nContent-Length: 3\r\n\r\nab", "stream ends after 2 bytes, expected 3 bytes"),
        (CHUNKED_HEAD, "stream ends after 0 bytes, expected more chunks"),
        (CHUNKED_HEAD + b"3\r\nab", "stream ends after 2 bytes, expected more chunks"),
        (CHUNKED_HEAD + b"3\r\nabc\r", "stream ends after 3 bytes, expected more chunks"),
        (CHUNKED_HEAD + b"3\r\nabc\r\n0\r\n", "stream ends after 3 bytes, expected more chunks"),
    ],
)
def test_response_cut_short(data: bytes, text: str) -> None:
    parser = ResponseParser()
    assert parser.feed(data) is None
    with pytest.raises(EOFError) as raised:
        parser.eof()
    assert str(raised.value) == text


def test_tiny_chunks_cost_their_bytes() -> None:
    body = b"1\r\nx\r\n" * 100_000
    start = time.thread_time()
    result, rest = outcome(ResponseParser(), [CHUNKED_HEAD, body, b"0\r\n\r\n"])
    # Moving what follows for each chunk would copy 60 GB.
    assert time.thread_time() - start < 10
    assert (len(result.body), rest) == (100_000, b"")


# What is read does not depend on how it was cut, whatever it is.

FRAGMENTS = st.sampled_from(
    [
        *(b"GET ", b"/", b" HTTP/1.1", b"HTTP/1.1 404 x", b"HTTP/1.1 101 x", b"A: b", b"A", b":", b" ", b"\t", b"\xe9"),
        *(
            b"\r\n",
            b"\r\n",
            b"\r\n",
            b"\r",
            b"\n",
            b"\0",
            b"Content-Length: 3",
            b"Transfer-Encoding: chunked",
            b"3",
            b"0",
        ),
        b"GET / HTTP/1.1\r\nA: b\r\n",
        b"HTTP/1.1 404 x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ]
)


@NEW_PARSERS
@given(st.lists(FRAGMENTS), st.lists(st.integers(0, 100)))
def test_any_chunking_gives_the_same(new_parser: Any, fragments: list[bytes], cuts: list[int]) -> None:
    data = b"".join(fragments)
    bounds = [0, *sorted(cuts), len(data)]
    chunks = [data[a:b] for a, b in itertools.pairwise(bounds)]
    # Cut points beyond the end give pieces that are empty.
    whole = outcome(new_parser(), [data])
    assert outcome(new_parser(), chunks) == whole
    assert outcome(new_parser(), each_byte(data)) == whole


# Values.


@pytest.mark.parametrize(
    "request_",
    [
        Request("/\r\nA: b", Headers()),
        Request("/a b", Headers()),
        Request("/\xe9", Headers()),
        Request("", Headers()),
        Request("/", Headers(), method="A B"),
        Request("/", Headers(), method=""),
        Request("/", Headers(), protocol="HTTP/1.1\r\nA: b"),
    ],
)
def test_request_that_would_break_its_line(request_: Request) -> None:
    with pytest.raises(ValueError, match=r"^invalid HTTP request line: ") as raised:
        request_.serialize()
    assert str(raised.value).isprintable()


def test_request_to_a_proxy() -> None:
    request = Request("[::1]:80", Headers(Host="[::1]:80"), "CONNECT")
    assert request.serialize() == b"CONNECT [::1]:80 HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"


@pytest.mark.parametrize("reason", ["a\r\nA: b", "\n", "\0", "\x7f", "\u20ac"])
def test_response_that_would_break_its_line(reason: str) -> None:
    with pytest.raises(ValueError, match=r"^invalid HTTP reason phrase: ") as raised:
        Response(200, reason, Headers()).serialize()
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("status_code", [404, http.HTTPStatus.NOT_FOUND, "404"])
def test_status_may_be_anything_like_a_number(status_code: Any) -> None:
    assert Response(status_code, "x", Headers()).serialize() == b"HTTP/1.1 404 x\r\n\r\n"


@pytest.mark.parametrize("status_code", ["4\r\nA: b", "x", None])
def test_status_must_be_a_number(status_code: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Response(status_code, "x", Headers()).serialize()


def test_exception_is_deprecated() -> None:
    exc = EOFError()
    request = Request("/", Headers(), _exception=exc)
    response = Response(404, "", Headers(), _exception=exc)
    text = r"^Request\.exception is deprecated; use ServerProtocol\.handshake_exc instead$"
    with pytest.warns(DeprecationWarning, match=text) as caught:
        assert request.exception is exc
    assert caught[0].filename == __file__
    text = r"^Response\.exception is deprecated; use ClientProtocol\.handshake_exc instead$"
    with pytest.warns(DeprecationWarning, match=text) as caught:
        assert response.exception is exc
    assert caught[0].filename == __file__


def test_exception_is_no_part_of_the_value() -> None:
    request = Request("/", Headers())
    assert dataclasses.replace(request, _exception=EOFError()) == request
    assert repr(request) == "Request(path='/', headers=Headers([]), method='GET', protocol='HTTP/1.1')"
    response = Response(404, "x", Headers())
    assert dataclasses.replace(response, _exception=EOFError()) == response
    assert repr(response) == "Response(status_code=404, reason_phrase='x', headers=Headers([]), body=b'')"


SOFTWARE = f"Python/{sys.version_info[0]}.{sys.version_info[1]} websockets/{version}"


@pytest.mark.parametrize(
    ("environment", "values"),
    [
        ({}, f"'{SOFTWARE}' '{SOFTWARE}' 8192 128 1048576"),
        ({"WEBSOCKETS_USER_AGENT": "", "WEBSOCKETS_SERVER": ""}, "'' '' 8192 128 1048576"),
        ({"WEBSOCKETS_USER_AGENT": "me", "WEBSOCKETS_SERVER": "you"}, "'me' 'you' 8192 128 1048576"),
        (
            {
                "WEBSOCKETS_USER_AGENT": "",
                "WEBSOCKETS_SERVER": "",
                "WEBSOCKETS_MAX_LINE_LENGTH": "100",
                "WEBSOCKETS_MAX_NUM_HEADERS": "10",
                "WEBSOCKETS_MAX_BODY_SIZE": "1_000",
            },
            "'' '' 100 10 1000",
        ),
    ],
)
def test_environment(environment: dict[str, str], values: str) -> None:
    code = (
        "import websockets.http11 as h\n"
        "print(repr(h.USER_AGENT), repr(h.SERVER), h.MAX_LINE_LENGTH, h.MAX_NUM_HEADERS, h.MAX_BODY_SIZE)"
    )
    path = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment | path, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == values
