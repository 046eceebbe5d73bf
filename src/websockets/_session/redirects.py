"""Redirects: where the next attempt to connect leads, what may be told there, and when to stop (RFC 9110 section 15.4).

May know: URIs, responses, errors, options of a client. Must not know: how connecting and waiting are done.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from ..datastructures import Headers, HeadersLike
from ..exceptions import InvalidHeader, InvalidStatus, InvalidURI, SecurityError
from ..http11 import Response
from ..proxy import Route
from ..uri import WebSocketURI, encode_iri, find_control, hide_credentials, parse_uri
from .options import check_tls

if TYPE_CHECKING:
    from .connector import Connector

__all__ = [
    "MAX_REDIRECTS",
    "Hop",
    "Redirects",
    "is_redirect",
    "redirect_location",
    "redirect_target",
    "redirected",
    "resolve_location",
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


# --------------------------------------------------------------------------------------------------------- the attempts


class Hop:
    """One attempt to connect, to one place; as a context manager, it names the proxy in every error.

    Parameters:
        location: the place as the user, the server or a hook wrote it.
        uri: the same, parsed.
        headers: additional headers that may be sent there.

    Attributes:
        route: the route through a proxy, once one is chosen.
    """

    def __init__(self, location: str, uri: WebSocketURI, headers: HeadersLike | None) -> None:
        self.location = location
        self.uri = uri
        self.headers = headers
        self.route: Route | None = None

    def __enter__(self) -> Hop:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.route is not None:
            self.route.__exit__(exc_type, exc, traceback)


class Redirects:
    """The attempts that follow from one request to connect: the first one, and one for each redirect.

    A front-end asks for a hop and attempts it. When that fails, it calls :meth:`follow`, and asks for the next hop or
    lets the error pass.

    Parameters:
        connector: the ``connect`` whose hook decides, and whose options say how connections are made.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._state = state = connector._ws_connector_state
        self._limit = state.max_redirects
        self._count = 0
        self._next = Hop(connector.uri, state.first, connector.additional_headers)
        self._refusal: Exception | None = None

    def next_hop(self) -> Hop:
        """Return the next attempt to make, which counts as begun.

        Raises:
            SecurityError: there were too many redirects.
        """
        if self._count >= self._limit:
            raise SecurityError(f"more than {self._limit} redirects")
        self._count += 1
        hop = self._next
        self._connector.ws_uri, self._state.hop = hop.uri, hop
        return hop

    def follow(self, exc: Exception) -> bool:
        """Take in that an attempt failed. To be called while ``exc`` is handled.

        Parameters:
            exc: what ended the attempt.

        Returns:
            Whether there is a redirect to follow; otherwise ``exc`` is to be raised.

        Raises:
            Exception: what the hook chose, caused by ``exc`` unless it has another cause.
            InvalidURI: the redirect doesn't lead to a WebSocket URI.
            SecurityError: it gives up encryption.
            ValueError: the options of the connection don't fit the other place.
        """
        target = self._ask(exc)
        if target is exc:
            return False
        if isinstance(target, Exception):
            raise target from target.__cause__ or exc
        before, arguments = self._next, self._connector.create_connection_kwargs
        uri, headers = redirected(target, before.uri, arguments, before.headers)
        check_tls(uri, arguments)
        self._next = Hop(target, uri, headers)
        return True

    def _ask(self, exc: Exception) -> Exception | str:
        # Later attempts begin at the first URI, but the hook reads the one that redirects.
        connector = self._connector
        first, connector.uri = connector.uri, self._next.location
        try:
            return connector.process_redirect(exc)
        finally:
            connector.uri = first

    def stopped(self, refusal: Exception | None) -> None:
        """Take in that an attempt ends early.

        Parameters:
            refusal: what the server refused with, if only the end of its response is missing.
        """
        self._refusal = self._refusal or refusal

    def timed_out(self, exc: TimeoutError) -> Exception:
        """Return the exception to raise when the time is up: a refusal, if there was one.

        Parameters:
            exc: what the time limit raised; its cause is what it interrupted, which may have notes.
        """
        if self._refusal is not None:
            return self._refusal
        error = TimeoutError("timed out during opening handshake")
        for note in getattr(exc.__cause__, "__notes__", ()):
            error.add_note(note)
        return error


# --------------------------------------------------------------------------------------------------------- one redirect


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


def redirect_target(exc: Exception, uri: str) -> Exception | str:
    """Return where a redirect leads, or the exception to raise: the default of ``connect.process_redirect``.

    Parameters:
        exc: what ended the attempt.
        uri: where it led.
    """
    try:
        return redirect_location(exc, uri) or exc
    except (InvalidURI, InvalidHeader) as error:
        return error


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
