"""Rules of the opening handshake for both sides, and its log lines: RFC 6455 sections 4.1 and 4.2.

May know: requests, responses and their headers, names of hosts. Must not know: the side of the caller, state, I/O.
"""

from __future__ import annotations

import binascii
import hashlib
import ipaddress
import re
from collections.abc import Iterable
from typing import Final, Self

from ..datastructures import Headers
from ..datastructures._shortcuts import values_by_name
from ..exceptions import InvalidHeader, InvalidUpgrade, printable
from ..headers import parse_connection, parse_upgrade
from ..typing import LoggerLike, Origin
from ..uri import is_reg_name, split_host_port

__all__ = ["VERSION", "HostNames", "accept_key", "check_upgrade", "log_headers", "origin_matches", "single_value"]

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
VERSION: Final = "13"

# The values of ``Connection`` that nearly all clients and servers send; any other value is parsed.
USUAL_OPTIONS: Final = ("Upgrade", "keep-alive, Upgrade", "upgrade")

# These headers carry credentials, which must not appear in logs.
SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})


def accept_key(key: str) -> str:
    """Return the ``Sec-WebSocket-Accept`` for a ``Sec-WebSocket-Key`` (RFC 6455 section 4.2.2)."""
    digest = hashlib.sha1(key.encode() + GUID, usedforsecurity=False).digest()
    return binascii.b2a_base64(digest, newline=False).decode()


def single_value(headers: Headers, name: str) -> str:
    """Return the value of a header that must occur exactly once.

    Raises:
        InvalidHeader: the header is missing or repeated.
    """
    value = values_by_name(headers).get(name.lower())
    if isinstance(value, str):
        return value
    raise InvalidHeader(name) if value is None else InvalidHeader(name, "multiple values")


def check_upgrade(headers: Headers) -> None:
    """Check that a request or a response upgrades to WebSocket, and to no other protocol.

    Raises:
        InvalidUpgrade: it upgrades to another protocol, or not at all.
        InvalidHeader: a header is malformed.
    """
    names = values_by_name(headers)
    if names.get("upgrade") == "websocket" and names.get("connection") in USUAL_OPTIONS:
        return
    values = headers.get_all("Connection")
    if "upgrade" not in [option.lower() for value in values for option in parse_connection(value)]:
        raise InvalidUpgrade("Connection", ", ".join(values) or None)
    values = headers.get_all("Upgrade")
    if [protocol.lower() for value in values for protocol in parse_upgrade(value)] != ["websocket"]:
        raise InvalidUpgrade("Upgrade", ", ".join(values) or None)


def origin_matches(allowed: Origin | re.Pattern[str] | None, origin: str | None) -> bool:
    """Return whether an origin, or None for none, is what an item of ``origins`` allows."""
    if isinstance(allowed, re.Pattern):
        return origin is not None and allowed.fullmatch(origin) is not None
    return allowed == origin


class HostNames:
    """The names of a server, to compare with the ``Host`` header (RFC 9110 section 7.2).

    Parameters:
        names: exact names, without a port; and compiled patterns that must match a whole name. The case of letters
            doesn't matter. An IPv6 address may have brackets; patterns get it without.
    """

    def __init__(self, names: Iterable[str | re.Pattern[str]]) -> None:
        self.names = tuple(names)
        self._exact = frozenset(_host_name(name) for name in self.names if isinstance(name, str))
        # A pattern may be written in any case, as names are compared in lower case.
        self._patterns = [
            re.compile(pattern.pattern, pattern.flags | re.IGNORECASE)
            for pattern in self.names
            if not isinstance(pattern, str)
        ]

    @classmethod
    def of(cls, hosts: object) -> Self:
        """Return the names in the value of an option: a name, a pattern, or a sequence of them.

        Raises:
            TypeError: one of them is neither a string nor a pattern of strings.
            ValueError: there are none, or one can't be the name of a host.
        """
        if isinstance(hosts, cls):
            return hosts
        names = [hosts] if isinstance(hosts, str | re.Pattern) else hosts
        if not isinstance(names, Iterable):
            raise TypeError(f"hosts must be names or compiled patterns, not {hosts!r}")
        names = list(names)
        for name in names:
            if not isinstance(name.pattern if isinstance(name, re.Pattern) else name, str):
                raise TypeError(f"hosts must be names or compiled patterns, not {name!r}")
        if not names:
            raise ValueError("hosts is empty: nobody could connect")
        return cls(names)

    def __repr__(self) -> str:
        return repr(list(self.names))

    def __contains__(self, header: str) -> bool:
        """Return whether the value of a ``Host`` header is one of the names, with any port."""
        match = split_host_port(header)
        if match is None:
            return False
        literal, name, port = match.groups()
        if port and not (port.isascii() and port.isdigit()):
            return False
        host = name.lower() if literal is None else _address(literal)
        if not host:
            return False
        return host in self._exact or any(pattern.fullmatch(host) for pattern in self._patterns)


def _host_name(name: str) -> str:
    """Return the form of a host name that is used for comparing.

    Raises:
        ValueError: *name* isn't the name of a host, or has other parts, such as a port.
    """
    if ":" in name:
        address = _address(name[1:-1] if name[:1] + name[-1:] == "[]" else name)
        if address is None:
            raise ValueError(f"hosts must be names without scheme and port: {name!r}")
        return address
    try:
        host = name if name.isascii() else name.encode("idna").decode()
    except UnicodeError as exc:
        raise ValueError(f"hosts must be names: {name!r}") from exc
    if not is_reg_name(host):
        raise ValueError(f"hosts must be names: {name!r}")
    return host.lower()


def _address(literal: str) -> str | None:
    """Return an IPv6 address in its shortest form; None if the text isn't one."""
    try:
        return ipaddress.IPv6Address(literal).compressed
    except ValueError:
        return None


def log_headers(logger: LoggerLike, arrow: str, headers: Headers) -> None:
    """Log headers at DEBUG, one on each line, without secrets and without control characters."""
    for name, value in headers.raw_items():
        shown = "[redacted]" if name.lower() in SECRET_HEADERS else printable(value)
        logger.debug("%s %s: %s", arrow, name, shown)
