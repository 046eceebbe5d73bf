"""What is known about a connection that is open, as lines for humans: addresses, TLS, the head of the response.

May know: connections on asyncio and what their transports tell. Must not know: options, where the lines go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .._rules.addresses import shown_address
from ..asyncio.client import ClientConnection

__all__ = ["head_of", "headers_of_response", "reached"]


def reached(connection: ClientConnection) -> list[str]:
    """Return where the connection leads, and how it is secured."""
    lines = [f"Connected to {shown_address(connection.remote_address) or 'a Unix socket'}"]
    tls = connection.transport.get_extra_info("ssl_object")
    if tls is not None:
        cipher = tls.cipher()
        lines.append(f"{tls.version()}, {cipher[0] if cipher else 'no cipher'}")
        lines += _certificate(tls.getpeercert())
    return lines


def _certificate(certificate: dict[str, Any] | None) -> Iterable[str]:
    """Return lines about a certificate that was verified; without verification there is nothing to tell."""
    if not certificate:
        yield "Certificate: not verified"
        return
    names = ", ".join(f"{kind}:{name}" for kind, name in certificate.get("subjectAltName", ()))
    yield f"Certificate: {_name(certificate['subject'])}, for {names or 'no name'}"
    yield f"  issued by {_name(certificate['issuer'])}, valid until {certificate['notAfter']}"


def _name(parts: Any) -> str:
    """Return a distinguished name (RFC 4514), most of it."""
    return ", ".join(f"{kind}={value}" for part in parts for kind, value in part) or "no name"


def headers_of_response(connection: ClientConnection) -> list[tuple[str, str]]:
    """Return the headers of the response that opened the connection."""
    assert connection.response is not None, "the connection is open"
    return list(connection.response.headers.raw_items())


def head_of(connection: ClientConnection) -> list[str]:
    """Return the status line and the headers of the response that opened the connection."""
    response = connection.response
    assert response is not None, "the connection is open"
    status = f"HTTP/1.1 {response.status_code:d} {response.reason_phrase}"
    return [status, *(f"{name}: {value}" for name, value in headers_of_response(connection)), ""]
