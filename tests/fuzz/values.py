"""Targets: what the opening handshake reads. Requests, responses, the values of headers, URIs, answers of proxies.

May know: the parsers, and their grammar a second time, naively. Must not know: connections, engines.

Each parser must give the same for every way in which its input may be cut into reads, raise nothing but the exceptions
that it documents, and read what is written of what it read. For most a naive reader of the grammar says what must come
out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fuzz.target import Reader, Target, alike, chunkings, outcome, require, shown
from websockets import exceptions, headers, http11, proxy, uri
from websockets.datastructures import Headers

__all__ = ["TARGETS"]

HTTP_ERRORS = (
    ValueError,
    exceptions.RequestLineTooLong,
    exceptions.StatusLineTooLong,
    exceptions.HeaderLineTooLong,
    exceptions.TooManyHeaders,
    exceptions.SecurityError,
)

TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
VALUE = frozenset(b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100)))

HTTP_WORDS = (
    b"GET / HTTP/1.1\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n",
    b"HTTP/1.1 200\r\n",
    b"HTTP/1.0 404 Not Found\r\n",
    b"Host: a\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: 0\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"\r\n\r\n",
    b"\r\n",
    b"3;x=y\r\nabc\r\n",
    b"0\r\n\r\n",
    b": ",
    b" HTTP/1.1",
    b"\t",
    b"\r",
    b"\n",
    b"\x00",
    b"\xff",
)


# ------------------------------------------------------------------------------------------------------------ requests


def unfolded(lines: list[bytes]) -> list[bytes]:
    """Lines of a response, each with those that go on from it (RFC 9112 section 5.2)."""
    whole: list[bytes] = []
    for line in lines:
        if whole and line[:1] in (b" ", b"\t"):
            whole[-1] += b" " + line.strip(b" \t")
        else:
            whole.append(line)
    return whole


def read_head(data: bytes, unfold: bool = False) -> tuple[list[bytes], list[tuple[str, str]], int] | None:
    """Read a head naively: words of its start line, its fields, where it ends; None if it is wrong or not whole."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    start, *lines = data[:end].split(b"\r\n")
    if unfold:
        lines = unfolded(lines)
    if max(map(len, [start, *lines])) + 2 > http11.MAX_LINE_LENGTH or len(lines) > http11.MAX_NUM_HEADERS:
        return None
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not name or not colon or not TOKEN.issuperset(name) or not VALUE.issuperset(value):
            return None
        fields.append((name.decode(), value.strip(b" \t").decode("latin-1")))
    return start.split(b" "), fields, end + 4


def naive_request(data: bytes) -> tuple[str, str, str, list[tuple[str, str]], bytes] | None:
    """The request in some bytes and what follows it; None if there is none."""
    head = read_head(data)
    if head is None or len(head[0]) != 3:
        return None
    (method, target, version), fields, end = head
    if not method or not TOKEN.issuperset(method) or version not in (b"HTTP/1.1", b"HTTP/1.0"):
        return None
    if target[:1] != b"/" or not all(0x21 <= byte <= 0x7E for byte in target):
        return None
    lengths = [value for name, value in fields if name.lower() == "content-length"]
    if any(name.lower() == "transfer-encoding" for name, _ in fields) or lengths not in ([], ["0"]):
        return None
    return method.decode(), target.decode(), version.decode(), fields, data[end:]


def feed(parser: Any, chunks: list[bytes]) -> tuple[Any, bytes]:
    """What a parser of HTTP makes of some chunks, and what it left over."""
    for index, chunk in enumerate(chunks):
        value = parser.feed(chunk)
        if value is not None:
            return value, parser.rest + b"".join(chunks[index + 1 :])
    return None, b""


def check_request(data: bytes) -> None:
    reader = Reader(data)
    seed, data = reader.byte(), reader.rest()
    results = [outcome(HTTP_ERRORS, feed, http11.RequestParser(), chunks) for chunks in chunkings(data, seed)]
    kind, value = alike(results)
    expected = naive_request(data)
    if kind == "raised" or value[0] is None:
        require(expected is None, "refused or not finished", value, expected)
        return
    request, rest = value
    fields = list(request.headers.raw_items())
    require(expected == (request.method, request.path, request.protocol, fields, rest), value, expected)
    again, rest = feed(http11.RequestParser(), [request.serialize() + b"tail"])
    require((again, rest) == (request, b"tail"), "written and read", request, again)


# ----------------------------------------------------------------------------------------------------------- responses


def answer(parser: http11.ResponseParser, chunks: list[bytes]) -> tuple[Any, bytes, str]:
    """What a parser makes of a response, after which the connection ends."""
    response, rest = feed(parser, chunks)
    if response is not None:
        return response, rest, "whole"
    try:
        return parser.eof(), b"", "ended"
    except EOFError as exc:
        return shown(exc), b"", "cut off"


def read_last_head(data: bytes) -> list[tuple[str, str]] | None:
    """Read the fields of the first response that is no interim one; None if it is wrong or not whole."""
    while (head := read_head(data, unfold=True)) is not None:
        words, fields, end = head
        if words[1] == b"101" or not words[1].startswith(b"1"):
            return fields
        data = data[end:]
    return None


def check_response(data: bytes) -> None:
    reader = Reader(data)
    seed, data = reader.byte(), reader.rest()
    by_proxy = bool(seed & 1)
    results = [outcome(HTTP_ERRORS, answer, http11.ResponseParser(by_proxy), cut) for cut in chunkings(data, seed)]
    kind, value = alike(results)
    if kind == "raised" or value[2] == "cut off":
        return
    response, rest, _ = value
    require(len(response.body) <= min(len(data), http11.MAX_BODY_SIZE), "a body from nowhere", len(response.body))
    require(data.endswith(rest), "what follows was changed", rest)
    fields = read_last_head(data)
    require(fields == list(response.headers.raw_items()), fields, response)
    # The body was decoded: written, it needs headers that say how long it is.
    for name in {"Transfer-Encoding", "Content-Length"} & {name.title() for name in response.headers}:
        del response.headers[name]
    response.headers["Content-Length"] = str(len(response.body))
    if response.status_code >= 200 and response.status_code not in (204, 304):
        again, rest = feed(http11.ResponseParser(), [response.serialize() + b"tail"])
        require((again, rest) == (response, b"tail"), "written and read", response, again)


# ------------------------------------------------------------------------------------------------------------- headers

HEADER_ERRORS = (exceptions.InvalidHeaderFormat, exceptions.InvalidHeaderValue)

HEADER_WORDS = (
    b"permessage-deflate",
    b"client_max_window_bits",
    b"server_max_window_bits=10",
    b'; a="b"',
    b'"\\"',
    b", ",
    b"; ",
    b"=",
    b"websocket",
    b"h2c/1.0",
    b"Basic dXNlcjpwYXNz",
    b"Basic ",
    b"\t",
    b",,",
)


def naive_list(text: str, is_item: Callable[[str], bool]) -> list[str] | None:
    """The items of a list without quoted strings; None if it is wrong."""
    items = [item.strip(" \t") for item in text.split(",")]
    items = [item for item in items if item]
    return items if items and all(map(is_item, items)) else None


def is_token(text: str) -> bool:
    return text != "" and text.isascii() and TOKEN.issuperset(text.encode())


def is_protocol(text: str) -> bool:
    return all(map(is_token, text.split("/", 1)))


def naive_extensions(text: str) -> list[Any] | None:
    """The extensions in a header, a character at a time; None if it is wrong."""
    parts, at, quoted = [""], 0, False
    # Commas and semicolons inside a quoted string are none; what they stand in is wrong anyway, if it is a value.
    while at < len(text):
        if quoted and text[at] == "\\":
            parts[-1] += text[at : at + 2]
            at += 2
            continue
        quoted ^= text[at] == '"'
        if text[at] == "," and not quoted:
            parts.append("")
        else:
            parts[-1] += text[at]
        at += 1
    found = [naive_extension(part) for part in parts if part.strip(" \t")]
    return None if quoted or not found or None in found else found


def naive_extension(text: str) -> tuple[str, list[tuple[str, str | None]]] | None:
    name, *parameters = [part.strip(" \t") for part in text.split(";")]
    if not is_token(name):
        return None
    read: list[tuple[str, str | None]] = []
    for parameter in parameters:
        key, equals, value = parameter.partition("=")
        key, value = key.strip(" \t"), value.strip(" \t")
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        if not is_token(key) or (equals and not is_token(value)):
            return None
        read.append((key, value if equals else None))
    return name, read


def check_headers(data: bytes) -> None:
    text = data.decode("latin-1")
    lists: list[tuple[Callable[[str], Any], Any]] = [
        (headers.parse_connection, naive_list(text, is_token)),
        (headers.parse_subprotocol, naive_list(text, is_token)),
        (headers.parse_upgrade, naive_list(text, is_protocol)),
        (headers.parse_extension, naive_extensions(text)),
    ]
    for parse, expected in lists:
        kind, value = outcome(HEADER_ERRORS, parse, text)
        require(expected == (value if kind == "returned" else None), parse.__name__, value, expected)
        if kind == "returned" and parse in (headers.parse_subprotocol, headers.parse_extension):
            build: Any = headers.build_extension if parse is headers.parse_extension else headers.build_subprotocol
            written = build(value)
            require(parse(written) == value, "written and read", value, written)
            require(Headers(a=written)["a"] == written, "can't be sent", written)
    kind, value = outcome(HEADER_ERRORS, headers.parse_authorization_basic, text)
    if kind == "returned":
        written = headers.build_authorization_basic(*value)
        require(headers.parse_authorization_basic(written) == value, "written and read", value)
    kind, value = outcome((ValueError,), headers.build_www_authenticate_basic, text)
    if kind == "returned":
        require(VALUE.issuperset(value.encode("latin-1")), "can't be sent", value)


# ---------------------------------------------------------------------------------------------------------------- URIs

URI_WORDS = (
    b"ws://",
    b"wss://",
    b"http://",
    b"socks5h://",
    b"user:pass@",
    b"localhost",
    b"[::1]",
    b"[fe80::1%25eth0]",
    b":8080",
    b":99999",
    b"/path",
    b"?q=1",
    b"#f",
    b"%41",
    b"\xc3\xa9",
    b"\xe2\x84\x80",
    b"xn--",
    b"..",
    b"@",
)

SECRET = "s3cr3t"


def without_zone(host: str) -> str:
    """An address of IPv6 as it is sent: without its zone, which only this machine knows (RFC 6874 section 4)."""
    return host.partition("%")[0] if ":" in host else host


def check_uri(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    kind, value = outcome((exceptions.InvalidURI,), uri.parse_uri, text)
    if kind == "returned":
        check_parts(value)
        require(value.path == "" or value.path.startswith("/"), value)
        require(http11.is_target(value.resource_name.encode("ascii")), "no target", value)
        if value.user_info is not None:
            sent = headers.build_authorization_basic(*value.user_info)
            require(headers.parse_authorization_basic(sent) == value.user_info, "credentials", value.user_info)
        authority = headers.build_host(value.host, value.port, value.secure)
        again = uri.parse_uri(f"{'wss' if value.secure else 'ws'}://{authority}{value.resource_name}")
        seen = (value.secure, without_zone(value.host), value.port, value.resource_name)
        require(seen == (again.secure, again.host, again.port, again.resource_name), "written and read", value, again)
    scheme, slashes, rest = text.partition("//")
    if slashes:
        # A colon in a name would end it where it is sent.
        kind, _ = outcome((exceptions.InvalidURI,), uri.parse_uri, f"{scheme}//us%3Aer:pass@{rest}")
        require(kind == "raised" or "@" in rest.partition("/")[0], text)
    hides_credentials(uri.parse_uri, exceptions.InvalidURI, text)


def check_parts(value: Any) -> None:
    """Hosts and ports that can be sent and be looked up."""
    require(value.host and value.host.isascii() and value.host.isprintable() and " " not in value.host, value.host)
    require(value.host == value.host.lower() or "%" in value.host, value.host)
    require(0 < value.port <= 65535, value.port)
    require((value.username is None) == (value.password is None))


def hides_credentials(parse: Callable[[str], Any], error: type[Exception], text: str) -> None:
    """A password before the last ``@`` shows neither in a value nor in an error."""
    scheme, slashes, rest = text.partition("//")
    if not slashes or SECRET in text:
        return
    try:
        value = parse(f"{scheme}//user:{SECRET}@{rest}")
    except error as exc:
        require(SECRET not in f"{exc} {exc!r}", "a password in an error", str(exc))
        require(exc.__cause__ is None and exc.__context__ is None, "an error that may show a password")
    else:
        require(SECRET not in f"{value} {value!r}", "a password in a value")


# ------------------------------------------------------------------------------------------------------------- proxies


def tunnel(chunks: list[bytes]) -> tuple[Any, bytes]:
    """What the answer of a proxy comes to, and what already came through the tunnel."""
    reader = proxy.ConnectReader()
    for index, chunk in enumerate(chunks):
        if reader.feed(chunk):
            return "open", reader.rest + b"".join(chunks[index + 1 :])
    return shown(reader.eof().__cause__), b""


def refusal(chunks: list[bytes]) -> Any:
    try:
        return tunnel(chunks)
    except exceptions.InvalidProxyStatus as exc:
        require(not 200 <= exc.response.status_code < 300, "a success that is refused")
        return shown(exc), exc.response.status_code, list(exc.response.headers.raw_items()), exc.response.body
    except exceptions.InvalidProxyMessage as exc:
        require(exc.__cause__ is not None, "an error without a cause")
        return shown(exc), shown(exc.__cause__)


def check_proxy(data: bytes) -> None:
    reader = Reader(data)
    seed, data = reader.byte(), reader.rest()
    if seed & 1:
        result = alike([refusal(chunks) for chunks in chunkings(data, seed)])
        if result[0] == "open":
            head = read_head(data, unfold=True)
            require(head is not None and data[head[2] :] == result[1], "the tunnel lost bytes", result)
        return
    text = data.decode("utf-8", "surrogateescape")
    kind, value = outcome((exceptions.InvalidProxy,), proxy.parse_proxy, text)
    if kind == "returned":
        check_parts(value)
        require(SECRET in text or SECRET not in str(value))
        again = proxy.parse_proxy(str(value))
        seen = (value.scheme, without_zone(value.host), value.port)
        require(seen == (again.scheme, again.host, again.port), value, again)
        request = proxy.build_connect_request(value, uri.parse_uri("ws://a/"), None)
        require(request.count(b"\r\n\r\n") == 1 and request.endswith(b"\r\n\r\n"), request)
    hides_credentials(proxy.parse_proxy, exceptions.InvalidProxy, text)


TARGETS = [
    Target("request", check_request, HTTP_WORDS, 10000, 1),
    Target("response", check_response, HTTP_WORDS, 10000, 1),
    Target("headers", check_headers, HEADER_WORDS, 500),
    Target("uri", check_uri, URI_WORDS, 300),
    Target("proxy", check_proxy, (*HTTP_WORDS, *URI_WORDS), 1000, 1),
]
