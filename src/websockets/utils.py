"""Helpers that programs import by the names that they had before 18.0: RFC 6455 sections 4.2.2 and 5.3.

May know: where each of them lives now. Nothing in this package uses it.
"""

from __future__ import annotations

import base64
import secrets
import socket

from ._codec import apply_mask as _apply_mask
from ._rules.addresses import shown_address
from ._rules.handshake import GUID as _GUID
from ._rules.handshake import accept_key
from .typing import BytesLike

__all__ = ["accept_key", "apply_mask", "get_socket_name"]

GUID = _GUID.decode()


def generate_key() -> str:
    """Make a random value of the ``Sec-WebSocket-Key`` header."""
    return base64.b64encode(secrets.token_bytes(16)).decode()


def apply_mask(data: BytesLike, mask: bytes | bytearray) -> bytes:
    """Mask a payload, or unmask it: that is the same.

    Parameters:
        data: the payload.
        mask: the masking key, 4 bytes.

    Raises:
        ValueError: the mask doesn't have 4 bytes.
    """
    if len(mask) != 4:
        raise ValueError(f"mask must contain 4 bytes, not {len(mask)}")
    return _apply_mask(data, bytes(mask))


def get_socket_name(sock: socket.socket) -> str:
    """Tell the address of a socket in the way in which the log has it: ``127.0.0.1:80``, ``[::1]:80``, or a path."""
    return shown_address(sock.getsockname())
