"""Exceptions that only the legacy API raises.

May know: the texts, and the attributes for callers. Must not know: the code that raises them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._compat.deprecated import deprecated_names
from ..datastructures import Headers, HeadersLike
from ..exceptions import InvalidHandshake, InvalidMessage, printable
from ..typing import StatusLike

# Nothing is exported: programs import these names from websockets.exceptions, where they warn.
__all__: list[str] = []

# It was defined here in earlier releases.
InvalidMessage = InvalidMessage


class InvalidStatusCode(InvalidHandshake):
    """The server refused; replaced by :exc:`~websockets.exceptions.InvalidStatus`, which has the whole response.

    Parameters:
        status_code: HTTP status of the response.
        headers: headers of the response.
    """

    def __init__(self, status_code: int, headers: Headers) -> None:
        self.status_code = status_code
        self.headers = headers

    def __str__(self) -> str:
        return f"server rejected WebSocket connection: HTTP {self.status_code:d}"


class AbortHandshake(InvalidHandshake):
    """A hook of a server raises this exception to send a response instead of opening the connection.

    Parameters:
        status: HTTP status.
        headers: headers of the response.
        body: body of the response.
    """

    def __init__(self, status: StatusLike, headers: HeadersLike, body: bytes = b"") -> None:
        self.status = status
        self.headers = Headers(headers)
        self.body = body

    def __str__(self) -> str:
        return f"HTTP {self.status:d}, {len(self.headers)} headers, {len(self.body)} bytes"


class RedirectHandshake(InvalidHandshake):
    """The server redirects the client; ``connect`` follows.

    Parameters:
        uri: target of the redirect, as the server sent it.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __str__(self) -> str:
        return f"redirect to {printable(self.uri)}"


# Names from earlier releases.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
