"""WebSocket URIs: RFC 6455 section 3, on top of RFC 3986, RFC 3987 and RFC 6874.

May know: the parts of a URI, and the target in the request line. Must not know: how to connect.

This module splits the URI itself. The standard library silently drops control characters and raises exceptions of its
own, and its behaviour changes from one version of Python to the next.

Only the attributes ``username`` and ``password`` show credentials; errors and ``repr`` never do. For this reason no
error quotes a part of the URI: in a malformed URI, any part may be the password.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import re
import string
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, unquote

from ._compat.deprecated import deprecated_names
from .exceptions import InvalidURI

__all__ = ["WebSocketURI", "parse_uri"]

T = TypeVar("T")

# RFC 3986 section 3.2:
#   authority   = [ userinfo "@" ] host [ ":" port ]
#   port        = *DIGIT
split_host_port = re.compile(r"(?:\[([^\[\]]*+)\]|([^:\[\]]*+))(?::(.*+))?+").fullmatch
is_port = re.compile(r"[0-9]*+").fullmatch

# RFC 3986 section 3.2.2, RFC 6874 section 2:
#   reg-name = *( unreserved / pct-encoded / sub-delims )
#   IPv6addrz = IPv6address "%25" ZoneID
#   ZoneID    = 1*( unreserved / pct-encoded )
is_reg_name = re.compile(r"[A-Za-z0-9\-._~%!$&'()*+,;=]++").fullmatch
is_zone = re.compile(r"[A-Za-z0-9\-._~]++").fullmatch  # once decoded

# Control characters would break the request line, and are invalid in a host or a password, too.
find_control = re.compile(r"[\x00-\x1f\x7f]").search

# RFC 3986 section 2.2: gen-delims and sub-delims, which must not be percent-encoded when an IRI becomes a URI.
DELIMITERS = ":/?#[]@" + "!$&'()*+,;="

# RFC 3986 section 2.1: a percent sign that doesn't begin a pct-encoded octet.
stray_percent = re.compile(r"%(?![0-9A-Fa-f]{2})")

# RFC 1035 section 2.3.4. The first also bounds the work of IDNA, which grows faster than its input.
MAX_HOST_LENGTH = 255
MAX_LABEL_LENGTH = 63

MAX_PORT = 65535

# Everything up to the last "@" except the scheme, however malformed the rest is.
find_credentials = re.compile(r"^([A-Za-z][A-Za-z0-9+.\-]*:/+)?.*@", re.DOTALL)


@dataclasses.dataclass
class WebSocketURI:
    """A WebSocket URI (RFC 6455 section 3).

    Attributes:
        secure: whether the scheme is ``wss``.
        host: name or address in lower case, without brackets, in ASCII. A name keeps a dot at its end. An IPv6 address
            may have a zone, decoded and in its original case: ``fe80::1%eth0``.
        port: number of the port; the default of the scheme if the URI has none.
        path: path as in the URI, which may be empty.
        query: query without the question mark, which may be empty.
        username: user name, decoded; ``None`` if the URI has no credentials.
        password: password, decoded; ``None`` if the URI has no credentials.
    """

    secure: bool
    host: str
    port: int
    path: str
    query: str
    username: str | None = dataclasses.field(default=None, repr=False)
    password: str | None = dataclasses.field(default=None, repr=False)

    @property
    def resource_name(self) -> str:
        """The target of the request: path and query (RFC 6455 section 3)."""
        target = self.path or "/"
        return f"{target}?{self.query}" if self.query else target

    @property
    def user_info(self) -> tuple[str, str] | None:
        """User name and password, or ``None`` if the URI has no credentials."""
        if self.username is None or self.password is None:
            return None
        return self.username, self.password


def hide_credentials(uri: str) -> str:
    """Return *uri* without its credentials, even if it is malformed.

    Parameters:
        uri: any text.
    """
    return find_credentials.sub(r"\1***@", uri)


def parse_uri(uri: str) -> WebSocketURI:
    """Return the parts of a WebSocket URI (RFC 6455 section 3).

    If *uri* has a space or any character outside ASCII, it is read as an IRI: its host is converted with IDNA 2003; its
    path and query are percent-encoded, except for parts that are encoded already (RFC 3987 section 3.1). Credentials
    are percent-decoded, and must have a user name and a password.

    Parameters:
        uri: the URI; white space around it is ignored.

    Raises:
        InvalidURI: *uri* is not a WebSocket URI.
    """
    return _parsed(uri, _parse_uri, InvalidURI)


def _parsed(uri: str, parse: Callable[[str], T], invalid: Callable[[str, str], Exception]) -> T:
    """Return the result of *parse*; turn its ValueError into the exception that *invalid* makes of URI and text."""
    if not isinstance(uri, str):
        raise invalid(hide_credentials(str(uri)), f"it is not a str but {type(uri).__name__}")
    try:
        return parse(uri)
    except UnicodeError:
        msg = "characters outside ASCII can't be encoded"
    except ValueError as exc:
        msg = str(exc)
    # Raised outside the except block, because a chained exception could show the credentials.
    raise invalid(hide_credentials(uri), msg)


def _parse_uri(uri: str) -> WebSocketURI:
    """Do what :func:`parse_uri` does, but raise ValueError with the reason."""
    uri = uri.strip(string.whitespace)  # white space outside ASCII belongs to the path
    scheme, authority, path, query, fragment = _split_uri(uri)
    if scheme not in ("ws", "wss"):
        raise ValueError("scheme isn't ws or wss")
    if fragment:
        raise ValueError("fragment identifier is meaningless")
    user_info, at, host_port = authority.rpartition("@")
    username, password = _parse_user_info(user_info) if at else (None, None)
    host, port = _parse_host_port(host_port)
    if not uri.isascii() or " " in uri:
        path, query = encode_iri(path), encode_iri(query)
    secure = scheme == "wss"
    return WebSocketURI(secure, host, port or (443 if secure else 80), path, query, username, password)


def _split_uri(uri: str) -> tuple[str, str, str, str, str]:
    """Return scheme, authority, path, query and fragment; a missing part is empty (RFC 3986 section 3)."""
    if find_control(uri):
        raise ValueError("it contains a control character")
    # hier-part [ "?" query ] [ "#" fragment ]
    uri, _, fragment = uri.partition("#")
    uri, _, query = uri.partition("?")
    # scheme ":" "//" authority *( "/" segment )
    scheme, _, path = uri.partition(":")
    authority = ""
    if path.startswith("//"):
        authority, slash, path = path[2:].partition("/")
        path = slash + path
    return scheme.lower(), authority, path, query, fragment


def _parse_user_info(user_info: str) -> tuple[str, str]:
    """Return user name and password."""
    username, colon, password = user_info.partition(":")
    if not colon:
        raise ValueError("username provided without password")
    # Bytes that are not UTF-8 are kept, so that Basic authentication can send them unchanged.
    username, password = (unquote(part, "utf-8", "surrogateescape") for part in (username, password))
    (username + password).encode("utf-8", "surrogateescape")  # fail now, and not while connecting
    if ":" in username:
        raise ValueError("username must not contain a colon")  # RFC 7617 section 2
    return username, password


@functools.lru_cache(maxsize=64)
def _parse_host_port(host_port: str) -> tuple[str, int]:
    """Return host and port; the port is 0 if there is none. Programs often use the same few hosts, hence the cache."""
    match = split_host_port(host_port)
    if match is None:
        raise ValueError("host or port is malformed")
    literal, name, port = match.groups()
    host = _parse_name(name) if literal is None else _parse_address(literal)
    return host, _parse_port(port or "0")


def _parse_name(name: str) -> str:
    """Return the host called *name*, in ASCII and lower case."""
    if not name:
        raise ValueError("hostname isn't provided")
    if len(name) > MAX_HOST_LENGTH:
        raise ValueError(f"hostname has {len(name)} characters, more than {MAX_HOST_LENGTH}")
    # Apply IDNA before the check, because it can turn exotic characters into delimiters.
    host = name if name.isascii() else name.encode("idna").decode()
    if not is_reg_name(host):
        raise ValueError("hostname has characters that aren't allowed")
    _check_labels(host.removesuffix("."))
    return host.lower()


def _check_labels(host: str) -> None:
    """Refuse a host that no resolver accepts: Python encodes every host with IDNA, even ASCII names and addresses."""
    for label in host.split("."):
        if not label:
            raise ValueError("hostname has an empty label")
        if len(label) > MAX_LABEL_LENGTH:
            raise ValueError(f"hostname has a label of {len(label)} characters, more than {MAX_LABEL_LENGTH}")


def _parse_address(literal: str) -> str:
    """Return the IPv6 address from the brackets, with its zone decoded."""
    address, percent, zone = literal.partition("%")
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        raise ValueError("address in brackets isn't an IPv6 address") from None
    if not percent:
        return address.lower()
    # A percent sign that is not encoded is also common before the zone (RFC 6874 section 3).
    zone = unquote(zone[2:]) if zone.startswith("25") and zone != "25" else zone
    if not is_zone(zone):
        raise ValueError("zone of the IPv6 address is malformed")
    host = f"{address.lower()}%{zone}"
    _check_labels(host)
    return host


def lookup_name(host: str) -> str:
    """Return the name to look up for *host*: *host* itself, except for ``localhost.``.

    ``localhost`` with a dot at its end is this machine, too (RFC 6761 section 6.3), but many resolvers ask the network
    for it, without success.

    Parameters:
        host: name or address, in the form of :attr:`WebSocketURI.host`.
    """
    return "localhost" if host == "localhost." else host


def tls_name(host: str) -> str:
    """Return the name to verify in the server's certificate: *host* without the dot at its end and without a zone.

    RFC 6066 section 3 allows no dot at the end of a name, and certificates have none. A zone has a meaning only on this
    machine.

    Parameters:
        host: name or address, in the form of :attr:`WebSocketURI.host`.
    """
    return host.partition("%")[0] if ":" in host else host.removesuffix(".")


def _parse_port(port: str) -> int:
    """Return the port as a number."""
    if not is_port(port):
        raise ValueError("port isn't a number")
    significant = port.lstrip("0")
    if len(significant) > len(str(MAX_PORT)) or int(significant or "0") > MAX_PORT:
        raise ValueError(f"port is out of range 0-{MAX_PORT}")
    return int(significant or "0")


def encode_iri(part: str) -> str:
    """Return a part of an IRI, not its host, in the form of a URI (RFC 3987 section 3.1)."""
    return quote(stray_percent.sub("%25", part), safe=DELIMITERS + "%")


# RFC 9112 section 3.2: targets in origin-form, or in absolute-form with a scheme that a WebSocket server may get:
#   request-target = absolute-path [ "?" query ] / scheme "://" host [ ":" port ] path-abempty [ "?" query ]
# RFC 9110 section 4.2.4: user information in the authority is an error.
AUTHORITY = r"(?:\[[0-9A-Fa-f:.]++\]|[A-Za-z0-9\-._~!$&'()*+,;=%]++)(?::[0-9]*+)?+"
TARGET = rf"(?:/[!-~]*+|(?i:https?|wss?)://{AUTHORITY}(?:[/?][!-~]*+)?+)"
split_absolute_target = re.compile(rf"[A-Za-z]++://({AUTHORITY})(.*+)").fullmatch


def split_target(target: str) -> tuple[str | None, str]:
    """Split the target of a request (RFC 9112 section 3.2).

    Parameters:
        target: text that matches :data:`TARGET`.

    Returns:
        The host with its port, ``None`` if the target is only a path; and the path with its query.
    """
    match = split_absolute_target(target)
    if match is None:
        return None, target
    authority, path = match.groups()
    return authority, path if path.startswith("/") else f"/{path}"


# Names from earlier releases.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
