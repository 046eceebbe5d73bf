"""HTTP/1.1 as far as the opening handshake needs it: RFC 9112, RFC 9110.

May know: requests without a body and responses with one, as bytes and as values, and how long each may be.
Must not know: what makes either an opening handshake, and what to answer to a bad one.

A parser is fed bytes as they come and returns a value once it is complete. It commits line by line and remembers how
far it searched, so that input which arrives one byte at a time costs as much as in one piece. A whole head in the first
piece, which is how it nearly always comes, is matched at once; whatever does not match goes line by line, where the
first line in error tells what is wrong with it. Limits are checked before a line is complete.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import warnings
from collections.abc import Callable
from typing import Generic, NoReturn, Protocol, TypeVar

from ._proxy_protocol import SIGNATURE, UnexpectedProxyHeader
from .datastructures import TCHAR, Headers
from .exceptions import (
    HeaderLineTooLong,
    RequestLineTooLong,
    SecurityError,
    StatusLineTooLong,
    TooManyHeaders,
    printable,
)
from .typing import BytesLike
from .version import version

__all__ = ["SERVER", "USER_AGENT", "Request", "RequestParser", "Response", "ResponseParser"]

# Bytes in a line, its CRLF included; headers in a request or response; bytes in the body of a response.
MAX_LINE_LENGTH = int(os.environ.get("WEBSOCKETS_MAX_LINE_LENGTH", "8192"))
MAX_NUM_HEADERS = int(os.environ.get("WEBSOCKETS_MAX_NUM_HEADERS", "128"))
MAX_BODY_SIZE = int(os.environ.get("WEBSOCKETS_MAX_BODY_SIZE", "1_048_576"))

_SOFTWARE = f"Python/{sys.version_info.major}.{sys.version_info.minor} websockets/{version}"

# Empty means no header.
USER_AGENT = os.environ.get("WEBSOCKETS_USER_AGENT", _SOFTWARE)
"""Default value of the ``User-Agent`` header: Python and this library with versions, or what the environment says."""
SERVER = os.environ.get("WEBSOCKETS_SERVER", _SOFTWARE)
"""Default value of the ``Server`` header, as :data:`USER_AGENT`."""

# RFC 9112 section 5, RFC 9110 section 5.5:
#   field-line  = field-name ":" OWS field-value OWS
#   field-name  = token
#   field-vchar = VCHAR / obs-text
# No blank before the colon, no line folding, no control character but the tab.
FIELD_LINE = rf"{TCHAR}++:[\t -~\x80-\xff]*+"
is_field_line = re.compile(FIELD_LINE.encode()).fullmatch

# RFC 9112 section 2.1:
#   HTTP-message = start-line CRLF *( field-line CRLF ) CRLF [ message-body ]
match_head = re.compile(rf"([\t -~\x80-\xff]*+)\r\n((?:{FIELD_LINE}\r\n)*+)\r\n".encode()).match

# RFC 9112 section 2.2: lines end in CRLF, and what may not stand alone is refused where it stands. A CR that ends the
# input matches nothing, as it takes one more byte to tell.
find_line_end = re.compile(rb"\r\n|[\x00-\x08\n-\x0c\x0e-\x1f\x7f]|\r(?=[^\n])").search

# RFC 9112 section 3, with targets in origin-form only:
#   request-line   = method SP request-target SP HTTP-version
#   method         = token
#   request-target = absolute-path [ "?" query ]
is_request_line = re.compile(rf"({TCHAR}++) (/[!-~]*+) (HTTP/1\.[01])".encode()).fullmatch
is_target = re.compile(rb"/[!-~]*+").fullmatch
HTTP_VERSIONS = (b"HTTP/1.1", b"HTTP/1.0")

# All of a request, as nearly every client sends it. Any other goes piece by piece through what stands above.
match_usual_request = re.compile(rf"GET (/[!-~]*+) HTTP/1\.1\r\n((?:{FIELD_LINE}\r\n)*+)\r\n".encode()).match

# What may be sent: CONNECT names no path.
is_sendable_request_line = re.compile(rf"{TCHAR}++ [!-~]++ HTTP/1\.[01]").fullmatch

# RFC 9112 section 4:
#   status-line   = HTTP-version SP status-code SP [ reason-phrase ]
#   status-code   = 3DIGIT
#   reason-phrase = 1*( HTAB / SP / VCHAR / obs-text )
# The blank before a reason that is not there is often forgotten.
is_status_line = re.compile(rb"(HTTP/1\.[01]) ([1-5][0-9][0-9])(?: ([\t -~\x80-\xff]*+))?+").fullmatch
is_reason = re.compile(r"[\t -~\x80-\xff]*+").fullmatch

# RFC 9110 section 8.6; more digits than any length has.
is_length = re.compile(r"[0-9]{1,18}").fullmatch

# RFC 9112 section 7.1:
#   chunk      = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
#   chunk-size = 1*HEXDIG
#   chunk-ext  = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
is_chunk_size_line = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[\t ]*+;.*+)?+").fullmatch

S = TypeVar("S")


# Values.


@dataclasses.dataclass
class Request:
    """A request (RFC 9112 section 3).

    Parameters:
        path: target of the request: path and query.
        headers: headers.
        method: method.
        protocol: version of HTTP.
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
        """Return the request as on the wire.

        Raises:
            ValueError: if method, path or protocol would break the request line.
        """
        line = f"{self.method} {self.path} {self.protocol}"
        if not is_sendable_request_line(line):
            raise ValueError(f"invalid HTTP request line: {_shown(line)}")
        return f"{line}\r\n{self.headers}".encode("iso-8859-1")


@dataclasses.dataclass
class Response:
    """A response (RFC 9112 section 4).

    Parameters:
        status_code: status, from 100 to 599.
        reason_phrase: what the status means; may be empty.
        headers: headers.
        body: body, without transfer coding.
    """

    status_code: int
    reason_phrase: str
    headers: Headers
    body: bytes = b""
    _exception: Exception | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def exception(self) -> Exception | None:
        """Why the opening handshake failed. Deprecated: see ``ClientProtocol.handshake_exc``."""
        text = "Response.exception is deprecated; use ClientProtocol.handshake_exc instead"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return self._exception

    def serialize(self) -> bytes:
        """Return the response as on the wire.

        Raises:
            ValueError: if the status is not a number, or the reason would break the status line.
        """
        if not is_reason(self.reason_phrase):
            raise ValueError(f"invalid HTTP reason phrase: {_shown(self.reason_phrase)}")
        head = f"HTTP/1.1 {int(self.status_code)} {self.reason_phrase}\r\n{self.headers}"
        return head.encode("iso-8859-1") + self.body


def _shown(value: str | bytes) -> str:
    """Return *value* as it may stand in an error: short and printable."""
    text = value if isinstance(value, str) else value.decode("iso-8859-1")
    return printable(text if len(text) <= 80 else text[:77] + "...")


# Lines and headers.


class _Lines:
    """Takes lines from bytes as they arrive."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        # No line ends before this index, nor is there anything wrong.
        self._searched = 0

    def take_line(self, name: str, too_long: type[SecurityError]) -> bytes | None:
        """Remove and return the next line without its CRLF; ``None`` if it is not complete.

        Parameters:
            name: what this line is, for errors.
            too_long: what to raise if it has more than ``MAX_LINE_LENGTH`` bytes.
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
    """Collects header lines, and refuses those that are malformed or too many."""

    def __init__(self, lines: _Lines) -> None:
        self.lines = lines
        self._fields: list[bytes] = []

    def take(self) -> bool:
        """Take what there is; return whether the empty line after the headers was found."""
        while line := self.lines.take_line("header line", HeaderLineTooLong):
            if len(self._fields) == MAX_NUM_HEADERS:
                raise TooManyHeaders(f"number of headers exceeds limit of {MAX_NUM_HEADERS}")
            if not is_field_line(line):
                raise _malformed_field(line)
            self._fields.append(line + b"\r\n")
        return line is not None

    def headers(self) -> Headers:
        """Return the headers."""
        return Headers._from_lines(b"".join(self._fields))


def _malformed_field(line: bytes) -> ValueError:
    """Return an error that tells why *line* is no header."""
    name, colon, _ = line.partition(b":")
    if line[:1] in b" \t":
        return ValueError(f"unsupported folding of HTTP header line: {_shown(line)}")
    if not colon:
        return ValueError(f"invalid HTTP header line: {_shown(line)}")
    return ValueError(f"invalid HTTP header name: {_shown(name)}")


# Heads: all of a request, or all of a response except its body.


def _is_short(head: re.Match[bytes]) -> bool:
    """Whether a head, whose header lines are its second group, can't exceed a limit."""
    # If all is shorter than a line may be, no line is too long.
    return head.end() <= MAX_LINE_LENGTH and head[2].count(b"\n") <= MAX_NUM_HEADERS


class _HeadReader(Generic[S]):
    """Reads a start line and headers.

    Parameters:
        read_start: turns the start line into a value, or raises ValueError.
        start_name: what the start line is, for errors.
        start_too_long: what to raise if the start line is too long.
    """

    def __init__(self, read_start: Callable[[bytes], S], start_name: str, start_too_long: type[SecurityError]) -> None:
        self._read_start = read_start
        self._start_name = start_name
        self._start_too_long = start_too_long
        self._start: S | None = None
        # Where the head is collected if it does not come in one piece.
        self._fields: _FieldLines | None = None
        self.rest = b""

    def feed(self, data: bytes) -> tuple[S, Headers] | None:
        """Add *data*; return start and headers once they are complete, and leave what follows in ``rest``."""
        if self._fields is not None:
            return self._read_lines(self._fields, data)
        match = match_head(data)
        if match and _is_short(match):
            self.rest = data[match.end() :]
            return self._read_start(match[1]), Headers._from_lines(match[2])
        self._fields = _FieldLines(_Lines())
        return self._read_lines(self._fields, data)

    def _read_lines(self, fields: _FieldLines, data: bytes) -> tuple[S, Headers] | None:
        """Do the same line by line."""
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
        """Raise EOFError, as the end of the input came too early."""
        where = f"HTTP {self._start_name}" if self._start is None else "HTTP headers"
        raise EOFError(f"connection closed while reading {where}")


# Requests.


class RequestParser:
    """Reads one request, which must not have a body (RFC 9112).

    Attributes:
        rest: what came after the request; to be looked at once :meth:`feed` returned it.
    """

    def __init__(self) -> None:
        # Made for a request that is not the usual one, or does not come in one piece.
        self._head: _HeadReader[tuple[str, str, str]] | None = None
        self.rest = b""

    def feed(self, data: BytesLike) -> Request | None:
        """Read more; not to be called again after it returned a request or raised.

        Parameters:
            data: bytes, of which nothing is kept but copies.

        Returns:
            The request, or ``None`` as long as it is not complete.

        Raises:
            RequestLineTooLong: if the request line exceeds its limit.
            HeaderLineTooLong: if a header line exceeds its limit.
            TooManyHeaders: if there are more headers than allowed.
            ValueError: if it is no HTTP, or has a body.
        """
        data = bytes(data)
        if self._head is None:
            match = match_usual_request(data)
            if match and _is_short(match):
                headers = Headers._from_lines(match[2])
                _refuse_body(headers)
                self.rest = data[match.end() :]
                return Request(match[1].decode(), headers)
            if data.startswith(SIGNATURE):
                raise UnexpectedProxyHeader
        head = self._reader().feed(data)
        if head is None:
            return None
        (method, path, protocol), headers = head
        _refuse_body(headers)
        self.rest = self._reader().rest
        return Request(path, headers, method, protocol)

    def _reader(self) -> _HeadReader[tuple[str, str, str]]:
        if self._head is None:
            self._head = _HeadReader(_read_request_line, "request line", RequestLineTooLong)
        return self._head

    def eof(self) -> NoReturn:
        """Tell that no more bytes will come.

        Raises:
            EOFError: always, as the request is not complete.
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
    """Return an error that tells why *line* is no request line."""
    if line.startswith(b"PROXY "):
        return UnexpectedProxyHeader()
    parts = line.split(b" ")
    if len(parts) != 3:
        return ValueError(f"invalid HTTP request line: {_shown(line)}")
    method, target, protocol = parts
    if protocol not in HTTP_VERSIONS:
        return ValueError(f"unsupported protocol; expected HTTP/1.1 or HTTP/1.0: {_shown(protocol)}")
    if not is_target(target):
        return ValueError(f"invalid HTTP request target; expected a path in visible ASCII: {_shown(target)}")
    return ValueError(f"invalid HTTP method: {_shown(method)}")


def _refuse_body(headers: Headers) -> None:
    """Raise ValueError if a request with *headers* has a body, or leaves it open whether it has one."""
    # What one side takes for a body and the other for frames is how requests are smuggled.
    names = headers._by_name()
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
    """Reads one response with its body (RFC 9112).

    Parameters:
        proxy: whether this is the answer to CONNECT: success has no body, and HTTP/1.0 is accepted.

    Attributes:
        rest: what came after the response; to be looked at once :meth:`feed` returned it.
    """

    def __init__(self, proxy: bool = False) -> None:
        self._proxy = proxy
        # Not a method of this object, which would refer to itself and wait for the garbage collector.
        read_start = _read_tunnel_status_line if proxy else _read_status_line
        self._head = _HeadReader(read_start, "status line", StatusLineTooLong)
        self._body: _Body = _SizedBody(0)
        self._response: Response | None = None
        self.rest = b""

    def feed(self, data: BytesLike) -> Response | None:
        """Read more; not to be called again after it returned a response or raised.

        Parameters:
            data: bytes, of which nothing is kept but copies.

        Returns:
            The response, or ``None`` as long as it is not complete.

        Raises:
            StatusLineTooLong: if the status line exceeds its limit.
            HeaderLineTooLong: if a header line exceeds its limit.
            TooManyHeaders: if there are more headers than allowed.
            SecurityError: if the body exceeds its limit.
            ValueError: if it is no HTTP.
        """
        data = bytes(data)
        if self._response is None:
            head = self._head.feed(data)
            if head is None:
                return None
            (status_code, reason_phrase), headers = head
            self._response = Response(status_code, reason_phrase, headers)
            self._body = self._choose_body(status_code, headers)
            data = self._head.rest
        rest = self._body.feed(data)
        if rest is None:
            return None
        self.rest = rest
        return self._complete(self._response)

    def eof(self) -> Response:
        """Tell that no more bytes will come.

        Returns:
            The response, if the end of the connection is the end of its body.

        Raises:
            EOFError: if the response is not complete.
        """
        if self._response is None:
            self._head.eof()
        self._body.eof()
        return self._complete(self._response)

    def _complete(self, response: Response) -> Response:
        """Give *response* its body."""
        response.body = bytes(self._body.content)
        return response

    def _choose_body(self, status_code: int, headers: Headers) -> _Body:
        """Return a reader for the body (RFC 9112 section 6.3)."""
        if status_code < 200 or status_code in (204, 304):
            return _SizedBody(0)
        # RFC 9110 section 9.3.6: what follows is the tunnel, whatever the headers say.
        if self._proxy and status_code < 300:
            return _SizedBody(0)
        if "Transfer-Encoding" in headers:
            return _choose_coding(headers.get_all("Transfer-Encoding"))
        if "Content-Length" in headers:
            return _SizedBody(_read_length(headers.get_all("Content-Length")))
        return _EndlessBody()


class ResponseHeadParser(ResponseParser):
    """Reads one response without its body, of which ``rest`` has the beginning."""

    def _choose_body(self, status_code: int, headers: Headers) -> _Body:
        """Return a reader for no body, whatever the headers say of it."""
        return _SizedBody(0)


def _read_status_line(line: bytes) -> tuple[int, str]:
    """Return status and reason (RFC 9112 section 4)."""
    start = _read_tunnel_status_line(line)
    if not line.startswith(b"HTTP/1.1 "):
        raise ValueError(f"unsupported protocol; expected HTTP/1.1: {_shown(line[:8])}")
    return start


def _read_tunnel_status_line(line: bytes) -> tuple[int, str]:
    """Return status and reason from a proxy, which may speak HTTP/1.0."""
    match = is_status_line(line)
    if match is None:
        raise ValueError(f"invalid HTTP status line: {_shown(line)}")
    _, status_code, reason_phrase = match.groups(b"")
    return int(status_code), reason_phrase.decode("iso-8859-1")


def _choose_coding(codings: list[str]) -> _Body:
    """Return a reader for a body with the transfer codings *codings*."""
    if [coding.lower() for coding in codings] != ["chunked"]:
        raise ValueError(f"unsupported transfer coding: {_shown(', '.join(codings))}")
    return _ChunkedBody()


def _read_length(lengths: list[str]) -> int:
    """Return the length of a body, in bytes."""
    if len(lengths) != 1 or not is_length(lengths[0]):
        raise ValueError(f"invalid content length: {_shown(', '.join(lengths))}")
    length = int(lengths[0])
    _check_size(length)
    return length


def _check_size(size: int) -> None:
    """Raise SecurityError if a body of *size* bytes is too large."""
    if size > MAX_BODY_SIZE:
        raise SecurityError(f"body too large: {size} bytes exceed limit of {MAX_BODY_SIZE} bytes")


class _Body(Protocol):
    """What reads a body."""

    content: bytearray

    def feed(self, data: bytes) -> bytes | None:
        """Add *data*; return what follows the body once that is complete."""

    def eof(self) -> None:
        """Raise EOFError unless the end of the input is the end of the body."""


class _SizedBody:
    """A body of a length that is known."""

    def __init__(self, size: int) -> None:
        self.content = bytearray()
        self._size = size

    def feed(self, data: bytes) -> bytes | None:
        missing = self._size - len(self.content)
        self.content += data[:missing]
        return data[missing:] if len(data) >= missing else None

    def eof(self) -> None:
        raise EOFError(f"stream ends after {len(self.content)} bytes, expected {self._size} bytes")


class _EndlessBody:
    """A body that ends with the connection."""

    def __init__(self) -> None:
        self.content = bytearray()

    def feed(self, data: bytes) -> bytes | None:
        self.content += data
        _check_size(len(self.content))
        return None

    def eof(self) -> None:
        pass


class _ChunkedBody:
    """A body in chunks (RFC 9112 section 7.1). Extensions and trailers are checked and dropped."""

    def __init__(self) -> None:
        self.content = bytearray()
        self._lines = _Lines()
        self._trailers = _FieldLines(self._lines)
        # Bytes missing in the current chunk.
        self._missing = 0
        self._complete = False
        # What comes next; tells whether to go on.
        self._step: Callable[[], bool] = self._read_size

    def feed(self, data: bytes) -> bytes | None:
        self._lines.buffer += data
        while self._step():
            pass
        return bytes(self._lines.buffer) if self._complete else None

    def eof(self) -> None:
        raise EOFError(f"stream ends after {len(self.content)} bytes, expected more chunks")

    def _read_size(self) -> bool:
        line = self._lines.take_line("chunk size line", SecurityError)
        if line is None:
            return False
        match = is_chunk_size_line(line)
        if match is None:
            raise ValueError(f"invalid chunk size: {_shown(line)}")
        self._missing = int(match[1], 16)
        _check_size(len(self.content) + self._missing)
        self._step = self._read_data if self._missing else self._read_trailers
        return True

    def _read_data(self) -> bool:
        data = self._lines.take(self._missing)
        self.content += data
        self._missing -= len(data)
        if self._missing:
            return False
        self._step = self._read_data_end
        return True

    def _read_data_end(self) -> bool:
        end = bytes(self._lines.buffer[:2])
        if not b"\r\n".startswith(end):
            raise ValueError("chunk without CRLF")
        if len(end) < 2:
            return False
        self._lines.take(2)
        self._step = self._read_size
        return True

    def _read_trailers(self) -> bool:
        self._complete = self._trailers.take()
        return False
