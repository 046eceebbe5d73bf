"""Decisions on the way to an open connection: redirects, delays between attempts, what the log says of a failure.

May know: URIs, responses, errors, delays. Must not know: how connecting or waiting is done; ``now`` is an argument.
"""

from __future__ import annotations

import datetime
import email.utils
import os
import re
import traceback
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from ..datastructures import Headers, HeadersLike
from ..exceptions import InvalidHeader, InvalidProxyStatus, InvalidStatus, InvalidURI, SecurityError, printable
from ..http11 import Response
from ..uri import WebSocketURI, encode_iri, find_control, hide_credentials, parse_uri

__all__ = [
    "MAX_REDIRECTS",
    "Backoff",
    "GiveUp",
    "describe",
    "is_redirect",
    "redirect_location",
    "redirected",
    "resolve_location",
    "retry_after",
    "timed_out",
]

MAX_REDIRECTS: Final = int(os.environ.get("WEBSOCKETS_MAX_REDIRECTS", "10"))

REDIRECT_STATUSES: Final = frozenset({300, 301, 302, 303, 307, 308})

# RFC 3986 section 3: scheme and authority, both of which may be missing.
match_origin = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.\-]*+:)?+(?://[^/?#]*+)?+").match

# Servers know their own addresses as those of pages.
SCHEMES: Final = {"http": "ws", "https": "wss"}

# What may not be told to another origin than the one it was meant for.
CREDENTIALS: Final = ("Authorization", "Cookie", "Proxy-Authorization")

# Arguments of connect() that name one place; a redirect to another place can't honour them.
PLACES: Final = ("host", "port", "unix")


def is_redirect(response: Response) -> bool:
    """Whether a response sends us on to another URI (RFC 9110 section 15.4)."""
    return response.status_code in REDIRECT_STATUSES and len(response.headers.get_all("Location")) == 1


def redirect_location(exc: Exception, uri: str) -> str | None:
    """The URI to which the server sends us on; None if ``exc`` isn't a redirect.

    Raises:
        InvalidURI: the server sends us to something that isn't a URI.
        InvalidHeader: the server doesn't say where to.
    """
    if not isinstance(exc, InvalidStatus) or not is_redirect(exc.response):
        return None
    return resolve_location(_in_ascii(exc.response.headers["Location"]), uri)


def _in_ascii(location: str) -> str:
    """A ``Location`` whose bytes outside ASCII, of which each is a character here, are as they may be in a URI.

    Raises:
        InvalidURI: those in the name of a host aren't UTF-8.
    """
    if location.isascii():
        return location
    match = match_origin(location)
    assert match is not None, "it matches nothing, too"
    try:
        # What becomes of a name is for IDNA.
        origin = match[0].encode("iso-8859-1").decode()
    except UnicodeError:
        origin = None
    if origin is None:
        # Out here: the cause would show the credentials that the location may have.
        raise InvalidURI(hide_credentials(location), "the host isn't UTF-8")
    # In any other place a byte stays that byte, whatever it was meant to be.
    rest = location[match.end() :].encode("iso-8859-1")
    return origin + "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in rest)


def resolve_location(location: str, uri: str) -> str:
    """Return the URI that a ``Location`` means (RFC 3986 section 5, RFC 9110 section 10.2.2).

    Its fragment is dropped, as it is nothing to ask a server for; ``http`` and ``https`` mean ``ws`` and ``wss``.

    Parameters:
        location: a URI, or a reference relative to ``uri``.
        uri: where the request went.

    Raises:
        InvalidURI: ``location`` is neither.
        InvalidHeader: it is empty.
    """
    if not location:
        # By the letter it means the URI that was asked, which would lead here again.
        raise InvalidHeader("Location", location)
    # The standard library would drop some of these, and so make another URI of what the server sent.
    if control := find_control(location):
        raise InvalidURI(hide_credentials(location), f"{control.group()!r} is not allowed")
    target = _joined(_with_encoded_credentials(uri.strip()), location)
    if target is None:
        # Out here: both the text and a cause could show credentials.
        raise InvalidURI(hide_credentials(location), "its host or its credentials are malformed")
    target, _, _ = target.partition("#")
    scheme, colon, rest = target.partition(":")
    return SCHEMES.get(scheme.lower(), scheme) + colon + rest


def _joined(uri: str, location: str) -> str | None:
    try:
        return urllib.parse.urljoin(uri, location)
    except ValueError:
        return None


def _with_encoded_credentials(uri: str) -> str:
    # In credentials the standard library refuses some characters, with an error that shows them all.
    if uri.isascii():
        return uri
    match = match_origin(uri)
    assert match is not None, "it matches nothing, too"
    credentials, at, host = match[0].rpartition("@")
    return encode_iri(credentials) + at + host + uri[match.end() :]


def redirected(
    location: str, before: WebSocketURI, arguments: Mapping[str, Any], headers: HeadersLike | None
) -> tuple[WebSocketURI, HeadersLike | None]:
    """Where a redirect leads, and the headers that may be sent there.

    Parameters:
        location: the URI to which the server sends us on.
        before: where it was asked.
        arguments: how the connection is made.
        headers: additional headers of the request.

    Raises:
        InvalidURI: the location isn't a WebSocket URI.
        SecurityError: it gives up encryption.
        ValueError: the connection can't be made to another place.
    """
    uri = parse_uri(location)
    # A relative redirect takes over the credentials of the URI before it, which are nobody's business.
    shown = hide_credentials(location)
    if before.secure and not uri.secure:
        raise SecurityError(f"cannot follow redirect to non-secure URI {shown}")
    if arguments.get("sock") is not None:
        raise ValueError(f"cannot follow redirect to {shown} with a preexisting socket")
    if (uri.secure, uri.host, uri.port) == (before.secure, before.host, before.port):
        return uri, headers
    for place in PLACES:
        if arguments.get(place):
            raise ValueError(f"cannot follow cross-origin redirect to {shown} with an explicit {place}")
    return uri, _without_credentials(headers)


def _without_credentials(headers: HeadersLike | None) -> HeadersLike | None:
    if headers is None:
        return None
    kept = Headers(headers)
    for name in CREDENTIALS:
        if name in kept:
            del kept[name]
    return kept


# ------------------------------------------------------------------------------------------------------- trying again


def retry_after(exc: Exception, now: float) -> float:
    """The seconds that a server or a proxy asks to wait in ``Retry-After`` (RFC 9110 section 10.2.3), else 0.

    Parameters:
        exc: what ended the attempt.
        now: seconds since the epoch, as the header may give a date.
    """
    if not isinstance(exc, (InvalidStatus, InvalidProxyStatus)) or exc.response.status_code not in (429, 503):
        return 0
    values = exc.response.headers.get_all("Retry-After")
    if len(values) != 1:
        return 0
    if values[0].isascii() and values[0].isdigit():
        # More digits than this are no delay but an attack on whoever converts them.
        return float(values[0][:9])
    try:
        date = email.utils.parsedate_to_datetime(values[0])
        # One of the three formats of HTTP names no time zone, and all mean UTC (RFC 9110 section 5.6.7).
        if date.tzinfo is None:
            date = date.replace(tzinfo=datetime.UTC)
        return max(date.timestamp() - now, 0)
    except (ValueError, OverflowError):
        return 0


def timed_out(exc: TimeoutError) -> TimeoutError:
    """Return the error that connecting took too long, to be raised.

    Parameters:
        exc: what the time limit raised; what it interrupted is its cause, and may have notes.
    """
    error = TimeoutError("timed out during opening handshake")
    for note in _notes(exc.__cause__):
        error.add_note(note)
    return error


def describe(exc: BaseException) -> str:
    """Return the class, the text and the notes of an exception, on one line, for the log."""
    # Many errors of the network have no text, or one that says nothing without the class.
    text = traceback.format_exception_only(exc)[0].strip()
    return printable(" ".join([text, *(f"({note})" for note in _notes(exc))]))


def _notes(exc: BaseException | None) -> list[str]:
    return list(getattr(exc, "__notes__", ()))


class GiveUp(Exception):
    """There are no more delays: the last error is final."""


class Backoff:
    """How long to wait before each attempt to connect.

    The delays start over once a connection outlived the delay before it: a server that accepts and closes at once isn't
    asked again and again without a pause.

    Parameters:
        delays: makes a new series of delays in seconds.
    """

    def __init__(self, delays: Callable[[], Iterator[float]]) -> None:
        self._delays = delays
        self._series: Iterator[float] | None = None
        self._waited = 0.0

    def after_failure(self, at_least: float = 0) -> float:
        """The delay after an attempt that failed.

        Parameters:
            at_least: what the server asked for.

        Raises:
            GiveUp: the series has ended.
        """
        self._waited = max(self._next(), at_least)
        return self._waited

    def after_connection(self, lifetime: float) -> float:
        """The delay after a connection that was open for ``lifetime`` seconds; 0 if that was long enough.

        Raises:
            GiveUp: the series has ended.
        """
        # Without a delay before it, the connection is measured by the one that would come next.
        enough = self._waited or self._next()
        if lifetime > enough:
            self._series, self._waited = None, 0.0
            return 0
        self._waited = self._next() if self._waited else enough
        return self._waited

    def _next(self) -> float:
        if self._series is None:
            self._series = self._delays()
        delay = next(self._series, None)
        if delay is None:
            raise GiveUp
        return delay
