"""A second carrier: the extended CONNECT of HTTP/2 (RFC 8441), as the protocols of a connection see it.

May know: requests and responses as values, the interface of a carrier. Must not know: frames of HTTP/2, which would
bring the heads, and the bytes of the stream, to the peer.
"""

from __future__ import annotations

from collections.abc import Mapping

from websockets._rules.carrier import check_version
from websockets._rules.handshake import single_value
from websockets.datastructures import Headers
from websockets.exceptions import InvalidMethod, InvalidStatus
from websockets.http11 import Request, Response

__all__ = ["ExtendedConnect"]

# RFC 9113 section 8.2.2.
FORBIDDEN = ("connection", "upgrade")


class ExtendedConnect:
    """A stream of HTTP/2, with a connection of its own.

    Attributes:
        heads: heads for the peer, which the other implementations would send in frames of their own.
    """

    version = "HTTP/2"
    success = range(200, 300)
    closing: Mapping[str, str] = {}

    def __init__(self) -> None:
        self.heads: list[Request | Response] = []

    def new_key(self) -> str:
        return ""

    def request(self, target: str, headers: Headers, key: str) -> Request:
        return Request(target, headers, "CONNECT", "HTTP/2")

    def serialize_request(self, request: Request) -> bytes:
        self.heads.append(request)
        return b""

    def check_response(self, response: Response, key: str) -> None:
        if response.status_code not in self.success:
            raise InvalidStatus(response)

    def check_request(self, request: Request) -> str:
        if request.method != "CONNECT":
            raise InvalidMethod(request.method)
        single_value(request.headers, "Host")
        check_version(request.headers)
        return ""

    def opening_response(self, accept: str) -> Response:
        return Response(200, "", Headers())

    def serialize_response(self, response: Response) -> bytes:
        fields = [(name, value) for name, value in response.headers.raw_items() if name.lower() not in FORBIDDEN]
        self.heads.append(Response(response.status_code, "", Headers(fields)))
        return response.body
