"""Short ways to make and to read :class:`~websockets.datastructures.Headers`, without a check and without a copy.

May know: how ``Headers`` stores lines, pairs and the index by name. Must not know: the meaning of any header, or what
callers do with it.

The opening handshake takes them. Programs use the methods of ``Headers``, which check every name and value.
"""

from __future__ import annotations

from collections.abc import Mapping

from .._codec.fields import Index
from . import Headers, _read_lines

__all__ = ["add_lines", "drop_index", "headers_from_lines", "headers_from_pairs", "values_by_name"]


def headers_from_lines(lines: bytes | str, index: Index | None = None) -> Headers:
    """Wrap complete lines: bytes that a parser has checked, or a string that needs no check.

    Parameters:
        lines: the lines.
        index: the values in the lines, as :func:`values_by_name` returns them; None to make it when it is needed.
    """
    headers = Headers.__new__(Headers)
    headers._lines = lines
    headers._pairs = None
    headers._index = index
    return headers


def headers_from_pairs(pairs: list[tuple[str, str]]) -> Headers:
    """Wrap pairs of name and value that need no check."""
    headers = Headers.__new__(Headers)
    headers._lines = None
    headers._pairs = pairs
    headers._index = None
    return headers


def add_lines(headers: Headers, lines: str) -> None:
    """Add complete lines that need no check."""
    if isinstance(headers._lines, str):
        headers._lines += lines
    else:
        headers._changeable().extend(_read_lines(lines))
    headers._index = None


def values_by_name(headers: Headers) -> Mapping[str, str | list[str]]:
    """Return the value of each lower-case name, or the list of its values if there are several."""
    return headers._by_name()


def drop_index(headers: Headers) -> None:
    """Drop the index to save memory, as connections keep headers until they end. The next look-up remakes it."""
    headers._index = None
