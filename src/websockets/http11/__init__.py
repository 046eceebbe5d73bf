"""HTTP/1.1 as far as the opening handshake needs it: RFC 9112, RFC 9110.

May know: requests without a body and responses with one, as bytes and as values, and how long each may be.
Must not know: the rules of the opening handshake, the answer to a bad request, how a body is parsed.

A parser is fed bytes as they arrive and returns a value when it is complete. It consumes one line at a time and
remembers how far it searched, so input that arrives byte by byte costs no more than input in one piece. A head usually
arrives whole in the first piece: then its header lines are read in one pass. Anything else is read line by line, so the
error can name the first line that is wrong. Limits are checked before a line is complete.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import warnings
from collections.abc import Callable
from typing import Generic, NoReturn, TypeVar

from .._codec import read_fields
from .._codec.fields import FIELD_LINE, TCHAR
from .._codec.proxy_protocol import SIGNATURE, UnexpectedProxyHeader
from .._compat.environment import whole_number
from ..datastructures import Headers
from ..datastructures._shortcuts import headers_from_lines, headers_from_pairs, values_by_name
from ..exceptions import (
    HeaderLineTooLong,
    RequestLineTooLong,
    SecurityError,
    StatusLineTooLong,
    TooManyHeaders,
    printable,
)
from ..typing import BytesLike
from ..uri import TARGET, split_target
from ..version import version
from ._bodies import Body, ChunkedBody, EndlessBody, SizedBody

__all__ = ["SERVER", "USER_AGENT", "Request", "Response"]

# Limits: bytes in a line with its CRLF; headers in a request or response; bytes in the body of a response.
MAX_LINE_LENGTH = whole_number("WEBSOCKETS_MAX_LINE_LENGTH", 8192)
MAX_NUM_HEADERS = whole_number("WEBSOCKETS_MAX_NUM_HEADERS", 128)
MAX_BODY_SIZE = whole_number("WEBSOCKETS_MAX_BODY_SIZE", 1_048_576)

# Limits for the interim responses before the final one: their number, and the total of their bytes.
MAX_INTERIM = 16
MAX_INTERIM_SIZE = 65_536

_SOFTWARE = f"Python/{sys.version_info.major}.{sys.version_info.minor} websockets/{version}"

# Empty means no header.
USER_AGENT = os.environ.get("WEBSOCKETS_USER_AGENT", _SOFTWARE)
"""Default value of the ``User-Agent`` header: versions of Python and this library, or ``WEBSOCKETS_USER_AGENT``."""
SERVER = os.environ.get("WEBSOCKETS_SERVER", _SOFTWARE)
"""Default value of the ``Server`` header: like :data:`USER_AGENT`, or ``WEBSOCKETS_SERVER``."""

is_field_line = re.compile(FIELD_LINE.encode()).fullmatch

# RFC 9112 section 2.1:
#   HTTP-message = start-line CRLF *( field-line CRLF ) CRLF [ message-body ]
match_start_line = re.compile(rb"([\t -~\x80-\xff]*+)\r\n").match

# RFC 9112 section 2.2: lines end in CRLF. A CR or an LF alone, or another control character, is an error at that byte.
# A CR at the end of the input matches nothing, because the next byte decides.
find_line_end = re.compile(rb"\r\n|[\x00-\x08\n-\x0c\x0e-\x1f\x7f]|\r(?=[^\n])").search

# RFC 9112 section 3:
#   request-line = method SP request-target SP HTTP-version
#   method       = token
is_request_line = re.compile(rf"({TCHAR}++) ({TARGET}) (HTTP/1\.[01])".encode()).fullmatch
is_target = re.compile(TARGET.encode()).fullmatch
HTTP_VERSIONS = (b"HTTP/1.1", b"HTTP/1.0")

# The request line that nearly every client sends.
match_usual_request_line = re.compile(rb"GET (/[!-~]*+) HTTP/1\.1\r\n").match

# A request that we send may have any target, because CONNECT has an authority instead of a path.
is_sendable_request_line = re.compile(rf"{TCHAR}++ [!-~]++ HTTP/1\.[01]").fullmatch

# RFC 9112 section 4:
#   status-line   = HTTP-version SP status-code SP [ reason-phrase ]
#   status-code   = 3DIGIT
#   reason-phrase = 1*( HTAB / SP / VCHAR / obs-text )
# Servers often leave out the space before an empty reason. A later version of HTTP/1 counts as the last one that we
# know (RFC 9110 section 2.5). A status outside the known classes is a refusal like any other (section 15).
is_status_line = re.compile(rb"(HTTP/1\.[0-9]) ([1-9][0-9][0-9])(?: ([\t -~\x80-\xff]*+))?+").fullmatch
is_reason = re.compile(r"[\t -~\x80-\xff]*+").fullmatch

# RFC 9110 section 8.6. No real length has more digits.
is_length = re.compile(r"[0-9]{1,18}").fullmatch

S = TypeVar("S")


# Values.


@dataclasses.dataclass
class Request:
    """A request (RFC 9112 section 3).

    Parameters:
        path: target of the request: path and query.
        headers: headers of the request.
        method: method; ``"GET"`` by default.
        protocol: version of HTTP; ``"HTTP/1.1"`` by default.
    """

    path: str
    headers: Headers
    method: str = "GET"
    protocol: str = "HTTP/1.1"
    _exception: Exception | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def exception(self) -> Exception | None:
        """Why the opening handshake failed. Deprecated: see ``ServerProtocol.handshake_exc``."""
        text = "Request.exception is deprecated; use ServerProtocol.handshake_exc instead"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return self._exception

    def serialize(self) -> bytes:
        """Return the bytes of the request (RFC 9112 section 3).

        Raises:
            ValueError: the method, path or protocol would break the request line.
        """
        line = f"{self.method} {self.path} {self.protocol}"
        if not is_sendable_request_line(line):
            raise ValueError(f"invalid HTTP request line: {_shown(line)}")
        return f"{line}\r\n{self.headers}".encode("iso-8859-1")


@dataclasses.dataclass
class Response:
    """A response (RFC 9112 section 4).

    Parameters:
        status_code: status, from 100 to 599; a received response may have any other three digits.
        reason_phrase: meaning of the status, in words; may be empty.
        headers: headers of the response.
        body: body, without transfer coding; empty by default.
    """

    status_code: int
    reason_phrase: str
    headers: Headers
    body: bytes = b""
    _exception: Exception | None = dataclasses.field(default=None, repr=False, compare=False)

    # Version of HTTP, for logs.
    _protocol = "HTTP/1.1"

    @property
    def exception(self) -> Exception | None:
        """Why the opening handshake failed. Deprecated: see ``ClientProtocol.handshake_exc``."""
        text = "Response.exception is deprecated; use ClientProtocol.handshake_exc instead"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return self._exception

    def serialize(self) -> bytes:
        """Return the bytes of the response (RFC 9112 section 4).

        Raises:
            ValueError: the status is not a number, or the reason would break the status line.
        """
        if not is_reason(self.reason_phrase):
            raise ValueError(f"invalid HTTP reason phrase: {_shown(self.reason_phrase)}")
        head = f"HTTP/1.1 {int(self.status_code)} {self.reason_phrase}\r\n{self.headers}"
        return head.encode("iso-8859-1") + self.body


def _shown(value: str | bytes) -> str:
    """Return *value* for the text of an error: short and printable."""
    text = value if isinstance(value, str) else value.decode("iso-8859-1")
    return printable(text if len(text) <= 80 else text[:77] + "...")


# Lines and headers.


class _Lines:
    """Splits bytes into lines as they arrive."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        # The bytes before this index are valid and contain no end of a line.
        self._searched = 0

    def take_line(self, name: str, too_long: type[SecurityError]) -> bytes | None:
        """Remove and return the next line without its CRLF; ``None`` if it is not complete.

        Parameters:
            name: name of this line in errors.
            too_long: exception to raise if the line has more than ``MAX_LINE_LENGTH`` bytes.
        """
        match = find_line_end(self.buffer, self._searched)
        end = len(self.buffer) if match is None else match.end()
        if end > MAX_LINE_LENGTH:
            raise too_long(f"{name} exceeds limit of {MAX_LINE_LENGTH} bytes")
        if match is None:
            # The last byte may be the CR of a CRLF.
            self._searched = max(end - 1, 0)
            return None
        if match.group() != b"\r\n":
            raise ValueError(f"invalid character in HTTP {name}: {_shown(bytes(self.buffer[:end]))}")
        return self.take(end)[:-2]

    def take(self, size: int) -> bytes:
        """Remove and return at most *size* bytes."""
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        self._searched = 0
        return taken


class _FieldLines:
    """Collects header lines; refuses malformed ones, and more than the limit.

    Parameters:
        lines: source of the lines.
        unfold: whether a line that begins with a space or tab continues the line before it. A client must accept such
            lines, a server must refuse them (RFC 9112 section 5.2).
    """

    def __init__(self, lines: _Lines, unfold: bool) -> None:
        self.lines = lines
        self._unfold = unfold
        # Lines without their end; a folded line is a list of several pieces.
        self._fields: list[list[bytes]] = []
        # Bytes received for the last line.
        self._size = 0

    def take(self) -> bool:
        """Take all complete lines; return whether the empty line after the headers was found."""
        while line := self.lines.take_line("header line", HeaderLineTooLong):
            if self._unfold and self._fields and line[0] in b" \t":
                self._go_on(line)
                continue
            if len(self._fields) == MAX_NUM_HEADERS:
                raise TooManyHeaders(f"number of headers exceeds limit of {MAX_NUM_HEADERS}")
            if not is_field_line(line):
                raise _malformed_field(line)
            self._fields.append([line])
            self._size = len(line) + 2
        return line is not None

    def _go_on(self, line: bytes) -> None:
        """Add a line that continues the one before it; both count as one line (RFC 9112 section 5.2)."""
        self._size += len(line) + 2
        if self._size > MAX_LINE_LENGTH:
            raise HeaderLineTooLong(f"header line exceeds limit of {MAX_LINE_LENGTH} bytes")
        self._fields[-1].append(line.strip(b"\t "))

    def headers(self) -> Headers:
        """Return the headers."""
        return headers_from_lines(b"".join(b" ".join(pieces) + b"\r\n" for pieces in self._fields))


def _malformed_field(line: bytes) -> ValueError:
    """Return an error that says why *line* is not a header."""
    name, colon, _ = line.partition(b":")
    if line[:1] in b" \t":
        return ValueError(f"unsupported folding of HTTP header line: {_shown(line)}")
    if not colon:
        return ValueError(f"invalid HTTP header line: {_shown(line)}")
    return ValueError(f"invalid HTTP header name: {_shown(name)}")


# Heads: all of a request, or all of a response except its body.


def _read_head(start_line: re.Match[bytes]) -> tuple[Headers, bytes] | None:
    """Return the headers after a start line, and the bytes after them.

    Returns:
        None unless all header lines are there and valid, and the whole head is certainly within the limits.
    """
    data, start = start_line.string, start_line.end()
    read = read_fields(data, start, MAX_NUM_HEADERS)
    # No line is too long if the whole head is shorter than one line may be.
    if read is None or read[1] > MAX_LINE_LENGTH:
        return None
    index, end = read
    return headers_from_lines(data[start : end - 2], index), data[end:]


class _HeadReader(Generic[S]):
    """Reads a start line and headers.

    Parameters:
        read_start: turns the start line into a value, or raises ValueError.
        start_name: name of the start line in errors.
        start_too_long: exception to raise if the start line is too long.
        unfold: whether header lines may be folded.
    """

    def __init__(
        self,
        read_start: Callable[[bytes], S],
        start_name: str,
        start_too_long: type[SecurityError],
        unfold: bool = False,
    ) -> None:
        self._unfold = unfold
        self._read_start = read_start
        self._start_name = start_name
        self._start_too_long = start_too_long
        self._start: S | None = None
        # The header lines so far, if the head does not arrive in one piece.
        self._fields: _FieldLines | None = None
        self.rest = b""

    def feed(self, data: bytes) -> tuple[S, Headers] | None:
        """Add *data*; return start and headers when they are complete, and keep the bytes after them in ``rest``."""
        if self._fields is not None:
            return self._read_lines(self._fields, data)
        line = match_start_line(data)
        head = line and _read_head(line)
        if line and head:
            headers, self.rest = head
            return self._read_start(line[1]), headers
        self._fields = _FieldLines(_Lines(), self._unfold)
        return self._read_lines(self._fields, data)

    def _read_lines(self, fields: _FieldLines, data: bytes) -> tuple[S, Headers] | None:
        """Do what :meth:`feed` does, line by line."""
        lines = fields.lines
        lines.buffer += data
        if self._start is None:
            line = lines.take_line(self._start_name, self._start_too_long)
            if line is None:
                return None
            self._start = self._read_start(line)
        if not fields.take():
            return None
        self.rest = bytes(lines.buffer)
        return self._start, fields.headers()

    def eof(self) -> NoReturn:
        """Raise EOFError, because the input ended too early."""
        where = f"HTTP {self._start_name}" if self._start is None else "HTTP headers"
        raise EOFError(f"connection closed while reading {where}")


# Requests.


class RequestParser:
    """Reads one request, which must not have a body (RFC 9112).

    Attributes:
        rest: bytes after the request; valid when :meth:`feed` has returned the request.
    """

    def __init__(self) -> None:
        # Created only for a request in an unusual form, or one that arrives in pieces.
        self._head: _HeadReader[tuple[str, str, str]] | None = None
        self.rest = b""

    def feed(self, data: BytesLike) -> Request | None:
        """Read more bytes. Do not call it again after it returned a request or raised.

        Parameters:
            data: bytes received; the parser copies whatever it keeps.

        Returns:
            The request, or ``None`` as long as it is not complete.

        Raises:
            RequestLineTooLong: the request line exceeds its limit.
            HeaderLineTooLong: a header line exceeds its limit.
            TooManyHeaders: there are more headers than allowed.
            ValueError: the input is not HTTP, or the request has a body.
        """
        data = bytes(data)
        if self._head is None:
            line = match_usual_request_line(data)
            usual = line and _read_head(line)
            if line and usual:
                headers, self.rest = usual
                _refuse_body(headers)
                return Request(line[1].decode(), headers)
            if data.startswith(SIGNATURE):
                raise UnexpectedProxyHeader
        head = self._reader().feed(data)
        if head is None:
            return None
        (method, target, protocol), headers = head
        _refuse_body(headers)
        self.rest = self._reader().rest
        authority, path = split_target(target)
        # RFC 9112 section 3.2.2. The opening handshake refuses a Host header that is missing or repeated.
        if authority is not None and len(headers.get_all("Host")) == 1:
            fields = [(name, authority if name.lower() == "host" else value) for name, value in headers.raw_items()]
            headers = headers_from_pairs(fields)
        return Request(path, headers, method, protocol)

    def _reader(self) -> _HeadReader[tuple[str, str, str]]:
        if self._head is None:
            self._head = _HeadReader(_read_request_line, "request line", RequestLineTooLong)
        return self._head

    def eof(self) -> NoReturn:
        """Report the end of the input.

        Raises:
            EOFError: always, because the request is not complete.
        """
        self._reader().eof()


def _read_request_line(line: bytes) -> tuple[str, str, str]:
    """Return method, target and version (RFC 9112 section 3)."""
    match = is_request_line(line)
    if match is None:
        raise _malformed_request_line(line)
    method, path, protocol = line.decode().split(" ")
    return method, path, protocol


def _malformed_request_line(line: bytes) -> ValueError:
    """Return an error that says why *line* is not a request line."""
    if line.startswith(b"PROXY "):
        return UnexpectedProxyHeader()
    if not line:
        # A PROXY protocol header of version 2 begins with an empty line, and the rest of it may not be here yet.
        return ValueError("empty HTTP request line; if a PROXY protocol header is sent, see the option proxy_protocol")
    parts = line.split(b" ")
    if len(parts) != 3:
        return ValueError(f"invalid HTTP request line: {_shown(line)}")
    method, target, protocol = parts
    if protocol not in HTTP_VERSIONS:
        return ValueError(f"unsupported protocol; expected HTTP/1.1 or HTTP/1.0: {_shown(protocol)}")
    if not is_target(target):
        expected = "a path, or a URI of HTTP or WebSocket, in visible ASCII"
        return ValueError(f"invalid HTTP request target; expected {expected}: {_shown(target)}")
    return ValueError(f"invalid HTTP method: {_shown(method)}")


def _refuse_body(headers: Headers) -> None:
    """Raise ValueError if a request with *headers* has a body, or may have one."""
    # Request smuggling needs bytes that one side reads as a body and the other side reads as frames.
    names = values_by_name(headers)
    if "transfer-encoding" not in names and "content-length" not in names:
        return
    if "Transfer-Encoding" in headers:
        codings = ", ".join(headers.get_all("Transfer-Encoding"))
        raise ValueError(f"unsupported request body with Transfer-Encoding: {_shown(codings)}")
    lengths = headers.get_all("Content-Length")
    if lengths and lengths != ["0"]:
        raise ValueError(f"unsupported request body with Content-Length: {_shown(', '.join(lengths))}")


# Responses.


class ResponseParser:
    """Reads one response with its body, and skips interim responses before it (RFC 9112, RFC 9110 section 15.2).

    Parameters:
        proxy: whether this is the response to CONNECT, which has no body in case of success; False by default.
        enough: called with a response whose body is incomplete; returns whether the part received is enough. By
            default, the body is read to its end.

    Attributes:
        interim: the interim responses before it; at most 16, and at most 64 KiB in all.
        rest: bytes after the response; valid when :meth:`feed` has returned the response.
    """

    interim: tuple[Response, ...] = ()
    rest = b""

    # The reader of the body, if there may be one; and the bytes of all heads so far.
    _body: Body | None = None
    _response: Response | None = None
    _size = 0

    def __init__(self, proxy: bool = False, *, enough: Callable[[Response], bool] | None = None) -> None:
        self._proxy = proxy
        self._enough = enough
        self._head = self._new_head()

    def _new_head(self) -> _HeadReader[tuple[str, int, str]]:
        # A bound method would make a reference cycle, which only the garbage collector frees.
        read_start = _read_tunnel_status_line if self._proxy else _read_status_line
        return _HeadReader(read_start, "status line", StatusLineTooLong, unfold=True)

    def feed(self, data: BytesLike) -> Response | None:
        """Read more bytes. Do not call it again after it returned a response or raised.

        Parameters:
            data: bytes received; the parser copies whatever it keeps.

        Returns:
            The response, or ``None`` as long as it is not complete.

        Raises:
            StatusLineTooLong: the status line exceeds its limit.
            HeaderLineTooLong: a header line exceeds its limit.
            TooManyHeaders: there are more headers than allowed.
            SecurityError: there are too many interim responses, or the body exceeds its limit.
            ValueError: the input is not HTTP. If only the body is wrong, :meth:`cut` returns the response.
        """
        data = bytes(data)
        response = self._response
        if response is None:
            response = self._read_head(data)
            if response is None:
                return None
            data = self._head.rest
        rest = data if self._body is None else self._body.feed(data)
        if rest is None and (self._enough is None or not self._enough(response)):
            return None
        self.rest = rest or b""
        return self._complete(response)

    def _read_head(self, data: bytes) -> Response | None:
        """Read interim responses and the head of the response; ``None`` if it is not complete."""
        while True:
            self._size += len(data)
            head = self._head.feed(data)
            if head is None:
                return None
            (protocol, status_code, reason_phrase), headers = head
            response = Response(status_code, reason_phrase, headers)
            if protocol != "HTTP/1.1":
                response._protocol = protocol
            if status_code >= 200 or status_code == 101:
                self._response = response
                self._body = self._choose_body(status_code, headers)
                return response
            data = self._head.rest
            self._size -= len(data)
            self._skip(response)

    def _skip(self, response: Response) -> None:
        """Keep an interim response and continue after it (RFC 9110 section 15.2)."""
        if len(self.interim) == MAX_INTERIM:
            raise SecurityError(f"number of interim responses exceeds limit of {MAX_INTERIM}")
        if self._size > MAX_INTERIM_SIZE:
            raise SecurityError(f"interim responses exceed limit of {MAX_INTERIM_SIZE} bytes")
        self.interim = (*self.interim, response)
        self._head = self._new_head()

    def eof(self) -> Response:
        """Report the end of the input.

        Returns:
            The response, if the end of the connection is the end of its body.

        Raises:
            EOFError: the response is not complete. If only its body is incomplete, :meth:`cut` returns the response.
        """
        if self._response is None or self._body is None:
            self._head.eof()
        self._body.eof()
        return self._complete(self._response)

    def cut(self) -> Response | None:
        """Return the response with the part of its body received so far; ``None`` if its head is not complete."""
        return None if self._response is None else self._complete(self._response)

    def _complete(self, response: Response) -> Response:
        """Give *response* its body."""
        if self._body is not None:
            response.body = bytes(self._body.content)
        return response

    def _choose_body(self, status_code: int, headers: Headers) -> Body | None:
        """Return a reader for the body, or ``None`` if there is none (RFC 9112 section 6.3)."""
        if status_code in (101, 204, 304):
            return None
        # RFC 9110 section 9.3.6: the tunnel follows, whatever the headers say.
        if self._proxy and status_code < 300:
            return None
        if "Transfer-Encoding" in headers:
            return _choose_coding(headers.get_all("Transfer-Encoding"))
        if "Content-Length" in headers:
            return SizedBody(_read_length(headers.get_all("Content-Length")), MAX_BODY_SIZE)
        return EndlessBody(MAX_BODY_SIZE)


class ResponseHeadParser(ResponseParser):
    """Reads one response without its body; ``rest`` holds the beginning of the body."""

    def _choose_body(self, status_code: int, headers: Headers) -> None:
        """Return None: the body is not read, whatever the headers say."""
        return None


def _read_status_line(line: bytes) -> tuple[str, int, str]:
    """Return version, status and reason (RFC 9112 section 4)."""
    start = protocol, status_code, _ = _read_tunnel_status_line(line)
    # RFC 9110 section 7.8: HTTP/1.0 has no upgrade.
    if status_code == 101 and protocol == "HTTP/1.0":
        raise ValueError(f"unsupported protocol; expected HTTP/1.1: {protocol}")
    return start


def _read_tunnel_status_line(line: bytes) -> tuple[str, int, str]:
    """Return version, status and reason from a proxy, which may send any status."""
    match = is_status_line(line)
    if match is None:
        raise ValueError(f"invalid HTTP status line: {_shown(line)}")
    protocol, status_code, reason_phrase = match.groups(b"")
    return protocol.decode(), int(status_code), reason_phrase.decode("iso-8859-1")


def _choose_coding(codings: list[str]) -> Body:
    """Return a reader for a body with the transfer codings *codings*."""
    if [coding.lower() for coding in codings] != ["chunked"]:
        raise ValueError(f"unsupported transfer coding: {_shown(', '.join(codings))}")
    lines = _Lines()
    return ChunkedBody(lines, _FieldLines(lines, unfold=True), MAX_BODY_SIZE)


def _read_length(lengths: list[str]) -> int:
    """Return the length of a body, in bytes."""
    if len(lengths) != 1 or not is_length(lengths[0]):
        raise ValueError(f"invalid content length: {_shown(', '.join(lengths))}")
    return int(lengths[0])
