"""Redirects: the URI of the next attempt to connect, the headers to send there, and the limit (RFC 9110 section 15.4).

May know: URIs, responses, errors, options of a client. Must not know: how to connect and to wait.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from .._compat.environment import whole_number
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

MAX_REDIRECTS: Final = whole_number("WEBSOCKETS_MAX_REDIRECTS", 10)

REDIRECT_STATUSES: Final = frozenset({300, 301, 302, 303, 307, 308})

# RFC 3986 section 3: scheme and authority, both of which may be missing.
match_origin = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.\-]*+:)?+(?://[^/?#]*+)?+").match

# Redirects of servers often have the schemes of web pages.
SCHEMES: Final = {"http": "ws", "https": "wss"}

# Headers that must not be sent to another origin.
CREDENTIALS: Final = ("Authorization", "Cookie", "Proxy-Authorization")

# Arguments of connect() that set an address; a redirect to another host can't use them.
PLACES: Final = ("host", "port", "address", "unix")


# --------------------------------------------------------------------------------------------------------- the attempts


class Hop:
    """One attempt to connect to one URI; as a context manager, it names the proxy and the redirects in every error.

    Parameters:
        location: the URI as the user, the server or a hook wrote it.
        uri: the parsed URI.
        headers: additional headers that may be sent there.
        trail: the URIs that led there, without credentials; none for the first attempt.

    Attributes:
        route: the route through a proxy, after one is chosen.
    """

    def __init__(
        self, location: str, uri: WebSocketURI, headers: HeadersLike | None, trail: tuple[str, ...] = ()
    ) -> None:
        self.location = location
        self.uri = uri
        self.headers = headers
        self.trail = trail
        self.route: Route | None = None

    def __enter__(self) -> Hop:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.route is not None:
            self.route.__exit__(exc_type, exc, traceback)
        if exc is not None:
            self.name_redirects(exc)

    def name_redirects(self, exc: BaseException) -> None:
        """Add the way to this URI to an error, unless it is the first one."""
        if self.trail:
            exc.add_note(f"Redirected: {' -> '.join((*self.trail, self.shown))}")

    @property
    def shown(self) -> str:
        """The URI without credentials."""
        return self.location if self.uri.user_info is None else hide_credentials(self.location)


class Redirects:
    """The attempts of one call of ``connect``: the first one, and one for each redirect.

    A front-end gets a hop and tries to connect. If that fails, it calls :meth:`follow`, and then gets the next hop or
    raises the error.

    Parameters:
        connector: the ``connect`` object, which has the hook and the options.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._state = state = connector._ws_connector_state
        self._limit = state.max_redirects
        self._count = 0
        self._next = Hop(connector.uri, state.first, connector.additional_headers)
        self._refusal: Exception | None = None

    def next_hop(self) -> Hop:
        """Return the next attempt, and count it.

        Raises:
            SecurityError: there were too many redirects.
        """
        if self._count >= self._limit:
            error = SecurityError(f"more than {self._limit} redirects")
            self._next.name_redirects(error)
            raise error
        self._count += 1
        hop = self._next
        self._connector.ws_uri, self._state.hop = hop.uri, hop
        return hop

    def follow(self, exc: Exception) -> bool:
        """Process a failed attempt; call this while ``exc`` is handled.

        Parameters:
            exc: exception of the attempt.

        Returns:
            Whether there is a redirect to follow; if not, the caller raises ``exc``.

        Raises:
            Exception: the exception from the hook, caused by ``exc`` unless it has another cause.
            InvalidURI: the redirect doesn't lead to a WebSocket URI.
            SecurityError: the redirect leads from ``wss`` to ``ws``.
            ValueError: the options of the connection can't be used for the other host.
        """
        target = self._ask(exc)
        if target is exc:
            return False
        if isinstance(target, Exception):
            self._next.name_redirects(target)
            raise target from target.__cause__ or exc
        before, arguments = self._next, self._connector.create_connection_kwargs
        uri, headers = redirected(target, before.uri, arguments, before.headers)
        check_tls(uri, arguments)
        self._next = Hop(target, uri, headers, (*before.trail, before.shown))
        return True

    def _ask(self, exc: Exception) -> Exception | str:
        # Later calls of connect() begin at the first URI, but the hook reads the URI of the redirect.
        connector = self._connector
        first, connector.uri = connector.uri, self._next.location
        try:
            return connector.process_redirect(exc)
        finally:
            connector.uri = first

    def stopped(self, refusal: Exception | None) -> None:
        """Note that an attempt ends early.

        Parameters:
            refusal: the refusal, if only the end of the server's response is missing.
        """
        self._refusal = self._refusal or refusal

    def timed_out(self, interrupted: BaseException | None) -> Exception:
        """Return the exception to raise after the timeout: the refusal, if there was one.

        Parameters:
            interrupted: the exception by which the timeout interrupted the attempt; it may have notes.
        """
        if self._refusal is not None:
            return self._refusal
        error = TimeoutError("timed out during opening handshake")
        for note in getattr(interrupted, "__notes__", ()):
            error.add_note(note)
        return error


# --------------------------------------------------------------------------------------------------------- one redirect


def is_redirect(response: Response) -> bool:
    """Return whether a response is a redirect to another URI (RFC 9110 section 15.4)."""
    return response.status_code in REDIRECT_STATUSES and len(response.headers.get_all("Location")) == 1


def redirect_location(exc: Exception, uri: str) -> str | None:
    """Return the target of a redirect; None if ``exc`` isn't a redirect.

    Raises:
        InvalidURI: the target isn't a URI.
        InvalidHeader: ``Location`` is empty.
    """
    if not isinstance(exc, InvalidStatus) or not is_redirect(exc.response):
        return None
    return resolve_location(_in_ascii(exc.response.headers["Location"]), uri)


def redirect_target(exc: Exception, uri: str) -> Exception | str:
    """Return the target of a redirect, or the exception to raise: the default of ``connect.process_redirect``.

    Parameters:
        exc: exception of the attempt.
        uri: URI of the attempt.
    """
    try:
        return redirect_location(exc, uri) or exc
    except (InvalidURI, InvalidHeader) as error:
        return error


def _in_ascii(location: str) -> str:
    """Return a ``Location`` with its non-ASCII bytes, one character each, in the form that a URI allows.

    Raises:
        InvalidURI: the host name isn't UTF-8.
    """
    if location.isascii():
        return location
    match = match_origin(location)
    assert match is not None, "it matches nothing, too"
    try:
        # Only decode the host name here; IDNA encodes it later.
        origin = match[0].encode("iso-8859-1").decode()
    except UnicodeError:
        origin = None
    if origin is None:
        # Raise outside of the except block, because the cause would show credentials in the location.
        raise InvalidURI(hide_credentials(location), "the host isn't UTF-8")
    # In the rest of the URI, a byte is percent-encoded unchanged, whatever its encoding is.
    rest = location[match.end() :].encode("iso-8859-1")
    return origin + "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in rest)


def resolve_location(location: str, uri: str) -> str:
    """Return the absolute URI of a ``Location`` (RFC 3986 section 5, RFC 9110 section 10.2.2).

    The fragment is removed, because it isn't sent to a server; ``http`` and ``https`` become ``ws`` and ``wss``.

    Parameters:
        location: a URI, or a reference relative to ``uri``.
        uri: URI of the request.

    Raises:
        InvalidURI: ``location`` is neither of these.
        InvalidHeader: ``location`` is empty.
    """
    if not location:
        # An empty reference means the URI of the request, which would redirect again.
        raise InvalidHeader("Location", location)
    # The standard library would remove some control characters, and so change the URI.
    if control := find_control(location):
        raise InvalidURI(hide_credentials(location), f"{control.group()!r} is not allowed")
    target = _joined(_with_encoded_credentials(uri.strip()), location)
    if target is None:
        # Raise outside of the except block, because the text and the cause could show credentials.
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
    # The standard library refuses some characters in credentials, with an error that shows the credentials.
    if uri.isascii():
        return uri
    match = match_origin(uri)
    assert match is not None, "it matches nothing, too"
    credentials, at, host = match[0].rpartition("@")
    return encode_iri(credentials) + at + host + uri[match.end() :]


def redirected(
    location: str, before: WebSocketURI, arguments: Mapping[str, Any], headers: HeadersLike | None
) -> tuple[WebSocketURI, HeadersLike | None]:
    """Return the URI of a redirect, and the headers that may be sent there.

    Parameters:
        location: target of the redirect.
        before: URI of the request.
        arguments: arguments for making the connection.
        headers: additional headers of the request.

    Raises:
        InvalidURI: the location isn't a WebSocket URI.
        SecurityError: the redirect leads from ``wss`` to ``ws``.
        ValueError: the arguments can't be used for another host.
    """
    uri = parse_uri(location)
    # A relative redirect has the credentials of the previous URI, which errors must not show.
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
