"""Functions that read requests and responses from a stream, and limits that programs may change: RFC 9112.

May know: streams, and the parsers of :mod:`websockets.http11`. Nothing in this package uses this module.
"""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Final

from .. import http11 as _http11
from .._compat.deprecated import deprecated_names
from ..datastructures import Headers
from ..http11 import RequestParser, ResponseHeadParser, ResponseParser

__all__ = ["read_request", "read_response"]

# Limits: bytes in a line, and headers in a request or response. A new value applies to all connections.
MAX_LINE_LENGTH = _http11.MAX_LINE_LENGTH
MAX_NUM_HEADERS = _http11.MAX_NUM_HEADERS

_LIMITS: Final = ("MAX_LINE_LENGTH", "MAX_NUM_HEADERS")


class _Module(ModuleType):
    """Class of this module; it passes new limits to the module that uses them."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _LIMITS:
            setattr(_http11, name, value)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Module


async def read_request(stream: asyncio.StreamReader) -> tuple[str, Headers]:
    """Read one request, and no byte after it (RFC 9112 section 2.1).

    Parameters:
        stream: stream to read from.

    Returns:
        The target and the headers of the request.

    Raises:
        EOFError: the stream ended before the request.
        SecurityError: the request exceeds a limit.
        ValueError: the input isn't a GET request of HTTP/1.1.
    """
    parser = RequestParser()
    while (request := parser.feed(await _line(stream, parser))) is None:
        pass
    if request.method != "GET":
        raise ValueError(f"unsupported HTTP method: {request.method}")
    if request.protocol != "HTTP/1.1":
        raise ValueError(f"unsupported HTTP version: {request.protocol}")
    return request.path, request.headers


async def read_response(stream: asyncio.StreamReader) -> tuple[int, str, Headers]:
    """Read one response without its body, and no byte after it (RFC 9112 section 2.1).

    Parameters:
        stream: stream to read from.

    Returns:
        The status, the reason and the headers of the response.

    Raises:
        EOFError: the stream ended before the end of the headers.
        SecurityError: the response exceeds a limit.
        ValueError: the input isn't a response of HTTP/1.1.
    """
    parser = ResponseHeadParser()
    while (response := parser.feed(await _line(stream, parser))) is None:
        pass
    return response.status_code, response.reason_phrase, response.headers


async def _line(stream: asyncio.StreamReader, parser: RequestParser | ResponseParser) -> bytes:
    """Read a line."""
    line = await stream.readline()
    if not line:
        parser.eof()
    return line


# Names from earlier releases.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
