"""Routing of a request to a handler by a URL map of Werkzeug, without the waiting.

May know: the target of a request, the result from Werkzeug, the response for it. Must not know: front-ends; anything
about connections, except that they make responses. Werkzeug is optional, and loaded only if there is a URL map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .._rules.option_table import ROUTE, check, check_all
from ..http11 import Request, Response
from .hooks import CallHook, Steps

if TYPE_CHECKING:
    from werkzeug.routing import Map

__all__ = [
    "Found",
    "Moved",
    "Refused",
    "Routes",
    "after",
    "check_endpoints",
    "find",
    "require_werkzeug",
    "routes_of",
    "url_scheme",
]

R = TypeVar("R", bound="Routes")


class Found(NamedTuple):
    """The endpoint of the matching rule, and the arguments from the URL."""

    handler: Any
    arguments: Mapping[str, Any]


class Moved(NamedTuple):
    """A redirect to the canonical URL of the same endpoint."""

    url: str


class Refused(NamedTuple):
    """No rule matches: an HTTP status, and the methods that the rules for this URL allow."""

    status: int
    methods: str = ""


def require_werkzeug(who: str) -> None:
    """Check that Werkzeug is installed.

    Parameters:
        who: name of the function that needs it, for the error.

    Raises:
        ImportError: Werkzeug isn't installed.
    """
    try:
        import werkzeug.routing  # noqa: F401
    except ImportError as exc:
        raise ImportError(f"{who}() requires werkzeug") from exc


def find(url_map: Map, server_name: str, scheme: str, target: str) -> Found | Moved | Refused:
    """Look up the target of a request.

    Parameters:
        url_map: rules, whose endpoints are handlers.
        server_name: host and port that the client uses for the server.
        scheme: "ws" or "wss".
        target: path and query.
    """
    from werkzeug.exceptions import HTTPException
    from werkzeug.routing import RequestRedirect

    path, _, query = target.partition("#")[0].partition("?")
    try:
        adapter = url_map.bind(server_name, url_scheme=scheme)
        return Found(*adapter.match(path, query_args=query))
    except RequestRedirect as exc:
        return Moved(exc.new_url)
    except HTTPException as exc:
        if exc.code is None:
            raise
        # Only the error about a wrong method lists the allowed methods.
        return Refused(exc.code, ", ".join(sorted(getattr(exc, "valid_methods", None) or ())))


def url_scheme(ssl: object) -> str:
    """Return the scheme of a server's URIs, from its ``ssl`` argument."""
    return "ws" if ssl is None else "wss"


class Routes:
    """Base class of the routers of all front-ends: everything except running the handler.

    Parameters:
        url_map: rules, whose endpoints are handlers; they are changed to rules for WebSocket.
        server_name: host and port that clients use for the server; None (the default) to use each request's ``Host``.
        url_scheme: "ws" (the default) or "wss".
    """

    def __init__(self, url_map: Map, server_name: str | None = None, url_scheme: str = "ws") -> None:
        self.url_map = url_map
        self.server_name = server_name
        self.url_scheme = url_scheme
        for rule in url_map.iter_rules():
            rule.websocket = True

    def get_server_name(self, connection: Any, request: Request) -> str:
        """Return the host and port that the client uses for the server. May be overridden.

        Parameters:
            connection: connection.
            request: request.
        """
        return request.headers["Host"] if self.server_name is None else self.server_name

    def redirect(self, connection: Any, url: str) -> Response:
        """Return the response that redirects a request to its canonical URL. May be overridden.

        Parameters:
            connection: connection of the request.
            url: the canonical URL.
        """
        response: Response = connection.respond(HTTPStatus.FOUND, f"Found at {url}")
        response.headers["Location"] = url
        return response

    def not_found(self, connection: Any) -> Response:
        """Return the response to a request that no rule matches. May be overridden.

        Parameters:
            connection: connection of the request.
        """
        response: Response = connection.respond(HTTPStatus.NOT_FOUND, "Not Found")
        return response

    def route_request(self, connection: Any, request: Request) -> Response | None:
        """Choose the handler of a connection, as its ``process_request``. May be overridden.

        Parameters:
            connection: the connection; its attributes ``handler`` and ``handler_kwargs`` are set.
            request: request of the opening handshake.

        Returns:
            None if there is a handler, else the response that refuses the request.
        """
        if len(request.headers.get_all("Host")) != 1:
            # The opening handshake will refuse such a request, so routing doesn't matter.
            return None
        found = find(self.url_map, self.get_server_name(connection, request), self.url_scheme, request.path)
        if isinstance(found, Found):
            connection.handler, connection.handler_kwargs = found
            return None
        if isinstance(found, Moved):
            return self.redirect(connection, found.url)
        if found.status == HTTPStatus.NOT_FOUND:
            return self.not_found(connection)
        return _refuse(connection, HTTPStatus(found.status), found.methods)


def after(process_request: Callable[[Any, Request], Any], routes: Routes) -> Callable[[Any, Request], Any]:
    """Make steps that route the requests for which the user's ``process_request`` returns None.

    Parameters:
        process_request: hook of the user.
        routes: router of the server.

    Returns:
        ``f(connection, request)``, which returns the steps of a ``process_request``.
    """

    def steps(connection: Any, request: Request) -> Steps[Response | None]:
        response: Response | None = yield CallHook(process_request, (connection, request))
        return routes.route_request(connection, request) if response is None else response

    return steps


def routes_of(
    usual: type[R],
    url_map: Map,
    *,
    server_name: str | None,
    ssl: object,
    create_router: type[R] | None,
    process_request: Any,
    taker: str = ROUTE,
) -> R:
    """Make the router of a server from the arguments of ``route()``.

    Parameters:
        usual: default class of routers of the front-end.
        url_map: rules, whose endpoints are handlers.
        server_name: host and port that clients use for the server; None to use each request's ``Host``.
        ssl: TLS context; True if a proxy in front of the server does TLS.
        create_router: class to use instead of the default one.
        process_request: hook of the user; it is only checked.
        taker: name of ``route()`` of the front-end in the table of options.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: an argument has a wrong value.
    """
    check_all(locals(), taker)
    return (create_router or usual)(url_map, server_name, url_scheme(ssl))


def check_endpoints(url_map: Map, taker: str) -> None:
    """Check that the endpoints of a URL map can be handlers, as far as they are functions.

    Parameters:
        url_map: rules.
        taker: name of ``serve()`` of the front-end in the table of options.

    Raises:
        TypeError: one can't be a handler.
    """
    for rule in url_map.iter_rules():
        if callable(rule.endpoint):
            check("handler", rule.endpoint, taker)


def _refuse(connection: Any, status: HTTPStatus, methods: str) -> Response:
    response: Response = connection.respond(status, status.phrase)
    if methods:
        response.headers["Allow"] = methods
    return response
