"""HTTP/1.1 as the carrier of a WebSocket: an upgrade of the TCP connection, RFC 6455 sections 4.1 and 4.2.

May know: the headers of an upgrade, keys and their hashes, the form of a request line. Must not know: see
:mod:`.carrier`.
"""

from __future__ import annotations

import binascii
import re
import secrets
from collections.abc import Mapping
from typing import Final

from ..datastructures import Headers
from ..datastructures._shortcuts import add_lines, headers_from_lines, values_by_name
from ..exceptions import InvalidHeaderValue, InvalidMethod, InvalidProtocol, InvalidStatus
from ..http11 import Request, Response
from .carrier import check_version
from .date import date
from .handshake import USUAL_OPTIONS, VERSION, accept_key, check_upgrade, single_value

__all__ = ["HTTP11"]

# RFC 6455 section 4.1: 16 random bytes in base64, which are always 22 characters and two for padding. The last of the
# 22 has 4 unused bits. Some clients don't set them to zero, so they are ignored.
is_key: Final = re.compile(r"[A-Za-z0-9+/]{22}==").fullmatch

# A value of Sec-WebSocket-Accept that needs no other check.
is_accept: Final = re.compile(r"[A-Za-z0-9+/]{27}=").fullmatch


UPGRADE_LINES: Final = "Upgrade: websocket\r\nConnection: Upgrade\r\n"


class HTTP11Carrier:
    """The upgrade of an HTTP/1.1 connection; one object, :data:`HTTP11`, serves all connections."""

    version = "HTTP/1.1"
    success = frozenset({101})
    closing: Mapping[str, str] = {"Connection": "close"}

    # The lines of a response that opens a connection, up to the key, made once for each value of ``Date``.
    _date = ""
    _lines = ""

    # The client.

    def new_key(self) -> str:
        """Return a new key: 16 random bytes in base64."""
        return binascii.b2a_base64(secrets.token_bytes(16), newline=False).decode()

    def request(self, target: str, headers: Headers, key: str) -> Request:
        """Make a request for an upgrade; see :meth:`Carrier.request`."""
        add_lines(headers, UPGRADE_LINES)
        headers["Sec-WebSocket-Key"] = key
        return Request(target, headers)

    def serialize_request(self, request: Request) -> bytes:
        """Return the bytes of a request."""
        return request.serialize()

    def check_response(self, response: Response, key: str) -> None:
        """Check that a response upgrades the connection; see :meth:`Carrier.check_response`."""
        if response.status_code != 101:
            raise InvalidStatus(response)
        headers = response.headers
        check_upgrade(headers)
        accept = single_value(headers, "Sec-WebSocket-Accept")
        if accept != accept_key(key):
            raise InvalidHeaderValue("Sec-WebSocket-Accept", accept)

    # The server.

    def check_request(self, request: Request) -> str:
        """Check a request for an upgrade; see :meth:`Carrier.check_request`.

        Returns:
            The value of ``Sec-WebSocket-Accept``.
        """
        headers = request.headers
        key = _usual_key(request)
        if key is not None:
            return accept_key(key)
        if request.method != "GET":
            raise InvalidMethod(request.method)
        if request.protocol != "HTTP/1.1":
            raise InvalidProtocol(request.protocol)
        # Check this first, because browsers and health checks send requests without an upgrade by mistake.
        check_upgrade(headers)
        single_value(headers, "Host")
        key = single_value(headers, "Sec-WebSocket-Key")
        if not is_key(key):
            raise InvalidHeaderValue("Sec-WebSocket-Key", key)
        check_version(headers)
        return accept_key(key)

    def opening_response(self, accept: str) -> Response:
        """Make the response that upgrades the connection; see :meth:`Carrier.opening_response`."""
        now = date()
        if now != self._date:
            # In this order, because another thread may read both at any time.
            self._lines = f"Date: {now}\r\n{UPGRADE_LINES}"
            self._date = now
        if is_accept(accept):
            headers = headers_from_lines(f"{self._lines}Sec-WebSocket-Accept: {accept}\r\n")
        else:
            # A program has overridden a method that makes the value.
            headers = headers_from_lines(self._lines)
            headers["Sec-WebSocket-Accept"] = accept
        return Response(101, "Switching Protocols", headers)

    def serialize_response(self, response: Response) -> bytes:
        """Return the bytes of a response."""
        return response.serialize()


def _usual_key(request: Request) -> str | None:
    """Return the key of a request for an upgrade as nearly all clients write it; None to check it step by step.

    Only the steps can say what is wrong with a request. This looks at all of it at once.
    """
    names = values_by_name(request.headers)
    usual = (
        request.method == "GET"
        and request.protocol == "HTTP/1.1"
        and names.get("upgrade") == "websocket"
        and names.get("connection") in USUAL_OPTIONS
        and names.get("sec-websocket-version") == VERSION
        and isinstance(names.get("host"), str)
    )
    key = names.get("sec-websocket-key")
    return key if usual and isinstance(key, str) and is_key(key) else None


HTTP11: Final = HTTP11Carrier()
