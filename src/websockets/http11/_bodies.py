"""Bodies of responses of HTTP/1.1: RFC 9112 sections 6 and 7.

May know: lengths and chunks, and how much of a body is kept. Must not know: heads, responses without a body, and what
an error in a body means for the response.

A body is fed bytes as they arrive. After an error, ``content`` holds the bytes before the error, and never more than
the limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ..exceptions import SecurityError, printable

if TYPE_CHECKING:
    from . import _FieldLines, _Lines

__all__ = ["Body", "ChunkedBody", "EndlessBody", "SizedBody"]

# RFC 9112 section 7.1:
#   chunk      = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
#   chunk-size = 1*HEXDIG
#   chunk-ext  = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
is_chunk_size_line = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[\t ]*+;.*+)?+").fullmatch


class Body(Protocol):
    """A reader of a body."""

    content: bytearray

    def feed(self, data: bytes) -> bytes | None:
        """Add *data*; return the bytes after the body when it is complete, and ``None`` before.

        Raises:
            SecurityError: the body is larger than the limit, and the limit is reached.
            ValueError: the body is malformed.
        """

    def eof(self) -> None:
        """Raise EOFError unless the end of the input is the end of the body."""


def _too_large(size: int, limit: int) -> SecurityError:
    return SecurityError(f"body too large: {size} bytes exceed limit of {limit} bytes")


class SizedBody:
    """A body of known length.

    Parameters:
        size: length in bytes.
        limit: maximum number of bytes to keep.
    """

    def __init__(self, size: int, limit: int) -> None:
        self.content = bytearray()
        self._size = size
        self._limit = limit

    def feed(self, data: bytes) -> bytes | None:
        """Add *data*; see :class:`Body`."""
        missing = min(self._size, self._limit) - len(self.content)
        self.content += data[:missing]
        if len(data) < missing:
            return None
        if self._size > self._limit:
            raise _too_large(self._size, self._limit)
        return data[missing:]

    def eof(self) -> None:
        """Raise EOFError, because the body is not complete."""
        raise EOFError(f"stream ends after {len(self.content)} bytes, expected {self._size} bytes")


class EndlessBody:
    """A body that ends with the connection.

    Parameters:
        limit: maximum number of bytes to keep.
    """

    def __init__(self, limit: int) -> None:
        self.content = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> bytes | None:
        """Add *data*; see :class:`Body`."""
        self.content += data
        size = len(self.content)
        if size > self._limit:
            del self.content[self._limit :]
            raise _too_large(size, self._limit)
        return None

    def eof(self) -> None:
        """Accept the end of the input, which is the end of this body."""


class ChunkedBody:
    """A body in chunks (RFC 9112 section 7.1). Extensions and trailers are checked and dropped.

    Parameters:
        lines: splits the input into lines.
        trailers: reads the trailers from the same lines.
        limit: maximum number of bytes to keep.
    """

    def __init__(self, lines: _Lines, trailers: _FieldLines, limit: int) -> None:
        self.content = bytearray()
        self._lines = lines
        self._trailers = trailers
        self._limit = limit
        # Bytes missing in the current chunk.
        self._missing = 0
        self._complete = False
        # The next step; it returns whether to continue at once.
        self._step: Callable[[], bool] = self._read_size

    def feed(self, data: bytes) -> bytes | None:
        """Add *data*; see :class:`Body`."""
        self._lines.buffer += data
        while self._step():
            pass
        return bytes(self._lines.buffer) if self._complete else None

    def eof(self) -> None:
        """Raise EOFError, because the body is not complete."""
        raise EOFError(f"stream ends after {len(self.content)} bytes, expected more chunks")

    def _read_size(self) -> bool:
        line = self._lines.take_line("chunk size line", SecurityError)
        if line is None:
            return False
        match = is_chunk_size_line(line)
        if match is None:
            raise ValueError(f"invalid chunk size: {printable(line[:80].decode('iso-8859-1'))}")
        self._missing = int(match[1], 16)
        self._step = self._read_data if self._missing else self._read_trailers
        return True

    def _read_data(self) -> bool:
        size = len(self.content) + self._missing
        data = self._lines.take(min(self._missing, self._limit - len(self.content)))
        self.content += data
        self._missing -= len(data)
        if size > self._limit == len(self.content):
            raise _too_large(size, self._limit)
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
