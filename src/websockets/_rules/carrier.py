"""The carrier of a WebSocket: how a version of HTTP asks for a connection, and grants it.

May know: requests and responses as values, the version of the WebSocket protocol. Must not know: the rules of any one
version of HTTP; subprotocols, extensions, origins, names of hosts; the state of a connection; I/O.

A client and a server negotiate in the same manner, whatever carries their connection. Requests, responses, keys and
statuses belong to the carrier, and so does the stream below: it carries bytes and has an end in each direction. Heads
may travel as bytes on that stream, as in HTTP/1.1, or beside it, as in HTTP/2 (RFC 8441). See "The carrier" in
``docs/architecture.md``.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Protocol as Interface

from ..datastructures import Headers
from ..http11 import Request, Response
from .handshake import VERSION, single_value
from .refusals import UnsupportedVersion

__all__ = ["Carrier", "check_version"]


class Carrier(Interface):
    """What depends on the version of HTTP in an opening handshake."""

    @property
    def version(self) -> str:
        """Version of HTTP in the log."""
        ...

    @property
    def success(self) -> Container[int]:
        """Statuses of the responses that open the connection."""
        ...

    @property
    def closing(self) -> Mapping[str, str]:
        """Headers of all other responses of a server, which also end the stream below."""
        ...

    # The client.

    def new_key(self) -> str:
        """Return a new value for the client to prove that the response belongs to its request; empty if unused."""
        ...

    def request(self, target: str, headers: Headers, key: str) -> Request:
        """Make a request.

        Parameters:
            target: path and query.
            headers: headers of the request; the carrier adds its own, and the caller may add more.
            key: result of :meth:`new_key`.
        """
        ...

    def serialize_request(self, request: Request) -> bytes:
        """Return the bytes to write to the stream below; empty if the head doesn't travel on it.

        Raises:
            ValueError: the request isn't valid HTTP.
        """
        ...

    def check_response(self, response: Response, key: str) -> None:
        """Check everything in a response that isn't negotiated.

        Parameters:
            response: response of the server.
            key: key of the request.

        Raises:
            InvalidStatus: the response doesn't open the connection.
            InvalidHandshake: it does, but isn't valid.
        """
        ...

    # The server.

    def check_request(self, request: Request) -> str:
        """Check everything in a request that isn't negotiated.

        Parameters:
            request: request of the client.

        Returns:
            The argument of :meth:`opening_response`.

        Raises:
            InvalidHandshake: the request isn't a valid opening handshake.
        """
        ...

    def opening_response(self, accept: str) -> Response:
        """Make the response that opens the connection; the caller adds what was negotiated.

        Parameters:
            accept: value of ``Sec-WebSocket-Accept``; empty if unused.
        """
        ...

    def serialize_response(self, response: Response) -> bytes:
        """Return the bytes to write to the stream below; empty if there are none.

        A program may have made the response for another version of HTTP. If a header isn't allowed in this one, such
        as ``Connection`` in HTTP/2, the carrier leaves it out.

        Raises:
            ValueError: the response isn't valid HTTP.
        """
        ...


def check_version(headers: Headers) -> None:
    """Check the version of the WebSocket protocol in a request, which is the same for all carriers.

    Raises:
        UnsupportedVersion: it isn't the only one that we support.
        InvalidHeader: it is missing or repeated.
    """
    version = single_value(headers, "Sec-WebSocket-Version")
    if version != VERSION:
        raise UnsupportedVersion("Sec-WebSocket-Version", version)
