"""Parsers and builders for the headers of the opening handshake: RFC 6455 section 4.3, RFC 9110, RFC 7617.

May know: the grammar of each header. Must not know: whether a value is acceptable; the opening handshake decides that.

Each regular expression stands below the ABNF that it implements. It uses possessive quantifiers, so it tries no
character twice: the time for hostile input grows only with its length.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

from ._codec.fields import TCHAR
from ._compat.deprecated import deprecated_names
from .datastructures import is_token
from .exceptions import InvalidHeaderFormat, InvalidHeaderValue, printable
from .typing import ConnectionOption, ExtensionHeader, ExtensionName, ExtensionParameter, Subprotocol, UpgradeProtocol

__all__ = [
    "build_authorization_basic",
    "build_extension",
    "build_host",
    "build_subprotocol",
    "build_www_authenticate_basic",
    "parse_authorization_basic",
    "parse_connection",
    "parse_extension",
    "parse_subprotocol",
    "parse_upgrade",
    "validate_subprotocols",
]

T = TypeVar("T")

# Lists, RFC 9110 section 5.6.1:
#   1#element => [ element ] *( OWS "," OWS [ element ] )    with at least one element
#   OWS       =  *( SP / HTAB )
OWS = r"[ \t]*+"
match_separator = re.compile(rf"{OWS}(?:,[ \t,]*+|\Z)").match

# RFC 9110 section 5.6.2:
#   token = 1*tchar
TOKEN = rf"{TCHAR}++"
match_token = re.compile(TOKEN).match

# RFC 9110 section 7.8:
#   protocol = protocol-name [ "/" protocol-version ]    both tokens
match_protocol = re.compile(rf"{TOKEN}(?:/{TOKEN})?+").match

# RFC 9110 section 5.6.4:
#   quoted-string = DQUOTE *( qdtext / quoted-pair ) DQUOTE
#   qdtext        = HTAB / SP / %x21 / %x23-5B / %x5D-7E / obs-text
#   quoted-pair   = "\" ( HTAB / SP / VCHAR / obs-text )
QUOTED_STRING = r'"(?P<quoted>(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+)"'
is_quotable = re.compile(r"[\t -~\x80-\xff]*+").fullmatch
replace_quoted_pairs = re.compile(r"\\(.)").sub
replace_special = re.compile(r'(["\\])').sub

# RFC 6455 section 9.1:
#   extension       = extension-token *( ";" extension-param )
#   extension-param = token [ "=" (token | quoted-string) ]
# The name and the value may be missing here, so that the error can name the missing part.
PARAMETER_VALUE = rf"(?:(?P<value>{TOKEN})|{QUOTED_STRING})?+"
match_parameter = re.compile(
    rf"{OWS};{OWS}(?P<name>{TCHAR}*+){OWS}(?P<equals>={OWS}{PARAMETER_VALUE})?+",
).match

# RFC 9110 section 11.4, RFC 7617 section 2:
#   credentials = auth-scheme 1*SP token68
#   token68     = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="
match_token68 = re.compile(r"[A-Za-z0-9\-._~+/]++=*+").match


# Lists.

# Reads the item at an index of a header and returns it with the index after it. The text is the name of the header.
ItemReader = Callable[[str, int, str], tuple[T, int]]


def _read_list(read_item: ItemReader[T], header: str, header_name: str) -> list[T]:
    """Read a list of at least one item from *header*."""
    items: list[T] = []
    pos = len(header) - len(header.lstrip(" \t,"))
    while pos < len(header) or not items:
        item, pos = read_item(header, pos, header_name)
        items.append(item)
        pos = _after_separator(header, pos, header_name)
    return items


def _after_separator(header: str, pos: int, header_name: str) -> int:
    """Return the index of the next item, or of the end of the header."""
    match = match_separator(header, pos)
    if match is None:
        wrong = len(header) - len(header[pos:].lstrip(" \t"))
        raise InvalidHeaderFormat(header_name, "expected comma", header, wrong)
    return match.end()


def _read_token(header: str, pos: int, header_name: str) -> tuple[str, int]:
    """Read a token."""
    match = match_token(header, pos)
    if match is None:
        raise InvalidHeaderFormat(header_name, "expected token", header, pos)
    return match.group(), match.end()


def _read_protocol(header: str, pos: int, header_name: str) -> tuple[str, int]:
    """Read a protocol, with its version if it has one."""
    match = match_protocol(header, pos)
    if match is None:
        raise InvalidHeaderFormat(header_name, "expected protocol", header, pos)
    return match.group(), match.end()


def _read_extension(header: str, pos: int, header_name: str) -> tuple[ExtensionHeader, int]:
    """Read an extension with its parameters."""
    name, pos = _read_token(header, pos, header_name)
    parameters: list[ExtensionParameter] = []
    while match := match_parameter(header, pos):
        parameters.append(_parameter(match, header_name))
        pos = match.end()
    return (ExtensionName(name), parameters), pos


def _parameter(match: re.Match[str], header_name: str) -> ExtensionParameter:
    """Return the parameter that was found, if it is complete."""
    name, equals, value, quoted = match.groups()
    if not name:
        raise InvalidHeaderFormat(header_name, "expected token", match.string, match.start("name"))
    if equals is None or value is not None:
        return name, value
    if quoted is not None:
        return name, _unquoted(match, header_name)
    start = match.end("equals")
    expected = "expected quoted string" if match.string.startswith('"', start) else "expected token"
    raise InvalidHeaderFormat(header_name, expected, match.string, start)


def _unquoted(match: re.Match[str], header_name: str) -> str:
    """Return the value inside a quoted string."""
    value = replace_quoted_pairs(r"\1", match["quoted"])
    # RFC 6455 section 9.1: after unescaping, the value must be a token.
    if not is_token(value):
        error = "invalid quoted header content"
        raise InvalidHeaderFormat(header_name, error, match.string, match.start("quoted") - 1)
    return value


# Connection and Upgrade: RFC 9110 sections 7.6.1 and 7.8.


def parse_connection(header: str) -> list[ConnectionOption]:
    """Return the options in a ``Connection`` header (RFC 9110 section 7.6.1).

    Parameters:
        header: the value of the header.

    Raises:
        InvalidHeaderFormat: the value is not a list of tokens.
    """
    # A single token is by far the most frequent value.
    options = [header] if is_token(header) else _read_list(_read_token, header, "Connection")
    return cast("list[ConnectionOption]", options)


def parse_upgrade(header: str) -> list[UpgradeProtocol]:
    """Return the protocols in an ``Upgrade`` header (RFC 9110 section 7.8).

    Parameters:
        header: the value of the header.

    Raises:
        InvalidHeaderFormat: the value is not a list of protocols.
    """
    protocols = [header] if is_token(header) else _read_list(_read_protocol, header, "Upgrade")
    return cast("list[UpgradeProtocol]", protocols)


def build_host(host: str, port: int, secure: bool, *, always_include_port: bool = False) -> str:
    """Return the value of a ``Host`` header (RFC 9110 section 7.2).

    Parameters:
        host: name or address; an IPv6 address gets its brackets, and loses its zone, which has no meaning on other
            machines (RFC 6874 section 4).
        port: number of the port.
        secure: whether the connection uses TLS: the default port is 443 with TLS, and 80 without.
        always_include_port: whether to write the port even if it is the default port; False by default.
    """
    if ":" in host and not host.startswith("["):
        host = f"[{host.partition('%')[0]}]"
    if always_include_port or port != (443 if secure else 80):
        return f"{host}:{port}"
    return host


# Extensions: RFC 6455 section 9.1.


def parse_extension(header: str) -> list[ExtensionHeader]:
    """Return the extensions in a ``Sec-WebSocket-Extensions`` header (RFC 6455 section 9.1).

    Parameters:
        header: the value of the header.

    Returns:
        Pairs of a name and a list of parameters. A parameter is a pair of a name and a value, ``None`` for no value.

    Raises:
        InvalidHeaderFormat: the value is not a list of extensions.
    """
    if len(header) > MAX_REMEMBERED:
        return _read_list(_read_extension, header, "Sec-WebSocket-Extensions")
    # The caller gets copies of the lists, because it may change them.
    return [(name, list(parameters)) for name, parameters in _remembered_extensions(header)]


# Peers choose these values, so the cache keeps only short ones, and only a few.
MAX_REMEMBERED = 128


@functools.lru_cache(maxsize=64)
def _remembered_extensions(header: str) -> list[ExtensionHeader]:
    """Return what :func:`parse_extension` returns, for a short header; clients send only a few different values."""
    return _read_list(_read_extension, header, "Sec-WebSocket-Extensions")


def build_extension(extensions: Sequence[ExtensionHeader]) -> str:
    """Return the value of a ``Sec-WebSocket-Extensions`` header (RFC 6455 section 9.1).

    Parameters:
        extensions: pairs of a name and a list of parameters, as :func:`parse_extension` returns them.
    """
    return ", ".join("; ".join([name, *map(_build_parameter, parameters)]) for name, parameters in extensions)


def _build_parameter(parameter: ExtensionParameter) -> str:
    """Return the text of one parameter of an extension."""
    name, value = parameter
    return name if value is None else f"{name}={value}"


# Subprotocols: RFC 6455 section 1.9.


def parse_subprotocol(header: str) -> list[Subprotocol]:
    """Return the subprotocols in a ``Sec-WebSocket-Protocol`` header (RFC 6455 section 4.3).

    Parameters:
        header: the value of the header.

    Raises:
        InvalidHeaderFormat: the value is not a list of tokens.
    """
    return cast("list[Subprotocol]", _read_list(_read_token, header, "Sec-WebSocket-Protocol"))


def build_subprotocol(subprotocols: Sequence[Subprotocol]) -> str:
    """Return the value of a ``Sec-WebSocket-Protocol`` header (RFC 6455 section 4.3).

    Parameters:
        subprotocols: names, the preferred one first; see :func:`validate_subprotocols`.
    """
    return ", ".join(subprotocols)


def validate_subprotocols(subprotocols: Sequence[Subprotocol]) -> None:
    """Check that *subprotocols* can be negotiated.

    Parameters:
        subprotocols: names, the preferred one first.

    Raises:
        TypeError: *subprotocols* is not a sequence of strings, or is a single string.
        ValueError: a name is not a token (RFC 6455 section 4.1).
    """
    if not isinstance(subprotocols, Sequence):
        raise TypeError("subprotocols must be a list")
    # A string is a sequence of strings too, but passing one is always a mistake.
    if isinstance(subprotocols, str):
        raise TypeError("subprotocols must be a list, not a str")
    for subprotocol in subprotocols:
        if not is_token(subprotocol):
            raise ValueError(f"invalid subprotocol: {printable(subprotocol)}")


# Basic authentication: RFC 7617.


def build_www_authenticate_basic(realm: str) -> str:
    """Return the value of a ``WWW-Authenticate`` header that asks for Basic credentials (RFC 7617 section 2).

    Parameters:
        realm: name of the protected area, which browsers show to the user.

    Raises:
        ValueError: *realm* has control characters or characters outside ISO-8859-1.
    """
    if not is_quotable(realm):
        raise ValueError("invalid characters for quoted-string encoding")
    quoted = replace_special(r"\\\1", realm)
    return f'Basic realm="{quoted}", charset="UTF-8"'


def parse_authorization_basic(header: str) -> tuple[str, str]:
    """Return the user name and the password in an ``Authorization`` header (RFC 7617 section 2).

    Parameters:
        header: the value of the header.

    Returns:
        User name and password, decoded from UTF-8; other bytes become lone surrogates (``surrogateescape``).

    Raises:
        InvalidHeaderFormat: the value is not a scheme followed by one token.
        InvalidHeaderValue: the scheme is not Basic, or the token is not a user name and a password in base64.
    """
    username, colon, password = _basic_credentials(header).decode("utf-8", "surrogateescape").partition(":")
    if not colon:
        raise InvalidHeaderValue("Authorization", "expected username:password credentials")
    return username, password


def _basic_credentials(header: str) -> bytes:
    """Return the decoded credentials of an ``Authorization`` header."""
    # People who read the errors must not see the credentials.
    shown = "(not shown)"
    scheme, pos = _read_token(header, 0, "Authorization")
    if scheme.lower() != "basic":
        raise InvalidHeaderValue("Authorization", f"unsupported scheme: {scheme}")
    if not header.startswith(" ", pos):
        raise InvalidHeaderFormat("Authorization", "expected space after scheme", shown, pos)
    pos = len(header) - len(header[pos:].lstrip(" "))
    match = match_token68(header, pos)
    if match is None:
        raise InvalidHeaderFormat("Authorization", "expected token68", shown, pos)
    if match.end() != len(header):
        raise InvalidHeaderFormat("Authorization", "trailing data", shown, match.end())
    try:
        return base64.b64decode(match.group(), validate=True)
    except binascii.Error:
        raise InvalidHeaderValue("Authorization", "expected base64-encoded credentials") from None


def build_authorization_basic(username: str, password: str) -> str:
    """Return the value of an ``Authorization`` header with Basic credentials (RFC 7617 section 2).

    Parameters:
        username: user name, without a colon.
        password: password.

    Both are encoded in UTF-8; lone surrogates of ``surrogateescape`` become the bytes that they represent.

    Raises:
        ValueError: *username* has a colon, or either cannot be encoded.
    """
    if ":" in username:
        raise ValueError("username must not contain a colon")
    credentials = f"{username}:{password}".encode("utf-8", "surrogateescape")
    return "Basic " + base64.b64encode(credentials).decode()


# Names from earlier releases.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
