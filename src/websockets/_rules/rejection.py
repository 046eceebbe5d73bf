"""A response that doesn't open a connection, from a status and a text: RFC 9110 sections 8 and 15.

May know: headers that follow from a body. Must not know: why the response is sent; how it ends the connection, which
the carrier knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus as Status
from typing import Final

from ..datastructures import Headers, HeadersLike
from ..http11 import Response
from ..typing import BytesLike, StatusLike
from .date import date

__all__ = ["rejection"]

# Headers that follow from the body and the end of the connection, so they can't be set.
FIXED_HEADERS: Final = ("Connection", "Content-Length", "Transfer-Encoding")


def rejection(
    status: StatusLike, text: str | BytesLike, headers: HeadersLike | None, closing: Mapping[str, str]
) -> Response:
    """Make a response.

    Parameters:
        status: HTTP status.
        text: body; a ``str`` is sent in UTF-8, as ``text/plain``, and bytes as ``application/octet-stream``.
        headers: headers to add; they replace the default ones, such as ``Content-Type``.
        closing: headers of the carrier.

    Raises:
        ValueError: the status is unknown, or ``headers`` has one that can't be set.
        TypeError: ``text`` is neither ``str`` nor bytes.
    """
    status = Status(status)
    body, content_type = _body(text)
    made = Headers()
    made["Date"] = date()
    made.update(closing)
    made["Content-Length"] = str(len(body))
    made["Content-Type"] = content_type
    if headers is not None:
        _add_headers(made, Headers(headers))
    return Response(status.value, status.phrase, made, body)


def _body(text: str | BytesLike) -> tuple[bytes, str]:
    """Return the body of a response, and its content type."""
    if isinstance(text, str):
        return text.encode(), "text/plain; charset=utf-8"
    if isinstance(text, bytes | bytearray | memoryview):
        return bytes(text), "application/octet-stream"
    raise TypeError(f"text must be str or bytes, not {type(text).__name__}")


def _add_headers(made: Headers, headers: Headers) -> None:
    """Add headers of the application, replacing ours with the same name."""
    for name in FIXED_HEADERS:
        if name in headers:
            raise ValueError(f"headers must not set {name}: {', '.join(headers.get_all(name))}")
    for name in headers:
        if name in made:
            del made[name]
    made.update(headers)
