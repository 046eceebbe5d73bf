"""The opening handshake as functions on headers, which some frameworks use: RFC 6455 section 4.

May know: the headers of an opening handshake. Must not know: connections.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from .._compat.deprecated import deprecated_names
from .._rules.carrier_http11 import HTTP11
from .._rules.handshake import VERSION, accept_key, check_upgrade, single_value
from ..datastructures import Headers
from ..exceptions import InvalidHeaderValue
from ..http11 import Response

__all__ = ["build_request", "build_response", "check_request", "check_response"]


def build_request(headers: Headers) -> str:
    """Add the headers of an upgrade to WebSocket to a request (RFC 6455 section 4.1).

    Parameters:
        headers: headers of the request; they are changed.

    Returns:
        The key for :func:`check_response`.
    """
    key = HTTP11.new_key()
    HTTP11.request("", headers, key)
    headers["Sec-WebSocket-Version"] = VERSION
    return key


def check_request(headers: Headers) -> str:
    """Check that a request asks for an upgrade to WebSocket (RFC 6455 section 4.2.1).

    Parameters:
        headers: headers of the request.

    Returns:
        The key for :func:`build_response`.

    Raises:
        InvalidHandshake: the request doesn't ask for it, or a header is wrong.
    """
    check_upgrade(headers)
    key = single_value(headers, "Sec-WebSocket-Key")
    try:
        raw = base64.b64decode(key.encode(), validate=True)
    except binascii.Error as exc:
        raise InvalidHeaderValue("Sec-WebSocket-Key", key) from exc
    if len(raw) != 16:
        raise InvalidHeaderValue("Sec-WebSocket-Key", key)
    version = single_value(headers, "Sec-WebSocket-Version")
    if version != VERSION:
        raise InvalidHeaderValue("Sec-WebSocket-Version", version)
    return key


def build_response(headers: Headers, key: str) -> None:
    """Add the headers of an upgrade to WebSocket to a response (RFC 6455 section 4.2.2).

    Parameters:
        headers: headers of the response; they are changed.
        key: result of :func:`check_request`.
    """
    headers["Upgrade"] = "websocket"
    headers["Connection"] = "Upgrade"
    headers["Sec-WebSocket-Accept"] = accept_key(key)


def check_response(headers: Headers, key: str) -> None:
    """Check that a response upgrades to WebSocket (RFC 6455 section 4.1).

    Parameters:
        headers: headers of the response.
        key: result of :func:`build_request`.

    Raises:
        InvalidHandshake: the response doesn't upgrade, or a header is wrong.
    """
    HTTP11.check_response(Response(101, "", headers), key)


# Names from earlier releases.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
